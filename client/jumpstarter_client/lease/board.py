"""A leased board, from the lease to its release: connect, watch the lease, end the session with its hook, release."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.hook_times import usual_seconds
from jumpstarter_proto.identifiers import short_form
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import GetStatusRequest, GetStatusResponse

from jumpstarter_client.controller.lease_view import remaining
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease.lease import UNREACHABLE_CODES, acquire_lease
from jumpstarter_client.lease.lease_use import using
from jumpstarter_client.lease.monitor import LeaseEndedError, LeaseMonitor
from jumpstarter_client.lease.own_leases import has_ended, with_own_lease
from jumpstarter_client.logs import entries, is_notice, is_of_hook, line_of
from jumpstarter_client.session_status import request_end, wait_ready
from jumpstarter_client.status_line import MessageHandler, StatusLine, print_message
from jumpstarter_client.times import format_duration
from jumpstarter_client.transport import (
    ConnectionLostError,
    FinalError,
    ReconnectingChannel,
    open_reconnecting,
)

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig
    from jumpstarter_client.lease.lease import HeldLease
    from jumpstarter_client.lease.request import LeaseRequest

__all__ = ["ReadyBoard", "SessionLogPrinter", "end_session", "lease_board", "warn_of_hook"]

LABELS_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass
class ReadyBoard:
    """A leased board that is ready for commands."""

    lease: HeldLease
    channel: ReconnectingChannel
    monitor: LeaseMonitor
    log: SessionLogPrinter

    async def labels(self) -> dict[str, str]:
        """Ask the controller for the exporter's labels. Empty if it does not answer within `LABELS_SECONDS`."""
        with trio.move_on_after(LABELS_SECONDS):
            try:
                async with self.lease.controller.open() as calls:
                    return dict((await calls.get_exporter(self.lease.exporter)).labels)
            except JumpstarterError as error:
                _log.info("cannot read the labels of %s: %s", self.lease.exporter, error)
        return {}


@asynccontextmanager
async def lease_board(
    config: ClientConfig,
    request: LeaseRequest,
    *,
    on_message: MessageHandler = print_message,
    on_lease_end: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[ReadyBoard]:
    """Lease a board and connect to it; at the end, end its session and release the lease.

    An existing lease is used and not released. If a new board is not reachable, it is released and another one is
    leased, for up to `config.retry_timeout` seconds. If the lease ends during the block, `on_lease_end` is called with
    the reason, and all calls fail with it. A cancellation releases the lease without waiting for the afterLease hook.

    Raises:
        ConnectError, RpcError: no board could be leased or reached; the message has the reason.
        LeaseEndedError: the lease ended while the block ran.
    """
    config = request.with_overrides(config)
    own = await with_own_lease(config, request, on_message)
    with collapsed():
        async with AsyncExitStack() as stack:
            try:
                with collapsed():
                    nursery, board = await _connect_board(stack, config, own, on_message)
            except JumpstarterError:
                if own is request or not await has_ended(config, own.lease):
                    raise
                on_message(f"your lease {shown(short_form(own.lease))} has just ended; leasing a board")
                nursery, board = await _connect_board(stack, config, request, on_message)
            if not board.lease.is_owned:
                stack.enter_context(using(board.lease.name))
            nursery.start_soon(_watch, board, on_lease_end)
            nursery.start_soon(_poll_when_disconnected, board.channel, board.monitor)
            try:
                yield board
            except JumpstarterError as error:
                await _raise_lease_end(board, error)
                await _end_session_of(board, on_message)
                raise
            except (
                Exception
            ):  # an error of the block: the session is ended in order before it is raised again
                await _end_session_of(board, on_message)
                raise
            else:
                await _end_session_of(board, on_message)


async def _connect_board(
    stack: AsyncExitStack, config: ClientConfig, request: LeaseRequest, on_message: MessageHandler
) -> tuple[trio.Nursery, ReadyBoard]:
    started = trio.current_time()
    while True:
        async with AsyncExitStack() as attempt:
            line = StatusLine("Waiting for a board")
            attempt.callback(line.finish)
            lease = await attempt.enter_async_context(acquire_lease(config, request, on_progress=line))
            line.finish()
            channel = await attempt.enter_async_context(open_reconnecting(lease.connect))
            nursery = await attempt.enter_async_context(trio.open_nursery())
            attempt.callback(nursery.cancel_scope.cancel)
            log = SessionLogPrinter(channel, everything=request.all_logs, hooks=lease.is_owned)
            nursery.start_soon(log.run)
            monitor = LeaseMonitor(
                lease.controller, lease.record, lease.name, on_message, on_update=lease.mark_acknowledged
            )
            try:
                report = await _ready(channel, monitor, _HookWarning(lease, on_message))
            except RpcError as error:
                left = config.retry_timeout - (trio.current_time() - started)
                if (
                    not lease.is_owned
                    or isinstance(error, FinalError)
                    or error.code not in UNREACHABLE_CODES
                    or left <= 0
                ):
                    raise
                on_message(f"{lease.exporter} is not reachable ({error.details}); leasing another board")
                continue
            except ConnectError:
                await log.drain()
                raise
            warn_of_hook(report, on_message)
            await stack.enter_async_context(attempt.pop_all())
            return nursery, ReadyBoard(lease, channel, monitor, log)


async def _ready(
    channel: ReconnectingChannel, monitor: LeaseMonitor, warning: _HookWarning
) -> GetStatusResponse | None:
    """Wait until the board is ready for commands, but not beyond the end of the lease."""
    started = trio.current_time()
    try:
        with collapsed():
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    channel.shut_down(LeaseEndedError(await monitor.run()))

                nursery.start_soon(watch)
                nursery.start_soon(_poll_when_disconnected, channel, monitor)
                report = await wait_ready(channel, waiting=warning.check)
                nursery.cancel_scope.cancel()
            return report
    except JumpstarterError as error:
        is_of_connection = isinstance(error, FinalError) or error.exit_code is ExitCode.UNAVAILABLE
        if not monitor.end_reason and is_of_connection:
            await monitor.poll()
        if not monitor.end_reason:
            raise
        waited = format_duration(trio.current_time() - started)
        raise LeaseEndedError(
            f"{monitor.end_reason}; the board was still not ready {waited} after its beforeLease hook started: "
            "ask for more time with --duration, or check the exporter's log"
        ) from error


class _HookWarning:
    """Warns once if the lease will end before its beforeLease hook, whose usual duration the exporter reports."""

    def __init__(self, lease: HeldLease, on_message: MessageHandler) -> None:
        left = remaining(lease.record, time.time())
        self._ends = math.inf if left is None else trio.current_time() + left
        self._on_message: MessageHandler | None = on_message

    def check(self, report: GetStatusResponse) -> None:
        """Check a status report of the exporter."""
        usual, left = usual_seconds(report.message), self._ends - trio.current_time()
        if self._on_message is not None and usual is not None:
            if usual > left:
                self._on_message(
                    f"warning: the board's beforeLease hook usually takes {format_duration(usual)}, and the lease "
                    f"ends in {format_duration(left)}; ask for more time with --duration"
                )
            self._on_message = None


async def _watch(board: ReadyBoard, on_lease_end: Callable[[str], None]) -> None:
    end_reason = await board.monitor.run()
    board.channel.shut_down(LeaseEndedError(end_reason))
    on_lease_end(end_reason)


async def _poll_when_disconnected(channel: ReconnectingChannel, monitor: LeaseMonitor) -> None:
    """Poll the lease after each lost connection, as an exporter disconnects when the lease ends."""
    while True:
        await channel.wait_disconnected()
        await monitor.poll()


async def _raise_lease_end(board: ReadyBoard, error: JumpstarterError) -> None:
    """Raise LeaseEndedError instead of `error` if the end of the lease caused it."""
    if error.exit_code not in (ExitCode.UNAVAILABLE, ExitCode.DENIED) and not isinstance(error, FinalError):
        return
    if not board.monitor.end_reason:
        await board.monitor.poll()
    if board.monitor.end_reason:
        raise LeaseEndedError(board.monitor.end_reason) from error


async def _end_session_of(board: ReadyBoard, on_message: MessageHandler) -> None:
    if board.lease.is_owned and not board.monitor.end_reason and board.channel.shutdown_reason is None:
        await end_session(board.channel, board.log, on_message)


T = TypeVar("T")
END_SECONDS = 300.0
"""The time limit for an afterLease hook."""
CALL_SECONDS = 5.0
POLL_SECONDS = 0.1
LOG_DRAIN_SECONDS = 1.0
LOG_QUIET_SECONDS = 0.1
"""A log has no end mark: after so long without an entry, the output of a finished hook is complete."""

HOOK_WARNING = "[HOOK_WARNING] "
_NO_SESSION_CODES = frozenset(
    (
        StatusCode.UNIMPLEMENTED,
        StatusCode.UNAVAILABLE,
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNKNOWN,
    )
)
"""No session, or an exporter before 0.8: releasing the lease ends the session as well."""
_ENDED = (common_pb2.EXPORTER_STATUS_AVAILABLE, common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED)
_OF_HOOK = frozenset(
    (common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK, common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED)
)


class SessionLogPrinter:
    """Prints the log of the session on standard error: all of it, only hook output and notices, or nothing."""

    def __init__(self, channel: ReconnectingChannel, *, hooks: bool, everything: bool) -> None:
        self._channel = channel
        self._hooks = hooks
        self._everything = everything
        self._printed = Broadcast()

    async def run(self) -> None:
        """Print until cancelled or the channel is shut down."""
        if not self._hooks and not self._everything:
            return
        try:
            async with aclosing(entries(self._channel)) as log:
                async for entry in log:
                    if self._everything or is_of_hook(entry) or is_notice(entry):
                        self._printed.notify()
                        print_error_line(line_of(entry))
        except JumpstarterError:
            return  # the calls of the command report the same error

    async def drain(self) -> None:
        """Wait for entries in transit, for at most `LOG_DRAIN_SECONDS`."""
        with trio.move_on_after(LOG_DRAIN_SECONDS):
            while True:
                with trio.move_on_after(LOG_QUIET_SECONDS) as quiet:
                    await self._printed.wait()
                if quiet.cancelled_caught:
                    return


def warn_of_hook(report: GetStatusResponse | None, on_message: MessageHandler) -> None:
    """Report a failed hook whose `onFailure` is `warn`."""
    if report is not None and report.message.startswith(HOOK_WARNING):
        text = report.message.removeprefix(HOOK_WARNING).replace(" hook warning: ", " hook: ", 1)
        on_message(f"warning: {text}")


async def end_session(
    channel: ReconnectingChannel, log: SessionLogPrinter, on_message: MessageHandler
) -> None:
    """End the session and wait until its afterLease hook has finished.

    Does not wait for a session that is not reachable: releasing the lease ends it as well.
    """
    try:
        report = await _ended(channel, log)
    except trio.TooSlowError:
        return
    except RpcError as error:
        if error.code not in _NO_SESSION_CODES:
            on_message(f"warning: cannot end the session: {error.details}")
        return
    if report is None:
        on_message(
            f"warning: the afterLease hook has not finished after {END_SECONDS:.0f} s; it continues in the background"
        )
    elif report.status == common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED:
        on_message(f"warning: {report.message or 'the afterLease hook failed'}")
    warn_of_hook(report, on_message)


async def _ended(channel: ReconnectingChannel, log: SessionLogPrinter) -> GetStatusResponse | None:
    """Return the status after the hook, an empty one without a session, or None after `END_SECONDS`."""
    exporter = ExporterServiceStub(channel)
    requested_on: Channel | None = None
    ran = False
    with trio.move_on_after(END_SECONDS):
        while True:
            with trio.fail_after(CALL_SECONDS):
                # A restarted exporter does not know of the first request; a second one is harmless.
                if (connection := await channel.wait_connected()) is not requested_on:
                    if not await _repeat(partial(request_end, channel)):
                        return GetStatusResponse()
                    requested_on = connection
                report = await _repeat(partial(exporter.GetStatus, GetStatusRequest()))
            if report.status in _ENDED:
                # The hook may have ended before the first status; without a hook there is no output to wait for.
                if ran or not _OF_HOOK.isdisjoint((report.status, report.previous_status)):
                    await log.drain()
                return report
            ran = True
            await trio.sleep(POLL_SECONDS)
    return None


async def _repeat(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat an idempotent call while connections are lost, and return its reply."""
    while True:
        try:
            return await call()
        except ConnectionLostError:
            await trio.sleep(POLL_SECONDS)
