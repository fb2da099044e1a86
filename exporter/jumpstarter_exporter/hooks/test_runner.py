from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from jumpstarter_exporter.config.model import Hook
from jumpstarter_exporter.conftest import HookOutput, Witness
from jumpstarter_exporter.hooks.runner import (
    KILL_SECONDS,
    LINES_AT_ONCE,
    command_of,
    environment_of,
    is_in_hook,
    kill_hooks,
    run_hook,
)

LOG = logging.getLogger("hook.beforeLease")


@pytest.fixture(autouse=True)
def informed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def run(script: str, timeout: float = 20, **more: Any) -> str:
    return await run_hook(Hook(script=script, timeout=int(timeout), **more), os.environ, LOG)


@dataclass
class Running:
    """A hook that has begun."""

    witness: Witness
    output: HookOutput
    results: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def begun(self, script: str) -> AsyncIterator[trio.CancelScope]:
        """It prints `begun` when it has, and has ended with all that it started after the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._to_its_end, self.witness.keep + script)
            assert await self.output.line() == "begun"
            yield nursery.cancel_scope
        await self.witness.ended()

    async def _to_its_end(self, script: str) -> None:
        self.results.append(await run(script, timeout=30))


@pytest.fixture
def running(witness: Witness, hook_output: HookOutput) -> Running:
    return Running(witness, hook_output)


async def test_output_is_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    assert await run("echo one; printf 'two\\377\\nthr'; test -t 0 && test -t 1 && echo ee") == ""
    assert caplog.messages == ["one", "two�", "three"]


async def test_a_line_without_end_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    assert await run("head -c 100000 /dev/zero | tr '\\0' x") == ""
    assert sum(map(len, caplog.messages)) == 100_000
    assert max(map(len, caplog.messages)) == 4096


@pytest.mark.parametrize("script", ["kill -KILL $$", "kill -KILL 0"])
async def test_a_hook_that_somebody_kills_has_failed_and_says_by_what(script: str) -> None:
    assert await run(script) == "Hook was killed from outside, by SIGKILL"
    assert (
        await run(f"kill -{signal.SIGRTMIN + 1} $$")
        == f"Hook was killed from outside, by signal {signal.SIGRTMIN + 1}"
    )


async def test_a_hook_with_many_short_lines_leaves_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = longest = since = lines = 0

    def count(*_: object) -> None:
        nonlocal longest, since, lines
        since, lines = since + 1, lines + 1
        longest = max(longest, since)

    async def others() -> None:
        nonlocal turns, since
        while True:
            turns, since = turns + 1, 0
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(LOG, "info", count)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        assert await run("printf '%20000s' | tr ' ' '\\n'") == ""
        nursery.cancel_scope.cancel()
    assert lines == 20_000
    assert longest <= 3 * LINES_AT_ONCE, "whose turn it is first in a round is chance"


async def test_a_line_without_end_is_told_while_it_grows(running: Running) -> None:
    async with running.begun("echo begun; head -c 5000 /dev/zero | tr '\\0' x; read -r _") as scope:
        assert await running.output.line() == "x" * 4096
        scope.cancel()


async def test_a_failure_is_told() -> None:
    assert await run("exit 3") == "Hook failed with exit code 3"
    assert "Hook could not be started" in await run("x", exec="/no/such/shell")


# A shell that waits and hears every signal, though it has nothing to wait for.
STUBBORN = "trap 'echo asked' TERM; echo begun; while true; do read -r _; done"


async def test_a_hook_whose_time_is_over_is_killed_if_it_does_not_end_when_asked(
    running: Running, mock_clock: trio.testing.MockClock
) -> None:
    async with running.begun(STUBBORN):
        mock_clock.jump(30)
        assert await running.output.line() == "asked"
        mock_clock.jump(KILL_SECONDS)
    assert running.results == ["Hook timed out after 30 seconds"]


async def test_what_a_hook_started_is_killed_though_the_hook_itself_ended_when_asked(
    running: Running, mock_clock: trio.testing.MockClock
) -> None:
    async with running.begun("(trap '' TERM; echo begun; exec sleep 1000) & wait"):
        mock_clock.jump(30)
        await trio.testing.wait_all_tasks_blocked()
        assert running.witness.is_kept, "it has not had its time"
        mock_clock.jump(KILL_SECONDS)
    assert running.results == ["Hook timed out after 30 seconds"]


# What takes a moment to put the board in order: as the child of a shell that ends at once, or waits for it.
CHILD = "trap 'sleep 0.1; echo put back; exit' TERM; echo begun; read -r _"
SHELLS = {
    "ends at once": f"({CHILD}) <&1 & wait",
    "waits": f"trap : TERM; ({CHILD})",
    "says something": f"trap 'wait; exit 3' TERM; ({CHILD}) <&1 & wait",
}


@pytest.mark.parametrize("shell", SHELLS)
async def test_what_a_hook_started_is_asked_to_end_and_has_the_time_for_it(
    running: Running, mock_clock: trio.testing.MockClock, shell: str
) -> None:
    async with running.begun(SHELLS[shell]):
        mock_clock.jump(30)
        assert await running.output.line() == "put back"
    assert running.results == ["Hook timed out after 30 seconds"]


@pytest.mark.parametrize("shell", SHELLS)
async def test_cancelling_asks_what_a_hook_started_and_its_last_words_are_heard(
    running: Running, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, shell: str
) -> None:
    async with running.begun(SHELLS[shell]) as scope:
        scope.cancel()
    assert caplog.messages[-1] == "put back"
    assert running.results == []


async def test_a_hook_that_ends_when_asked_has_the_time_for_it(
    running: Running, mock_clock: trio.testing.MockClock
) -> None:
    async with running.begun("trap 'echo put back; printf done; exit' TERM; echo begun; read -r _"):
        mock_clock.jump(30)
        assert await running.output.line() == "put back"
        assert await running.output.line() == "done"
    assert running.results == ["Hook timed out after 30 seconds"]


async def test_cancelling_asks_a_hook_to_end(running: Running, mock_clock: trio.testing.MockClock) -> None:
    async with running.begun("sleep 1000 & echo begun; wait") as scope:
        scope.cancel()
    assert running.results == []


async def test_cancelling_kills_a_hook_that_does_not_end_when_asked(
    running: Running, mock_clock: trio.testing.MockClock
) -> None:
    async with running.begun("trap 'sleep 1000' TERM; echo begun; while true; do read -r _; done") as scope:
        scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(KILL_SECONDS)
    assert running.results == []


async def test_what_a_hook_leaves_running_does_not_hold_it_up(
    witness: Witness, hook_output: HookOutput
) -> None:
    with trio.fail_after(20):
        assert await run(witness.keep + "sleep 1000 & echo $!") == ""
        left = int(await hook_output.line())
        group = os.getpgid(left)
        for one in members(group) - {left}:  # what ends it with an exporter that is killed
            await ended(one)
        assert members(group) == {left}
        assert witness.is_kept
        assert not is_in_hook(left)
        kill_hooks()  # as at the end of the exporter, when others may have the numbers of hooks that are over
        assert witness.is_kept
        os.kill(left, signal.SIGKILL)
        await witness.ended()


def members(group: int) -> set[int]:
    """Of a process group, those that run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its, *_ = path.read_text().rpartition(")")[2].split()
            if int(its) == group and state != "Z":
                found.add(int(path.parent.name))
    return found


async def ended(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("program", ["/bin/sh", "/no/such/shell"])
async def test_a_hook_leaves_no_terminal_open(program: str) -> None:
    await run("true", exec=program)  # what trio keeps open itself is there from here on
    before = os.listdir("/proc/self/fd")
    await run("true", exec=program)
    assert os.listdir("/proc/self/fd") == before


ALONE = """
import logging, os, sys, trio
from jumpstarter_exporter.config.model import Hook
from jumpstarter_exporter.hooks.runner import run_hook
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
trio.run(run_hook, Hook(script=sys.argv[1], timeout=60), os.environ, logging.getLogger("hook"))
"""


@pytest.mark.parametrize("before", ["", "kill -TERM 0; "], ids=["", "which has asked it to end"])
async def test_a_hook_ends_with_an_exporter_that_is_killed(before: str) -> None:
    """With all that it has started, and whatever it does with its streams: the next process runs it again."""
    script = f"trap '' HUP TERM; {before}sleep 100 >/dev/null & echo $$ $!; while :; do sleep 100; done"
    exporter = await trio.lowlevel.open_process(
        [sys.executable, "-c", ALONE, script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert exporter.stdout is not None
    said = b""
    while b"\n" not in said:
        said += await exporter.stdout.receive_some()
    await exporter.stdout.aclose()
    hook = [os.pidfd_open(int(number)) for number in said.split()]
    assert len(hook) == 2
    exporter.kill()
    await exporter.wait()
    for process in hook:
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(process)
        os.close(process)


@pytest.mark.parametrize("missing", ["openpty", "pipe"])
async def test_a_host_with_too_many_open_files_runs_no_hook_and_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, missing, refuse)
    monkeypatch.setattr("pty.openpty", os.openpty)
    assert "Too many open files" in await run("true")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_script_of_one_line_may_be_a_file(tmp_path: Path) -> None:
    python, shell = tmp_path / "a.py", tmp_path / "a.sh"
    python.touch()
    shell.touch()
    assert command_of(Hook(script=str(python))) == [sys.executable, str(python)]
    assert command_of(Hook(script=f"{shell}\n")) == ["/bin/sh", str(shell)]
    assert command_of(Hook(script=str(shell), exec="/bin/bash -e")) == ["/bin/bash", "-e", str(shell)]
    assert command_of(Hook(script="echo a\necho b")) == ["/bin/sh", "-c", "echo a\necho b"]
    assert command_of(Hook(script="print(1)", exec="python3")) == ["python3", "-c", "print(1)"]


@pytest.mark.parametrize(
    ("first", "program"),
    [
        ("#!/usr/bin/env python3\n", ["/usr/bin/env", "python3"]),
        ("#! /bin/bash -e -u \r\n", ["/bin/bash", "-e -u"]),
        ("#!/bin/cat", ["/bin/cat"]),
        ("#!\n", ["/bin/sh"]),
        ("# !/bin/cat\n", ["/bin/sh"]),
    ],
)
@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_a_file_is_run_by_its_shebang(tmp_path: Path, first: str, program: list[str], mode: int) -> None:
    script = tmp_path / "hook"
    script.write_text(first)
    script.chmod(mode)
    assert command_of(Hook(script=str(script))) == [*program, str(script)]
    assert command_of(Hook(script=str(script), exec="/bin/dash")) == ["/bin/dash", str(script)]


async def test_a_python_script_runs_though_its_name_does_not_say_so(
    tmp_path: Path, hook_output: HookOutput
) -> None:
    script = tmp_path / "hook"
    script.write_text("#!/usr/bin/env python3\nprint(6 * 7)\n")
    assert await run(str(script)) == ""
    assert await hook_output.line() == "42"


async def test_a_hook_that_floods_its_terminal_leaves_the_loop_to_others(
    hook_output: HookOutput,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "yes")
        assert await hook_output.line() == "y"
        with trio.fail_after(20):
            for _ in range(3):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


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
    # Nothing in a hook may wait for a user at its terminal, and its clients load the drivers of this host.
    assert {
        name: found[name] for name in ("TERM", "DEBIAN_FRONTEND", "GIT_TERMINAL_PROMPT", "JMP_DRIVERS_ALLOW")
    } == {
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",
        "GIT_TERMINAL_PROMPT": "0",
        "JMP_DRIVERS_ALLOW": "UNSAFE",
    }
    assert "JUMPSTARTER_BOARD" not in found
    after = environment_of({"PATH": "/lab"}, host="/s", lease="l", client="c", motd=None, board="rpi4")
    assert "JMP_MOTD_FILE" not in after
    assert after["JUMPSTARTER_BOARD"] == "rpi4"
    assert after["PATH"] == f"/lab:{Path(sys.executable).parent}", "the lab's own `j` comes first"
