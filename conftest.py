"""For every test: Ctrl-C means what it means to a user, and recordings of consoles go into a folder of their own.

A test run that was started in the background of a script inherits an ignored SIGINT, and would hand it on to the
commands whose handling of Ctrl-C is tested.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long a machine takes to make an example says nothing about what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

_STATE = tempfile.mkdtemp(prefix="jumpstarter-state-")
os.environ["JUMPSTARTER_STATE_DIRECTORY"] = _STATE
atexit.register(shutil.rmtree, _STATE, ignore_errors=True)
signal.signal(signal.SIGINT, signal.default_int_handler)

if (ROOT := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, ROOT)  # `pytest` alone, and from another folder

WORKERS_PER_PROCESSOR = 2.5
"""Much of the time a test waits for other processes."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for all tests; for a folder, one for each processor; none for a file, which starts at once."""
    processors = len(os.sched_getaffinity(0))
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return max(2, round(processors * WORKERS_PER_PROCESSOR))
    folders = [one for one in config.args if Path(one).is_dir()]
    return processors if folders else 0


pytest_plugins = ["pytester", "tests.support.programs", "tests.support.leaks"]
