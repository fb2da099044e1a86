"""A lease to serve, and a controller that is reached in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
import yaml
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.v1.jumpstarter_pb2 import ListenResponse

from jumpstarter_exporter.config import ExporterConfig, load
from jumpstarter_exporter.driver import Driver, export
from jumpstarter_exporter.registration.controller import Controller
from jumpstarter_exporter.registration.serving import LeaseServer
from jumpstarter_exporter.registration.tenancy import Tenant

__all__ = ["ANN", "Board", "Configure", "Tunnelled", "serving"]

ANN = Tenant("mine", "ann")


@dataclass(kw_only=True, eq=False)
class Board(Driver):
    """A device with a call that takes its time, and whose hardware may vanish."""

    client: ClassVar[str] = "example.Client"

    @export
    async def wait(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @export
    def vanish(self) -> None:
        self.missing("it was unplugged")


Configure = Callable[..., ExporterConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """An exporter with one `Board`; `configure(afterLease={"script": "true"})` has hooks."""

    def made(**hooks: dict[str, Any]) -> ExporterConfig:
        file = tmp_path / "exporter.yaml"
        document = {
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": "ExporterConfig",
            "metadata": {"namespace": "lab", "name": "one"},
            "endpoint": "lab:8082",
            "token": "token",
            "export": {"board": {"type": f"{Board.__module__}.{Board.__name__}"}},
            "hooks": hooks,
        }
        file.write_text(yaml.safe_dump(document))
        return load(file)

    return made


class Tunnelled(Controller):
    """Its tunnels end in memory; some wait for the exporter."""

    def __init__(self, *waiting: str, **failing: Exception) -> None:
        """`waiting`: the router's token of each; `failing`: tokens whose tunnel cannot be had, and why."""
        super().__init__("lab:8082", Trust(), Identity(Kind.EXPORTER, "lab", "one", "token"))
        self._waiting = [*waiting, *failing]
        self._failing = failing
        self._pairs = {token: trio.testing.memory_stream_pair() for token in waiting}
        self.connected: list[str] = []
        """Tokens of the tunnels that the exporter has asked for."""
        self.released: list[str] = []
        self.releasing: trio.Event | None = None
        """A lease that is given back waits for it."""
        self._arrived: Callable[[ListenResponse], None]

    def near(self, token: str = "") -> trio.abc.Stream:
        """A client's end of that tunnel."""
        return self._pairs[token][0]

    def dial(self, token: str) -> None:
        """A client wants to be connected."""
        self._pairs.setdefault(token, trio.testing.memory_stream_pair())
        self._arrived(ListenResponse(router_token=token))

    async def listen(self, lease: str, arrived: Callable[[ListenResponse], None]) -> None:
        self._arrived = arrived
        for token in self._waiting:
            arrived(ListenResponse(router_token=token))
        await trio.sleep_forever()

    async def release(self, lease: str) -> None:
        self.released.append(lease)
        if self.releasing is not None:
            await self.releasing.wait()

    @asynccontextmanager
    async def tunnel(self, connection: ListenResponse) -> AsyncIterator[trio.abc.Stream]:
        token = connection.router_token
        self.connected.append(token)
        if token in self._failing:
            raise self._failing[token]
        yield self._pairs[token][1]


@asynccontextmanager
async def serving(server: LeaseServer) -> AsyncIterator[trio.Event]:
    """The lease has begun; the event is set when it is over, which the end of the block waits for."""
    over = trio.Event()

    async def run() -> None:
        await server.run()
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield over
