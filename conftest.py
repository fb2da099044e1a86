"""For every test: Ctrl-C means what it means to a user, and recordings of consoles go into a folder of their own.

A test run that was started in the background of a script inherits an ignored SIGINT, and would hand it on to the
commands whose handling of Ctrl-C is tested.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

from hypothesis import HealthCheck, settings

# How long a machine takes to make an example says nothing about what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

_STATE = tempfile.mkdtemp(prefix="jumpstarter-state-")
os.environ["JUMPSTARTER_STATE_DIRECTORY"] = _STATE
atexit.register(shutil.rmtree, _STATE, ignore_errors=True)
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]
