"""Create a lease, wait until it is ready, connect to its board, and release it in every case."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.identifiers import uuid7
from jumpstarter_proto.remote import CONNECT_SECONDS, Backoff, ReasonCode, means, open_router_stream
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, open_channel
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.controller.controller_client import (
    ControllerClient,
    is_not_found,
    short_name,
)
from jumpstarter_client.controller.lease_view import LeasePhase, LeaseProgress, lease_progress
from jumpstarter_client.controller.watch import is_watch_unsupported, poll_lease, watch_lease
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.local_proxy import open_local_proxy
from jumpstarter_client.lease.own_leases import find_lease, only_lease
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.times import format_duration
from jumpstarter_client.transport import FinalError

__all__ = [
    "UNREACHABLE_CODES",
    "AcquisitionTimeoutError",
    "HeldLease",
    "LeaseRejectedError",
    "ProgressHandler",
    "acknowledge_lease",
    "acquire_lease",
    "create_lease",
    "new_lease_name",
    "release_lease",
    "wait_for_lease",
]

RELEASE_SECONDS = 30.0
FIRST_POLL_SECONDS = 0.1
POLL_SECONDS = 2.0
"""The longest pause, of the polling of a controller without Watch and of most retries."""
FIRST_RETRY_SECONDS = 0.3
MAX_RELEASE_RETRY_SECONDS = 5.0
UNREACHABLE_CODES = frozenset((StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED))
"""The status codes of calls to a controller that is not reachable at the moment."""

_RETRYABLE_CODES = UNREACHABLE_CODES | {StatusCode.RESOURCE_EXHAUSTED, StatusCode.INTERNAL}
"""Also the status codes of a controller that is overloaded or whose disk is full; a later try may succeed."""

_log = logging.getLogger(__name__)

ProgressHandler = Callable[[str], None]
"""Called with a sentence about the wait after each poll or update, also if the sentence is the same as before."""


class LeaseRejectedError(ConnectError):
    """The controller rejected or ended the lease before it was ready."""


class AcquisitionTimeoutError(ConnectError):
    """No board became available within the acquisition timeout."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


def new_lease_name() -> str:
    """Choose a lease name, so that the client can delete the lease even if the reply to CreateLease is lost."""
    return uuid7(time.time())


async def create_lease(
    controller: ControllerClient, name: str, lease: pb.Lease, *, waits: bool = False, for_board: bool = False
) -> pb.Lease:
    """Create a lease with that name, exactly once, also if the connection is lost in between.

    With `waits`, call `wait_for_lease` next, and then acknowledge or dial the lease; otherwise our controller gives the
    board to somebody else. With `for_board`, the lease waits if no exporter matches yet.

    A cancelled call may leave the lease behind: call `release_lease`.

    Raises:
        RpcError: the controller rejected the lease, or is not reachable.
    """
    backoff = Backoff(FIRST_RETRY_SECONDS, POLL_SECONDS)
    is_repeated = False
    deadline = trio.current_time() + RELEASE_SECONDS
    while True:
        try:
            async with controller.open() as calls:
                if is_repeated:  # the controller may have received the first request
                    try:
                        return await calls.get_lease(name)
                    except RpcError as error:
                        if not is_not_found(error):
                            raise
                is_repeated = True
                return await calls.create_lease(name, lease, waits=waits, for_board=for_board)
        except RpcError as error:
            if error.code not in UNREACHABLE_CODES or not is_repeated or trio.current_time() > deadline:
                raise
            _log.info("lost the connection to the controller while creating a lease: %s", error)
        await trio.sleep(backoff.next())


async def wait_for_lease(
    controller: ControllerClient, lease: pb.Lease, on_progress: ProgressHandler, *, timeout: float
) -> tuple[pb.Lease, LeaseProgress]:
    """Wait until the lease has a board, also through interruptions of the controller.

    Raises:
        LeaseRejectedError: the controller ended or rejected the lease.
        AcquisitionTimeoutError: the lease was not ready within `timeout` seconds.
        RpcError: the controller rejected the request.
    """
    name = short_name(lease.name)
    wait = _Wait(lease, on_progress)
    with trio.move_on_after(timeout):
        while wait.is_waiting:
            try:
                if controller.supports_watch:
                    await watch_lease(controller, name, wait.handle, tick=wait.report)
                else:
                    await poll_lease(controller, name, wait.handle, wait.pace, wait.report_progress)
                continue
            except RpcError as error:
                if controller.supports_watch and is_watch_unsupported(error):
                    controller.supports_watch = False
                    continue
                if error.code not in UNREACHABLE_CODES:
                    raise
                wait.report_unreachable(error)
            await trio.sleep(wait.pace.next())
        if wait.progress.phase is LeasePhase.FAILED:
            raise LeaseRejectedError(wait.progress.message + await _hint(controller, name, wait.reason))
        return wait.lease, wait.progress
    raise AcquisitionTimeoutError(
        f"no board became available within {format_duration(timeout)} "
        f"({wait.message or 'the controller did not answer'}); wait longer with --acquisition-timeout, or see who "
        "holds the boards: jumpstarter exporters"
    )


class _Wait:
    """A lease that is not ready yet, in its last known state."""

    def __init__(self, lease: pb.Lease, on_progress: ProgressHandler) -> None:
        self.message = ""
        self.pace = Backoff(FIRST_POLL_SECONDS, POLL_SECONDS)
        self._on_progress = on_progress
        self._update(lease, None)

    @property
    def is_waiting(self) -> bool:
        return self.progress.phase is LeasePhase.WAITING

    def handle(self, lease: pb.Lease, reason: str | None) -> bool:
        """Record a new state of the lease. Returns whether the wait is over."""
        self._update(lease, reason)
        if not self.is_waiting:
            return True
        self.report_progress()
        return False

    def report_progress(self) -> None:
        """Report the state that the controller sent."""
        if self.progress.message != self.message:
            self.message = self.progress.message
            self.pace.reset()
        self.report()

    def _update(self, lease: pb.Lease, reason: str | None) -> None:
        self.lease, self.progress, self.reason = lease, lease_progress(lease), reason

    def report_unreachable(self, error: RpcError) -> None:
        self.message = "the controller is unreachable; the wait continues when it is back"
        _log.info("%s: %s", self.message, error)
        self.report()

    def report(self) -> None:
        self._on_progress(self.message)


async def acknowledge_lease(controller: ControllerClient, name: str, *, timeout: float = math.inf) -> None:
    """Tell the controller that this client has received its board; a client that was killed while waiting cannot.

    Tries for `timeout` seconds if the controller is not reachable.

    Raises:
        RpcError: the controller was not reachable in that time, or rejected the request.
        LoginError: see `ControllerClient.open`.
    """
    backoff = Backoff(FIRST_RETRY_SECONDS, POLL_SECONDS)
    deadline = trio.current_time() + timeout
    while True:
        try:
            async with controller.open() as calls:
                await calls.get_lease(name, waits=True)
                return
        except RpcError as error:
            if error.code not in _RETRYABLE_CODES or trio.current_time() > deadline:
                raise
            _log.info("lease %s is not acknowledged yet: %s", name, error)
        await trio.sleep(backoff.next())


async def _hint(controller: ControllerClient, name: str, reason: str | None) -> str:
    """Return what the user can do about a rejected lease. If `reason` is None, the controller is asked for it."""
    try:
        if reason is None:
            async with controller.open() as calls:
                reason = await calls.end_reason(name)
    except RpcError as error:  # without the reason there is no hint, but the rejection stands
        _log.info("cannot read why lease %s has ended: %s", name, error)
        return ""
    return "; to wait until there is one, add --wait-for-board" if reason == ReasonCode.NO_BOARD else ""


async def release_lease(controller: ControllerClient, name: str) -> None:
    """Delete a lease, also when cancelled (for `RELEASE_SECONDS`), so that an unused board does not stay leased.

    Failures are logged and not raised, so that they do not hide the error for which the lease is released.
    """
    backoff = Backoff(FIRST_RETRY_SECONDS, MAX_RELEASE_RETRY_SECONDS)
    reason = "the controller does not answer"
    with trio.move_on_after(RELEASE_SECONDS, shield=True):
        while True:
            try:
                async with controller.open() as calls:
                    await calls.delete_lease(name)
                    return
            except RpcError as error:
                if error.code not in _RETRYABLE_CODES:
                    _log.info("lease %s: %s", name, error)  # it has ended already, or was never created
                    return
                reason = error.details
            except JumpstarterError as error:  # no valid token: no later try can succeed
                reason = str(error)
                break
            await trio.sleep(backoff.next())
    _log.warning("lease %s could not be released (%s); it stays active until it expires", name, reason)


PROXY_DIAL_SECONDS = 20.0
"""Less than a client waits for its first reply, so that it gets the reason of a failure."""
SLOW_DIAL_SECONDS = 3.0
"""The user gets a warning if a tunnel takes longer."""
ACKNOWLEDGE_SECONDS = 3.0
"""By then nearly all clients have dialled or watch their lease, which acknowledges it as well. A controller waits 30 s
for the acknowledgement."""

_log = logging.getLogger(__name__)


class HeldLease:
    """A lease that is ready, and connections to its board."""

    def __init__(self, controller: ControllerClient, record: pb.Lease, *, is_owned: bool) -> None:
        self.controller = controller
        self.record = record
        """The record when the lease became ready."""
        self.name = short_name(record.name)
        self.exporter = short_name(record.exporter)
        self.is_owned = is_owned
        """It was created for this block and is released at its end."""
        self.is_acknowledged = False
        """The controller knows that this client has received its board."""

    def mark_acknowledged(self) -> None:
        """Record that the controller knows it."""
        self.is_acknowledged = True

    @property
    def config(self) -> ClientConfig:
        """The configuration of the client that holds the lease."""
        return self.controller.config

    @asynccontextmanager
    async def dial(self, timeout: float | None = None) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """Open a byte stream to the exporter's session, through a router.

        Transient failures are retried for `timeout` seconds (default: the configuration's `dial_timeout`), as the
        controller, the router or the exporter may be restarting.

        Raises:
            FinalError: the lease has ended or is not this client's; dialling again is pointless.
            RpcError: UNAVAILABLE, with the last failure.
        """
        timeout = self.config.dial_timeout if timeout is None else timeout
        backoff = Backoff(FIRST_RETRY_SECONDS, POLL_SECONDS)
        deadline = trio.current_time() + timeout
        warn_at = trio.current_time() + SLOW_DIAL_SECONDS
        async with AsyncExitStack() as stack:
            while True:
                try:
                    answer = await self._dial_once(deadline)
                    stream = await stack.enter_async_context(
                        open_router_stream(
                            answer.router_endpoint,
                            self.config.trust,
                            answer.router_token,
                            timeout=min(CONNECT_SECONDS, _seconds_until(deadline)),
                            options=self.config.options,
                        )
                    )
                    break
                except RpcError as error:
                    if not _is_transient(error):
                        raise FinalError.of(error) from None
                    delay = backoff.next()
                    if trio.current_time() + delay >= deadline:
                        raise RpcError(
                            StatusCode.UNAVAILABLE,
                            f"the board of lease {self.name} could not be reached for {timeout:.0f} s: "
                            f"{error.details}",
                        ) from None
                    is_early = trio.current_time() < warn_at
                    _log.log(
                        logging.INFO if is_early else logging.WARNING,
                        "the board cannot be reached (%s); trying again",
                        error.details,
                    )
                    warn_at = warn_at if is_early else deadline
                await trio.sleep(delay)
            yield stream

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Channel]:
        """Dial, and open a gRPC channel on the stream."""
        async with self.dial() as stream, open_channel(stream) as channel:
            yield channel

    async def _dial_once(self, deadline: float) -> jumpstarter_pb2.DialResponse:
        """Send one Dial to the controller."""
        async with self.controller.open(timeout=min(CONNECT_SECONDS, _seconds_until(deadline))) as calls:
            answer = await calls.dial(self.name, _seconds_until(deadline))
            self.mark_acknowledged()
            return answer

    def listen(self) -> AbstractAsyncContextManager[str]:
        """Serve a unix socket during the block whose connections lead to the exporter; yields its path."""
        return open_local_proxy(lambda: self.dial(min(PROXY_DIAL_SECONDS, self.config.dial_timeout)))


_TRANSIENT_CODES = frozenset(
    (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED)
)


def _seconds_until(deadline: float) -> float:
    """Return the seconds until the deadline, but at least enough for one attempt."""
    return max(1.0, round(deadline - trio.current_time(), 1))


def _is_transient(error: RpcError) -> bool:
    """Whether dialling again can succeed: the exporter is not ready yet, or a peer is unreachable, busy or slow."""
    return error.code in _TRANSIENT_CODES or means(error, ReasonCode.NOT_READY)


class NotYoursError(ConnectError):
    """The lease belongs to another client."""

    status = "PERMISSION_DENIED"
    exit_code = ExitCode.DENIED


@asynccontextmanager
async def acquire_lease(
    config: ClientConfig,
    request: LeaseRequest,
    *,
    on_progress: ProgressHandler = lambda _: None,
) -> AsyncIterator[HeldLease]:
    """Hold a lease during the block: create one or use an existing one, and wait until it is ready.

    A lease that was created here is released when the block ends in any way, also when cancelled.
    `on_progress` is called during the wait.

    Raises:
        ConnectError: the lease did not become ready; the message has the reason.
        RpcError: the controller rejected a request.
    """
    controller = ControllerClient(config)
    is_new = request.is_new
    name = new_lease_name() if is_new else request.lease
    async with controller.keep_connected():
        try:
            if is_new:
                lease = await create_lease(
                    controller, name, request.to_message(), waits=True, for_board=request.wait_for_board
                )
            else:
                async with controller.open() as calls:
                    own = controller.own_name
                    lease = await (find_lease(calls, own, name) if name else only_lease(calls, controller))
                name = short_name(lease.name)
            if lease.client and lease.client != controller.own_name:
                raise NotYoursError(
                    f"lease {name} belongs to {short_name(lease.client)}; ask them to transfer it to you"
                )
            try:
                ready, _ = await wait_for_lease(
                    controller, lease, on_progress, timeout=config.acquisition_timeout
                )
            except LeaseRejectedError as error:
                if request.not_found_hint:
                    raise LeaseRejectedError(f"{error}; {request.not_found_hint}") from None
                raise
            with collapsed():
                async with trio.open_nursery() as nursery:
                    held = HeldLease(controller, ready, is_owned=is_new)
                    nursery.start_soon(_acknowledge, held)
                    yield held
                    nursery.cancel_scope.cancel()
        finally:
            if trio.current_effective_deadline() == -math.inf:
                controller.drop_connection()  # it is cancelled together with this task
            if is_new:
                await release_lease(controller, name)


async def _acknowledge(lease: HeldLease) -> None:
    """Acknowledge a lease that is held for a while, unless that has happened; failures are only logged."""
    await trio.sleep(ACKNOWLEDGE_SECONDS)
    if lease.is_acknowledged:
        return
    try:
        await acknowledge_lease(lease.controller, lease.name)
    except (RpcError, JumpstarterError) as error:
        _log.info("lease %s could not be acknowledged: %s", lease.name, error)
