"""For every test: Ctrl-C means what it means to a user.

A test run that was started in the background of a script inherits an ignored SIGINT, and would hand it on to the
commands whose handling of Ctrl-C is tested.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]
