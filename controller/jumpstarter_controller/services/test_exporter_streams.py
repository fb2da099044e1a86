"""What a record says of where its exporter is connected, while exporters come and go and the store is slow."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import Server, open_channel
from jumpstarter_proto.v1 import jumpstarter_grpc
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.identity import Authenticator, Subject, TokenIssuer
from jumpstarter_controller.lab import Draft, Exporter, ExporterStatus, Key
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import (
    CallAuthenticator,
    ControllerService,
    DialQueues,
    ExporterStreams,
    Rendezvous,
    Router,
    Routers,
)
from jumpstarter_controller.services.conftest import SIGNING
from jumpstarter_controller.services.exporter_streams import RETURN_SECONDS
from jumpstarter_controller.store import MemoryStore
from jumpstarter_controller.store.contract import Change, Written

ONE = Key("lab", "one")


class SlowStore(MemoryStore):
    """It writes as long as it `goes_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        assert self.goes_on.wait(60)
        return super().commit(changes)


def exporter(draft: Draft, _: float) -> None:
    draft.put(Exporter(namespace="lab", name="one", uid="1", devices=1, status=ExporterStatus.AVAILABLE))


@asynccontextmanager
async def controller(reconciler: Reconciler) -> AsyncIterator[jumpstarter_grpc.ControllerServiceStub]:
    """One of several of a lab."""
    auth = CallAuthenticator(reconciler, Authenticator(TokenIssuer(SIGNING, "lab:1")))
    streams = ExporterStreams(reconciler, auth)
    routers = Routers([Router("router:1")], lambda _left, _fields: "router-token")
    server = Server([ControllerService(reconciler, auth, Rendezvous(DialQueues()), routers, streams)])
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(reconciler.run)
        await nursery.start(streams.run)
        nursery.start_soon(server.serve_connection, far)
        async with open_channel(near) as channel:
            yield jumpstarter_grpc.ControllerServiceStub(channel)
        nursery.cancel_scope.cancel()


async def test_an_exporter_that_comes_and_goes_while_its_record_is_written_is_not_thought_connected(
    mock_clock: trio.testing.MockClock,
) -> None:
    store = SlowStore()
    reconciler = Reconciler(store, replica="me")
    token = TokenIssuer(SIGNING, "lab:1").issue(Subject(Kind.EXPORTER, "lab", "one", "1"))[0]
    one = Identity(Kind.EXPORTER, "lab", "one", token)

    async def until(is_here: bool) -> None:
        while reconciler.presence.is_here(ONE) is not is_here:
            await trio.testing.wait_all_tasks_blocked()

    async def come_and_go(stub: jumpstarter_grpc.ControllerServiceStub) -> None:
        async with stub.Status(pb.StatusRequest(), metadata=one.metadata()):
            await until(True)
        await until(False)

    async with controller(reconciler) as stub:
        await reconciler.change(exporter)
        await come_and_go(stub)
        await reconciler.change(lambda *_: None)
        assert record(reconciler).replica == "me"
        store.goes_on.clear()
        mock_clock.jump(RETURN_SECONDS)
        await trio.testing.wait_all_tasks_blocked()  # that it is gone is being written
        await come_and_go(stub)
        store.goes_on.set()
        await reconciler.change(lambda *_: None)
        assert record(reconciler).replica == "me"
        mock_clock.jump(RETURN_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        await reconciler.change(lambda *_: None)
        assert record(reconciler).replica == ""


def record(reconciler: Reconciler) -> Exporter:
    found = reconciler.committed.get(Exporter, ONE)
    assert found is not None
    return found
