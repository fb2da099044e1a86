"""A program whose options are read in a fork: what the daemon gets of it, and what is left in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jumpstarter_proto.errors import ExitCode

PROGRAM = """
import os, signal, sys
from pathlib import Path
from jumpstarter_proto.daemon_program import run_program
from jumpstarter_proto.errors import ExitCode, JumpstarterError

class UsageError(JumpstarterError):
    exit_code = ExitCode.USAGE

def command(arguments):
    import colorsys
{command}

def daemon(**options):
    print("daemon", os.getpid(), options, "colorsys" in sys.modules)
    return {code}

run_program("program", sys.argv[1:], command, daemon, is_daemon=True, extra="parts")
"""


def start(command: str, *, code: str = "0") -> subprocess.Popen[str]:
    program = PROGRAM.format(command=textwrap.indent(textwrap.dedent(command), "    "), code=code)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", program, "one"],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def result(command: str, *, code: str = "0") -> tuple[int, str, str]:
    with start(command, code=code) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_daemon_has_all_options_and_not_what_has_read_them() -> None:
    options = {
        "path": Path("/a b"),
        "none": None,
        "flag": True,
        "number": 3,
        "ratio": 0.5,
        "words": ["a", "ä"],
    }
    with start(f"from pathlib import PosixPath\nreturn {options!r} | {{'text': arguments[0]}}") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (ExitCode.OK, "")
    # It is the process that was started: whoever waits for it waits for the daemon.
    assert out == f"daemon {process.pid} {options | {'text': 'one'}} False\n"


def test_a_daemon_without_options_runs() -> None:
    code, out, _ = result("return {}", code="7")
    assert (code, out.split()[2:]) == (7, ["{}", "False"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("print('help')\nreturn 0", (0, "help\n", "")),
        ("return 3", (3, "", "")),
        ("raise UsageError('no\\nsuch option')", (ExitCode.USAGE, "", "program: no such option\n")),
        ("raise KeyboardInterrupt", (ExitCode.INTERRUPTED, "", "")),
        ("sys.exit(5)", (5, "", "")),
        ("os.kill(os.getpid(), signal.SIGTERM)", (128 + signal.SIGTERM, "", "")),
    ],
)
def test_what_ends_while_options_are_read_is_not_a_daemon(
    command: str, expected: tuple[int, str, str]
) -> None:
    assert result(command) == expected


def test_a_fault_of_ours_while_options_are_read_keeps_its_traceback() -> None:
    code, out, err = result("raise ZeroDivisionError('ours')")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: ours\n")


def test_an_error_of_the_daemon_is_a_sentence() -> None:
    code = "(_ for _ in ()).throw(UsageError('no such board'))"
    assert result("return {}", code=code)[::2] == (ExitCode.USAGE, "program: no such board\n")


def test_a_program_that_is_ended_while_options_are_read_leaves_no_process() -> None:
    # The fork says that it is there, and goes on when its stdin, which it shares, is closed.
    with start(
        "print(os.getpid(), flush=True)\nsys.stdin.read()\nreturn {'text': 'x' * (1 << 20)}"
    ) as process:
        assert process.stdout is not None
        fork = int(process.stdout.readline())
        assert fork != process.pid
        process.terminate()
        assert process.wait(timeout=60) == -signal.SIGTERM
        out, err = process.communicate(timeout=60)  # until the fork, which has both, has ended
    assert (out, err) == ("", "")


def test_ctrl_c_while_options_are_read_ends_both() -> None:
    # Not `print`: what a KeyboardInterrupt comes upon at its very end may be written twice.
    with start("os.write(1, b'reading\\n')\nsys.stdin.read()\nreturn {}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (ExitCode.INTERRUPTED, "", "")


def test_ctrl_c_while_options_are_handed_over_leaves_no_traceback() -> None:
    command = """
    class Options(dict):
        def items(self):
            os.kill(os.getpid(), signal.SIGINT)
            return super().items()
    return Options(flag=True)
    """
    code, out, err = result(command)
    assert (code, err) == (ExitCode.OK, "")
    assert "{'flag': True}" in out
