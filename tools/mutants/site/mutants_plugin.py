"""A pytest plugin: tell the tracer which test runs, or run the tests of `$MUTANTS_SELECTED`, the quickest first."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import mutants_trace
import pytest

HANG_SECONDS = 30.0
# Of what a test took in the baseline, which ran slower for being traced.
HANG_FACTOR = 4.0

_durations: defaultdict[str, float] = defaultdict(float)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let the lines that run from now on belong to this test."""
    _write("MUTANTS_RUNNING", item.nodeid)
    tracer = mutants_trace.tracer
    if tracer is None:
        return (yield)
    tracer.test = item.nodeid
    try:
        return (yield)
    finally:
        tracer.test = ""


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, object, object]:
    """Let what a fixture of several tests runs belong to all of them."""
    tracer = mutants_trace.tracer
    if tracer is None or fixturedef.scope == "function":
        return (yield)
    test, tracer.test = tracer.test, ""
    try:
        return (yield)
    finally:
        tracer.test = test


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how long a test takes."""
    _durations[report.nodeid] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down how long each test took."""
    _write("MUTANTS_DURATIONS", json.dumps(_durations))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the selected tests, the quickest first, each with a limit that only a hang reaches."""
    selected = os.environ.get("MUTANTS_SELECTED")
    if not selected:
        return
    durations: dict[str, float] = json.loads(Path(selected).read_text(encoding="utf-8"))
    items[:] = sorted((i for i in items if i.nodeid in durations), key=lambda i: durations[i.nodeid])
    for item in items:
        limit = max(HANG_SECONDS, HANG_FACTOR * durations[item.nodeid])
        item.add_marker(pytest.mark.timeout(limit), append=False)


def _write(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        Path(path).write_text(text, encoding="utf-8")
