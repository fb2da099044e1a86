"""For every test: signals mean what they mean to a user, and recordings and sockets go into a folder of their own.

A test run that was started in the background of a script inherits an ignored SIGINT, one by nohup an ignored SIGHUP,
and would hand it on to the commands whose handling of signals is tested.

A test that needs what this machine does not have is skipped with a reason that begins with `missing: ` and says what to
install. Where $CI is set, as in `.ci/run`, everything is there, and such a skip is a failure.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long a machine takes to make an example says nothing about what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# Tests keep sockets in their own temporary folders, and so does Jumpstarter 0.9: a socket's path has at most 107 bytes,
# of which pytest's folders and ours need about 80.
_TMPDIR = tempfile.gettempdir()
_MAX_TMPDIR_BYTES = 24
if _TMPDIR_IS_TOO_LONG := len(os.fsencode(_TMPDIR)) > _MAX_TMPDIR_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"

# Where a shell forbids to write bytecode, each of some thousand processes would compile all of our code anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_STATE = tempfile.mkdtemp(prefix="jumpstarter-state-")
os.environ["JUMPSTARTER_STATE_DIRECTORY"] = _STATE
os.environ["JUMPSTARTER_RUNTIME_DIRECTORY"] = f"{_STATE}/run"
os.environ["XDG_STATE_HOME"] = f"{_STATE}/user"
os.environ["JUMPSTARTER_DISCOVERY"] = "false"  # an exporter would open what is plugged in here
atexit.register(shutil.rmtree, _STATE, ignore_errors=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

if (ROOT := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, ROOT)  # `pytest` alone, and from another folder

WORKERS_PER_PROCESSOR = 3
"""Tests wait for other processes most of their time; with 2, a quarter of the processors' time was idle."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for all tests; for a folder, one for each processor; none for a file, which starts at once."""
    processors = len(os.sched_getaffinity(0))
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return max(2, round(processors * WORKERS_PER_PROCESSOR))
    folders = [one for one in config.args if Path(one).is_dir()]
    return processors if folders else 0


pytest_plugins = [
    "pytester",
    "tests.support.programs",
    "tests.support.leaks",
    "tests.support.hangs",
    "tests.support.autojump",
]

MISSING = "missing: "


def pytest_collection_finish() -> None:
    """Ten thousand tests are there to the end: looking through them for garbage took a sixth of a worker's time."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> list[str]:
    return [f"TMPDIR: /tmp; {_TMPDIR} is too long for sockets in it"] if _TMPDIR_IS_TOO_LONG else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What no UTF-8 can say would end the whole run on its way from a worker of xdist's.
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    if report.skipped and isinstance(report.longrepr, tuple):
        file, line, reason = report.longrepr
        reason = reason.removeprefix("Skipped").removeprefix(": ")
        if not reason:
            report.outcome = "failed"
            report.longrepr = (
                f"{file}:{line}: skipped without a reason; an async test loses what it says itself"
            )
        elif os.environ.get("CI") and reason.startswith(MISSING):
            report.outcome = "failed"
            report.longrepr = (
                f"{file}:{line}: {reason}\n(skipped elsewhere; $CI is set, so it has to be there)"
            )
    return report
