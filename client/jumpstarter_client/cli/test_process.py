"""Commands as processes of their own: signals, pipes, shells, and what they load."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.cli.conftest import SCRIPTS, process
from jumpstarter_client.cli.shell_prompt import prompt_text
from jumpstarter_client.conftest import FakeExporter

SECONDS = 60
CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: bench}
export:
  power: {type: power.MockPower}
"""


def endless(exporter: FakeExporter) -> None:
    """Readings as fast as they are read."""

    def read() -> object:
        while True:
            yield {"voltage": 5.0, "current": 1.0}

    exporter.methods["read"] = read


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_command_and_its_call_without_a_word(
    lab: FakeExporter, number: signal.Signals, code: int
) -> None:
    endless(lab)
    with process("jumpstarter", "power", "read") as command:
        assert command.stdout is not None
        command.stdout.readline()
        command.send_signal(number)
        _, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, err) == (code, "")
    assert lab.stream_ended.wait(SECONDS)


def test_a_reader_that_has_enough_is_not_an_error(lab: FakeExporter) -> None:
    endless(lab)
    with process("jumpstarter", "power", "read") as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        assert command.wait(SECONDS) == 141
        assert command.stderr.read() == ""


def test_a_full_disk_is_one_sentence(lab: FakeExporter) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full, process("jumpstarter", "devices", stdout=full) as command:
        _, err = command.communicate(timeout=SECONDS)
    assert command.returncode == 1
    assert err.startswith("error: standard output cannot be written: No space left on device")
    assert "Traceback" not in err


def test_a_shells_command_finds_the_exporter_and_its_code_is_ours(lab: FakeExporter) -> None:
    script = f"{SCRIPTS}/j rpi4 power on && echo $JMP_EXPORTER $JMP_DRIVERS_ALLOW && exit 42"
    lab.labels["jumpstarter.dev/name"] = "lab-1"
    with process("jumpstarter", "shell", "--", "sh", "-c", script) as command:
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out, err) == (42, "lab-1 UNSAFE\n", "")
    assert [method for _, method, _ in lab.called] == ["on"]


def test_j_is_found_in_a_shell_of_a_jumpstarter_that_is_not_on_the_path(
    lab: FakeExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a virtual environment that is not active; the user's own programs come first."""
    system = tmp_path / "system"
    system.mkdir()
    for name in ("sh", "jumpstarter"):
        (system / name).symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(system))
    with process("jumpstarter", "shell", "--", "sh", "-c", "j rpi4 power on && echo $PATH") as command:
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out, err) == (0, f"{system}:{SCRIPTS}\n", "")
    assert [method for _, method, _ in lab.called] == ["on"]
    (system / "j").symlink_to("/bin/sh")
    with process("jumpstarter", "shell", "--", "j", "-c", "echo $PATH") as command:
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out, err) == (0, f"{system}\n", "")


def test_a_shell_has_an_exporter_of_its_own_from_a_file(empty_home: None, tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text(CONFIG)
    script = f"{SCRIPTS}/j power on && stat -c %a $JUMPSTARTER_HOST"
    words = ["shell", "--config", str(tmp_path / "bench.yaml"), "--", "sh", "-c", script]
    with process("jumpstarter", *words) as command:
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out, err) == (0, "600\n", "")


@pytest.mark.parametrize(
    ("mode", "code", "sentence"), [(None, 127, "not found"), (0o644, 126, "cannot be run")]
)
def test_a_shells_command_that_cannot_be_run(
    lab: FakeExporter, tmp_path: Path, mode: int | None, code: int, sentence: str
) -> None:
    program = tmp_path / "program"
    if mode is not None:
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
    with process("jumpstarter", "shell", "--", str(program)) as command:
        _, err = command.communicate(timeout=SECONDS)
    assert command.returncode == code
    assert sentence in err


def test_a_shell_that_is_told_to_end_takes_its_command_with_it(lab: FakeExporter) -> None:
    with process("jumpstarter", "shell", "--", "sh", "-c", "echo $$; exec sleep 1000") as command:
        assert command.stdout is not None
        child = int(command.stdout.readline())
        command.terminate()
        assert command.wait(SECONDS) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "sh"])
def test_an_interactive_shell_has_its_users_settings_and_a_prompt_that_says_where_it_is(
    lab: FakeExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"missing: {shell}; apt install {shell}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", program)
    monkeypatch.setenv("TERM", "dumb")  # else some ask the terminal what it is, and wait for its answer
    monkeypatch.delenv("ZDOTDIR", raising=False)
    # fish reads all manual pages in the background where this is not there.
    (tmp_path / ".local" / "share" / "fish" / "generated_completions").mkdir(parents=True)
    lab.motd = "mind the fan"
    lab.labels["jumpstarter.dev/name"] = "rpi4$(touch x)%n"
    for settings in (".bashrc", ".zshrc"):
        (tmp_path / settings).write_text("alias greet='echo hello from settings'\n")
    with pexpect.spawn(
        str(SCRIPTS / "jumpstarter"), ["shell"], timeout=SECONDS, encoding="utf-8"
    ) as terminal:
        terminal.expect("mind the fan\r\n")
        terminal.expect_exact("⚡jumpstarter rpi4__touch_x__n ")
        terminal.sendline(f"{SCRIPTS}/j rpi4 power on")
        if shell in ("bash", "zsh"):
            terminal.sendline("greet")
            terminal.expect("hello from settings")
        terminal.sendline("exit 3")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 3
    assert [method for _, method, _ in lab.called] == ["on"]


DAY = 86400.0


@pytest.mark.parametrize(
    ("board", "ends_at", "expected"),
    [
        ("rpi4", None, "⚡jumpstarter rpi4"),
        ("", None, "⚡jumpstarter"),
        ("one", 90.0, "⚡jumpstarter one until 00:01"),
        ("one", 3 * DAY, "⚡jumpstarter one until 1970-01-04 00:00"),
        ("\x1b[2J`x`", None, "⚡jumpstarter __2J_x_"),
        ("x" * 300, None, "⚡jumpstarter " + "x" * 40),
    ],
)
def test_a_prompt_says_which_board_and_until_when(
    board: str, ends_at: float | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert prompt_text(board, ends_at, now=0.0) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_wrong_passphrase_is_found_before_the_shell_opens(lab: FakeExporter) -> None:
    lab.refusal = RpcError(StatusCode.UNAUTHENTICATED, "the passphrase is wrong; set JMP_GRPC_PASSPHRASE")
    with process("jumpstarter", "shell", "--", "echo", "inside") as command:
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out) == (5, "")
    assert "the passphrase is wrong" in err


HEAVY = "pyudev gpiozero usb serial kubernetes yaml msgspec rich cyclopts jumpstarter_exporter grpc asyncio"


@pytest.mark.parametrize("word", ["power", "--help"])
def test_a_command_loads_nothing_that_it_does_not_need(lab: FakeExporter, word: str) -> None:
    words = ["jumpstarter", word, "on"] if word == "power" else ["jumpstarter", word]
    program = (
        "import atexit, sys; sys.argv = sys.argv[1:]\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from jumpstarter_client.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "jumpstarter_client" in loaded
    assert loaded & set(HEAVY.split()) == set()
    if word == "--help":
        assert "trio" not in loaded
    else:
        clients = {module for module in done.stderr.split() if module.endswith(".client")}
        assert clients == {"jumpstarter_drivers.composite.client", "jumpstarter_drivers.power.client"}
        rooms = ("controller", "identity", "lease")
        leasing = {
            module
            for module in done.stderr.split()
            if module.startswith(tuple(f"jumpstarter_client.{room}." for room in rooms))
        }
        assert leasing <= {"jumpstarter_client.lease.request"}, "there is no controller"
