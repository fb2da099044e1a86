"""Serves a device tree to its users: one session for one lease, or for the local users of a daemon.

A session opens devices when they are first used and closes all of them when it ends. Any number of clients
may be connected at a time, over any byte streams; they share the devices, the status and the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeAlias
from uuid import UUID, uuid4

import trio
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Value
from jumpstarter_proto.rpc import (
    Interceptor,
    Limits,
    Options,
    RpcError,
    Server,
    ServerCall,
    Servicer,
    StatusCode,
)
from jumpstarter_proto.rpc import serve_connection as serve_rpc
from jumpstarter_proto.v1 import jumpstarter_pb2, router_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer
from jumpstarter_proto.value import from_value

from jumpstarter_exporter import calls, streams
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.errors import DeviceFailed
from jumpstarter_exporter.logs import BoardLog, SessionLog, dispatching
from jumpstarter_exporter.node import Node
from jumpstarter_exporter.report import NAME, instance_reports
from jumpstarter_exporter.status import Status, StatusMachine
from jumpstarter_exporter.tree import Tree

__all__ = ["Session"]

_PROCESS = uuid4()
"""Names this exporter in reports for as long as the process lives."""

DriverCall: TypeAlias = ServerCall[jumpstarter_pb2.DriverCallRequest, jumpstarter_pb2.DriverCallResponse]
StreamingCall: TypeAlias = ServerCall[
    jumpstarter_pb2.StreamingDriverCallRequest, jumpstarter_pb2.StreamingDriverCallResponse
]
LogCall: TypeAlias = ServerCall[empty_pb2.Empty, jumpstarter_pb2.LogStreamResponse]


class Session:
    """Use it as an async context manager; leaving it closes all devices.

    The session does not end its connections: close or cancel them before. `lease` is the name of the lease
    that it is for; None is a session for local users, which nobody can end from afar. One that does not begin
    ready has hooks, which say when it is (see `hooks.life`). What is logged in its calls, and into the `board`'s log,
    is its log.
    """

    def __init__(
        self,
        root: Driver,
        *,
        name: str | None = None,
        lease: str | None = None,
        motd: str = "",
        begins_ready: bool = True,
        board: BoardLog | None = None,
        interceptors: Sequence[Interceptor] = (),
        options: Options | None = None,
    ) -> None:
        self.tree = Tree(root)
        self.status = StatusMachine()
        self.name = name
        self.lease = lease
        self.motd = motd
        self._begins_ready = begins_ready
        self.end_requested = trio.Event()
        """Set when the lease's user is done."""
        self._board = board or BoardLog()
        self._services: tuple[Servicer, ...] = (_Exporter(self), _Router(self))
        self._interceptors = (self._bind_log, *interceptors)
        self._options = options
        self._stack = ExitStack()
        self.server = self.new_server()

    def new_server(self, *interceptors: Interceptor, limits: Limits | None = None) -> Server:
        """Another door to it, with interceptors and limits of its own besides."""
        interceptors = (*self._interceptors, *interceptors)
        return Server(self._services, interceptors=interceptors, options=self._options, limits=limits)

    async def _bind_log(self, call: ServerCall[Any, Any]) -> None:
        self.log.bind()

    async def __aenter__(self) -> Self:
        self.log = SessionLog()
        self._stack.enter_context(dispatching())
        self._stack.enter_context(self._board.heard_by(self.log))
        self._devices = trio.open_nursery()
        self.tree.attach(await self._devices.__aenter__())
        if self._begins_ready:
            self.status.become(Status.LEASE_READY, "Ready for commands")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.tree.close()
            self.tree.attach(None)
            # Without the block's error: no task in there raises, so it leaves as itself and not in a group.
            await self._devices.__aexit__(None, None, None)
        finally:
            self._stack.close()

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one client until its connection ends."""
        await serve_rpc(stream, self._services, interceptors=self._interceptors, options=self._options)

    def node(self, uuid: str) -> Node:
        """The device with that UUID. RpcError, as Jumpstarter words it, when there is none."""
        node = self.tree.find(uuid)
        if node is not None:
            return node
        try:
            canonical = UUID(uuid)
        except ValueError as error:
            raise RpcError(StatusCode.UNKNOWN, f"Unexpected <class 'ValueError'>: {error}") from None
        node = self.tree.find(str(canonical))
        if node is None:
            raise RpcError(StatusCode.UNKNOWN, f"Unexpected <class 'KeyError'>: {canonical!r}")
        return node

    async def reset(self) -> None:
        """Reset all devices that are in use, parents first; one that fails does not keep the others from it.

        Raises:
            DeviceFailed: names those that failed.
        """
        failures = []
        for node in self.tree.nodes:
            if node.is_open:
                try:
                    node.check_usable()
                    await node.run("reset()", node.driver.reset)
                except Exception as error:  # any driver's reset; its neighbours must be reset too
                    failures.append(f"{node}: {error}")
        if failures:
            raise DeviceFailed(f"not all devices were reset: {'; '.join(failures)}")

    def end(self) -> jumpstarter_pb2.EndSessionResponse:
        """The lease's user is done; returns at once."""
        if self.lease is None:
            return jumpstarter_pb2.EndSessionResponse(success=False, message="No active lease context")
        self.end_requested.set()
        return jumpstarter_pb2.EndSessionResponse(
            success=True, message="Session end triggered, afterLease hook running asynchronously"
        )


class _Exporter(ExporterServiceServicer):
    def __init__(self, session: Session) -> None:
        self._session = session

    async def GetReport(  # noqa: N802 - the wire's name, as all of them
        self,
        request: empty_pb2.Empty,
        call: ServerCall[empty_pb2.Empty, jumpstarter_pb2.GetReportResponse],
    ) -> jumpstarter_pb2.GetReportResponse:
        session = self._session
        return jumpstarter_pb2.GetReportResponse(
            uuid=str(_PROCESS),
            labels={} if session.name is None else {NAME: session.name},
            reports=instance_reports(session.tree),
            motd=session.motd,
        )

    async def DriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.DriverCallRequest, call: DriverCall
    ) -> jumpstarter_pb2.DriverCallResponse:
        node = self._session.node(request.uuid)
        arguments = [from_value(argument) for argument in request.args]
        result = await calls.call(node, request.method, arguments)
        return jumpstarter_pb2.DriverCallResponse(uuid=str(uuid4()), result=result)

    async def StreamingDriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.StreamingDriverCallRequest, call: StreamingCall
    ) -> None:
        node = self._session.node(request.uuid)
        arguments = [from_value(argument) for argument in request.args]

        async def send(result: Value) -> None:
            await call.send(jumpstarter_pb2.StreamingDriverCallResponse(uuid=str(uuid4()), result=result))

        await calls.stream_results(node, request.method, arguments, send)

    async def LogStream(self, request: empty_pb2.Empty, call: LogCall) -> None:  # noqa: N802
        # A lease's user sees its log from the start; local users come and go, and see what happens meanwhile.
        with self._session.log.reader(from_start=self._session.lease is not None) as entries:
            await call.send_initial_metadata()
            async for entry in entries:
                await call.send(entry.to_wire())

    async def Reset(  # noqa: N802
        self,
        request: jumpstarter_pb2.ResetRequest,
        call: ServerCall[jumpstarter_pb2.ResetRequest, jumpstarter_pb2.ResetResponse],
    ) -> jumpstarter_pb2.ResetResponse:
        await self._session.reset()
        return jumpstarter_pb2.ResetResponse()

    async def GetStatus(  # noqa: N802
        self,
        request: jumpstarter_pb2.GetStatusRequest,
        call: ServerCall[jumpstarter_pb2.GetStatusRequest, jumpstarter_pb2.GetStatusResponse],
    ) -> jumpstarter_pb2.GetStatusResponse:
        report = self._session.status.report
        return jumpstarter_pb2.GetStatusResponse(
            status=_on_wire(report.status),
            message=report.message,
            status_version=report.version,
            previous_status=None if report.previous is None else _on_wire(report.previous),
        )

    async def EndSession(  # noqa: N802
        self,
        request: jumpstarter_pb2.EndSessionRequest,
        call: ServerCall[jumpstarter_pb2.EndSessionRequest, jumpstarter_pb2.EndSessionResponse],
    ) -> jumpstarter_pb2.EndSessionResponse:
        return self._session.end()


def _on_wire(status: Status) -> str:
    return f"EXPORTER_STATUS_{status.name}"


class _Router(RouterServiceServicer):
    def __init__(self, session: Session) -> None:
        self._session = session

    async def Stream(  # noqa: N802
        self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]
    ) -> None:
        request = streams.parse_request(call.header("request"))
        node = self._session.node(request.uuid)
        if request.kind == "driver":
            await streams.serve_driver_stream(node, request.method, call)
        else:
            await streams.serve_resource(node, request.x_jmp_content_encoding, call)
