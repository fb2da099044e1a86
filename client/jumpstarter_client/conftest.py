"""An exporter that says what a test tells it to, and a client of it over real gRPC on a socket pair."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import jumpstarter_pb2, router_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer
from jumpstarter_proto.value import from_value, to_value

from jumpstarter_client.base import DriverClient
from jumpstarter_client.blocking import PortalThread
from jumpstarter_client.node import Allowed
from jumpstarter_client.tree import open_client

COMPOSITE = "jumpstarter_driver_composite.client.CompositeClient"
POWER = "jumpstarter_driver_power.client.PowerClient"


def entry(
    uuid: str, name: str = "", parent: str | None = None, client: str = COMPOSITE, **labels: str
) -> jumpstarter_pb2.DriverInstanceReport:
    """One device of a report; labels without their prefix."""
    named = {f"jumpstarter.dev/{key}": value for key, value in labels.items()}
    named["jumpstarter.dev/client"] = client
    if name:
        named["jumpstarter.dev/name"] = name
    return jumpstarter_pb2.DriverInstanceReport(uuid=uuid, parent_uuid=parent, labels=named)


ONE_BOARD = (entry("root"), entry("board", "rpi4", "root"), entry("switch", "power", "board", POWER))

Stream = Callable[[dict[str, Any], "ServerCall[Any, Any]"], Awaitable[None]]


class FakeExporter(ExporterServiceServicer):
    """Answers with what its fields hold. `methods` are driver calls by name; they may raise RpcError."""

    def __init__(self) -> None:
        self.reports = list(ONE_BOARD)
        self.labels: dict[str, str] = {}
        self.motd = ""
        self.refusal: RpcError | None = None
        self.methods: dict[str, Callable[..., Any]] = {"on": lambda: None, "off": lambda: None}
        self.called: list[tuple[str, str, list[object]]] = []
        self.statuses: list[jumpstarter_pb2.GetStatusResponse] = []
        self.log: list[jumpstarter_pb2.LogStreamResponse] | None = None
        self.ended_streams = 0
        self.stream_ended = threading.Event()
        """The last of them has, which may be a moment after its client."""
        self.stream: Stream | None = None

    async def GetReport(self, request: empty_pb2.Empty, call: object) -> jumpstarter_pb2.GetReportResponse:  # noqa: N802
        if self.refusal is not None:
            raise self.refusal
        return jumpstarter_pb2.GetReportResponse(labels=self.labels, reports=self.reports, motd=self.motd)

    async def DriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.DriverCallRequest, call: object
    ) -> jumpstarter_pb2.DriverCallResponse:
        arguments = [from_value(value) for value in request.args]
        self.called.append((request.uuid, request.method, list(arguments)))
        result = self._method(request.method)(*arguments)
        if isinstance(result, Awaitable):
            result = await result
        return jumpstarter_pb2.DriverCallResponse(uuid="x", result=to_value(result))

    async def StreamingDriverCall(  # noqa: N802
        self,
        request: jumpstarter_pb2.StreamingDriverCallRequest,
        call: ServerCall[Any, jumpstarter_pb2.StreamingDriverCallResponse],
    ) -> None:
        try:
            for item in self._method(request.method)(*(from_value(value) for value in request.args)):
                response = jumpstarter_pb2.StreamingDriverCallResponse(uuid="x", result=to_value(item))
                await call.send(response)
        finally:
            self.ended_streams += 1
            self.stream_ended.set()

    async def LogStream(  # noqa: N802
        self, request: empty_pb2.Empty, call: ServerCall[Any, jumpstarter_pb2.LogStreamResponse]
    ) -> None:
        if self.log is None:
            raise self.unimplemented("LogStream")
        for item in self.log:
            await call.send(item)
        await trio.sleep_forever()

    async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
        if not self.statuses:
            raise self.unimplemented("GetStatus")
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def _method(self, name: str) -> Callable[..., Any]:
        if name not in self.methods:
            raise RpcError(StatusCode.NOT_FOUND, f"method {name} not found on driver")
        return self.methods[name]


class FakeRouter(RouterServiceServicer):
    """Hands each stream's request to the exporter's `stream`."""

    def __init__(self, exporter: FakeExporter) -> None:
        self.exporter = exporter

    async def Stream(self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]) -> None:  # noqa: N802
        assert self.exporter.stream is not None
        await self.exporter.stream(json.loads(call.header("request") or ""), call)


@asynccontextmanager
async def serving(exporter: FakeExporter, *, allow: tuple[str, ...] = ()) -> AsyncIterator[DriverClient]:
    """The root of its devices."""
    with collapsed():
        async with trio.open_nursery() as nursery:
            ours, theirs = (
                trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair()
            )
            nursery.start_soon(serve_connection, theirs, [exporter, FakeRouter(exporter)])
            async with open_channel(ours) as channel, open_client(channel, allowed=Allowed(allow)) as client:
                yield client
            nursery.cancel_scope.cancel()


@pytest.fixture
def exporter() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
async def root(exporter: FakeExporter) -> AsyncIterator[DriverClient]:
    """For tests that are trio tasks."""
    async with serving(exporter) as client:
        yield client


@pytest.fixture
def blocking_root(exporter: FakeExporter) -> Iterator[DriverClient]:
    """For tests that are plain functions."""
    with PortalThread() as portal, portal.context(serving(exporter)) as client:
        yield client


async def echo(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
    """A driver stream that sends everything back."""
    await call.send_initial_metadata()
    stream = RouterStream.server(call)
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.send_eof()
    await trio.sleep_forever()  # until the client ends the call, as 0.9 does
