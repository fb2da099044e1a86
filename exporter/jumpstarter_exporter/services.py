"""What an exporter answers to its users, for whichever session a call is let into: Jumpstarter's services and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import trio
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Value
from jumpstarter_proto.lab.v1 import devices_pb2
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceServicer
from jumpstarter_proto.rpc import ServerCall, Servicer
from jumpstarter_proto.v1 import jumpstarter_pb2, router_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer
from jumpstarter_proto.value import from_value

from jumpstarter_exporter import calls, streams
from jumpstarter_exporter.call_notes import noted, noted_reset
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.entrance import LOOK, Entrance, Use, caller_of, entered
from jumpstarter_exporter.interface_services import InterfaceServices
from jumpstarter_exporter.report import NAME, instance_reports
from jumpstarter_exporter.status import Status

if TYPE_CHECKING:
    from jumpstarter_exporter.session import Session

__all__ = ["report_of", "services"]

WATCH_SECONDS = 0.2
"""Between two reports of a watch: a device may change its state all the time."""

_PROCESS = uuid4()
"""Names this exporter in reports for as long as the process lives."""

DriverCall: TypeAlias = ServerCall[jumpstarter_pb2.DriverCallRequest, jumpstarter_pb2.DriverCallResponse]
StreamingCall: TypeAlias = ServerCall[
    jumpstarter_pb2.StreamingDriverCallRequest, jumpstarter_pb2.StreamingDriverCallResponse
]
LogCall: TypeAlias = ServerCall[empty_pb2.Empty, jumpstarter_pb2.LogStreamResponse]


def services(entrance: Entrance) -> tuple[Servicer, ...]:
    """All of them, behind an entrance."""
    known = (_Exporter(entrance), _Router(entrance), _Devices(entrance))
    return (*known, InterfaceServices(entrance, known))


def report_of(session: Session) -> jumpstarter_pb2.GetReportResponse:
    """What GetReport tells."""
    return jumpstarter_pb2.GetReportResponse(
        uuid=str(_PROCESS),
        labels={} if session.name is None else {NAME: session.name},
        reports=instance_reports(session.tree),
        motd=session.motd,
    )


class _Exporter(ExporterServiceServicer):
    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    async def GetReport(  # noqa: N802 - the wire's name, as all of them
        self,
        request: empty_pb2.Empty,
        call: ServerCall[empty_pb2.Empty, jumpstarter_pb2.GetReportResponse],
    ) -> jumpstarter_pb2.GetReportResponse:
        return report_of(await self._entrance.enter(call, LOOK))

    async def DriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.DriverCallRequest, call: DriverCall
    ) -> jumpstarter_pb2.DriverCallResponse:
        async with entered(self._entrance, call, Use(request.uuid, request.method, does=True)) as session:
            node = session.node(request.uuid)
            arguments = [from_value(argument) for argument in request.args]
            caller = await caller_of(self._entrance, session, call)
            with noted(session.note, caller, node, request.method):
                result: Value = await calls.call(node, request.method, arguments)
        return jumpstarter_pb2.DriverCallResponse(uuid=str(uuid4()), result=result)

    async def StreamingDriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.StreamingDriverCallRequest, call: StreamingCall
    ) -> None:
        async def send(result: Value) -> None:
            await call.send(jumpstarter_pb2.StreamingDriverCallResponse(uuid=str(uuid4()), result=result))

        async with entered(self._entrance, call, Use(request.uuid, request.method, does=True)) as session:
            node = session.node(request.uuid)
            arguments = [from_value(argument) for argument in request.args]
            caller = await caller_of(self._entrance, session, call)
            with noted(session.note, caller, node, request.method):
                await calls.stream_results(node, request.method, arguments, send)

    async def LogStream(self, request: empty_pb2.Empty, call: LogCall) -> None:  # noqa: N802
        async with entered(self._entrance, call, Use(follows=True)) as session:
            # A lease's user sees its log from the start; local users come and go, and see what happens meanwhile.
            with session.log.reader(from_start=session.lease is not None) as entries:
                await call.send_initial_metadata()
                async for entry in entries:
                    await call.send(entry.to_wire())

    async def Reset(  # noqa: N802
        self,
        request: jumpstarter_pb2.ResetRequest,
        call: ServerCall[jumpstarter_pb2.ResetRequest, jumpstarter_pb2.ResetResponse],
    ) -> jumpstarter_pb2.ResetResponse:
        async with entered(self._entrance, call, Use(does=True)) as session:
            with noted_reset(session.note, await caller_of(self._entrance, session, call)):
                await session.reset()
        return jumpstarter_pb2.ResetResponse()

    async def GetStatus(  # noqa: N802
        self,
        request: jumpstarter_pb2.GetStatusRequest,
        call: ServerCall[jumpstarter_pb2.GetStatusRequest, jumpstarter_pb2.GetStatusResponse],
    ) -> jumpstarter_pb2.GetStatusResponse:
        session = await self._entrance.enter(call, LOOK)
        report = session.status.tell()
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
        session = await self._entrance.enter(call, Use(does=True, ends=True))
        return session.end()


def _on_wire(status: Status) -> str:
    return f"EXPORTER_STATUS_{status.name}"


class _Router(RouterServiceServicer):
    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    async def Stream(  # noqa: N802
        self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]
    ) -> None:
        request = streams.parse_request(call.header("request"))
        is_held = request.kind == "driver"
        async with entered(self._entrance, call, Use(request.uuid, does=True, is_held=is_held)) as session:
            node = session.node(request.uuid)
            if request.kind == "driver":
                caller = await caller_of(self._entrance, session, call)
                with noted(session.note, caller, node, request.method) as moved:
                    await streams.serve_driver_stream(node, request.method, call, moved)
            else:
                await streams.serve_resource(node, request.x_jmp_content_encoding, call)


class _Devices(DevicesServiceServicer):
    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    async def Hold(  # noqa: N802
        self,
        request: devices_pb2.HoldRequest,
        call: ServerCall[devices_pb2.HoldRequest, devices_pb2.HoldResponse],
    ) -> None:
        async with entered(self._entrance, call, Use(does=True, is_held=True)) as session:
            with session.notices() as notices:
                await call.send(devices_pb2.HoldResponse())
                async for said in notices:
                    await call.send(devices_pb2.HoldResponse(said=said))

    async def WatchReport(  # noqa: N802
        self,
        request: devices_pb2.WatchReportRequest,
        call: ServerCall[devices_pb2.WatchReportRequest, jumpstarter_pb2.GetReportResponse],
    ) -> None:
        async with entered(self._entrance, call, LOOK) as session:
            with subscribed(session.tree.devices) as changes:
                async for _ in changes:
                    await call.send(report_of(session))
                    await trio.sleep(WATCH_SECONDS)
