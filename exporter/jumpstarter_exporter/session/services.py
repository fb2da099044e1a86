"""The gRPC services for users, Jumpstarter's and ours. A selector decides in which session a call runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import trio
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Value
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.lab.v1 import devices_pb2
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceServicer
from jumpstarter_proto.rpc import ServerCall, Servicer
from jumpstarter_proto.v1 import jumpstarter_pb2, router_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer
from jumpstarter_proto.v1.router_grpc import RouterServiceServicer
from jumpstarter_proto.value import from_value

from jumpstarter_exporter.decorators import ExportKind, summarize
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.look import LOOK
from jumpstarter_exporter.forwarding import ForwardingDriver
from jumpstarter_exporter.session import bytestreams, dispatch
from jumpstarter_exporter.session.call_notes import noted, noted_reset
from jumpstarter_exporter.session.interface_services import InterfaceServices
from jumpstarter_exporter.session.report import NAME, add_looks, instance_reports
from jumpstarter_exporter.session.selection import (
    READ_ONLY_USE,
    CallUse,
    SessionSelector,
    call_origin,
    selected_session,
)

if TYPE_CHECKING:
    from jumpstarter_exporter.session.session import Session

__all__ = ["report_of", "services"]

WATCH_SECONDS = 0.2
"""Minimum interval between two reports of WatchReport: devices may change their state all the time."""

_PROCESS = uuid4()
"""The UUID of this exporter process in reports."""

DriverCall: TypeAlias = ServerCall[jumpstarter_pb2.DriverCallRequest, jumpstarter_pb2.DriverCallResponse]
StreamingCall: TypeAlias = ServerCall[
    jumpstarter_pb2.StreamingDriverCallRequest, jumpstarter_pb2.StreamingDriverCallResponse
]
LogCall: TypeAlias = ServerCall[empty_pb2.Empty, jumpstarter_pb2.LogStreamResponse]


def services(selector: SessionSelector) -> tuple[Servicer, ...]:
    """All services for a selector."""
    known = (_Exporter(selector), _Router(selector), _Devices(selector))
    return (*known, InterfaceServices(selector, known))


def report_of(session: Session) -> jumpstarter_pb2.GetReportResponse:
    """The response to GetReport."""
    return jumpstarter_pb2.GetReportResponse(
        uuid=str(_PROCESS),
        labels={} if session.name is None else {NAME: session.name},
        reports=instance_reports(session.tree),
        motd=session.motd,
    )


class _Exporter(ExporterServiceServicer):
    def __init__(self, selector: SessionSelector) -> None:
        self._selector = selector

    async def GetReport(  # noqa: N802 - the method's name on the wire, as below
        self,
        request: empty_pb2.Empty,
        call: ServerCall[empty_pb2.Empty, jumpstarter_pb2.GetReportResponse],
    ) -> jumpstarter_pb2.GetReportResponse:
        session = await self._selector.enter(call, READ_ONLY_USE)
        report = report_of(session)
        if call.header(LOOK):
            await add_looks(report, session.tree.devices)
        return report

    async def DriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.DriverCallRequest, call: DriverCall
    ) -> jumpstarter_pb2.DriverCallResponse:
        async with selected_session(
            self._selector, call, CallUse(request.uuid, request.method, does=True)
        ) as session:
            node = session.node(request.uuid)
            caller = await call_origin(self._selector, session, call)
            with noted(session.note, caller, node, request.method):
                if isinstance(node.driver, ForwardingDriver):
                    result = await dispatch.forward_call(node, node.driver, request.method, request.args)
                else:
                    arguments = [from_value(argument) for argument in request.args]
                    result = await dispatch.call(node, request.method, arguments)
        return jumpstarter_pb2.DriverCallResponse(uuid=str(uuid4()), result=result)

    async def StreamingDriverCall(  # noqa: N802
        self, request: jumpstarter_pb2.StreamingDriverCallRequest, call: StreamingCall
    ) -> None:
        async def send(result: Value) -> None:
            await call.send(jumpstarter_pb2.StreamingDriverCallResponse(uuid=str(uuid4()), result=result))

        async with selected_session(
            self._selector, call, CallUse(request.uuid, request.method, does=True)
        ) as session:
            node = session.node(request.uuid)
            caller = await call_origin(self._selector, session, call)
            with noted(session.note, caller, node, request.method):
                if isinstance(node.driver, ForwardingDriver):
                    await dispatch.forward_results(node, node.driver, request.method, request.args, send)
                else:
                    arguments = [from_value(argument) for argument in request.args]
                    await dispatch.stream_results(node, request.method, arguments, send)

    async def LogStream(self, request: empty_pb2.Empty, call: LogCall) -> None:  # noqa: N802
        async with selected_session(self._selector, call, CallUse(follows=True)) as session:
            # A lease's user sees the log from the start; local users see it from now on.
            with session.log.reader(from_start=session.lease is not None) as entries:
                await call.send_initial_metadata()
                async for entry in entries:
                    await call.send(entry.to_wire())

    async def Reset(  # noqa: N802
        self,
        request: jumpstarter_pb2.ResetRequest,
        call: ServerCall[jumpstarter_pb2.ResetRequest, jumpstarter_pb2.ResetResponse],
    ) -> jumpstarter_pb2.ResetResponse:
        async with selected_session(self._selector, call, CallUse(does=True)) as session:
            with noted_reset(session.note, await call_origin(self._selector, session, call)):
                await session.reset()
        return jumpstarter_pb2.ResetResponse()

    async def GetStatus(  # noqa: N802
        self,
        request: jumpstarter_pb2.GetStatusRequest,
        call: ServerCall[jumpstarter_pb2.GetStatusRequest, jumpstarter_pb2.GetStatusResponse],
    ) -> jumpstarter_pb2.GetStatusResponse:
        session = await self._selector.enter(call, READ_ONLY_USE)
        report = session.status.read()
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
        session = await self._selector.enter(call, CallUse(does=True, ends=True))
        return session.end()


_METHOD_KINDS = {
    ExportKind.CALL: devices_pb2.METHOD_KIND_CALL,
    ExportKind.STREAMING: devices_pb2.METHOD_KIND_STREAMING,
    ExportKind.STREAM: devices_pb2.METHOD_KIND_STREAM,
}


def _on_wire(status: ExporterStatus) -> str:
    return f"EXPORTER_STATUS_{status.name}"


class _Router(RouterServiceServicer):
    def __init__(self, selector: SessionSelector) -> None:
        self._selector = selector

    async def Stream(  # noqa: N802
        self, call: ServerCall[router_pb2.StreamRequest, router_pb2.StreamResponse]
    ) -> None:
        request = bytestreams.parse_request(call.header("request"))
        is_held = request.kind == "driver"
        async with selected_session(
            self._selector, call, CallUse(request.uuid, does=True, is_held=is_held)
        ) as session:
            node = session.node(request.uuid)
            if request.kind == "driver":
                caller = await call_origin(self._selector, session, call)
                with noted(session.note, caller, node, request.method) as moved:
                    await bytestreams.serve_driver_stream(node, request.method, call, moved)
            else:
                await bytestreams.serve_resource(node, request.x_jmp_content_encoding, call)


class _Devices(DevicesServiceServicer):
    def __init__(self, selector: SessionSelector) -> None:
        self._selector = selector

    async def Hold(  # noqa: N802
        self,
        request: devices_pb2.HoldRequest,
        call: ServerCall[devices_pb2.HoldRequest, devices_pb2.HoldResponse],
    ) -> None:
        async with selected_session(self._selector, call, CallUse(does=True, is_held=True)) as session:
            with session.notices() as notices:
                await call.send(devices_pb2.HoldResponse())
                async for said in notices:
                    await call.send(devices_pb2.HoldResponse(said=said))

    async def ListMethods(  # noqa: N802
        self,
        request: devices_pb2.ListMethodsRequest,
        call: ServerCall[devices_pb2.ListMethodsRequest, devices_pb2.ListMethodsResponse],
    ) -> devices_pb2.ListMethodsResponse:
        session = await self._selector.enter(call, READ_ONLY_USE)
        driver = session.node(request.uuid).driver
        found = driver.method_summaries if isinstance(driver, ForwardingDriver) else summarize(type(driver))
        return devices_pb2.ListMethodsResponse(
            methods=[
                devices_pb2.Method(
                    name=one.name,
                    kind=_METHOD_KINDS[one.kind],
                    parameters=one.parameters,
                    description=one.description,
                )
                for one in found
            ]
        )

    async def WatchReport(  # noqa: N802
        self,
        request: devices_pb2.WatchReportRequest,
        call: ServerCall[devices_pb2.WatchReportRequest, jumpstarter_pb2.GetReportResponse],
    ) -> None:
        async with selected_session(self._selector, call, READ_ONLY_USE) as session:
            with subscribed(session.tree.devices) as changes:
                async for _ in changes:
                    await call.send(report_of(session))
                    await trio.sleep(WATCH_SECONDS)
