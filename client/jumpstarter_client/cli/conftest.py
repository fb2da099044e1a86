"""Commands as a user types them: in this process against a fake exporter, or as a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import Server, unix_listener

from jumpstarter_client.blocking import PortalThread
from jumpstarter_client.cli.entry import run, start, start_j
from jumpstarter_client.conftest import FakeExporter, FakeRouter

SCRIPTS = Path(sysconfig.get_path("scripts"))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No daemon of this machine's, no configuration of this user's."""
    for name in [name for name in os.environ if name.startswith(("JMP_", "JUMPSTARTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JUMPSTARTER_RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(
        "jumpstarter_client.connections.endpoint.SYSTEM_SOCKET", str(tmp_path / "system.sock")
    )


@pytest.fixture
def lab(
    empty_home: None, exporter: FakeExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeExporter]:
    """An exporter that JUMPSTARTER_HOST names."""

    @asynccontextmanager
    async def listening() -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            server = Server([exporter, FakeRouter(exporter)])
            await nursery.start(server.serve, [unix_listener(tmp_path / "lab.sock")])
            yield
            nursery.cancel_scope.cancel()

    monkeypatch.setenv("JUMPSTARTER_HOST", str(tmp_path / "lab.sock"))
    with PortalThread() as portal, portal.context(listening()):
        yield exporter


@pytest.fixture
def command(empty_home: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `jumpstarter …` (or `j …`) in this process."""
    monkeypatch.setattr("jumpstarter_client.cli.entry._exit_on_signal", lambda: None)
    monkeypatch.setattr("gc.disable", lambda: None)
    monkeypatch.setattr("gc.freeze", lambda: None)

    def command(*words: str) -> Done:
        program, *rest = words
        monkeypatch.setattr(sys, "argv", [program, *rest])
        with pytest.raises(SystemExit) as ended:
            run(start_j if program == "j" else start)
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return command


def process(*words: str, **options: object) -> subprocess.Popen[str]:
    """A command as a process of its own; the environment is this process's."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [SCRIPTS / words[0], *words[1:]],
        text=True,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        **options,
    )
