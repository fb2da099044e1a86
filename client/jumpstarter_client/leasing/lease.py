"""A lease while a block lasts, and connections to the board that it is for."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.client.v1.client_grpc import ClientServiceStub
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Backoff, open_controller, open_router_stream
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, open_channel, unix_listener
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub

from jumpstarter_client.adapters.splice import splice
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lasting import FinalError
from jumpstarter_client.leasing.configs import ClientConfig
from jumpstarter_client.leasing.progress import Progress, Stage, progress_of
from jumpstarter_client.leasing.wanted import Wanted

__all__ = ["Lease", "leased"]

CALL_SECONDS = 30.0
RELEASE_SECONDS = 30.0
ACQUIRE_SECONDS = 7200.0
DIAL_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Lease:
    """A lease that is ready."""

    def __init__(self, config: ClientConfig, name: str, exporter: str) -> None:
        self.name = name
        self.exporter = exporter
        self._config = config

    @asynccontextmanager
    async def dial(self, timeout: float = DIAL_SECONDS) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A byte stream to the exporter's session, through the controller's router.

        Tries again for `timeout` seconds when that can help: the controller, the router or the exporter may be
        restarting.

        Raises:
            FinalError: there is no use in dialling again: the lease is over, or somebody else's.
            RpcError: UNAVAILABLE, it could not be had in time; says what was in the way.
        """
        backoff = Backoff(0.3, 2.0)
        deadline = trio.current_time() + timeout
        async with AsyncExitStack() as stack:
            while True:
                try:
                    answer = await self._ask(deadline)
                    stream = await stack.enter_async_context(
                        open_router_stream(answer.router_endpoint, self._config.trust, answer.router_token)
                    )
                    break
                except RpcError as error:
                    if not _may_pass(error):
                        raise FinalError.of(error) from None
                    delay = backoff.next()
                    if trio.current_time() + delay >= deadline:
                        raise RpcError(
                            StatusCode.UNAVAILABLE,
                            f"the board of lease {self.name} could not be reached for {timeout:.0f} s: "
                            f"{error.details}",
                        ) from None
                    _log.info("%s; trying again", error.details)
                await trio.sleep(delay)
            yield stream

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Channel]:
        """`dial`, and a channel over it."""
        async with self.dial() as stream, open_channel(stream) as channel:
            yield channel

    async def _ask(self, deadline: float) -> jumpstarter_pb2.DialResponse:
        """The controller's answer to one Dial."""
        request = jumpstarter_pb2.DialRequest(lease_name=self.name)
        left = max(1.0, deadline - trio.current_time())
        async with _open(self._config) as channel:
            return await ControllerServiceStub(channel).Dial(request, timeout=min(left, CALL_SECONDS + 5))

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """A unix socket of which each connection is one to the exporter; its path."""
        with tempfile.TemporaryDirectory(prefix="jumpstarter-lease-") as folder:
            path = Path(folder) / "socket"
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._carry, [unix_listener(path)])
                yield str(path)
                nursery.cancel_scope.cancel()

    async def _carry(self, near: trio.SocketStream) -> None:
        async with near:
            try:
                async with self.dial() as far:
                    await splice(near, far)
            except JumpstarterError as error:
                _log.warning("no connection to the board: %s", error)


_PASSES = frozenset((StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED))


def _may_pass(error: RpcError) -> bool:
    """Whether dialling again can help (wire.md 4.2, and what a router and a busy exporter say)."""
    return error.code in _PASSES or (
        error.code is StatusCode.FAILED_PRECONDITION
        and ("not ready" in error.details or "offline" in error.details)
    )


@asynccontextmanager
async def leased(
    config: ClientConfig, wanted: Wanted, *, tell: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Lease]:
    """A lease for the block: released at its end, however it ends, unless it existed before.

    `tell` gets a sentence whenever there is something new while it waits.

    Raises:
        ConnectError: it cannot be had; says why.
        RpcError: the controller refuses.
    """
    ours = not wanted.lease
    lease = await (_create(config, wanted) if ours else _get(config, wanted.lease))
    name = lease.name.rpartition("/")[2]
    try:
        own = f"namespaces/{config.identity.namespace}/clients/{config.identity.name}"
        if lease.client and lease.client != own:
            raise ConnectError(
                f"lease {name} is {lease.client.rpartition('/')[2]}'s; ask them to transfer it"
            )
        ready = await _until_ready(config, lease, tell)
        yield Lease(config, name, ready.exporter)
    finally:
        if ours:
            await _release(config, name)


async def _until_ready(config: ClientConfig, lease: pb.Lease, tell: Callable[[str], None]) -> Progress:
    name = lease.name.rpartition("/")[2]
    said = ""
    backoff = Backoff(0.1, 2.0)
    deadline = trio.current_time() + ACQUIRE_SECONDS
    while True:
        progress = progress_of(lease)
        if progress.stage is Stage.READY:
            return progress
        if progress.stage is Stage.FAILED:
            raise ConnectError(progress.message)
        if progress.message != said:
            said = progress.message
            tell(said)
            backoff.reset()
        if trio.current_time() > deadline:
            raise ConnectError(f"lease {name} acquisition timed out after {ACQUIRE_SECONDS:.0f} seconds")
        await trio.sleep(backoff.next())
        try:
            lease = await _get(config, name)
        except RpcError as error:
            if error.code is not StatusCode.UNAVAILABLE:
                raise
            _log.info("the controller is away, waiting for it: %s", error)


@asynccontextmanager
async def _open(config: ClientConfig) -> AsyncIterator[Channel]:
    async with open_controller(config.endpoint, config.trust, config.identity) as channel:
        yield channel


async def _create(config: ClientConfig, wanted: Wanted) -> pb.Lease:
    whole = int(wanted.duration)
    lease = pb.Lease(selector=wanted.selector, duration=duration_pb2.Duration(seconds=whole))
    if wanted.exporter:
        lease.exporter_name = wanted.exporter
    request = pb.CreateLeaseRequest(parent=f"namespaces/{config.identity.namespace}", lease=lease)
    async with _open(config) as channel:
        return await ClientServiceStub(channel).CreateLease(request, timeout=CALL_SECONDS)


async def _get(config: ClientConfig, name: str) -> pb.Lease:
    request = pb.GetLeaseRequest(name=f"namespaces/{config.identity.namespace}/leases/{name}")
    async with _open(config) as channel:
        return await ClientServiceStub(channel).GetLease(request, timeout=CALL_SECONDS)


async def _release(config: ClientConfig, name: str) -> None:
    """Also when cancelled: a board that nobody uses must not stay leased."""
    request = pb.DeleteLeaseRequest(name=f"namespaces/{config.identity.namespace}/leases/{name}")
    backoff = Backoff(0.3, 5.0)
    with trio.move_on_after(RELEASE_SECONDS, shield=True) as scope:
        while True:
            try:
                async with _open(config) as channel:
                    await ClientServiceStub(channel).DeleteLease(request, timeout=CALL_SECONDS)
                    return
            except RpcError as error:
                if error.code is not StatusCode.UNAVAILABLE:
                    _log.info("lease %s: %s", name, error)  # it has ended by itself
                    return
            await trio.sleep(backoff.next())
    if scope.cancelled_caught:
        _log.warning("lease %s could not be released; it ends by itself when its time is over", name)
