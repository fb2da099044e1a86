"""ControllerService: the calls of exporters, Dial and Listen, and the lease calls of older clients."""

from __future__ import annotations

import logging
import math

import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import ANSWERS, ReasonCode, refused
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode, status_of
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import jumpstarter_grpc
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.selectors import SelectorError
from jumpstarter_controller.services import changes
from jumpstarter_controller.services.audited import audited
from jumpstarter_controller.services.auth import CallAuthenticator
from jumpstarter_controller.services.exporter_sessions import INSTANCE
from jumpstarter_controller.services.exporter_streams import ExporterStreams
from jumpstarter_controller.services.messages import lease_v1, selector_of
from jumpstarter_controller.services.rendezvous import Rendezvous
from jumpstarter_controller.services.routers import Routers

__all__ = ["ControllerService"]

LISTEN_SECONDS = 1.0
"""How long Dial waits for Listen. An exporter reports LEASE_READY and listens on different connections."""
READY_SECONDS = 30.0
"""How long Dial waits for an exporter that is about to begin its lease."""

_log = logging.getLogger(__name__)
_MAY_DIAL = frozenset(
    (
        ExporterStatus.LEASE_READY,
        ExporterStatus.BEFORE_LEASE_HOOK,
        ExporterStatus.AFTER_LEASE_HOOK,
        ExporterStatus.UNSPECIFIED,
    )
)
_FAILED = frozenset((ExporterStatus.BEFORE_LEASE_HOOK_FAILED, ExporterStatus.AFTER_LEASE_HOOK_FAILED))
"""Statuses whose message is the reason if the exporter releases its lease."""
_REFUSALS = {
    ExporterStatus.OFFLINE: "exporter is offline; it will be dialled when it is back",
    ExporterStatus.BEFORE_LEASE_HOOK_FAILED: "exporter beforeLease hook failed",
    ExporterStatus.AFTER_LEASE_HOOK_FAILED: "exporter afterLease hook failed",
}


class ControllerService(jumpstarter_grpc.ControllerServiceServicer):
    """jumpstarter.v1.ControllerService."""

    def __init__(
        self,
        reconciler: Reconciler,
        auth: CallAuthenticator,
        rendezvous: Rendezvous,
        routers: Routers,
        streams: ExporterStreams,
        *,
        max_leases: int = changes.MAX_LEASES_PER_CLIENT,
    ) -> None:
        self._reconciler = reconciler
        self._auth = auth
        self._rendezvous = rendezvous
        self._dial_queues = rendezvous.listening
        self._routers = routers
        self._streams = streams
        self._max_leases = max_leases

    async def Register(
        self, request: pb.RegisterRequest, call: ServerCall[pb.RegisterRequest, pb.RegisterResponse]
    ) -> pb.RegisterResponse:
        exporter = await self._streams.caller(call)
        labels, answers = dict(request.labels), call.header(ANSWERS) == "1"
        # Not a sign of presence: it could be leased before it has said that it is available.
        record = await self._reconciler.change(
            lambda lab, _: changes.register(lab, exporter.key, labels, request.reports, answers=answers)
        )
        return pb.RegisterResponse(uuid=record.uid)

    async def Unregister(
        self, request: pb.UnregisterRequest, call: ServerCall[pb.UnregisterRequest, pb.UnregisterResponse]
    ) -> pb.UnregisterResponse:
        exporter = await self._streams.caller(call)
        await self._reconciler.change(lambda lab, _: changes.unregister(lab, exporter.key, request.reason))
        return pb.UnregisterResponse()

    async def ReportStatus(
        self,
        request: pb.ReportStatusRequest,
        call: ServerCall[pb.ReportStatusRequest, pb.ReportStatusResponse],
    ) -> pb.ReportStatusResponse:
        def apply(draft: Draft, exporter: Key, status: ExporterStatus) -> None:
            changes.report(draft, exporter, status, request.message)
            if request.release_lease and (held := draft.holder(exporter)) is not None:
                changes.release(draft, held, request.message if status in _FAILED else "")

        await self._streams.report(call, request.status, apply)
        return pb.ReportStatusResponse()

    async def Status(
        self, request: pb.StatusRequest, call: ServerCall[pb.StatusRequest, pb.StatusResponse]
    ) -> None:
        def between(before: pb.StatusResponse, now: pb.StatusResponse) -> pb.StatusResponse | None:
            # An exporter takes no lease before it has been told that the last one is over.
            return pb.StatusResponse(leased=False) if _switches(before, now) else None

        await self._streams.serve(call, self._status, between)

    def _status(self, key: Key) -> pb.StatusResponse:
        lease = self._reconciler.committed.holder(key)
        if lease is None or not lease.accepted:  # who is offered one hears of it elsewhere
            return pb.StatusResponse(leased=False)
        return pb.StatusResponse(
            leased=True, lease_name=lease.name, client_name=lease.client, context=lease.context
        )

    async def Listen(
        self, request: pb.ListenRequest, call: ServerCall[pb.ListenRequest, pb.ListenResponse]
    ) -> None:
        session = await self._auth.exporter_session(call)
        await self._reconciler.find(Lease, Key(session.record.namespace, request.lease_name))
        lease = self._lease(session.record.namespace, request.lease_name)
        if lease.exporter != session.record.name:
            raise refused(
                StatusCode.UNKNOWN,
                "permission denied: the lease is not this exporter's",
                ReasonCode.NOT_YOURS,
            )
        await self._streams.admit(session.record.key, call)
        await call.send_initial_metadata()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.watch)
            await self._listen(lease.key, call, nursery)
            nursery.cancel_scope.cancel()

    async def _listen(
        self, lease: Key, call: ServerCall[pb.ListenRequest, pb.ListenResponse], nursery: trio.Nursery
    ) -> None:
        process = call.header(INSTANCE) or ""
        listener = self._dial_queues.listen(lease, process)
        nursery.start_soon(self._rendezvous.take, lease, process)
        try:
            while (connection := await listener.next()) is not None:
                try:
                    await call.send(connection)
                except BaseException:  # whoever listens next gets it; this exporter may not have
                    self._dial_queues.put_back(lease, connection)
                    raise
                listener.delivered(connection)
        finally:
            self._dial_queues.close(lease, listener)

    async def Dial(
        self, request: pb.DialRequest, call: ServerCall[pb.DialRequest, pb.DialResponse]
    ) -> pb.DialResponse:
        dials = self._reconciler.counters.dials
        try:
            response = await self._dial(request, call)
        except JumpstarterError as error:
            dials[status_of(error)[0].name] += 1
            raise
        dials[StatusCode.OK.name] += 1
        return response

    async def _dial(
        self, request: pb.DialRequest, call: ServerCall[pb.DialRequest, pb.DialResponse]
    ) -> pb.DialResponse:
        session = await self._auth.client_session(call)
        await self._reconciler.find(Lease, Key(session.record.namespace, request.lease_name))
        lease = self._dialled(session.record, request.lease_name)
        if lease.waited:
            self._reconciler.heard_of(lease)
        exporter = await self._ready(Key(lease.namespace, lease.exporter), lease.key)
        async with self._rendezvous.found(lease.key, LISTEN_SECONDS) as push:
            session.check()  # that took a while
            lease = self._dialled(session.record, request.lease_name)
            left = math.inf if lease.expiry is None else lease.expiry - self._reconciler.clock()
            endpoint, token = self._routers.choose(exporter.labels, left, about(lease))
            await push(pb.ListenResponse(router_endpoint=endpoint, router_token=token))
        _log.info("lease dialled", extra=about(lease, router=endpoint, peer=call.peer))
        return pb.DialResponse(router_endpoint=endpoint, router_token=token)

    def _dialled(self, client: Client, name: str) -> Lease:
        """The lease. RpcError: the client may not dial it."""
        lease = self._lease(client.namespace, name)
        if lease.client != client.name:
            self._reconciler.tell(
                f"was refused a connection: the lease is {lease.client}'s", about(client, lease=lease.name)
            )
            raise refused(
                StatusCode.UNKNOWN,
                f"permission denied: the lease is {lease.client}'s now",
                ReasonCode.NOT_YOURS,
            )
        if lease.ended is not None:
            raise RpcError(StatusCode.UNKNOWN, f"lease {lease.name} has ended; create a new one")
        if not lease.accepted:
            raise RpcError(StatusCode.UNKNOWN, "lease not active: it still waits for an exporter")
        return lease

    async def _ready(self, key: Key, lease: Key) -> Exporter:
        """Wait until the exporter may be dialled. Returns it."""
        deadline = trio.current_time() + READY_SECONDS
        while True:
            exporter = self._reconciler.committed.get(Exporter, key)
            if exporter is None:
                raise changes.not_found("exporter", key.name)
            if exporter.status in _MAY_DIAL:
                return exporter
            if exporter.answers and exporter.status is ExporterStatus.AVAILABLE:
                if await self._rendezvous.is_listening(lease, LISTEN_SECONDS):
                    return exporter  # it has accepted the lease, and says so only if that takes long
                if self._reconciler.committed.get(Exporter, key) is not exporter:
                    continue
            has_failed = exporter.status is ExporterStatus.BEFORE_LEASE_HOOK_FAILED
            if has_failed and await self._rendezvous.is_listening(lease, 0.0):
                return exporter  # its session says why; a client that cannot ask goes on asking for minutes
            if exporter.status is not ExporterStatus.AVAILABLE:
                reason = _REFUSALS[exporter.status]
                if exporter.status_message and exporter.status is not ExporterStatus.OFFLINE:
                    reason += f": {exporter.status_message}"
                away = exporter.status is ExporterStatus.OFFLINE
                raise refused(
                    StatusCode.FAILED_PRECONDITION,
                    reason,
                    ReasonCode.NOT_READY if away else ReasonCode.HOOK_FAILED,
                )
            left = deadline - trio.current_time()
            if left <= 0:
                raise refused(
                    StatusCode.FAILED_PRECONDITION,
                    "exporter is not ready (status: Available); try again",
                    ReasonCode.NOT_READY,
                )
            await self._reconciler.wait(Exporter, key, left)

    def _lease(self, namespace: str, name: str) -> Lease:
        if not name:
            raise RpcError(StatusCode.UNKNOWN, "empty lease name")
        lease = self._reconciler.committed.get(Lease, Key(namespace, name))
        if lease is None:
            raise changes.not_found("lease", name)
        return lease

    async def ReleaseLease(
        self,
        request: pb.ReleaseLeaseRequest,
        call: ServerCall[pb.ReleaseLeaseRequest, pb.ReleaseLeaseResponse],
    ) -> pb.ReleaseLeaseResponse:
        caller = await self._auth.either(call)
        key = Key(caller.namespace, request.name)

        def apply(draft: Draft, _: float) -> None:
            lease = draft.get(Lease, key)
            if lease is None:
                raise RpcError(StatusCode.NOT_FOUND, f"lease {shown(key.name)} not found")
            if isinstance(caller, Exporter) and lease.exporter != caller.name:
                raise RpcError(
                    StatusCode.FAILED_PRECONDITION,
                    f"lease {key.name} is not held by exporter {caller.name}",
                )
            if isinstance(caller, Client) and lease.client != caller.name:
                raise refused(StatusCode.UNKNOWN, "ReleaseLease permission denied", ReasonCode.NOT_YOURS)
            exporter = draft.get(Exporter, caller.key) if isinstance(caller, Exporter) else None
            failed = exporter is not None and exporter.status in _FAILED
            changes.release(draft, lease, exporter.status_message if exporter and failed else "")

        who = "given back by its exporter" if isinstance(caller, Exporter) else "released by its client"
        with audited(self._reconciler, caller, "to release a lease", key.name, f"lease {who}"):
            await self._reconciler.change(apply)
        return pb.ReleaseLeaseResponse()

    async def RequestLease(
        self,
        request: pb.RequestLeaseRequest,
        call: ServerCall[pb.RequestLeaseRequest, pb.RequestLeaseResponse],
    ) -> pb.RequestLeaseResponse:
        client = await self._auth.client(call)
        try:
            selector = str(selector_of(request.selector))
        except SelectorError as error:
            raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
        asked = client_pb2.Lease(selector=selector, duration=request.duration)
        with audited(self._reconciler, client, "a lease"):
            lease = await self._reconciler.change(
                lambda lab, now: changes.create_lease(lab, now, client, "", asked, most_open=self._max_leases)
            )
        return pb.RequestLeaseResponse(name=lease.name)

    async def GetLease(
        self, request: pb.GetLeaseRequest, call: ServerCall[pb.GetLeaseRequest, pb.GetLeaseResponse]
    ) -> pb.GetLeaseResponse:
        client = await self._auth.client(call)
        lease = self._lease(client.namespace, request.name)
        if lease.client != client.name:
            raise refused(StatusCode.UNKNOWN, "GetLease permission denied", ReasonCode.NOT_YOURS)
        exporter = self._reconciler.committed.get(Exporter, Key(lease.namespace, lease.exporter))
        return lease_v1(lease, exporter, self._reconciler.queue_positions().get(lease.key))

    async def ListLeases(
        self, request: pb.ListLeasesRequest, call: ServerCall[pb.ListLeasesRequest, pb.ListLeasesResponse]
    ) -> pb.ListLeasesResponse:
        client = await self._auth.client(call)
        return pb.ListLeasesResponse(
            names=[
                lease.name
                for lease in self._reconciler.committed.open_leases()
                if (lease.namespace, lease.client) == (client.namespace, client.name)
            ]
        )

    async def GetServiceEndpoints(
        self,
        request: pb.GetServiceEndpointsRequest,
        call: ServerCall[pb.GetServiceEndpointsRequest, pb.GetServiceEndpointsResponse],
    ) -> pb.GetServiceEndpointsResponse:
        await self._auth.exporter(call)
        return pb.GetServiceEndpointsResponse()  # logs stay with the exporter

    async def AuditStream(self, call: ServerCall[pb.AuditStreamRequest, empty_pb2.Empty]) -> empty_pb2.Empty:
        session = await self._auth.exporter_session(call)
        async for entry in call:
            session.check()
            _log.info(
                "audit: %s %s", shown(entry.severity), shown(entry.message, 500), extra=about(session.record)
            )
        return empty_pb2.Empty()


def _switches(before: pb.StatusResponse, now: pb.StatusResponse) -> bool:
    return before.leased and now.leased and before.lease_name != now.lease_name
