"""ClientService: exporters and leases by name, by label and in pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.client.v1 import client_grpc
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.remote import REASON, WAITS, WAITS_FOR_BOARD
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from jumpstarter_proto.texts import shown
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, Draft, Exporter, Key, Lease
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.scheduling import online
from jumpstarter_controller.services import changes, objects
from jumpstarter_controller.services.audited import audited
from jumpstarter_controller.services.auth import CallAuthenticator
from jumpstarter_controller.services.lease_filters import labels_of, selector_of_filter, selector_of_tags
from jumpstarter_controller.services.messages import (
    code_of,
    exporter_message,
    lease_message,
    name_of,
    namespace_of,
    timestamp,
)

__all__ = ["ClientService"]

MAX_PAGE_SIZE = 1000
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""Clients accept messages of up to 4 MiB."""
DECISION_SECONDS = 1.0
"""How long CreateLease waits for the exporter to accept the lease. It usually takes a few milliseconds."""

T = TypeVar("T", Exporter, Lease)
M = TypeVar("M", pb.Exporter, pb.Lease)


class ClientService(client_grpc.ClientServiceServicer):
    """jumpstarter.client.v1.ClientService. `issue` makes a token of a client: (token, expiry)."""

    def __init__(
        self,
        reconciler: Reconciler,
        auth: CallAuthenticator,
        issue: Callable[[Client], Awaitable[tuple[str, float]]],
        max_leases: int = changes.MAX_LEASES_PER_CLIENT,
    ) -> None:
        self._reconciler = reconciler
        self._auth = auth
        self._issue = issue
        self._max_leases = max_leases

    async def GetExporter(
        self, request: pb.GetExporterRequest, call: ServerCall[pb.GetExporterRequest, pb.Exporter]
    ) -> pb.Exporter:
        client = await self._auth.client(call)
        key = _own(client, name_of(request.name, "exporters"))
        exporter = self._reconciler.committed.get(Exporter, key)
        if exporter is None:
            raise changes.not_found("exporter", key.name)
        return self._exporter(exporter)

    async def ListExporters(
        self,
        request: pb.ListExportersRequest,
        call: ServerCall[pb.ListExportersRequest, pb.ListExportersResponse],
    ) -> pb.ListExportersResponse:
        client = await self._auth.client(call)
        _own(client, Key(namespace_of(request.parent), ""))
        selector = selector_of_filter(request.filter)
        found = [
            one
            for one in self._reconciler.committed.all(Exporter)
            if one.namespace == client.namespace and selector.matches(one.labels)
        ]
        page, more = _page(found, request.page_size, request.page_token, self._exporter)
        return pb.ListExportersResponse(exporters=page, next_page_token=more)

    def _exporter(self, exporter: Exporter) -> pb.Exporter:
        is_online = online(exporter, self._reconciler.presence, self._reconciler.clock())
        return exporter_message(exporter, is_online=is_online)

    async def GetLease(
        self, request: pb.GetLeaseRequest, call: ServerCall[pb.GetLeaseRequest, pb.Lease]
    ) -> pb.Lease:
        client = await self._auth.client(call)
        key = _own(client, name_of(request.name, "leases"))
        lease = await self._reconciler.find(Lease, key)
        if lease is None:
            raise changes.not_found("lease", key.name)
        call.set_trailing_metadata(_reason(lease))
        if lease.waited and lease.client == client.name and call.header(WAITS):
            self._reconciler.heard_of(lease)
            return await self._current(lease)
        return self._lease(lease)

    async def ListLeases(
        self, request: pb.ListLeasesRequest, call: ServerCall[pb.ListLeasesRequest, pb.ListLeasesResponse]
    ) -> pb.ListLeasesResponse:
        client = await self._auth.client(call)
        _own(client, Key(namespace_of(request.parent), ""))
        selector = selector_of_filter(request.filter)
        tags = selector_of_tags(request.tag_filter)
        only_active = not request.HasField("only_active") or request.only_active
        view = self._reconciler.committed
        found = [
            one
            for one in (view.open_leases() if only_active else view.all(Lease))
            if one.namespace == client.namespace
            and (not selector or selector.matches(labels_of(one)))
            and (not tags or tags.matches(labels_of(one)))
        ]
        page, more = _page(found, request.page_size, request.page_token, self._lease)
        return pb.ListLeasesResponse(leases=page, next_page_token=more)

    def _lease(self, lease: Lease) -> pb.Lease:
        waits = not lease.exporter and lease.ended is None
        position = self._reconciler.queue_positions().get(lease.key) if waits else None
        return lease_message(lease, position, self._reconciler.clock())

    async def CreateLease(
        self, request: pb.CreateLeaseRequest, call: ServerCall[pb.CreateLeaseRequest, pb.Lease]
    ) -> pb.Lease:
        client = await self._auth.client(call)
        waited, waits_for_board = bool(call.header(WAITS)), bool(call.header(WAITS_FOR_BOARD))
        with audited(self._reconciler, client, "a lease", request.lease_id):
            _own(client, Key(namespace_of(request.parent), ""))
            if not request.HasField("lease"):
                raise RpcError(StatusCode.INVALID_ARGUMENT, "the request has no lease")
            lease = await self._reconciler.change(
                lambda lab, now: changes.create_lease(
                    lab,
                    now,
                    client,
                    request.lease_id,
                    request.lease,
                    most_open=self._max_leases,
                    waited=waited,
                    waits_for_board=waits_for_board,
                )
            )
        lease = await self._decided(lease)
        call.set_trailing_metadata(_reason(lease))
        return self._lease(lease)

    async def UpdateLease(
        self, request: pb.UpdateLeaseRequest, call: ServerCall[pb.UpdateLeaseRequest, pb.Lease]
    ) -> pb.Lease:
        client = await self._auth.client(call)
        with audited(self._reconciler, client, "to change a lease", request.lease.name.rpartition("/")[2]):
            key = _own(client, name_of(request.lease.name, "leases"))
            lease = await self._reconciler.change(
                lambda lab, now: changes.update_lease(
                    lab, now, client, key, request.lease, most_open=self._max_leases
                )
            )
        return await self._current(lease)

    async def _current(self, lease: Lease) -> pb.Lease:
        return self._lease(await self._decided(lease))

    async def _decided(self, lease: Lease) -> Lease:
        """Return the lease after the decisions that followed the change, with a quick answer of the exporter.

        A later answer is visible with the next request.
        """
        deadline = trio.current_time() + DECISION_SECONDS
        while True:
            lease = self._reconciler.committed.get(Lease, lease.key) or lease
            left = deadline - trio.current_time()
            if lease.offered is None or lease.ended is not None or left <= 0:
                return lease
            await self._reconciler.wait(Lease, lease.key, left)

    async def DeleteLease(
        self, request: pb.DeleteLeaseRequest, call: ServerCall[pb.DeleteLeaseRequest, empty_pb2.Empty]
    ) -> empty_pb2.Empty:
        client = await self._auth.client(call)
        key = _own(client, name_of(request.name, "leases"))

        def apply(draft: Draft, _: float) -> None:
            lease = changes.owned(draft, client, key, "DeleteLease")
            if lease.release:
                raise RpcError(StatusCode.FAILED_PRECONDITION, f"lease {key.name} was released before")
            draft.put(replace(lease, release=True))  # of one that has ended by itself it is only noted

        done = "lease released by its client"
        with audited(self._reconciler, client, "to release a lease", key.name, done):
            await self._reconciler.change(apply)
        return empty_pb2.Empty()

    async def RotateToken(
        self, request: pb.RotateTokenRequest, call: ServerCall[pb.RotateTokenRequest, pb.RotateTokenResponse]
    ) -> pb.RotateTokenResponse:
        session = await self._auth.client_session(call)
        client = session.record
        if request.parent:
            _own(client, Key(request.parent.split("/")[1] if "/" in request.parent else request.parent, ""))
        if session.external:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                "this token is another issuer's, which alone can make a new one; log in again",
            )

        def apply(draft: Draft, now: float) -> Client:
            session.check(draft)
            return objects.renew_own(draft, now, draft.get(Client, client.key) or client, session.uid)

        token, expiry = await self._issue(await self._reconciler.change(apply))
        return pb.RotateTokenResponse(token=token, expiry=timestamp(expiry))


def _reason(lease: Lease) -> list[tuple[str, str]]:
    """The reason code of a lease that has ended or waits."""
    code = code_of(lease)
    return [(REASON, code)] if code else []


def _own(client: Client, key: Key) -> Key:
    if key.namespace != client.namespace:
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"namespace mismatch: this client is of {client.namespace}, not {shown(key.namespace)}",
        )
    return key


def _page(found: Sequence[T], size: int, after: str, message_of: Callable[[T], M]) -> tuple[list[M], str]:
    """One page in the order of names, and the token of the next page. Size 0: as many as fit into a message."""
    ordered = sorted((one for one in found if one.name > after), key=lambda one: one.name)
    most = min(size, MAX_PAGE_SIZE) if size > 0 else len(ordered)
    page: list[M] = []
    total = 0
    for one in ordered[:most]:
        message = message_of(one)
        total += message.ByteSize()
        if page and total > MAX_PAGE_BYTES:
            break
        page.append(message)
    return page, ordered[len(page) - 1].name if len(page) < len(ordered) else ""
