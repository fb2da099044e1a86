"""A shell, and single commands, on a leased board: its end, its extension, its hooks, and its controller's absence."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from jumpstarter_client.identity.client_config import load

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.interop import exporters
from tests.support import lab as support

HOOKS = """hooks:
  beforeLease: {script: 'echo it is warm'}
  afterLease: {script: 'echo it is cold; test ! -e @HOME@/broken'}
"""


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """One whose controller may be killed."""
    with Lab.opened() as lab:
        yield lab


def go_on(lab: Lab) -> str:
    """A command that says that it runs, and ends when told to."""
    return f"touch {lab.home}/runs; while ! test -e {lab.home}/go; do sleep 0.1; done; j rpi4 power on"


def until_it_runs(lab: Lab, process: subprocess.Popen[str]) -> None:
    lab.until(lambda: (lab.home / "runs").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def test_a_lease_that_is_shorter_than_the_hook_says_so_and_then_before(lab: Lab) -> None:
    lab.exporter("one", label="board=rpi4", hooks="hooks:\n  beforeLease: {script: 'sleep 2'}\n")
    command = ("-l", "board=rpi4", "--client", lab.client("ann"), "--", "true")
    for known in (False, True):
        code, said = lab.refused("shell", "--duration", "1s", *command)
        assert code == 8
        assert "the lease has ended: its time is over; the board was still not ready" in said
        assert "reconnecting" not in said
        assert (
            "warning: the board's beforeLease hook usually takes 2s, and the lease ends in" in said
        ) == known
        lab.until(lambda: lab.status("one") == "AVAILABLE")


def folders(*places: Path) -> set[Path]:
    return {folder for place in places for folder in place.glob("jumpstarter-*") if folder.is_dir()}


@pytest.mark.kills
def test_what_killed_processes_leave_goes_with_the_next_start(lab: Lab) -> None:
    daemon = lab.exporter("one", label="board=rpi4")
    shell = lab.start(
        "shell", "-l", "board=rpi4", "--client", lab.client("ann"), "--", "sh", "-c", go_on(lab)
    )
    until_it_runs(lab, shell)
    of_client, of_exporter = folders(lab.home), folders(daemon.log.parent)
    assert (len(of_client), len(of_exporter)) == (2, 1)
    shell.kill()
    daemon.process.kill()
    daemon.process.wait()
    (lab.home / "go").touch()
    # So that it makes none at its start.
    lab.ok("lease", "release", "--all", "--client", lab.home / "ann.yaml")
    assert folders(lab.home, daemon.log.parent) == of_client | of_exporter
    lab.start_exporter("one", folder=daemon.log.parent)
    lab.until(lambda: not of_exporter & folders(daemon.log.parent))
    other = lab.home / "other.yaml"  # the board of the first is its exporter's
    other.write_text((lab.home / "one.yaml").read_text())
    lab.ok("shell", "--config", str(other), "--", "true")
    assert not folders(lab.home)


def test_what_commands_find_in_a_leased_shell(lab: Lab) -> None:
    lab.exporter("one", label="board=rpi4")
    ann = lab.client("ann")
    script = "env | grep ^JMP_; jumpstarter devices -o name; j rpi4 power on; jumpstarter lease extend 30m"
    out = lab.ok("shell", "-l", "board=rpi4", "--client", ann, "--", "sh", "-c", script)
    found = dict(line.split("=", 1) for line in out.splitlines() if line.startswith("JMP_"))
    assert (found["JMP_EXPORTER"], found["JMP_EXPORTER_LABELS"]) == ("one", "board=rpi4")
    assert found["JMP_DRIVERS_ALLOW"] == ",".join(load(str(ann), {}).allow), "as the configuration says"
    assert found["JMP_CLIENT_CONFIG"] == str(ann)
    assert "rpi4.power\n" in out
    assert f"{found['JMP_LEASE'][-8:]}: ready" in out
    assert lab.leases(ann) == {}
    ended = lab.leases(ann, "-a")[found["JMP_LEASE"]]
    assert (ended["duration"], ended["reason"]) == (3600, "it was released")
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    for words in (("-n", "one"), ("--exporter", "one"), ("--exporter-name=one",)):
        lab.ok("shell", *words, "--client", ann, "--", "j", "rpi4", "power", "off")
        lab.until(lambda: lab.status("one") == "AVAILABLE")
    code, sentence = lab.refused("shell", "--exporter", "two", "--client", ann, "--", "true")
    assert (code, sentence.count("\n")) == (4, 1), sentence
    assert "there is no exporter two" in sentence
    assert "this machine has no exporter configuration 'two'" in sentence
    code, sentence = lab.refused("shell", "--exporter", "two", "--", "true")
    assert (code, sentence.count("\n")) == (2, 1), sentence
    assert "no client configuration" in sentence


def test_hooks_are_seen_and_one_that_fails_is_a_warning(lab: Lab) -> None:
    lab.exporter("one", hooks=HOOKS.replace("@HOME@", str(lab.home)))
    ann = lab.client("ann")
    done = lab.run("power", "on", "rpi4", "-l", "board=rpi4", "--client", ann)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["beforeLease: it is warm", "afterLease: it is cold"]
    (lab.home / "broken").touch()
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    done = lab.run("shell", "-l", "board=rpi4", "--client", ann, "--", "true")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == ["beforeLease: it is warm", "afterLease: it is cold"]
    assert lines[-1].startswith("warning: afterLease hook"), lines
    assert lab.leases(ann) == {}


def test_the_end_of_a_lease_hangs_up_its_shell(lab: Lab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    shell = lab.start(
        *("shell", "-l", "board=rpi4", "--duration", "4m", "--client", ann, "--", "sh", "-c"),
        f"trap 'echo hung up; exit 5' HUP; {go_on(lab)}",
    )
    until_it_runs(lab, shell)
    lab.expire(ann)
    out, err = shell.communicate(timeout=LIMIT)
    assert (shell.returncode, out) == (8, "hung up\n"), err
    first, *others, last = err.splitlines()
    assert first.startswith("the lease ends in "), err
    assert "jumpstarter lease extend" in first
    # Who has had it for two seconds by then is told of the new end, too.
    assert [" was shortened; " in line for line in others] in ([], [True], [True, False]), err
    assert last == "the lease has ended: its time is over"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("lease", "release", "--all"), "the lease has ended: it was released"),
        (("lease", "transfer", "@LEASE@", "bob"), "the lease has ended: it was transferred to bob"),
    ],
)
def test_what_others_do_to_a_lease_ends_its_shell(lab: Lab, words: tuple[str, ...], sentence: str) -> None:
    lab.exporter("one")
    ann, _ = lab.client("ann"), lab.client("bob")
    shell = lab.start(
        *("shell", "-l", "board=rpi4", "--duration", "2h", "--client", ann, "--", "sh", "-c", go_on(lab))
    )
    until_it_runs(lab, shell)
    (name,) = lab.leases(ann)
    lab.ok(*(name if word == "@LEASE@" else word for word in words), "--client", ann)
    _, err = shell.communicate(timeout=LIMIT)
    assert shell.returncode == 8, err
    assert err.splitlines()[-1] == sentence


def test_the_end_of_a_lease_ends_a_shell_that_ignores_hangups(lab: Lab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    words = ("shell", "-l", "board=rpi4", "--client", ann, "--", "sh", "-c", go_on(lab))
    shell = lab.start(*words, by="nohup")
    until_it_runs(lab, shell)
    lab.ok("lease", "release", "--all", "--client", ann)
    _, err = shell.communicate(timeout=LIMIT)
    assert shell.returncode == 8, err


def test_a_command_that_loses_its_lease_says_so(lab: Lab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    console = lab.start(
        "serial", "log", "rpi4", "--follow", "-l", "board=rpi4", "--duration", "4m", "--client", ann
    )
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    lab.expire(ann)
    out, err = console.communicate(timeout=LIMIT)
    assert console.returncode == 8, (out, err)
    assert err.splitlines()[-1] == "error: the lease has ended: its time is over"


@pytest.mark.clock_rate(5)
def test_an_extension_from_inside_keeps_the_shell(lab: Lab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    script = f"jumpstarter lease extend 30m; {go_on(lab)}"
    shell = Reader(
        lab.start("shell", "-l", "board=rpi4", "--duration", "20", "--client", ann, "--", "sh", "-c", script)
    )
    until_it_runs(lab, shell.process)
    lab.until(lambda: "was extended; it ends in 30m" in shell.text["err"])
    (lab.home / "go").touch()
    code, _, err = shell.end()
    assert code == 0, err
    assert "has ended" not in err


@pytest.mark.clock_rate(5)
def test_a_controller_that_is_away_is_a_notice_to_a_shell_and_to_who_waits(own_lab: Lab) -> None:
    lab = own_lab
    lab.exporter("one")
    ann, bob = lab.client("ann"), lab.client("bob")
    command = (
        "shell",
        "-l",
        "board=rpi4",
        "--duration",
        "10m",
        "--client",
        ann,
        "--",
        "sh",
        "-c",
        go_on(lab),
    )
    shell = Reader(lab.start(*command))
    until_it_runs(lab, shell.process)
    waits = Reader(lab.start("power", "on", "rpi4", "-l", "board=rpi4", "--client", bob))
    lab.until(lambda: "next in the queue, at the latest in 10 min" in waits.text["err"])
    lab.kill_controller()
    lab.until(lambda: "the controller is unreachable; the wait continues" in waits.text["err"])
    lab.until(lambda: "the controller is unreachable" in shell.text["err"])
    lab.start_controller()
    lab.until(lambda: "the controller is reachable again" in shell.text["err"])
    (lab.home / "go").touch()
    for process in (shell, waits):
        code, _, err = process.end()
        assert code == 0, err
    assert shell.text["err"].count("the controller is") == 2, shell.text


def on_terminal(lab: Lab, program: str | Path, *words: str | Path, **environment: str) -> Any:
    """A program of a user's, on a terminal."""
    return pexpect.spawn(
        str(program),
        [str(word) for word in words],
        env={**os.environ, **lab.environment, "TERM": "xterm", **environment},
        encoding="utf-8",
        dimensions=(24, 200),
        timeout=LIMIT,
    )


def test_ctrl_c_while_a_command_waits_gives_up_its_place(lab: Lab) -> None:
    lab.exporter("one")
    ann, bob = lab.client("ann"), lab.client("bob")
    lab.ok("lease", "create", "-n", "one", "--client", ann)
    for words in (["shell", "-n", "one"], ["power", "on", "rpi4", "-l", "board=rpi4"]):
        waits = on_terminal(lab, exporters.scripts() / "jumpstarter", *words, "--client", bob)
        waits.expect(
            r"\rWaiting for a board \(0:0[1-9]\): next in the queue, at the latest in 30 min; all ex"
        )
        waits.sendintr()
        waits.expect(pexpect.EOF)
        waits.close()
        assert waits.exitstatus == 130
        assert [one["client"] for one in lab.leases(ann).values()] == ["ann"]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_terminal_is_greeted_warned_and_hung_up(lab: Lab, shell: str) -> None:
    motd = "hooks:\n  beforeLease: {script: 'printf \"mind the\\033[2J gap\" > $JMP_MOTD_FILE'}\n"
    lab.exporter("one", hooks=motd)
    ann = lab.client("ann")
    command = ["shell", "-l", "board=rpi4", "--duration", "4m", "--client", ann]
    terminal = on_terminal(lab, exporters.scripts() / "jumpstarter", *command, SHELL=shell)
    terminal.expect("the lease ends in [^;]+; to keep the board: jumpstarter lease extend")
    terminal.expect("mind the.*2J gap")
    terminal.expect("jumpstarter")
    terminal.sendline("echo $JMP_EXPORTER:$((40 + 2))")
    terminal.expect("one:42\r")
    lab.expire(ann)
    terminal.expect("\x1b\\[Kthe lease has ended: its time is over\r")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 8
    assert lab.leases(ann) == {}


def test_a_terminal_is_as_it_was_when_a_lease_ends_under_a_console(lab: Lab, tmp_path: Path) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    command = f"{exporters.scripts() / 'jumpstarter'} shell -l board=rpi4 --client {ann}"
    script = f"stty -a >{tmp_path}/before; {command}; echo code $?; stty -a >{tmp_path}/after"
    terminal = on_terminal(lab, "/bin/sh", "-c", script, SHELL="/bin/bash")
    terminal.logfile_read = said = io.StringIO()
    terminal.expect("jumpstarter one until")
    terminal.sendline("jumpstarter serial start-console")
    terminal.expect("Ctrl-B")
    lab.expire(ann)
    terminal.expect("the lease has ended: its time is over")
    terminal.expect("code 8")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert "Traceback" not in said.getvalue()
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()


def test_a_command_in_the_background_leaves_the_terminal_to_the_shell_when_its_lease_ends(lab: Lab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    terminal = on_terminal(lab, "/bin/bash", "--norc", "--noprofile", "-i", PS1="$ ")
    command = f"{exporters.scripts() / 'jumpstarter'} shell -l board=rpi4 --client {ann}"
    terminal.sendline(f"{command} -- sh -c 'echo has $((2 - 1)); exec sleep 60' &")
    terminal.expect("has 1")
    lab.expire(ann)
    terminal.expect("the lease has ended: its time is over")
    terminal.sendline("wait $!; echo code $((1000 + $?))")
    terminal.expect("code 1008")
    terminal.sendline("exit 0")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh", "fish"])
def test_the_prompt_follows_the_end_of_the_lease(lab: Lab, shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"missing: {shell}; apt install {shell}")
    (tmp_path / ".local" / "share" / "fish" / "generated_completions").mkdir(parents=True)
    (tmp_path / ".zshrc").touch()
    lab.exporter("one")
    ann = lab.client("ann")
    command = ["shell", "-l", "board=rpi4", "--duration", "2d", "--client", ann]
    environment = {"TERM": "dumb", "SHELL": program, "HOME": str(tmp_path)}
    terminal = on_terminal(lab, exporters.scripts() / "jumpstarter", *command, **environment)
    terminal.expect(r"⚡jumpstarter one until (\d{4}-\d\d-\d\d \d\d:\d\d) ")
    before = str(terminal.match[1])
    terminal.sendline("jumpstarter lease extend 2d")
    lab.until(lambda: (terminal.sendline("") > 0) and _end_in(terminal) > before)
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()


def _end_in(terminal: pexpect.spawn[str]) -> str:
    terminal.expect(r"⚡jumpstarter one until (\d{4}-\d\d-\d\d \d\d:\d\d) ")
    return str(terminal.match[1])


def test_a_lease_that_a_shell_uses_is_not_released_without_its_name(lab: Lab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    for words in (("-l", "board=rpi4"), ("-l", "board=rpi4", "--duration", "1h")):
        is_own = "--duration" not in words
        if is_own:  # one that `lease create` made, and that the shell uses
            lab.ok("lease", "create", *words, "--client", ann)
        shell = Reader(lab.start("shell", *words, "--client", ann, "--", "sh", "-c", go_on(lab)))
        until_it_runs(lab, shell.process)
        [name] = lab.leases(ann)
        code, sentence = lab.refused("lease", "release", "--client", ann)
        assert code == 2
        why = "a command on this machine uses your only lease" if is_own else "was not created by"
        assert why in sentence
        assert sentence.rstrip().endswith(f"to release it, name it: jumpstarter lease release {name[-8:]}")
        (lab.home / "go").touch()
        assert shell.end()[0] == 0, shell.text
        if is_own:
            assert lab.ok("lease", "release", "--client", ann) == f"{name} is released\n"
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        for file in ("go", "runs"):
            (lab.home / file).unlink()


@pytest.mark.clock_rate(5)
def test_a_board_whose_exporter_does_not_answer_is_not_waited_for_when_there_is_another(own_lab: Lab) -> None:
    lab = own_lab
    broken = lab.exporter("a-broken")
    ann = lab.client("ann")
    lab.exporter("b-good")
    broken.process.send_signal(signal.SIGSTOP)
    try:
        done = lab.run(
            *("power", "on", "rpi4", "-l", "board=rpi4", "--dial-timeout", "25", "--client", ann),
            *("--retry-timeout", "10m"),
        )
    finally:
        broken.process.send_signal(signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    assert "a-broken is being asked whether it accepts the lease" in done.stderr
    assert lab.leases(ann) == {}
