"""How tests start programs: console scripts come out of a fork server, all others as they always do.

A plugin of pytest's that puts its own `Popen` in the place of `subprocess.Popen`, so that no test needs to know. What
comes out of the fork server differs from the same program started by exec in that its imports are done already; a test
of just that is marked `cold`. JUMPSTARTER_TEST_COLD=1 starts everything by exec.

A test that is marked `clock_rate(N)` starts programs whose trio clock runs N times as fast: every pause and limit of
the product takes an Nth of its time. Times of day, and thus a lease's end, stay as they are. In a test, `clock_rate(N)`
is a context for one program of several.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

import pytest

__all__ = ["clock_rate", "server_ids", "server_sockets", "started"]

SERVER = Path(__file__).with_name("forkserver.py")
PR_SET_CHILD_SUBREAPER = 36
PRELOAD = {
    "jumpstarter": ["jumpstarter_client", "jumpstarter_proto", "jumpstarter_drivers"],
    "j": ["jumpstarter_client", "jumpstarter_proto", "jumpstarter_drivers", "jumpstarter_cli.j"],
    "jumpstarter-exporter": ["jumpstarter_exporter", "jumpstarter_proto", "jumpstarter_drivers"],
    "jumpstarter-controller": ["jumpstarter_controller", "jumpstarter_proto"],
    "jumpstarter-router": ["jumpstarter_controller", "jumpstarter_proto"],
    "jmp": ["jumpstarter_cli.jmp"],
    "python": ["jumpstarter_client.connections.connect", "jumpstarter.utils.env"],
}
"""What each program imports sooner or later; what is not in its environment is left out (two have a `j`)."""

HARMLESS = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
"""A fork's streams are as the first of them says, and it has no bytecode to write."""
CONFIGURATIONS = {
    "jumpstarter.config.common:CONFIG_PATH": "",
    "jumpstarter.config.client:CONFIG_PATH": "",
    "jumpstarter.config.client:ClientConfigV1Alpha1.CLIENT_CONFIGS_PATH": "clients",
    "jumpstarter.config.exporter:CONFIG_PATH": "",
    "jumpstarter.config.exporter:ExporterConfigV1Alpha1.BASE_PATH": "exporters",
    "jumpstarter.config.user:CONFIG_PATH": "",
    "jumpstarter.config.user:UserConfigV1Alpha1.BASE_CONFIG_PATH": "",
    "jumpstarter.config.user:UserConfigV1Alpha1.USER_CONFIG_PATH": "config.yaml",
}
"""Where 0.9.0 keeps what depends on $HOME and is found while it is imported, and what that is below its folder."""

_real = subprocess.Popen
_servers: dict[str, _Server] = {}
started: WeakValueDictionary[int, Popen] = WeakValueDictionary()
"""What `Popen` has started, by its number; who has to wait for it keeps it, and a number comes again."""
_always_cold = os.environ.get("JUMPSTARTER_TEST_COLD") == "1"
_cold = _always_cold
_rate = 1.0


class _Server:
    """The fork server of one environment."""

    def __init__(self, python: Path) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
            self._process = _real(
                [python, "-X", "utf8", SERVER], stdin=far, env=environment, start_new_session=True
            )
        self.id = self._process.pid
        self.descriptor = near.fileno()
        self._socket = near
        self._lock = threading.Lock()

    def start(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """The number of the new process; when this is interrupted, the next answer would be another's, so it ends."""
        with self._lock:
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
                return int(self._socket.recv(32))
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        for name, server in list(_servers.items()):
            if server is self:
                del _servers[name]
        self._socket.close()
        self._process.wait()


class Popen(_real):  # type: ignore[type-arg, valid-type, misc]
    """As `subprocess.Popen`, but for a `with` block that fails: its process is killed instead of waited for."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()  # the block did not get to what ends it
        super().__exit__(kind, error, trace)

    def _execute_child(self, args: Any, *others: Any) -> None:
        names = _real._execute_child.__code__.co_varnames[2 : 2 + len(others)]  # type: ignore[attr-defined]
        options = dict(zip(names, others, strict=True))
        request = None if _cold else _request(args, options)
        if request is None:
            super()._execute_child(args, *others)  # type: ignore[misc]
            started[self.pid] = self
            return
        pipes = [
            options[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        ]
        child = [
            inherited if one == -1 else one for inherited, one in enumerate((pipes[0], pipes[3], pipes[5]))
        ]
        try:
            server = _server(Path(request["arguments"][0]).parent)
            self.pid = server.start(request, child)
            self._child_created = True
            started[self.pid] = self
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _request(args: Any, options: dict[str, Any]) -> dict[str, Any] | None:
    """What to ask a fork server for; nothing for a program that none can start."""
    unusual = ("executable", "preexec_fn", "shell", "uid", "gid", "gids", "pass_fds")
    if any(options[name] not in (None, False, ()) for name in unusual) or isinstance(
        args, str | bytes | os.PathLike
    ):
        return None
    if options["umask"] != -1 or options["process_group"] not in (None, -1):
        return None
    arguments = [os.fsdecode(one) for one in args]
    path = Path(arguments[0])
    name = path.name
    if name not in PRELOAD or not path.is_absolute() or not _is_environment(path.parent):
        return None
    file = ""
    if name == "python":
        if len(arguments) < 2 or not arguments[1].endswith(".py"):
            return None
        file = arguments.pop(1)
    environment = os.environ if options["env"] is None else options["env"]
    strings = {os.fsdecode(key): os.fsdecode(value) for key, value in environment.items()}
    if "LD_PRELOAD" in strings or any(key.startswith("PYTHON") and key not in HARMLESS for key in strings):
        return None  # only a new process looks at them
    return {
        "arguments": arguments,
        "file": file,
        "env": strings,
        "cwd": os.fsdecode(options["cwd"] or os.getcwd()),
        "session": options["start_new_session"],
        "preload": PRELOAD[name],
        "paths": _configurations(strings) if name == "jmp" else {},
        "rate": _rate,
    }


def _configurations(environment: dict[str, str]) -> dict[str, str]:
    """What 0.9.0 would find in that environment."""
    base = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config")
    folder = Path(environment.get("JMP_CLIENT_CONFIG_HOME") or base / "jumpstarter")
    return {where: str(folder / below) for where, below in CONFIGURATIONS.items()}


@cache
def _is_environment(folder: Path) -> bool:
    return (folder / "python").exists() and (folder.parent / "pyvenv.cfg").exists()


def _server(folder: Path) -> _Server:
    if str(folder) not in _servers:
        _servers[str(folder)] = _Server(folder / "python")
    return _servers[str(folder)]


@contextmanager
def clock_rate(rate: float) -> Iterator[None]:
    """The trio clock of programs that are started in the block runs that many times as fast."""
    global _rate  # noqa: PLW0603 - one for the process, as what it switches
    before, _rate = _rate, rate
    try:
        yield
    finally:
        _rate = before


def server_ids() -> set[int]:
    """The fork servers' process numbers."""
    return {server.id for server in _servers.values()}


def server_sockets() -> set[int]:
    """The descriptors that lead to them."""
    return {server.descriptor for server in _servers.values()}


def pytest_configure(config: pytest.Config) -> None:
    """Start programs from now on as said above."""
    config.addinivalue_line(
        "markers", "cold: programs are started by exec, not out of a process that has imported them"
    )
    config.addinivalue_line("markers", "clock_rate(N): the trio clock of programs runs N times as fast")
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
        subprocess.Popen = Popen  # type: ignore[misc]


def pytest_unconfigure() -> None:
    """End the fork servers."""
    subprocess.Popen = _real  # type: ignore[misc]
    for server in list(_servers.values()):
        server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    """What tests share has the same clock whichever of them is the first."""
    with clock_rate(_rate if fixturedef.scope == "function" else 1.0):
        return (yield)  # type: ignore[return-value]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Hold to the marks `cold` and `clock_rate`."""
    global _cold  # noqa: PLW0603 - one for the process, as what it switches
    _cold = _always_cold or item.get_closest_marker("cold") is not None
    rate = item.get_closest_marker("clock_rate")
    with clock_rate(rate.args[0] if rate else 1.0):
        result = yield
    _cold = _always_cold
    return result  # type: ignore[return-value]
