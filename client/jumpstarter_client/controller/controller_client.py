"""What a client asks its controller: leases and exporters, by name, by label and through all pages."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio
from google.protobuf import field_mask_pb2
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.client.v1.client_grpc import CLIENT_SERVICE_GET_LEASE, ClientServiceStub
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import (
    CONNECT_SECONDS,
    REASON,
    WAITS,
    WAITS_FOR_BOARD,
    ReasonCode,
    means,
    open_controller,
    read_claims,
)
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporters_grpc import LabServiceStub
    from jumpstarter_proto.lab.v1.exporters_pb2 import ExporterDetails, LabNews, WatchRequest
    from jumpstarter_proto.rpc import Channel, ClientCall

    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = ["CALL_SECONDS", "ControllerCalls", "ControllerClient", "explained", "is_not_found", "short_name"]

CALL_SECONDS = 30.0
DIAL_SECONDS = 35.0
"""A controller waits up to 30 s for an exporter before it answers a Dial."""
PAGE = 100
RENEWED_SECONDS = 60.0
"""What stays open is opened anew when its token is good for so much longer; `renewal.SOON` is more."""
WARN_SECONDS = 7 * 86400.0

_WAITS = ((WAITS, "1"),)
_WAITS_FOR_BOARD = ((WAITS_FOR_BOARD, "1"),)
_log = logging.getLogger(__name__)


def short_name(resource: str) -> str:
    """The name at the end of `namespaces/NS/leases/NAME`."""
    return resource.rpartition("/")[2]


def is_not_found(error: RpcError) -> bool:
    """Whether it says that there is no such thing, or nobody who could have it."""
    return error.code is StatusCode.NOT_FOUND or means(error, ReasonCode.NOT_FOUND, ReasonCode.CALLER_GONE)


class ControllerClient:
    """A controller, as one of its clients."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._kept: Channel | None = None
        self._kept_for = config.identity
        self.tells = True
        """As far as is known: it says what has changed. Otherwise it has to be asked, as Jumpstarter's own."""
        self._expiry_warned = False
        """Whether its owner has been told that the token ends."""

    @property
    def own_name(self) -> str:
        """The client's own resource name."""
        return f"{self._namespace}/clients/{self.config.identity.name}"

    @property
    def _namespace(self) -> str:
        return f"namespaces/{self.config.identity.namespace}"

    @asynccontextmanager
    async def open(self, *, timeout: float = CONNECT_SECONDS) -> AsyncIterator[ControllerCalls]:
        """One connection, for as many calls as are made in the block. `timeout` is for connecting, in seconds.

        Raises:
            RpcError: it cannot be reached, or a call in the block fails; its exit code fits what it says.
            LoginError: the token is over and cannot be renewed.
        """
        config = await self._current()
        with explained():
            if self._kept is not None and not self._kept.closed and config.identity == self._kept_for:
                yield ControllerCalls(self._kept, self._namespace, until=_until(config))
                return
            async with _connected(config, timeout) as channel:
                yield ControllerCalls(channel, self._namespace, until=_until(config))

    @asynccontextmanager
    async def keep_connected(self) -> AsyncIterator[None]:
        """One connection for all that is asked in the block; once it or its token is over, each `open` makes its own.

        Raises:
            RpcError, LoginError: as `open`.
        """
        config = await self._current()
        async with AsyncExitStack() as stack:
            with explained():
                self._kept = await stack.enter_async_context(_connected(config))
            self._kept_for = config.identity
            yield

    def drop_connection(self) -> None:
        """Do not use the connection that is kept any more, as it is about to end."""
        self._kept = None

    async def _current(self) -> ClientConfig:
        """With a token that is good for a while."""
        if not self.config.refresh_token:
            if (
                not self._expiry_warned
                and (read_claims(self.config.identity.token).renewal_seconds or 1.0) <= 0
            ):
                await self._renew()
            return self.config
        from jumpstarter_client.controller.token_renewal import fresh  # noqa: PLC0415 - others' tokens are good for long

        return await fresh(self.config)

    async def _renew(self) -> None:
        """Have a new token of the controller, if it makes one; else say when this one ends, once."""
        from jumpstarter_client.controller.token_renewal import is_due, renew_with_controller  # noqa: PLC0415 - see below

        try:
            if is_due(self.config):
                self.config = await renew_with_controller(self.config)
                return
        except (JumpstarterError, OSError) as error:
            _log.debug("the token is not renewed: %s", error)
        self._expiry_warned = True
        _warn_before_expiry(self.config)


def _until(config: ClientConfig) -> float:
    """When another connection is due, as its token will be another."""
    left = read_claims(config.identity.token).left
    if left is None:
        return math.inf
    return trio.current_time() + max(RENEWED_SECONDS, left - RENEWED_SECONDS)


def _connected(
    config: ClientConfig, timeout: float = CONNECT_SECONDS
) -> AbstractAsyncContextManager[Channel]:
    return open_controller(
        config.endpoint, config.trust, config.identity, timeout=timeout, options=config.options
    )


class ControllerCalls:
    """The calls of one connection; they raise RpcError."""

    def __init__(self, channel: Channel, parent: str, *, until: float = math.inf) -> None:
        self.until = until
        """On trio's clock: what stays open is to be opened anew then."""
        self._channel = channel
        self._client = ClientServiceStub(channel)
        self._controller = ControllerServiceStub(channel)
        self._parent = parent

    async def create_lease(
        self, name: str, lease: pb.Lease, *, waits: bool = False, for_board: bool = False
    ) -> pb.Lease:
        """Ask for a lease of that name, which is to end when we are not heard of any more while one `waits` for it.

        If it is to wait `for_board`, a controller of ours does not end it because there is no such board yet.
        """
        request = pb.CreateLeaseRequest(parent=self._parent, lease_id=name, lease=lease)
        marks = [*(_WAITS if waits else ()), *(_WAITS_FOR_BOARD if for_board else ())]
        return await self._client.CreateLease(request, timeout=CALL_SECONDS, metadata=marks)

    async def get_lease(self, name: str, *, waits: bool = False) -> pb.Lease:
        """A lease as it is now; with `waits` we are heard of as the command that waits for it."""
        request = pb.GetLeaseRequest(name=f"{self._parent}/leases/{name}")
        return await self._client.GetLease(request, timeout=CALL_SECONDS, metadata=_WAITS if waits else ())

    async def end_reason(self, name: str) -> str:
        """Why a lease has ended, as a code such as `ReasonCode.NO_BOARD`; empty if the controller does not say."""
        request = pb.GetLeaseRequest(name=f"{self._parent}/leases/{name}")
        async with self._channel.server_stream(
            CLIENT_SERVICE_GET_LEASE, request, timeout=CALL_SECONDS
        ) as call:
            async for _ in call:
                pass  # behind the only answer come its trailers
            return next((str(value) for key, value in call.trailing_metadata if key == REASON), "")

    async def update_lease(self, name: str, changes: pb.Lease) -> pb.Lease:
        """Change what `changes` has set; the lease as it is then."""
        # A controller looks at what is set, whatever the mask says.
        mask = field_mask_pb2.FieldMask(paths=[field.name for field, _ in changes.ListFields()])
        changed = pb.Lease(name=f"{self._parent}/leases/{name}")
        changed.MergeFrom(changes)
        request = pb.UpdateLeaseRequest(lease=changed, update_mask=mask)
        return await self._client.UpdateLease(request, timeout=CALL_SECONDS)

    async def transfer_lease(self, name: str, client: str) -> pb.Lease:
        """Give a lease to another client of the namespace."""
        return await self.update_lease(name, pb.Lease(client=f"{self._parent}/clients/{client}"))

    async def delete_lease(self, name: str) -> None:
        """Give a lease back. FAILED_PRECONDITION if that was done before."""
        request = pb.DeleteLeaseRequest(name=f"{self._parent}/leases/{name}")
        await self._client.DeleteLease(request, timeout=CALL_SECONDS)

    async def leases(
        self, selector: str = "", *, tags: str = "", ended_too: bool = False
    ) -> AsyncIterator[pb.Lease]:
        """Everybody's leases that were asked for with these labels and have these tags."""
        request = pb.ListLeasesRequest(
            parent=self._parent,
            page_size=PAGE,
            filter=selector,
            tag_filter=tags,
            only_active=not ended_too,
        )
        while True:
            page = await self._client.ListLeases(request, timeout=CALL_SECONDS)
            for lease in page.leases:
                yield lease
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def exporters(self, selector: str = "") -> AsyncIterator[pb.Exporter]:
        """The exporters that have these labels."""
        request = pb.ListExportersRequest(parent=self._parent, page_size=PAGE, filter=selector)
        while True:
            page = await self._client.ListExporters(request, timeout=CALL_SECONDS)
            for exporter in page.exporters:
                yield exporter
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_exporter(self, name: str) -> pb.Exporter:
        """An exporter as it is now."""
        request = pb.GetExporterRequest(name=f"{self._parent}/exporters/{name}")
        return await self._client.GetExporter(request, timeout=CALL_SECONDS)

    async def exporter_details(self, name: str) -> ExporterDetails | None:
        """What an exporter says of itself beside Jumpstarter's words; None if the controller does not keep it."""
        from jumpstarter_proto.lab.v1 import exporters_pb2  # noqa: PLC0415 - only who looks closely needs it

        request = exporters_pb2.GetExporterDetailsRequest(name=name)
        try:
            return await self._lab().GetExporterDetails(request, timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            return None

    async def all_exporter_details(self) -> dict[str, ExporterDetails] | None:
        """The same of all exporters, by name."""
        from jumpstarter_proto.lab.v1 import exporters_pb2  # noqa: PLC0415

        request, found = exporters_pb2.ListExporterDetailsRequest(), {}
        while True:
            try:
                page = await self._lab().ListExporterDetails(request, timeout=CALL_SECONDS)
            except RpcError as error:
                if error.code is not StatusCode.UNIMPLEMENTED:
                    raise
                return None
            found.update({one.name: one for one in page.exporters})
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def watch(self, request: WatchRequest) -> AbstractAsyncContextManager[ClientCall[WatchRequest, LabNews]]:
        """What the request asks for, as it is and as it changes. See `leasing.watch` for those that do not tell."""
        return self._lab().Watch(request)

    def _lab(self) -> LabServiceStub:
        from jumpstarter_proto.lab.v1.exporters_grpc import LabServiceStub  # noqa: PLC0415

        return LabServiceStub(self._channel)

    async def check(self) -> None:
        """Ask for something that only the namespace's clients get."""
        request = pb.ListLeasesRequest(parent=self._parent, page_size=1, only_active=True)
        await self._client.ListLeases(request, timeout=CALL_SECONDS)

    async def rotate_token(self) -> tuple[str, float]:
        """A new token of ours, and when it ends in seconds since the epoch; the one before counts for a day more."""
        reply = await self._client.RotateToken(
            pb.RotateTokenRequest(parent=self._parent), timeout=CALL_SECONDS
        )
        return reply.token, reply.expiry.ToNanoseconds() / 1e9

    async def dial(self, lease: str, timeout: float) -> jumpstarter_pb2.DialResponse:
        """A router, and the token with which the lease's exporter comes there, too."""
        request = jumpstarter_pb2.DialRequest(lease_name=lease)
        return await self._controller.Dial(request, timeout=min(timeout, DIAL_SECONDS))


def _warn_before_expiry(config: ClientConfig) -> None:
    """A token of the controller's own is good for so long that its end comes as a surprise."""
    left = read_claims(config.identity.token).left
    if left is not None and 0 < left < WARN_SECONDS:
        _log.warning("your token is good for %.0f h more; renew it: jumpstarter auth rotate", left / 3600)


@contextmanager
def explained() -> Iterator[None]:
    """Give an error the exit code that its reason deserves, and say what to do about an old token."""
    try:
        yield
    except RpcError as error:
        if means(error, ReasonCode.TOKEN_EXPIRED):
            sentence = f"{error.details}; log in again: jumpstarter login"
            said = RpcError(error.code, sentence, error.trailing_metadata)
            said.exit_code = ExitCode.DENIED
            raise said from error
        if is_not_found(error):
            error.exit_code = ExitCode.NOT_FOUND
        elif means(error, ReasonCode.NOT_YOURS, ReasonCode.BAD_TOKEN):
            error.exit_code = ExitCode.DENIED
        elif means(error, ReasonCode.BAD_WISH):
            error.exit_code = ExitCode.USAGE
        raise
