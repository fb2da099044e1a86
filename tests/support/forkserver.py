"""Runs an environment's console scripts in forks of one process that has imported them: `python forkserver.py`.

Importing is most of what a short command does: 0.6 s of processor time for our controller, 1.4 s for 0.9.0's `jmp`. Its
stdin is a SOCK_SEQPACKET socket. Each request is a message of JSON with the three standard streams attached; the
answer is the process's number. The process is orphaned at once, so it becomes the child of the requesting process, if
that is a subreaper (prctl(2)): it can be waited for and killed like any other.

Runs in environments of other software, too: it imports the standard library and what it is told to run, nothing else.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import pathlib
import pkgutil
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Any

LARGEST_REQUEST = 1 << 20
STREAMS = 3
PR_SET_PDEATHSIG = 1
UNFLUSHED = 120
"""An interpreter's exit code when the end of its output could not be written."""
TEST_MODULE_PREFIXES = ("test_", "conftest")


def serve() -> dict[str, Any] | None:
    """Serve until nobody is at the other end. In a fork: what is to be run there."""
    server = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal ends tests, and those end us
    prepared: set[str] = set()
    while True:
        data, streams, _, _ = socket.recv_fds(server, LARGEST_REQUEST, STREAMS)
        if not data:
            return None
        request: dict[str, Any] = json.loads(data)
        _prepare(request["preload"], prepared)
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            child = os.fork()
            if child == 0:
                _become(request, streams, between)
                for descriptor in (server.detach(), read, write, *streams):
                    os.close(descriptor)
                return request
            os.write(write, b"%d" % child)
            os._exit(0)
        os.waitpid(between, 0)  # from here on the process is the asker's
        os.close(write)
        number = os.read(read, 32)
        for descriptor in (read, *streams):
            os.close(descriptor)
        server.send(number)


def _prepare(names: list[str], prepared: set[str]) -> None:
    """Import modules, and packages with all that is in them."""
    for name in names:
        if name in prepared:
            continue
        prepared.add(name)
        with suppress(ImportError):
            module = importlib.import_module(name)
            for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
                if not found.name.rpartition(".")[2].startswith((*TEST_MODULE_PREFIXES, "__main__")):
                    with suppress(ImportError):
                        importlib.import_module(found.name)
        gc.collect()
        gc.freeze()  # what is never looked at is not copied


def _become(request: dict[str, Any], streams: list[int], between: int) -> None:
    """Be the process that was asked for, up to its first line of Python."""
    while os.getppid() == between:
        time.sleep(
            0.0001
        )  # from here on the asker is the parent, whose end is this process's: none stays behind
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if request["session"]:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(  # type: ignore[misc]
        io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8"
    )
    for number, name, errors in ((1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        stream = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
            encoding="utf-8",
            errors=errors,
            line_buffering=number == 2 or os.isatty(number),
            write_through="PYTHONUNBUFFERED" in os.environ,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(request: dict[str, Any]) -> None:
    """What the script at that path does, or a Python file."""
    path, *arguments = request["arguments"]
    for where, value in request["paths"].items():
        module, _, attribute = where.partition(":")
        holder, _, name = attribute.rpartition(".")
        found = sys.modules[module]
        setattr(getattr(found, holder) if holder else found, name, pathlib.Path(value))
    if request["rate"] != 1:
        _quicken(request["rate"])
    if request["file"]:
        sys.argv = [request["file"], *arguments]
        sys.path[0] = os.path.dirname(request["file"])
        runpy.run_path(request["file"], run_name="__main__")
        return
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(path)
    (script,) = entry_points(group="console_scripts", name=os.path.basename(path))
    function: Callable[[], object] = script.load()
    sys.exit(function())  # type: ignore[arg-type]


def _quicken(rate: float) -> None:
    """Run trio's clock that many times as fast in this process."""
    import trio

    class Clock(trio.abc.Clock):
        def start_clock(self) -> None:
            pass

        def current_time(self) -> float:
            return time.monotonic() * rate

        def deadline_to_sleep_time(self, deadline: float) -> float:
            return (deadline - self.current_time()) / rate

    run = trio.run
    trio.run = lambda *arguments, **options: run(*arguments, **{"clock": Clock(), **options})


def _end(request: dict[str, Any]) -> None:
    """Run it and end as an interpreter does, but for taking modules apart: half of a short command's time."""
    code = 0
    try:
        _run(request)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = UNFLUSHED
    os._exit(code)


if __name__ == "__main__":
    if (asked := serve()) is not None:
        _end(asked)
