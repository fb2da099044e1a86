"""A program from the fork server behaves like one that was started with exec."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.peers import Environment

OURS = Path(sys.executable).parent
SHOW = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), dict(os.environ), sys.stdin.read(), os.getsid(0) == os.getpid()]))
print("error", file=sys.stderr)
sys.exit(3)
"""
CLIENT = """apiVersion: jumpstarter.dev/v1alpha1
kind: ClientConfig
metadata: {namespace: default, name: ann}
endpoint: 127.0.0.1:1
token: none
drivers: {allow: [], unsafe: true}
"""
WAIT = "import sys, time\nprint('ready', flush=True)\ntime.sleep(1000)\n"


@pytest.fixture(params=["forked", pytest.param("by exec", marks=pytest.mark.cold)])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def script(folder: Path, text: str) -> list[str | Path]:
    (folder / "script.py").write_text(text)
    return [OURS / "python", folder / "script.py"]


def is_forked(pid: int) -> bool:
    return b"forkserver.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_arguments_surroundings_streams_and_exit_code(way: str, tmp_path: Path) -> None:
    command = [*script(tmp_path, SHOW), "one", "--two=ü"]
    done = subprocess.run(
        command, input="given", capture_output=True, text=True, env={"A": "b"}, cwd=tmp_path, check=False
    )
    arguments, folder, environment, given, leads = json.loads(done.stdout)
    environment.pop("LC_CTYPE", None)  # Python's own, of a start in the C locale
    assert (arguments, folder) == ([str(one) for one in command[1:]], str(tmp_path))
    assert (environment, given, leads) == ({"A": "b"}, "given", False)
    assert (done.stderr, done.returncode) == ("error\n", 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(way: str, tmp_path: Path, number: signal.Signals) -> None:
    command = script(tmp_path, WAIT)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, start_new_session=True, **streams) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        seen = process.stdout.readline(), is_forked(process.pid), os.getpgid(process.pid)
        process.send_signal(number)
        assert seen == ("ready\n", way == "forked", process.pid)
        assert process.wait(20) == -number


def test_a_block_that_fails_does_not_wait_for_its_program(way: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="the test's own"),
        subprocess.Popen(script(tmp_path, WAIT), stdout=subprocess.DEVNULL) as process,
    ):
        raise ValueError("the test's own")
    assert process.returncode == -signal.SIGKILL


def test_a_console_script_is_found_by_its_name(way: str) -> None:
    done = subprocess.run([OURS / "jumpstarter", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    assert done.stderr == ""


@pytest.fixture(scope="module")
def shared_clock(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How far a program's clock gets that several tests share, in so many seconds of the wall's."""
    return clock_in(tmp_path_factory.mktemp("clock"))


def clock_in(folder: Path) -> float:
    text = "import time, trio\nasync def main():\n    a, b = time.monotonic(), trio.current_time()\n"
    text += "    time.sleep(0.02)\n    print((trio.current_time() - b) / (time.monotonic() - a))\ntrio.run(main)\n"
    return float(subprocess.run(script(folder, text), capture_output=True, text=True, check=True).stdout)


@pytest.mark.clock_rate(50)
def test_what_tests_share_has_a_clock_of_its_own(shared_clock: float, tmp_path: Path) -> None:
    assert shared_clock == pytest.approx(1, rel=0.5)
    assert clock_in(tmp_path) == pytest.approx(50, rel=0.5)
    with programs.clock_rate(10):
        assert clock_in(tmp_path) == pytest.approx(10, rel=0.5)


@pytest.mark.clock_rate(50)
def test_its_clock_runs_at_the_rate_that_the_test_asks_for(tmp_path: Path) -> None:
    text = "import time, trio\nbegan = time.monotonic()\ntrio.run(trio.sleep, 50)\nprint(time.monotonic() - began)\n"
    done = subprocess.run(script(tmp_path, text), capture_output=True, text=True, check=True)
    assert 1 <= float(done.stdout) < 40


def test_0_9_0_finds_its_configurations_in_the_home_of_its_user(
    way: str, upstream: Environment, tmp_path: Path
) -> None:
    folder = tmp_path / ".config" / "jumpstarter"
    (folder / "clients").mkdir(parents=True)
    (folder / "clients" / "lab.yaml").write_text(CLIENT)
    for words in (("config", "client", "use", "lab"), ("config", "client", "list")):
        done = subprocess.run(
            [upstream.bin / "jmp", *words],
            env={"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "lab" in done.stdout.split()
    assert (folder / "config.yaml").exists()


def test_what_a_fork_server_cannot_do_is_done_by_exec(tmp_path: Path) -> None:
    command = script(tmp_path, "import os; print(os.environ['PYTHONNOTHING'], end='')")
    environment = {"PYTHONNOTHING": "read by a new interpreter only"}
    before = programs.server_ids()
    out = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert out == environment["PYTHONNOTHING"]
    assert (
        subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True).stdout == b"1\n"
    )
    assert subprocess.run(["sh", "-c", "exit 7"], check=False).returncode == 7
    assert programs.server_ids() == before
