"""Ends the run of a test that neither ends nor can be interrupted, and shows where each of its threads is.

pytest-timeout raises an exception in the test, once, and not while a fixture of a test that failed is torn down. What
waits in the exception's way, or catches it, would hold the whole run. So each step of a test, and a worker's end, has
`GRACE_SECONDS` more than that; then faulthandler writes the stacks to stderr and ends the process. With pytest-xdist
that is one worker: its test fails, and another worker goes on with the rest.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

GRACE_SECONDS = 60.0
_stderr = -1


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=_stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _limit(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    given = mark.args[0] if mark and mark.args else item.config.getoption("timeout", None)
    return float(given or item.config.getini("timeout") or 0)


def pytest_configure() -> None:
    """Keep the stderr that no test's capture takes."""
    global _stderr  # noqa: PLW0603 - one for the process
    _stderr = os.dup(2)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker that is told to end, when the last of them has run its tests, has nothing more to do."""
    if hasattr(session.config, "workerinput"):
        threading.Thread(target=_bound_the_end, name="the end's bound", daemon=True).start()


def _bound_the_end() -> None:
    threading.main_thread().join()
    faulthandler.dump_traceback_later(GRACE_SECONDS, exit=True, file=_stderr)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _bounded(_limit(item)):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _bounded(_limit(item)):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _bounded(_limit(item)):
        return (yield)
