"""Write down which lines of `$MUTANTS_TRACE` (a folder) run in which test, into `$MUTANTS_LINES` (a file).

A process that a test started belongs to that test.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

write = os.write
"""The real one, while a test has another in its place."""


class Tracer:
    """Appends a line of text for each line of code that runs for the first time in a test.

    `test` is the running one, or empty for what belongs to all tests: imports, and fixtures that tests share.
    """

    def __init__(self, folder: str, output: str, test: str) -> None:
        self.test = test
        self._folder = folder + os.sep
        self._output = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._is_ours: dict[CodeType, bool] = {}
        self._seen: set[tuple[str, str, int]] = set()

    def on_call(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        """Trace the lines of a function if it is in the folder."""
        code = frame.f_code
        is_ours = self._is_ours.get(code)
        if is_ours is None:
            is_ours = self._is_ours[code] = code.co_filename.startswith(self._folder)
        return self.on_line if is_ours else None

    def on_line(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        """Write the line down, once."""
        key = (self.test, frame.f_code.co_filename, frame.f_lineno)
        if key not in self._seen:
            self._seen.add(key)
            write(self._output, "\t".join(map(str, key)).encode() + b"\n")
        return self.on_line


tracer: Tracer | None = None


def start_tracing() -> None:
    """Trace this process from now on."""
    global tracer  # noqa: PLW0603
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    tracer = Tracer(os.environ["MUTANTS_TRACE"], os.environ["MUTANTS_LINES"], test)
    threading.settrace(tracer.on_call)
    sys.settrace(tracer.on_call)
