"""Fails a test that leaves a process, a socket, a thread or a temporary file behind.

Tests that share a module's fixture are looked at together, when that is gone; what a session's fixture makes may stay.
What ends by itself a moment after its test, such as a thread that was told to, is waited for.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs

MOMENT_SECONDS = 5.0
"""For what has been told to end. It is looked at again every `LOOK_SECONDS`."""
LOOK_SECONDS = 0.01
KEPT_THREADS = ("Trio thread", "execnet", "MainThread", "pytest_timeout", "Dummy-")
"""trio keeps its worker threads for the next call; the others are the test run's own."""

Left = frozenset[tuple[str, str]]
"""The kind of each thing, and which one it is."""

OURS = (
    "driver",
    *(f"jumpstarter_{room}" for room in ("client", "controller", "drivers", "exporter", "proto")),
)
LEVELS = {"root": logging.WARNING} | dict.fromkeys(OURS, logging.NOTSET)
"""Of loggers where nobody has set one up."""

_folder: Path | None = None
_allowed: set[tuple[str, str]] = set()
_shared: set[int] = set()
"""Fixtures of classes and modules that are set up. What they hold may do things at any time, so nothing is compared."""
_before: Left = frozenset()


def found() -> Left:
    """What there is now."""
    return frozenset().union(*(set(look()) for look in (_threads, _processes, _sockets, _files, _levels)))


def left_behind(before: Left) -> Left:
    """What there is more than before, when it had its moment."""
    end = time.monotonic() + MOMENT_SECONDS
    collected = False
    while (left := found() - before - _allowed) and time.monotonic() < end:
        if not collected:
            gc.collect()
            collected = True
        else:
            time.sleep(LOOK_SECONDS)
    return left


def _threads() -> Iterator[tuple[str, str]]:
    for thread in threading.enumerate():
        if not thread.name.startswith(KEPT_THREADS):
            yield "thread", f"{thread.name} ({thread.ident})"


def _processes() -> Iterator[tuple[str, str]]:
    kept = programs.server_ids()
    for number in _children():
        if number not in kept:
            with suppress(OSError):
                command = (
                    Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if command or not _reaped(number):
                    yield "process", f"{number}: {command.strip() or 'not waited for'}"


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def _reaped(number: int) -> bool:
    """Whether it was an orphan, which comes to us as their subreaper. What a test has started, it has to wait for."""
    process = programs.started.get(number)
    if process is not None and process.returncode is None:
        return False
    with suppress(ChildProcessError):
        return os.waitpid(number, os.WNOHANG)[0] == number
    return True


def _sockets() -> Iterator[tuple[str, str]]:
    kept = {str(number) for number in programs.server_sockets()}
    for name in os.listdir("/proc/self/fd"):
        if name in kept:
            continue
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:"):
                yield "socket", f"{name} {target}"


def _files() -> Iterator[tuple[str, str]]:
    if _folder is not None:
        for name in os.listdir(_folder):
            yield "temporary file", name


def _levels() -> Iterator[tuple[str, str]]:
    """What a test hears by `caplog` must not depend on which ones ran before it."""
    for name, usual in LEVELS.items():
        if (level := logging.getLogger(name).level) != usual:
            yield "log level", f"{name} {logging.getLevelName(level)}"


def _clear(left: Left) -> None:
    """Take away what would disturb the tests after it."""
    for kind, what in left:
        if kind == "process":
            number = int(what.partition(":")[0])
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)
        elif kind == "log level":
            name = what.split()[0]
            logging.getLogger(name).setLevel(LEVELS[name])
        elif kind == "temporary file" and _folder is not None:
            path = _folder / what
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def pytest_configure(config: pytest.Config) -> None:
    """A folder for the temporary files of this process and of all that it starts."""
    global _folder  # noqa: PLW0603 - one for the process, as the variable that leads there
    config.addinivalue_line(
        "markers", "kills: a process that is ended here leaves its temporary files behind"
    )
    if config.getoption("numprocesses", 0):
        return  # the workers have theirs
    os.environ.setdefault(
        "PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir()
    )  # `tmp_path` stays where it always is
    _folder = Path(tempfile.mkdtemp(prefix="js-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(_folder)


def pytest_unconfigure() -> None:
    """Take the folder away."""
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Iterator[None]:
    """What a session's fixture makes may stay; what a module's makes has to go with it."""
    if fixturedef.scope == "session":
        before = found()
        try:
            return (yield)
        finally:
            _allowed.update(found() - before)
    if fixturedef.scope != "function":
        _shared.add(id(fixturedef))
    return (yield)


def pytest_fixture_post_finalizer(fixturedef: Any) -> None:
    """A shared fixture is gone."""
    _shared.discard(id(fixturedef))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol() -> Iterator[Any]:
    """Remember what there was before the first of the tests that share something."""
    global _before  # noqa: PLW0603 - as those above
    if not _shared:
        _before = found()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Compare, when the test's own fixtures are gone, and those that it shares with others."""
    result = yield
    if _shared:
        return result
    left = left_behind(_before)
    _clear(left)
    if item.get_closest_marker("kills"):
        left = frozenset(one for one in left if one[0] != "temporary file")
    if not left:
        return result
    lines = "\n".join(f"  {kind} {what}" for kind, what in sorted(left))
    pytest.fail(f"this test, or one before it with the same fixtures, left behind:\n{lines}", pytrace=False)
