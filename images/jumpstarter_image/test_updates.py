"""Updates from their staging to their end, over failures and power cuts, with programs of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jumpstarter_proto.errors import ExitCode

from jumpstarter_image import cli, update_prepare
from jumpstarter_image import system_packages as system
from jumpstarter_image.sentences import status_lines
from jumpstarter_image.status import gather
from jumpstarter_image.update_plan import SPARE_BYTES
from jumpstarter_image.update_prepare import ObjectionError, UpdateOptions, prepare
from jumpstarter_image.update_record import Ending, UpdateStep
from jumpstarter_image.update_run import continue_update, last_record, running_record
from tests.support.image_packages import ImagePackages


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImagePackages]:
    machine = ImagePackages(tmp_path)
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    monkeypatch.setattr(system, "READY_SECONDS", 0.3)
    monkeypatch.setattr(system, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(system, "POLL_SECONDS", 0.01)
    yield machine
    # Whatever came of it: unless the update is still going on, the root is as it was.
    if running_record(machine.host) is None and not machine.says("is-busy"):
        assert machine.says("root-mode") == "ro"


def update(machine: ImagePackages, *words: str | Path) -> int:
    """The command, whose unit is another process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["update", *map(str, words), "--root", str(machine.root)])
    return int(ended.value.code or 0)


def stage(machine: ImagePackages, *files: Path) -> None:
    assert prepare(machine.host, UpdateOptions(files), lambda _: None) is not None


def go_on(machine: ImagePackages) -> Ending | None:
    record = continue_update(machine.host, lambda _: None)
    assert record is not None
    return record.ending


def test_a_new_version_is_installed_and_kept_for_the_next_way_back(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.boards(rpi4="", rock="drained: by ann")
    assert update(machine, machine.deb("2")) == ExitCode.OK, machine.says("start-log")
    said = capsys.readouterr().out
    assert "jumpstarter-exporter: 1 -> 2" in said
    assert "boards are not leased meanwhile" in said
    assert said.count("what was there is taken back if not") == 1
    assert machine.installed == "2"
    assert machine.kept == ["jumpstarter-exporter_2_amd64.deb"]
    # What somebody else has drained stays so.
    assert machine.says("drained").split("\n") == ["drain rpi4", "resume rpi4"]
    assert not machine.host.update_folder.exists()
    assert gather(machine.host).updates == ("Update: jumpstarter-exporter 2 in place of 1.",)
    # The next one comes back to that, and to no other.
    assert update(machine, machine.deb("3", "broken")) == cli.TAKEN_BACK
    assert machine.installed == "2"
    assert machine.kept == ["jumpstarter-exporter_2_amd64.deb"]


@pytest.mark.parametrize("fault", ["broken", "fails"])
def test_a_version_that_does_not_work_is_taken_back_and_everybody_is_told(
    machine: ImagePackages, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert update(machine, machine.deb("2", fault)) == cli.TAKEN_BACK
    assert machine.installed == "1"
    said = capsys.readouterr().out
    reason = {"broken": "it ends with exit code 7", "fails": "dpkg: error processing package"}[fault]
    assert "was taken back: " in said
    assert reason in said
    assert reason in " ".join(machine.status().split())
    # The unit's output is the console's and the journal's.
    assert reason in " ".join(machine.says("start-log").split())


def test_a_service_that_still_runs_the_version_before_is_started_again(machine: ImagePackages) -> None:
    stage(machine, machine.deb("2", "idle"))
    assert go_on(machine) is Ending.INSTALLED
    assert f"systemctl restart {system.EXPORTER}" in machine.commands("systemctl")


def test_a_controller_that_runs_has_to_be_ready_as_well(machine: ImagePackages) -> None:
    machine.install("1", "jumpstarter-controller")
    stage(machine, machine.deb("2"))
    record = running_record(machine.host)
    assert record is not None
    assert record.services == (system.EXPORTER, system.CONTROLLER)
    machine.fact(f"unit-{system.CONTROLLER}", "ActiveState=failed\nResult=exit-code\nExecMainStatus=1")
    # The controller is what it was before the update as well, so neither version is.
    assert go_on(machine) is Ending.STUCK
    assert machine.installed == "1"


def test_a_dry_run_changes_nothing(machine: ImagePackages, capsys: pytest.CaptureFixture[str]) -> None:
    assert update(machine, machine.deb("2"), "--dry-run") == ExitCode.OK
    assert "1 -> 2" in capsys.readouterr().out
    assert machine.installed == "1"
    assert running_record(machine.host) is None
    assert machine.commands("mount") == []


def test_the_same_version_is_nothing_to_do(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert update(machine, machine.deb("1")) == ExitCode.OK
    assert "nothing to update" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("use", "word"), [("leased by ann (l1, leased)", "ann"), ("in local use by bob", "bob")]
)
def test_a_board_that_somebody_has_keeps_an_update_away_unless_told_otherwise(
    machine: ImagePackages, use: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.boards(rpi4=use)
    assert update(machine, machine.deb("2")) == ExitCode.DENIED
    said = capsys.readouterr().err
    assert word in said
    assert "--during-leases" in said
    assert (machine.installed, machine.commands("mount")) == ("1", [])
    assert update(machine, machine.deb("2"), "--during-leases") == ExitCode.OK
    assert (machine.installed, machine.says("drained")) == ("2", "")


def test_a_board_without_a_controller_is_nobodys_to_wait_for_and_is_not_drained(
    machine: ImagePackages,
) -> None:
    boards = [{"name": "mine", "exporter": None, "use": "in local use by bob"}]
    boards += [{"name": "rpi4", "exporter": "one", "use": None}]
    machine.fact("boards", json.dumps({"boards": boards}))
    assert update(machine, machine.deb("2")) == ExitCode.OK
    assert machine.says("drained").split("\n") == ["drain rpi4", "resume rpi4"]


def test_a_lease_that_has_come_in_between_keeps_it_away_as_well(machine: ImagePackages) -> None:
    machine.boards(rpi4="")
    stage(machine, machine.deb("2"))
    machine.boards(rpi4="leased by ann (l1, leased)")
    assert go_on(machine) is Ending.UNTOUCHED
    assert machine.installed == "1"
    assert machine.says("drained").split("\n") == ["drain rpi4", "resume rpi4"]


def test_a_board_that_cannot_be_kept_from_its_next_user_keeps_it_away_as_well(machine: ImagePackages) -> None:
    machine.boards(rpi4="")
    stage(machine, machine.deb("2"))
    machine.fact("no-drain", "")
    assert go_on(machine) is Ending.UNTOUCHED
    assert machine.installed == "1"
    record = last_record(machine.host)
    assert record is not None
    assert record.reason == "rpi4 cannot be kept from its next user: jumpstarter-exporter: it does not answer"


def test_somebody_elses_use_of_dpkg_is_waited_for_but_not_for_ever(
    machine: ImagePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(machine, machine.deb("2"))
    machine.fact("locked", "3")
    assert go_on(machine) is Ending.INSTALLED
    assert machine.installed == "2"
    monkeypatch.setattr(system, "LOCK_SECONDS", 0.05)
    stage(machine, machine.deb("3"))
    machine.fact("locked", "100000")
    assert go_on(machine) is Ending.STUCK
    record = last_record(machine.host)
    assert record is not None
    assert "dpkg: error: dpkg frontend lock was locked by another process" in record.reason


def test_where_there_is_no_room_it_is_said_before_anything_is_touched(
    machine: ImagePackages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = {machine.root: SPARE_BYTES + 100 * 1024, machine.host.state_folder.parent: SPARE_BYTES}
    monkeypatch.setattr(update_prepare, "_free", free.__getitem__)
    assert update(machine, machine.deb("2", size=101)) == ExitCode.FAILED
    assert "the root has 16 MB free, and the update needs 17 MB" in capsys.readouterr().err
    assert update(machine, machine.deb("2", size=100)) == ExitCode.FAILED
    assert "the partition with this host's state has" in capsys.readouterr().err
    assert machine.commands("mount") == []
    assert not machine.host.update_folder.exists()


def test_files_that_are_not_for_it_are_refused_with_a_sentence(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    text = machine.root / "text.deb"
    text.write_text("no package\n")
    for words, code, said in (
        ((machine.root / "none.deb",), ExitCode.NOT_FOUND, "no such file"),
        ((text,), ExitCode.USAGE, "not a Debian package"),
        ((machine.deb("0"),), ExitCode.USAGE, "is newer than 0"),
        ((machine.deb("1", name="raspi-firmware"),), ExitCode.USAGE, "only a new image"),
    ):
        assert update(machine, *words) == code
        assert said in capsys.readouterr().err
    assert machine.commands("mount") == []


def test_a_version_whose_file_is_not_kept_needs_a_word(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.install("1.5")
    assert update(machine, machine.deb("2")) == ExitCode.FAILED
    assert "no file of jumpstarter-exporter 1.5 is kept" in capsys.readouterr().err
    assert update(machine, machine.deb("2", "broken"), "--no-way-back") == cli.NEITHER_IS_READY
    assert "no file of the version before is kept" in capsys.readouterr().out


def test_packages_that_it_needs_as_well_are_asked_for(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.program(
        "apt-get",
        "echo 'Inst libnew (1 Debian [amd64])'; echo 'Inst jumpstarter-exporter [1] (2 local [amd64])'",
    )
    assert update(machine, machine.deb("2")) == ExitCode.FAILED
    assert "libnew is needed as well" in capsys.readouterr().err


def test_what_apt_says_no_to_is_its_sentence(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.program(
        "apt-get",
        "echo Reading; echo 'E: Unable to correct problems, you have held broken packages.' >&2; exit 100",
    )
    assert update(machine, machine.deb("2")) == ExitCode.FAILED
    said = capsys.readouterr().err
    assert "apt-get install failed: E: Unable to correct problems" in said
    assert "nothing was touched" in said


def test_a_card_that_cannot_be_written_is_left_alone(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fact("card-is-broken", "")
    assert update(machine, machine.deb("2")) == ExitCode.FAILED
    assert (
        "nothing was changed: mount failed: mount: /: cannot remount read-write, is write-protected."
        in " ".join(capsys.readouterr().out.split())
    )
    assert machine.installed == "1"


def test_a_root_that_is_in_use_stays_writable_and_the_status_says_so(machine: ImagePackages) -> None:
    machine.fact("is-busy", "yes")
    stage(machine, machine.deb("2"))
    assert go_on(machine) is Ending.INSTALLED
    assert machine.says("root-mode") == "rw"
    assert "the root stays writable until the next start: mount: / is busy" in machine.says("seal-log")
    machine.mounted("/ rw", "/boot/firmware ro")
    assert not gather(machine.host).is_root_writable
    machine.host.data_report.parent.mkdir(parents=True, exist_ok=True)
    machine.host.data_report.write_text("kept\n")
    facts = gather(machine.host)
    assert facts.is_root_writable
    assert facts.read_only == ("the partition with jumpstarter.yaml",)
    assert any("sudo reboot" in line for line in status_lines(facts))
    # While somebody is about to make it read-only, there is nothing to be done.
    machine.host.sealing_mark.touch()
    assert not gather(machine.host).is_root_writable
    machine.host.sealing_mark.unlink()
    machine.mounted("/ ro", "/data rw")
    facts = gather(machine.host)
    assert not facts.is_root_writable
    assert facts.read_only == ("the partition with jumpstarter.yaml",)
    # In a chroot the kernel does not say.
    machine.mounted("/data rw")
    assert not gather(machine.host).is_root_writable


def test_a_root_that_nobody_makes_read_only_is_said_to_be_writable(machine: ImagePackages) -> None:
    machine.fact("no-seal", "")
    stage(machine, machine.deb("2"))
    assert go_on(machine) is Ending.INSTALLED
    assert machine.says("root-mode") == "rw"
    assert not machine.host.sealing_mark.exists()
    machine.fact("root-mode", "ro")


def test_who_is_about_to_leave_is_waited_for(machine: ImagePackages) -> None:
    machine.fact("is-busy", "yes")
    stage(machine, machine.deb("2"))
    # They leave when the root is asked for a second time.
    machine.program(
        "mount",
        f"cd {machine.facts}\nif [ $2 != remount,ro ]; then exit 0; fi\n"
        "if [ -e asked ]; then echo ro > root-mode; exit 0; fi\ntouch asked; exit 32",
    )
    machine.fact("root-mode", "rw")
    assert go_on(machine) is Ending.INSTALLED
    assert machine.says("root-mode") == "ro"


@pytest.mark.parametrize(("code", "is_said"), [(ExitCode.UNAVAILABLE, True), (ExitCode.NOT_FOUND, False)])
def test_a_board_that_stays_drained_is_said(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str], code: ExitCode, is_said: bool
) -> None:
    machine.boards(rpi4="")
    stage(machine, machine.deb("2"))
    machine.boot_again("2")
    machine.program(
        "jumpstarter-exporter",
        f"cd {machine.facts}\ncase $1 in boards) cat boards ;; resume) exit {code:d} ;; esac",
    )
    assert go_on(machine) is Ending.UNTOUCHED
    assert ("sudo jumpstarter-exporter resume rpi4" in capsys.readouterr().out) is is_said


def test_two_people_do_not_prepare_one_at_the_same_time(machine: ImagePackages) -> None:
    said: list[str] = []

    def while_it_is_prepared(line: str) -> None:
        said.append(line)
        with pytest.raises(ObjectionError, match="another update is being prepared"):
            stage(machine, machine.deb("3"))

    assert prepare(machine.host, UpdateOptions((machine.deb("2"),)), while_it_is_prepared) is not None
    assert said
    assert go_on(machine) is Ending.INSTALLED
    assert machine.installed == "2"


@pytest.mark.parametrize("answer", ["", '{"boards": ["rpi4"]}'])
def test_an_exporter_that_runs_and_does_not_say_who_has_its_boards_keeps_it_away(
    machine: ImagePackages, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fact("boards", answer)
    assert update(machine, machine.deb("2")) == ExitCode.FAILED
    assert "does not report the users of its boards" in capsys.readouterr().err
    assert machine.commands("mount") == []
    machine.fact(f"unit-{system.EXPORTER}", "ActiveState=failed")
    machine.boards()
    stage(machine, machine.deb("2"))
    machine.fact("boards", answer)
    assert go_on(machine) is Ending.INSTALLED
    machine.fact("boards", answer)
    assert update(machine, machine.deb("3"), "--during-leases") == ExitCode.OK


def test_only_one_update_at_a_time(machine: ImagePackages) -> None:
    stage(machine, machine.deb("2"))
    with pytest.raises(ObjectionError, match="an update is going on"):
        stage(machine, machine.deb("2"))
    machine.boot_again("2")
    assert go_on(machine) is Ending.UNTOUCHED


# Power cuts.


def cut(machine: ImagePackages, *files: Path) -> None:
    """The power fails while dpkg unpacks."""
    stage(machine, *files)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(
            ["sh", str(machine.facts / "start")],
            env=machine.environment,
            cwd=machine.facts,
            check=True,
            timeout=60,
        )
    assert machine.installed == "0half"


def test_before_it_has_begun_nothing_is_changed(machine: ImagePackages) -> None:
    stage(machine, machine.deb("2"))
    machine.boot_again("2")
    assert go_on(machine) is Ending.UNTOUCHED
    assert machine.installed == "1"
    record = last_record(machine.host)
    assert record is not None
    assert record.reason == "the host was started again before it began"


def test_in_the_middle_of_dpkg_it_is_finished_by_the_next_start(machine: ImagePackages) -> None:
    cut(machine, machine.deb("2", "cut"))
    machine.boot_again("2")
    assert go_on(machine) is Ending.INSTALLED
    assert machine.installed == "2"
    called = machine.commands("dpkg")
    configure = next(number for number, line in enumerate(called) if "--configure -a" in line)
    assert any("--install" in line for line in called[configure:])


def test_a_second_time_in_the_middle_it_is_taken_back(machine: ImagePackages) -> None:
    cut(machine, machine.deb("2", "cut"))
    machine.boot_again("2")
    record = running_record(machine.host)
    assert record is not None
    update_prepare.save_record(machine.host.update_folder / update_prepare.RECORD, record.restarted("2"))
    machine.boot_again("3")
    assert go_on(machine) is Ending.TAKEN_BACK
    assert machine.installed == "1"


@pytest.mark.parametrize("step", [step for step in UpdateStep if step is not UpdateStep.ENDED])
def test_at_the_begin_of_each_step_one_of_the_versions_runs_afterwards(
    machine: ImagePackages, step: UpdateStep
) -> None:
    """The power fails once the record says what is done next."""

    class PowerCutError(BaseException):
        pass

    def tell(record: object) -> None:
        if getattr(record, "step", None) is step:
            raise PowerCutError

    stage(machine, machine.deb("2", "broken"))
    with pytest.raises(PowerCutError):
        continue_update(machine.host, tell)
    machine.boot_again("2")
    assert go_on(machine) in (Ending.TAKEN_BACK, Ending.UNTOUCHED)
    assert machine.installed == "1"
    assert continue_update(machine.host, lambda _: None) is None


@pytest.mark.parametrize("name", ["_seal", "_keep_files"])
def test_what_is_left_to_do_at_the_end_is_done_by_the_next_start(
    machine: ImagePackages, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from jumpstarter_image import update_run

    class PowerCutError(BaseException):
        pass

    def cut_off(*_: object) -> None:
        raise PowerCutError

    machine.boards(rpi4="")
    stage(machine, machine.deb("2"))
    with monkeypatch.context() as patch:
        patch.setattr(update_run, name, cut_off)
        with pytest.raises(PowerCutError):
            go_on(machine)
    machine.boot_again("2")
    assert go_on(machine) is Ending.INSTALLED
    assert machine.says("drained").split("\n")[-1] == "resume rpi4"
    assert machine.kept == ["jumpstarter-exporter_2_amd64.deb"]


def test_a_record_that_is_invalid_is_said_and_left(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    stage(machine, machine.deb("2"))
    (machine.host.update_folder / update_prepare.RECORD).write_text("{")
    assert update(machine, "--continue") == ExitCode.FAILED
    assert "cannot be read" in capsys.readouterr().err
    assert any("cannot be read" in problem for problem in gather(machine.host).problems)
    (machine.host.update_folder / update_prepare.RECORD).unlink()


def test_a_host_that_is_shut_down_waits_for_dpkg_and_goes_on_with_the_next_start(
    machine: ImagePackages,
) -> None:
    stage(machine, machine.deb("2", "shutdown"))
    machine.run_unit()
    record = running_record(machine.host)
    assert record is not None
    assert (machine.installed, record.step, record.reason) == ("2", UpdateStep.CHECKING, "")
    machine.boot_again("2")
    assert go_on(machine) is Ending.INSTALLED


def test_what_fails_while_the_host_is_shut_down_is_tried_again(machine: ImagePackages) -> None:
    stage(machine, machine.deb("2", "shutdown", "fails"))
    machine.run_unit()
    record = running_record(machine.host)
    assert record is not None
    assert (record.step, record.reason) == (UpdateStep.INSTALLING, "")


# Debian's own packages.


def test_what_apt_would_upgrade_is_downloaded_before_anything_is_touched(machine: ImagePackages) -> None:
    machine.install("1", "libfoo")
    machine.fact("upgradable", "Inst libfoo [1] (2 Debian [amd64])")
    found = machine.deb("2", name="libfoo")
    found.rename(machine.facts / "archive" / found.name)
    assert update(machine) == ExitCode.OK, machine.says("start-log")
    assert machine.says("installed/libfoo") == "2"
    apt = [line.partition("DPkg::Lock::Timeout=60 ")[2] for line in machine.commands("apt-get")]
    assert [line.split()[-1] for line in apt] == ["update", "upgrade", "upgrade", "upgrade"]
    assert "--download-only" in apt[2]
    assert "--no-download" in apt[3]


def test_what_was_downloaded_is_on_the_disk_before_the_record_says_that_it_is_there(
    machine: ImagePackages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network it cannot be finished otherwise."""
    machine.install("1", "libfoo")
    machine.fact("upgradable", "Inst libfoo [1] (2 Debian [amd64])")
    found = machine.deb("2", name="libfoo")
    found.rename(machine.facts / "archive" / found.name)
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    assert prepare(machine.host, UpdateOptions(), lambda _: None) is not None
    record = next(number for number, name in enumerate(synced) if "record" in name)
    assert {found.name, "archives"} <= set(synced[:record])
    (machine.host.update_folder / update_prepare.RECORD).unlink()


def test_what_was_downloaded_for_nothing_takes_no_room(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.install("1", "libfoo")
    machine.fact("upgradable", "Inst libfoo [1] (2 Debian [amd64])")
    found = machine.deb("2", name="libfoo")
    found.rename(machine.facts / "archive" / found.name)
    machine.boards(rpi4="leased by ann (l1, leased)")
    assert update(machine) == ExitCode.DENIED
    assert not machine.host.update_folder.exists()


def test_a_download_that_fails_is_a_sentence_that_names_the_command(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.program(
        "apt-get",
        "case $* in *--download-only*) echo 'E: Failed to fetch it' >&2; exit 100;; *upgrade) "
        "echo 'Inst libfoo [1] (2 Debian [amd64])';; esac",
    )
    assert update(machine) == ExitCode.FAILED
    assert "apt-get upgrade failed: E: Failed to fetch it; nothing was touched" in capsys.readouterr().err


def test_they_cannot_be_taken_back_and_that_is_said(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.install("1", "libfoo")
    machine.fact("upgradable", "Inst libfoo [1] (2 Debian [amd64])")
    found = machine.deb("2", name="libfoo")
    found.rename(machine.facts / "archive" / found.name)
    machine.fact(f"unit-{system.EXPORTER}", "ActiveState=activating\nResult=exit-code\nExecMainStatus=7")
    assert update(machine) == cli.NEITHER_IS_READY
    said = " ".join(capsys.readouterr().out.split())
    assert "libfoo cannot be taken back" in said
    assert "Problem: the update to libfoo 2 in place of 1 failed" in said


def test_one_of_debians_that_fails_leaves_a_host_whose_services_are_ready_and_whose_boards_can_be_leased(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.boards(rpi4="")
    machine.install("1", "libfoo")
    machine.fact("upgradable", "Inst libfoo [1] (2 Debian [amd64])")
    found = machine.deb("2", "fails", name="libfoo")
    found.rename(machine.facts / "archive" / found.name)
    assert update(machine) == cli.TAKEN_BACK
    said = " ".join(capsys.readouterr().out.split())
    assert "failed: " in said
    assert "the services are ready with what there is" in said
    assert machine.says("drained").split("\n") == ["drain rpi4", "resume rpi4"]


def test_one_of_debians_that_dpkg_cannot_finish_is_said_to_be_so(
    machine: ImagePackages, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.install("1", "libfoo")
    machine.fact("upgradable", "Inst libfoo [1] (2 Debian [amd64])")
    found = machine.deb("2", "fails", name="libfoo")
    found.rename(machine.facts / "archive" / found.name)
    machine.fact("unconfigurable", "libfoo")
    assert update(machine) == cli.NEITHER_IS_READY
    said = " ".join(capsys.readouterr().out.split())
    assert "dpkg cannot finish what there is: dpkg: error processing package libfoo" in said


# Readiness.


def test_of_several_services_the_one_is_named_that_is_not_ready(machine: ImagePackages) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    machine.install("1", "jumpstarter-controller")
    for late, name in ((system.EXPORTER, "exporter"), (system.CONTROLLER, "controller")):
        for unit in (system.EXPORTER, system.CONTROLLER):
            machine.fact(f"unit-{unit}", "ActiveState=active\nInvocationID=run")
        machine.fact(f"unit-{late}", "ActiveState=failed\nResult=exit-code\nExecMainStatus=7")
        units = [system.EXPORTER, system.CONTROLLER]
        said = system.wait_ready(machine.host, units, {}, clock=lambda: now, sleep=sleep)
        assert said.startswith(f"jumpstarter-{name} was not ready"), said
        assert said.endswith("it ends with exit code 7")


def test_a_service_has_to_stay_ready(machine: ImagePackages, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends after each start is ready again and again."""
    monkeypatch.setattr(system, "READY_SECONDS", 100.0)
    monkeypatch.setattr(system, "SETTLE_SECONDS", 10.0)
    now = 0.0

    def sleep(_: float) -> None:
        nonlocal now
        now += 4.0
        machine.fact(f"unit-{system.EXPORTER}", f"ActiveState=active\nInvocationID=run-{now}")

    said = system.wait_ready(machine.host, [system.EXPORTER], {}, clock=lambda: now, sleep=sleep)
    assert said.startswith("jumpstarter-exporter was not ready, and stayed so, within 100 s")
    assert 100.0 <= now < 110.0

    def stays(_: float) -> None:
        nonlocal now
        now += 4.0

    now = 0.0
    assert system.wait_ready(machine.host, [system.EXPORTER], {}, clock=lambda: now, sleep=stays) == ""
    assert now >= 10.0
