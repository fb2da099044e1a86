"""The controller's API for clients: leases, exporters, watches and tokens."""

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
    missing_object,
    open_controller,
    read_claims,
)
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub

from jumpstarter_client.identity.rejected_token import RejectedTokenError, rejection

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporters_grpc import LabServiceStub
    from jumpstarter_proto.lab.v1.exporters_pb2 import ExporterDetails, LabNews, WatchRequest
    from jumpstarter_proto.rpc import Channel, ClientCall

    from jumpstarter_client.identity.client_config import ClientConfig

__all__ = [
    "CALL_SECONDS",
    "ControllerCalls",
    "ControllerClient",
    "is_not_found",
    "short_name",
    "translate_errors",
]

CALL_SECONDS = 30.0
DIAL_SECONDS = 35.0
"""A controller waits up to 30 s for the exporter before it answers a Dial."""
PAGE_SIZE = 100
MIN_OPEN_SECONDS = 60.0
"""A long call is reopened so long before its token expires; `RENEW_BEFORE_SECONDS` is longer."""
EXPIRY_WARNING_SECONDS = 7 * 86400.0

_LISTS = {"lease": "lease list", "exporter": "exporters"}
"""The command that lists all objects of a kind."""

_WAITS = ((WAITS, "1"),)
_WAITS_FOR_BOARD = ((WAITS_FOR_BOARD, "1"),)
_log = logging.getLogger(__name__)


def short_name(resource: str) -> str:
    """Return NAME of `namespaces/NS/leases/NAME`."""
    return resource.rpartition("/")[2]


def is_not_found(error: RpcError) -> bool:
    """Whether the object does not exist, or the client itself does not."""
    return error.code is StatusCode.NOT_FOUND or means(error, ReasonCode.NOT_FOUND, ReasonCode.CALLER_GONE)


class ControllerClient:
    """A controller, used as one of its clients."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._shared_channel: Channel | None = None
        self._shared_identity = config.identity
        self.supports_watch = True
        """True until the controller turns out to have no Watch, like Jumpstarter's own."""
        self._expiry_warned = False
        """Whether the user was warned that the token expires."""

    @property
    def own_name(self) -> str:
        """The resource name of this client."""
        return f"{self._namespace}/clients/{self.config.identity.name}"

    @property
    def _namespace(self) -> str:
        return f"namespaces/{self.config.identity.namespace}"

    @asynccontextmanager
    async def open(self, *, timeout: float = CONNECT_SECONDS) -> AsyncIterator[ControllerCalls]:
        """Connect for the calls of the block, or use the connection of `keep_connected`. `timeout` is for connecting.

        Raises:
            RpcError: the controller is not reachable, or a call in the block failed; the exit code fits the reason.
            LoginError: the token has expired and cannot be renewed.
        """
        config = await self._valid_config()
        with translate_errors(config):
            if (
                self._shared_channel is not None
                and not self._shared_channel.closed
                and config.identity == self._shared_identity
            ):
                yield ControllerCalls(self._shared_channel, self._namespace, until=_reopen_at(config))
                return
            async with _connected(config, timeout) as channel:
                yield ControllerCalls(channel, self._namespace, until=_reopen_at(config))

    @asynccontextmanager
    async def keep_connected(self) -> AsyncIterator[None]:
        """Share one connection for all calls in the block. After it is lost or its token is replaced, `open` connects.

        Raises:
            RpcError, LoginError: as `open`.
        """
        config = await self._valid_config()
        async with AsyncExitStack() as stack:
            with translate_errors(config):
                self._shared_channel = await stack.enter_async_context(_connected(config))
            self._shared_identity = config.identity
            yield

    def drop_connection(self) -> None:
        """Stop using the shared connection, because it is about to end."""
        self._shared_channel = None

    async def _valid_config(self) -> ClientConfig:
        """Return the configuration with a token that does not expire soon."""
        if not self.config.refresh_token:
            if (
                not self._expiry_warned
                and (read_claims(self.config.identity.token).renewal_seconds or 1.0) <= 0
            ):
                await self._renew_or_warn()
            return self.config
        from jumpstarter_client.controller.token_renewal import with_valid_token  # noqa: PLC0415 - others' tokens are good for long

        return await with_valid_token(self.config)

    async def _renew_or_warn(self) -> None:
        """Get a new token from the controller, or warn once that this one expires."""
        from jumpstarter_client.controller.token_renewal import is_renewal_due, renew_with_controller  # noqa: PLC0415 - not needed before the token is old

        try:
            if is_renewal_due(self.config):
                self.config = await renew_with_controller(self.config)
                return
        except (JumpstarterError, OSError) as error:
            _log.debug("the token is not renewed: %s", error)
        self._expiry_warned = True
        _warn_before_expiry(self.config)


def _reopen_at(config: ClientConfig) -> float:
    """Return when a long call has to be reopened with a new token."""
    left = read_claims(config.identity.token).left
    if left is None:
        return math.inf
    return trio.current_time() + max(MIN_OPEN_SECONDS, left - MIN_OPEN_SECONDS)


def _connected(
    config: ClientConfig, timeout: float = CONNECT_SECONDS
) -> AbstractAsyncContextManager[Channel]:
    return open_controller(
        config.endpoint, config.trust, config.identity, timeout=timeout, options=config.options
    )


class ControllerCalls:
    """The calls on one connection. They raise RpcError."""

    def __init__(self, channel: Channel, parent: str, *, until: float = math.inf) -> None:
        self.until = until
        """When a long call has to be reopened, on trio's clock."""
        self._channel = channel
        self._client = ClientServiceStub(channel)
        self._controller = ControllerServiceStub(channel)
        self._parent = parent

    async def create_lease(
        self, name: str, lease: pb.Lease, *, waits: bool = False, for_board: bool = False
    ) -> pb.Lease:
        """Create a lease. With `waits`, our controller ends it if this client vanishes during the wait.

        With `for_board`, our controller keeps it waiting if no exporter matches yet.
        """
        request = pb.CreateLeaseRequest(parent=self._parent, lease_id=name, lease=lease)
        marks = [*(_WAITS if waits else ()), *(_WAITS_FOR_BOARD if for_board else ())]
        return await self._client.CreateLease(request, timeout=CALL_SECONDS, metadata=marks)

    async def get_lease(self, name: str, *, waits: bool = False) -> pb.Lease:
        """Return a lease. `waits` tells the controller that this client still waits for it."""
        request = pb.GetLeaseRequest(name=f"{self._parent}/leases/{name}")
        return await self._client.GetLease(request, timeout=CALL_SECONDS, metadata=_WAITS if waits else ())

    async def end_reason(self, name: str) -> str:
        """Return the reason code of an ended lease, such as `ReasonCode.NO_BOARD`; empty if there is none."""
        request = pb.GetLeaseRequest(name=f"{self._parent}/leases/{name}")
        async with self._channel.server_stream(
            CLIENT_SERVICE_GET_LEASE, request, timeout=CALL_SECONDS
        ) as call:
            async for _ in call:
                pass  # the trailers follow the only reply
            return next((str(value) for key, value in call.trailing_metadata if key == REASON), "")

    async def update_lease(self, name: str, changes: pb.Lease) -> pb.Lease:
        """Change the fields that are set in `changes`, and return the new lease."""
        # Controllers use the set fields and ignore the mask.
        mask = field_mask_pb2.FieldMask(paths=[field.name for field, _ in changes.ListFields()])
        changed = pb.Lease(name=f"{self._parent}/leases/{name}")
        changed.MergeFrom(changes)
        request = pb.UpdateLeaseRequest(lease=changed, update_mask=mask)
        return await self._client.UpdateLease(request, timeout=CALL_SECONDS)

    async def transfer_lease(self, name: str, client: str) -> pb.Lease:
        """Transfer a lease to another client of the namespace."""
        return await self.update_lease(name, pb.Lease(client=f"{self._parent}/clients/{client}"))

    async def delete_lease(self, name: str) -> None:
        """Release a lease. FAILED_PRECONDITION if it has ended already."""
        request = pb.DeleteLeaseRequest(name=f"{self._parent}/leases/{name}")
        await self._client.DeleteLease(request, timeout=CALL_SECONDS)

    async def leases(
        self, selector: str = "", *, tags: str = "", ended_too: bool = False
    ) -> AsyncIterator[pb.Lease]:
        """Yield the leases of all clients that were requested with these labels and have these tags."""
        request = pb.ListLeasesRequest(
            parent=self._parent,
            page_size=PAGE_SIZE,
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
        """Yield the exporters with these labels."""
        request = pb.ListExportersRequest(parent=self._parent, page_size=PAGE_SIZE, filter=selector)
        while True:
            page = await self._client.ListExporters(request, timeout=CALL_SECONDS)
            for exporter in page.exporters:
                yield exporter
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_exporter(self, name: str) -> pb.Exporter:
        """Return an exporter."""
        request = pb.GetExporterRequest(name=f"{self._parent}/exporters/{name}")
        return await self._client.GetExporter(request, timeout=CALL_SECONDS)

    async def exporter_details(self, name: str) -> ExporterDetails | None:
        """Return devices, health and host of an exporter; None from controllers that do not keep them."""
        from jumpstarter_proto.lab.v1 import exporters_pb2  # noqa: PLC0415 - only who looks closely needs it

        request = exporters_pb2.GetExporterDetailsRequest(name=name)
        try:
            return await self._lab().GetExporterDetails(request, timeout=CALL_SECONDS)
        except RpcError as error:
            if error.code is not StatusCode.UNIMPLEMENTED:
                raise
            return None

    async def all_exporter_details(self) -> dict[str, ExporterDetails] | None:
        """Return the details of all exporters by name; None from controllers that do not keep them."""
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
        """Open a watch for a snapshot and its changes. See `controller.watch` for controllers without Watch."""
        return self._lab().Watch(request)

    def _lab(self) -> LabServiceStub:
        from jumpstarter_proto.lab.v1.exporters_grpc import LabServiceStub  # noqa: PLC0415

        return LabServiceStub(self._channel)

    async def check(self) -> None:
        """Make a call that only clients of the namespace may make."""
        request = pb.ListLeasesRequest(parent=self._parent, page_size=1, only_active=True)
        await self._client.ListLeases(request, timeout=CALL_SECONDS)

    async def rotate_token(self) -> tuple[str, float]:
        """Replace the token. Returns it and its expiry in seconds since the epoch; the old one is valid for a day."""
        reply = await self._client.RotateToken(
            pb.RotateTokenRequest(parent=self._parent), timeout=CALL_SECONDS
        )
        return reply.token, reply.expiry.ToNanoseconds() / 1e9

    async def dial(self, lease: str, timeout: float) -> jumpstarter_pb2.DialResponse:
        """Ask for a router and a token, which the exporter of the lease gets, too."""
        request = jumpstarter_pb2.DialRequest(lease_name=lease)
        return await self._controller.Dial(request, timeout=min(timeout, DIAL_SECONDS))


def _warn_before_expiry(config: ClientConfig) -> None:
    """Warn before a long-lived token of the controller expires."""
    left = read_claims(config.identity.token).left
    if left is not None and 0 < left < EXPIRY_WARNING_SECONDS:
        _log.warning("your token expires in %.0f h; renew it with: jumpstarter auth rotate", left / 3600)


@contextmanager
def translate_errors(config: ClientConfig) -> Iterator[None]:
    """Set the exit code of errors by their reason, and add what to do about a token that is rejected."""
    try:
        yield
    except RpcError as error:
        if sentence := rejection(error, config):
            raise RejectedTokenError(error.code, sentence, error.trailing_metadata) from error
        if is_not_found(error):
            if missing := missing_object(error):
                kind, name = missing
                sentence = f"there is no {kind} {name}; see which there are: jumpstarter {_LISTS[kind]}"
                missed = RpcError(StatusCode.NOT_FOUND, sentence, error.trailing_metadata)
                missed.exit_code = ExitCode.NOT_FOUND
                raise missed from error
            error.exit_code = ExitCode.NOT_FOUND
        elif means(error, ReasonCode.NOT_YOURS, ReasonCode.BAD_TOKEN, ReasonCode.TOKEN_UNFIT):
            error.exit_code = ExitCode.DENIED
        elif means(error, ReasonCode.BAD_WISH):
            error.exit_code = ExitCode.USAGE
        raise
