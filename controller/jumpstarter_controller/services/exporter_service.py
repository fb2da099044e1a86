"""What our own exporters say and hear beside Jumpstarter's calls: whether they take a lease, its end, and reasons."""

from __future__ import annotations

from jumpstarter_proto.lab.v1 import exporter_grpc
from jumpstarter_proto.lab.v1 import exporter_pb2 as pb
from jumpstarter_proto.rpc import ServerCall

from jumpstarter_controller.lab import Draft, ExporterStatus, Key, UnavailableReason
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import changes
from jumpstarter_controller.services.call_reports import CallReports
from jumpstarter_controller.services.exporter_streams import ExporterStreams
from jumpstarter_controller.services.health_reports import HealthReports, health_of
from jumpstarter_controller.services.messages import timestamp

__all__ = ["ExporterService"]


class ExporterService(exporter_grpc.ExporterServiceServicer):
    """jumpstarter_sbc.lab.v1.ExporterService."""

    def __init__(
        self, reconciler: Reconciler, streams: ExporterStreams, health: HealthReports, calls: CallReports
    ) -> None:
        self._reconciler = reconciler
        self._streams = streams
        self._health = health
        self._calls = calls

    async def WatchAssignment(
        self, request: pb.WatchAssignmentRequest, call: ServerCall[pb.WatchAssignmentRequest, pb.Assignment]
    ) -> None:
        def between(before: pb.Assignment, now: pb.Assignment) -> pb.Assignment | None:
            # An exporter takes no lease before it has been told that the last one is over.
            return pb.Assignment() if before.lease and now.lease and before.lease != now.lease else None

        await self._streams.serve(call, self._assignment, between)

    def _assignment(self, key: Key) -> pb.Assignment:
        found = pb.Assignment()
        if (lease := self._reconciler.committed.holder(key)) is not None:
            found.lease, found.client, found.offered = lease.name, lease.client, lease.offered is not None
            found.context.update(lease.context)
            if lease.accepted and lease.expiry is not None:
                found.end.CopyFrom(timestamp(lease.expiry))
        if (waiting := self._reconciler.waiting_for(key)) is not None:
            found.waiting_lease, found.waiting_client = waiting.name, waiting.client
        return found

    async def AcceptLease(
        self,
        request: pb.AcceptLeaseRequest,
        call: ServerCall[pb.AcceptLeaseRequest, pb.AcceptLeaseResponse],
    ) -> pb.AcceptLeaseResponse:
        exporter = await self._streams.caller(call)
        await self._reconciler.change(
            lambda lab, now: changes.accept_lease(lab, now, exporter.key, request.lease)
        )
        return pb.AcceptLeaseResponse()

    async def DeclineLease(
        self,
        request: pb.DeclineLeaseRequest,
        call: ServerCall[pb.DeclineLeaseRequest, pb.DeclineLeaseResponse],
    ) -> pb.DeclineLeaseResponse:
        exporter = await self._streams.caller(call)
        is_news = self._streams.instances.is_news(exporter.key, call)
        reasons = [UnavailableReason(one.code, one.sentence) for one in request.reasons]
        await self._reconciler.change(
            lambda lab, _: changes.decline_lease(lab, exporter.key, request.lease, reasons, is_news=is_news)
        )
        return pb.DeclineLeaseResponse()

    async def ReportStatus(
        self,
        request: pb.ReportStatusRequest,
        call: ServerCall[pb.ReportStatusRequest, pb.ReportStatusResponse],
    ) -> pb.ReportStatusResponse:
        reasons = [UnavailableReason(one.code, one.sentence) for one in request.reasons]

        def apply(draft: Draft, exporter: Key, status: ExporterStatus) -> None:
            changes.report(draft, exporter, status, request.message, reasons)

        await self._streams.report(call, request.status, apply)
        return pb.ReportStatusResponse()

    async def ReportHealth(
        self,
        request: pb.ReportHealthRequest,
        call: ServerCall[pb.ReportHealthRequest, pb.ReportHealthResponse],
    ) -> pb.ReportHealthResponse:
        exporter = await self._streams.caller(call)
        self._health.keep(exporter, health_of(request, self._reconciler.clock()))
        return pb.ReportHealthResponse()

    async def ReportCalls(
        self,
        request: pb.ReportCallsRequest,
        call: ServerCall[pb.ReportCallsRequest, pb.ReportCallsResponse],
    ) -> pb.ReportCallsResponse:
        exporter = await self._streams.caller(call)
        await self._calls.take(exporter, request)
        return pb.ReportCallsResponse()
