"""Runs at a boot and after a change, in a folder, with small programs in the place of the host's."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import msgspec
import pytest

from jumpstarter_image.apply import MAX_RUNS, apply
from jumpstarter_image.plan import ENROL_MARKER, SSH_KEYS, WIRED, WIRELESS, WPA
from jumpstarter_image.settings import KEYS
from jumpstarter_image.status import WRITE_SECONDS, WRITES_AT_ONCE, Budget, show
from tests.support.image_host import ImageHost

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann@laptop"
SITE = f"""\
# At the window.
hostname: lab-pi
wifi:
  country: DE
  ssid: "Lab"
  passphrase: "a passphrase"   # of upstairs
sshKeys: ['{KEY}']
endpoint: lab:8082
pairingCode: HOST-AAAA-BBBB
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageHost:
    machine = ImageHost(tmp_path)
    machine.program("jumpstarter-exporter", "exit 4")
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    return machine


def everything(machine: ImageHost) -> dict[str, tuple[bytes, int, int]]:
    """Each file with its content, mode and time."""
    return {
        str(path.relative_to(machine.root)): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in machine.root.rglob("*")
        if path.is_file()
    }


def test_a_boot_makes_the_file_real_and_takes_the_passphrase_out_of_it(machine: ImageHost) -> None:
    machine.write(SITE)
    done = machine.boot()
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.called() == ["hostname lab-pi"]
    assert machine.site() == SITE.replace('passphrase: "a passphrase"', " " * 26).replace("\n", "\r\n")
    assert "a passphrase" in (machine.root / WPA).read_text()
    assert stat.S_IMODE((machine.root / WPA).stat().st_mode) == 0o600
    assert (machine.root / SSH_KEYS).read_text() == f"{KEY}\n"
    assert (machine.root / ENROL_MARKER).exists()
    state = machine.host.state_folder / "state.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    assert json.loads(state.read_text())["wifi"]["passphrase"] == "a passphrase"
    status = machine.status()
    assert "Host name: lab-pi. To log in: ssh lab@lab-pi.local" in status
    assert "about to be enrolled at lab:8082. It is starting." in status
    for text in (status, done.stdout):
        assert "a passphrase" not in text
        assert "BBBB" not in text
    assert "Host name: lab-pi." in done.stdout
    assert machine.run("status", "--write").returncode == 0
    assert "Network cable (eth0): connected, 192.168.1.20." in machine.status()
    assert "It is starting" not in machine.status()


def test_a_passphrase_in_a_comment_goes_as_well(machine: ImageHost) -> None:
    machine.write(SITE.replace("# of upstairs", "# a passphrase") + "#  passphrase: a passphrase\n")
    assert machine.boot().returncode == 0
    assert "a passphrase" not in machine.site()
    assert "#  passphrase:" in machine.site()


def test_a_passphrase_that_a_merge_key_brings_is_used_and_said(machine: ImageHost) -> None:
    machine.write("wifi: {<<: {passphrase: a passphrase}, ssid: Lab, country: DE}\n")
    assert machine.boot().returncode == 1
    assert 'psk="a passphrase"' in (machine.root / WPA).read_text()
    assert (
        "wifi.passphrase is not needed in jumpstarter.yaml any more, but cannot be removed"
        in machine.status()
    )


def test_a_fault_of_ours_keeps_the_host_as_it_was_and_shows_no_secret(
    machine: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(SITE)
    machine.boot()
    shutil.rmtree(machine.root / "run/jumpstarter-image")

    def fails(section: object, before: object) -> dict[str, object]:
        raise TypeError("'a passphrase' is no number")

    monkeypatch.setattr("jumpstarter_image.settings.KEYS", {**KEYS, "hostname": fails})
    outcome = apply(machine.host)
    [said] = map(str, outcome.faults)
    assert "fails to read it (TypeError at test_apply.py:" in said
    assert "a passphrase" not in said
    assert "a passphrase" in (machine.root / WPA).read_text()
    assert (machine.root / SSH_KEYS).read_text() == f"{KEY}\n"


def test_a_second_run_does_nothing_at_all(machine: ImageHost) -> None:
    machine.write(SITE)
    machine.boot()
    machine.run("apply")  # its status says more than that the host is starting
    machine.called()
    before = everything(machine)
    assert machine.run("apply").stdout == ""
    assert everything(machine) == before
    assert machine.called() == []


def test_a_file_that_is_saved_while_another_is_applied_is_applied_too(machine: ImageHost) -> None:
    """systemd does not look at it then: here somebody saves it when the host gets its first name."""
    saved = machine.host.site_file.with_name("saved")
    machine.write(SITE.replace("lab-pi", "lab-two").replace("a passphrase", "another passphrase"))
    machine.host.site_file.rename(saved)
    machine.write(SITE)
    facts = machine.programs.parent / "facts"
    machine.program(
        "hostname",
        f'cd {facts}\necho "hostname $*" >> called\n[ $# = 0 ] || echo "$1" > name\ncat name\n'
        f'[ "$*" != lab-pi ] || [ ! -e {saved} ] || {{ cat {saved} > {machine.host.site_file}; rm {saved}; }}',
    )
    done = machine.boot()
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.called()[:2] == ["hostname lab-pi", "hostname lab-two"]
    assert json.loads((machine.host.state_folder / "state.json").read_text())["hostname"] == "lab-two"
    assert "another passphrase" in (machine.root / WPA).read_text()
    assert "passphrase:" not in machine.site()
    # Nobody has to run it again.
    assert machine.run("status", "--write").returncode == 0
    assert not [call for call in machine.called() if "jumpstarter-image.service" in call]


def test_a_file_that_changes_all_the_time_does_not_keep_a_boot(machine: ImageHost) -> None:
    machine.write(SITE)
    facts = machine.programs.parent / "facts"
    machine.program(
        "hostname", f"cd {facts}\necho x >> runs\necho '# more' >> {machine.host.site_file}\ncat name"
    )
    assert machine.boot().returncode == 0
    runs = (facts / "runs").read_text().count("x")
    assert MAX_RUNS <= runs <= 2 * MAX_RUNS


def test_a_file_that_was_saved_at_the_end_of_a_run_is_seen_when_the_status_is_written(
    machine: ImageHost,
) -> None:
    machine.write(SITE)
    assert machine.run("status", "--write").returncode == 0
    assert machine.called() == [], "nothing was read yet: the boot will"
    machine.boot()
    machine.called()
    machine.run("status", "--write")
    assert machine.called() == []
    machine.write(SITE.replace("lab-pi", "lab-two"))
    machine.run("status", "--write")
    assert machine.called() == ["systemctl --no-block start jumpstarter-image.service"]
    machine.run("apply")
    machine.called()
    machine.run("status", "--write")
    assert machine.called() == []


def test_the_next_boot_makes_the_same_of_what_is_kept_and_of_a_file_without_secrets(
    machine: ImageHost,
) -> None:
    machine.write(SITE)
    machine.boot()
    before = everything(machine)
    machine.boot()
    after = everything(machine)

    def contents(of: dict[str, tuple[bytes, int, int]]) -> dict[str, tuple[bytes, int]]:
        return {path: of[path][:2] for path in of if not path.endswith("status-writes")}

    assert contents(after) == contents(before)
    lasting = [path for path in before if not path.startswith("run/")]
    assert {path: after[path] for path in lasting} == {path: before[path] for path in lasting}


def test_without_a_file_what_was_known_goes_on_and_the_status_says_so(machine: ImageHost) -> None:
    machine.write(SITE)
    machine.boot()
    machine.host.site_file.rename(machine.host.site_file.with_name("jumpstarter.yaml.txt"))
    machine.boot()
    assert "a passphrase" in (machine.root / WPA).read_text()
    status = machine.status()
    assert "there is no jumpstarter.yaml beside this file" in status
    assert "there is jumpstarter.yaml.txt, which is not read; rename it to jumpstarter.yaml" in status
    machine.host.site_file.with_name("jumpstarter.yaml.txt").unlink()
    machine.boot()
    status = machine.status()
    assert "there is no jumpstarter.yaml beside this file" in status
    assert "which is not read" not in status


def test_a_mistake_changes_nothing_is_said_with_its_place_and_goes_when_it_is_corrected(
    machine: ImageHost,
) -> None:
    machine.write(SITE)
    machine.boot()
    before = everything(machine)
    machine.write(SITE.replace("hostname: lab-pi", "hostnam: lab-pi").replace("Lab", "Elsewhere"))
    done = machine.boot()
    assert done.returncode == 2
    after = everything(machine)
    for path in (WIRED, WIRELESS, WPA, SSH_KEYS, "var/lib/jumpstarter-image/state.json"):
        assert after[path][0] == before[path][0]
    sentence = "jumpstarter.yaml, line 2, column 1: hostnam: unknown key; did you mean 'hostname'?"
    assert sentence in machine.status()
    assert sentence in done.stdout
    # A boot that writes nothing new says it as well.
    again = machine.boot()
    assert again.stdout.splitlines() == [sentence]
    machine.write(SITE)
    assert machine.run("apply").returncode == 0
    assert "hostnam:" not in machine.status()


def test_a_host_without_its_partition_says_how_it_is_on_the_console(machine: ImageHost) -> None:
    machine.host.site_file.parent.rmdir()
    done = machine.boot()
    assert (
        "jumpstarter-status.txt cannot be written: No such file or directory; check the card" in done.stderr
    )
    assert "there is no jumpstarter.yaml beside this file" in done.stdout


def test_settings_that_are_too_long_to_be_kept_are_said(machine: ImageHost) -> None:
    quotes = '"' * 900  # which the state writes as two characters each
    keys = "".join(f"- '{KEY} {quotes}'\n" for _ in range(60))
    machine.write(f"sshKeys:\n{keys}")
    machine.boot()
    assert "all settings together are longer than 64 KiB" in machine.status()
    assert not (machine.host.state_folder / "state.json").exists()


def test_a_change_on_a_host_that_runs_starts_what_reads_it(machine: ImageHost) -> None:
    machine.write(SITE)
    machine.boot()
    machine.called()
    machine.write("hostname: other\nwifi: none\naddress: {ip: 10.0.0.2/8}\npairingCode: HOST-CCCC\n")
    assert machine.run("apply").returncode == 0
    assert machine.called() == [
        "hostname other",
        "networkctl reload",
        "systemctl --no-block stop jumpstarter-image-wifi@wlan0.service",
        "systemctl --no-block try-restart jumpstarter-exporter.service",
        "systemctl --no-block restart jumpstarter-image-enrol.service",
    ]
    assert not (machine.root / WPA).exists()


def test_a_state_that_cannot_be_written_leaves_secrets_where_they_are(machine: ImageHost) -> None:
    machine.write(SITE)
    machine.host.state_folder.write_text("in its place")
    done = machine.boot()
    assert done.returncode == 1
    assert "a passphrase" in machine.site()
    assert "a passphrase" in (machine.root / WPA).read_text()
    assert "settings are used, but not kept over the next start" in machine.status()


def test_a_state_that_was_damaged_is_kept_aside_and_the_file_is_used(machine: ImageHost) -> None:
    machine.write(SITE)
    machine.boot()
    (machine.host.state_folder / "state.json").write_text('{"hostname": ')
    machine.boot()
    assert "what this host knew was damaged, and is kept as state.broken" in machine.status()
    assert (machine.host.state_folder / "state.broken").exists()
    assert "hostname" in (machine.host.state_folder / "state.json").read_text()


def test_a_state_that_others_may_read_is_closed_to_them_and_used(machine: ImageHost) -> None:
    """A copy from a backup. Without it nobody could log in."""
    machine.write(SITE)
    machine.boot()
    state = machine.host.state_folder / "state.json"
    state.chmod(0o644)
    machine.write("hostname: other")
    assert machine.boot().returncode == 0
    assert (machine.root / SSH_KEYS).read_text() == f"{KEY}\n"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "odd",
    [
        {"labels": ["of a newer version"]},
        {"address": {"ip": "dhcp6"}, "controller": True},
        {"address": {"ip": 7}},
        {"endpoint": "lab:99999999"},
        {"attempt": 3},
        {"hostname": None},
        {"time_server": "\ud800"},
    ],
)
def test_of_a_state_of_another_version_the_network_and_the_keys_are_used(
    machine: ImageHost, odd: dict[str, object]
) -> None:
    machine.write(SITE)
    machine.boot()
    state = machine.host.state_folder / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | odd))
    machine.write("timeServer: ntp.example")
    assert machine.boot().returncode == 1
    assert "is kept as state.broken; what can be read of it is used; write all keys" in machine.status()
    assert (machine.root / SSH_KEYS).read_text() == f"{KEY}\n"
    assert 'psk="a passphrase"' in (machine.root / WPA).read_text()
    assert machine.boot().returncode == 0
    assert (machine.root / SSH_KEYS).read_text() == f"{KEY}\n"


def test_a_program_that_fails_is_said_and_the_rest_is_done(machine: ImageHost) -> None:
    machine.write(SITE)
    machine.program("hostname", "echo 'you must be root' >&2; exit 1")
    assert machine.boot().returncode == 1
    assert "`hostname lab-pi` failed: you must be root" in machine.status()
    assert (machine.root / WPA).exists()


def test_a_card_that_cannot_be_written_is_said_where_it_can_be(machine: ImageHost) -> None:
    machine.write(SITE)
    # Not even root opens a folder as a file.
    machine.host.status_file.mkdir()
    done = machine.boot()
    assert "jumpstarter-status.txt cannot be written" in done.stderr
    assert "Host name: lab-pi." in done.stdout
    assert (machine.root / WPA).exists()


def test_the_card_is_spared_when_the_status_changes_all_the_time(machine: ImageHost) -> None:
    budget = machine.host.run_folder / "status-writes"
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert show(machine.host).is_new
    assert msgspec.json.decode(budget.read_bytes(), type=Budget).left == WRITES_AT_ONCE - 1
    for left, is_written in ((0, False), (1, True)):
        machine.fact("addresses", f'[{{"ifname": "eth{left + 7}", "link_type": "ether"}}]')
        budget.write_bytes(msgspec.json.encode(Budget(left, now + 3600)))
        shown = show(machine.host)
        assert f"Network cable (eth{left + 7}): not connected." in shown.lines
        assert shown.is_new == is_written
        assert (f"eth{left + 7}" in machine.status()) == is_written


def test_writes_come_back_with_the_time_and_never_more_than_at_first() -> None:
    budget = Budget(0, 100)
    assert budget.at_time(100 + WRITE_SECONDS / 2).left == 0.5
    assert budget.at_time(100 + WRITE_SECONDS).left == 1
    assert budget.at_time(99).left == 0
    assert budget.at_time(1e9).left == WRITES_AT_ONCE


# Every moment


def test_a_power_cut_between_any_two_steps_loses_no_secret_and_the_next_boot_finishes(
    machine: ImageHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the file system is the last one once; see test_retirement for the sectors within one."""
    machine.write(SITE)
    clean = tmp_path / "clean"
    shutil.copytree(machine.root, clean)

    class PowerCutError(BaseException):
        pass

    def cut_after(number: int) -> bool:
        """Whether the run has ended before that many calls."""
        left = number

        def counted(name: str) -> None:
            real = getattr(os, name)

            def call(*arguments: object, **options: object) -> object:
                nonlocal left
                if left == 0:
                    raise PowerCutError
                left -= 1
                return real(*arguments, **options)

            patch.setattr(os, name, call)

        with monkeypatch.context() as patch:
            for name in ("pwrite", "fsync", "replace", "rename", "mkdir", "ftruncate", "open"):
                counted(name)
            try:
                apply(machine.host)
            except PowerCutError:
                return False
        return True

    for number in range(200):
        shutil.rmtree(machine.root)
        shutil.copytree(clean, machine.root)
        is_over = cut_after(number)
        state = machine.host.state_folder / "state.json"
        kept = state.read_text() if state.exists() else ""
        assert "a passphrase" in machine.site() or "a passphrase" in kept
        shutil.rmtree(machine.root / "run", ignore_errors=True)
        outcome = apply(machine.host)
        assert outcome.problems == []
        assert "a passphrase" not in machine.site()
        assert outcome.kept.wifi is not None
        assert outcome.kept.wifi.passphrase == "a passphrase"
        assert outcome.kept.is_to_enrol
        if is_over:
            break
    assert is_over
    assert number > 10


def test_only_interfaces_with_a_radio_get_another_network(machine: ImageHost) -> None:
    for name in ("eth0", "wlan0/wireless", "wlan1/phy80211", "lo"):
        (machine.root / "sys/class/net" / name).mkdir(parents=True, exist_ok=True)
    machine.write(SITE)
    machine.boot()
    machine.called()
    machine.write(SITE.replace("Lab", "Another"))
    assert machine.run("apply").returncode == 0
    restarts = [line for line in machine.called() if "jumpstarter-image-wifi@" in line]
    assert restarts == [
        f"systemctl --no-block restart jumpstarter-image-wifi@{name}.service" for name in ("wlan0", "wlan1")
    ]
