from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from jumpstarter_exporter.config.model import Hook
from jumpstarter_exporter.hooks import runner
from jumpstarter_exporter.hooks.runner import command_of, environment_of, run_hook

LOG = logging.getLogger("hook.beforeLease")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(runner, "KILL_SECONDS", 0.5)
    caplog.set_level(logging.INFO)


async def run(script: str, timeout: float = 20, **more: Any) -> str:
    return await run_hook(Hook(script=script, timeout=int(timeout), **more), os.environ, LOG)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


async def gone(pid: int) -> None:
    with trio.fail_after(10):
        while is_alive(pid):
            await trio.sleep(0.01)


async def test_output_is_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    assert await run("echo one; printf 'two\\377\\nthr'; test -t 0 && test -t 1 && echo ee") == ""
    assert caplog.messages == ["one", "two�", "three"]


async def test_a_line_without_end_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    assert await run("head -c 100000 /dev/zero | tr '\\0' x") == ""
    assert sum(map(len, caplog.messages)) == 100_000
    assert max(map(len, caplog.messages)) == 4096


async def test_a_failure_is_told() -> None:
    assert await run("exit 3") == "Hook failed with exit code 3"
    assert await run("kill -9 $$") == "Hook failed with exit code -9"
    assert "Hook could not be started" in await run("x", exec="/no/such/shell")


async def test_a_hook_whose_time_is_over_ends_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; wait; sleep 1000"
    assert await run(script, timeout=1) == "Hook timed out after 1 seconds"
    for pid in pids.read_text().split():
        await gone(int(pid))


async def test_cancelling_leaves_nothing_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, f"sleep 1000 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait")
            while not pids.exists():
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    for pid in pids.read_text().split():
        await gone(int(pid))


async def test_what_a_hook_leaves_running_does_not_hold_it_up(tmp_path: Path) -> None:
    with trio.fail_after(10):
        assert await run(f"sleep 1000 & echo $! > {tmp_path}/pid") == ""
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_a_script_of_one_line_may_be_a_file(tmp_path: Path) -> None:
    python, shell = tmp_path / "a.py", tmp_path / "a.sh"
    python.touch()
    shell.touch()
    assert command_of(Hook(script=str(python))) == [sys.executable, str(python)]
    assert command_of(Hook(script=f"{shell}\n")) == ["/bin/sh", str(shell)]
    assert command_of(Hook(script=str(shell), exec="/bin/bash -e")) == ["/bin/bash", "-e", str(shell)]
    assert command_of(Hook(script="echo a\necho b")) == ["/bin/sh", "-c", "echo a\necho b"]
    assert command_of(Hook(script="print(1)", exec="python3")) == ["python3", "-c", "print(1)"]


def test_the_environment() -> None:
    found = environment_of({"PS1": "$", "HOME": "/root"}, host="/s", lease="l", client="c", motd=Path("/m"))
    assert "PS1" not in found
    assert found["PATH"].endswith(str(Path(sys.executable).parent))
    assert {
        name: found[name]
        for name in ("HOME", "JUMPSTARTER_HOST", "LEASE_NAME", "CLIENT_NAME", "JMP_MOTD_FILE")
    } == {
        "HOME": "/root",
        "JUMPSTARTER_HOST": "/s",
        "LEASE_NAME": "l",
        "CLIENT_NAME": "c",
        "JMP_MOTD_FILE": "/m",
    }
