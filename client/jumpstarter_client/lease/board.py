"""A leased board from its lease to its release: reached, watched, and given back when its last hook is done."""

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
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import EndSessionRequest, GetStatusRequest, GetStatusResponse

from jumpstarter_client.controller.lease_view import remaining
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease.lease import AWAY, leased
from jumpstarter_client.lease.monitor import LeaseEndedError, Monitor
from jumpstarter_client.logs import entries, is_notice, is_of_hook, line_of
from jumpstarter_client.session_status import until_usable
from jumpstarter_client.status_line import Notify, WaitingLine, to_terminal
from jumpstarter_client.times import spell
from jumpstarter_client.transport import ConnectionLostError, FinalError, LastingChannel, open_lasting

if TYPE_CHECKING:
    from jumpstarter_client.identity.client_config import ClientConfig
    from jumpstarter_client.lease.lease import Lease
    from jumpstarter_client.lease.request import Wanted

__all__ = ["Board", "SessionLog", "end_session", "leased_board", "warn_of_hook"]

LABELS_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass
class Board:
    """A board that is ready for commands, and the lease that it is ours by."""

    lease: Lease
    channel: LastingChannel
    monitor: Monitor
    log: SessionLog

    async def labels(self) -> dict[str, str]:
        """The exporter's; empty if the controller does not tell within a moment."""
        with trio.move_on_after(LABELS_SECONDS):
            try:
                async with self.lease.controller.open() as calls:
                    return dict((await calls.get_exporter(self.lease.exporter)).labels)
            except JumpstarterError as error:
                _log.info("the labels of %s are not known: %s", self.lease.exporter, error)
        return {}


@asynccontextmanager
async def leased_board(
    config: ClientConfig,
    wanted: Wanted,
    *,
    notify: Notify = to_terminal,
    ended: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Board]:
    """Lease a board, and reach it; at the end ask for the end of its session and give it back.

    A lease that existed before is used and left as it is. A board that cannot be reached at the start is given back,
    and another one is leased, for `config.retry_timeout` seconds. When the lease is over in the middle, `ended` gets
    the verdict, and all calls fail with it.

    Raises:
        ConnectError, RpcError: there is no board to be had; says why.
        LeaseEndedError: the lease ended in the middle, and with it what the block did.
    """
    config = wanted.applied(config)
    with collapsed():
        async with AsyncExitStack() as stack:
            nursery, board = await _reached(stack, config, wanted, notify)
            nursery.start_soon(_watch, board, ended)
            nursery.start_soon(_look_when_it_breaks, board.channel, board.monitor)
            try:
                yield board
            except JumpstarterError as error:
                await _explain(board, error)
                await _finish(board, notify)
                raise
            except Exception:  # the block's own fault, which it keeps; its lease ends in order all the same
                await _finish(board, notify)
                raise
            else:
                await _finish(board, notify)


async def _reached(
    stack: AsyncExitStack, config: ClientConfig, wanted: Wanted, notify: Notify
) -> tuple[trio.Nursery, Board]:
    began = trio.current_time()
    while True:
        async with AsyncExitStack() as attempt:
            line = WaitingLine("Waiting for a board")
            attempt.callback(line.finish)
            lease = await attempt.enter_async_context(leased(config, wanted, tell=line))
            line.finish()
            channel = await attempt.enter_async_context(open_lasting(lease.connect))
            nursery = await attempt.enter_async_context(trio.open_nursery())
            attempt.callback(nursery.cancel_scope.cancel)
            log = SessionLog(channel, everything=wanted.all_logs, hooks=lease.ours)
            nursery.start_soon(log.run)
            monitor = Monitor(lease.controller, lease.record, lease.name, notify, told=lease.heard_of)
            try:
                report = await _ready(channel, monitor, _HookWarning(lease, notify))
            except RpcError as error:
                left = config.retry_timeout - (trio.current_time() - began)
                if not lease.ours or isinstance(error, FinalError) or error.code not in AWAY or left <= 0:
                    raise
                notify(f"{lease.exporter} cannot be reached ({error.details}); leasing another board")
                continue
            except ConnectError:
                await log.settle()
                raise
            warn_of_hook(report, notify)
            await stack.enter_async_context(attempt.pop_all())
            return nursery, Board(lease, channel, monitor, log)


async def _ready(
    channel: LastingChannel, monitor: Monitor, warning: _HookWarning
) -> GetStatusResponse | None:
    """Wait for a board, no longer than its lease."""
    began = trio.current_time()
    try:
        with collapsed():
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    channel.end(LeaseEndedError(await monitor.run()))

                nursery.start_soon(watch)
                nursery.start_soon(_look_when_it_breaks, channel, monitor)
                report = await until_usable(channel, waiting=warning.see)
                nursery.cancel_scope.cancel()
            return report
    except JumpstarterError as error:
        is_of_connection = isinstance(error, FinalError) or error.exit_code is ExitCode.UNAVAILABLE
        if not monitor.verdict and is_of_connection:
            await monitor.look()
        if not monitor.verdict:
            raise
        waited = spell(trio.current_time() - began)
        raise LeaseEndedError(
            f"{monitor.verdict}; the board was not ready yet, {waited} after its beforeLease hook began: "
            "ask for more time with --duration, or look at the exporter's log"
        ) from error


class _HookWarning:
    """Says once that a lease will be over before its board is ready, if its exporter knows how long its hook takes."""

    def __init__(self, lease: Lease, notify: Notify) -> None:
        left = remaining(lease.record, time.time())
        self._ends = math.inf if left is None else trio.current_time() + left
        self._notify: Notify | None = notify

    def see(self, report: GetStatusResponse) -> None:
        """The exporter says how it is."""
        usual, left = usual_seconds(report.message), self._ends - trio.current_time()
        if self._notify is not None and usual is not None:
            if usual > left:
                self._notify(
                    f"warning: the board's beforeLease hook usually takes {spell(usual)}, and the lease ends in "
                    f"{spell(left)}; ask for more time with --duration"
                )
            self._notify = None


async def _watch(board: Board, ended: Callable[[str], None]) -> None:
    verdict = await board.monitor.run()
    board.channel.end(LeaseEndedError(verdict))
    ended(verdict)


async def _look_when_it_breaks(channel: LastingChannel, monitor: Monitor) -> None:
    """An exporter hangs up when a lease is over, which is seen sooner so than by looking now and then."""
    while True:
        await channel.broke()
        await monitor.look()


async def _explain(board: Board, error: JumpstarterError) -> None:
    """Raise what is behind an error, if the lease's end is."""
    if error.exit_code not in (ExitCode.UNAVAILABLE, ExitCode.DENIED) and not isinstance(error, FinalError):
        return
    if not board.monitor.verdict:
        await board.monitor.look()
    if board.monitor.verdict:
        raise LeaseEndedError(board.monitor.verdict) from error


async def _finish(board: Board, notify: Notify) -> None:
    if board.lease.ours and not board.monitor.verdict and board.channel.over is None:
        await end_session(board.channel, board.log, notify)


T = TypeVar("T")
END_SECONDS = 300.0
"""For an afterLease hook."""
CALL_SECONDS = 5.0
POLL_SECONDS = 0.1
LAST_SECONDS = 1.0
QUIET_SECONDS = 0.1
"""A log has no mark for its end: after so long without an entry, nothing more of a hook that has ended will come."""

HOOK_WARNING = "[HOOK_WARNING] "
_NOT_THERE = frozenset(
    (
        StatusCode.UNIMPLEMENTED,
        StatusCode.UNAVAILABLE,
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNKNOWN,
    )
)
"""A session before 0.8, or that is not to be reached: its lease's release ends it as well."""
_ENDED = (common_pb2.EXPORTER_STATUS_AVAILABLE, common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED)
_OF_HOOK = frozenset(
    (common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK, common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED)
)


class SessionLog:
    """Prints what the hooks say and what the user is told, everything, or nothing, on standard error."""

    def __init__(self, channel: LastingChannel, *, hooks: bool, everything: bool) -> None:
        self._channel = channel
        self._hooks = hooks
        self._everything = everything
        self._news = trio.Event()

    async def run(self) -> None:
        """Until cancelled, or there is no connection any more."""
        if not self._hooks and not self._everything:
            return
        try:
            async with aclosing(entries(self._channel)) as log:
                async for entry in log:
                    if self._everything or is_of_hook(entry) or is_notice(entry):
                        self._news.set()
                        self._news = trio.Event()
                        print_error_line(line_of(entry))
        except JumpstarterError:
            return  # whoever uses the connection says so

    async def settle(self) -> None:
        """Wait for what is on its way, for a moment at most."""
        with trio.move_on_after(LAST_SECONDS):
            while True:
                with trio.move_on_after(QUIET_SECONDS) as quiet:
                    await self._news.wait()
                if quiet.cancelled_caught:
                    return


def warn_of_hook(report: GetStatusResponse | None, notify: Notify) -> None:
    """Say that a hook failed, if its failure is not to matter."""
    if report is not None and report.message.startswith(HOOK_WARNING):
        notify(f"warning: {report.message.removeprefix(HOOK_WARNING)}")


async def end_session(channel: LastingChannel, log: SessionLog, notify: Notify) -> None:
    """Say that its user is done with the board, and wait until its afterLease hook is, too.

    A session that cannot be reached any more is not waited for: the lease's release ends it as well.
    """
    try:
        report = await _ended(channel, log)
    except trio.TooSlowError:
        return
    except RpcError as error:
        if error.code not in _NOT_THERE:
            notify(f"warning: the session could not be ended: {error.details}")
        return
    if report is None:
        notify(f"warning: the afterLease hook is not done after {END_SECONDS:.0f} s; it goes on without you")
    elif report.status == common_pb2.EXPORTER_STATUS_AFTER_LEASE_HOOK_FAILED:
        notify(f"warning: {report.message or 'the afterLease hook failed'}")
    warn_of_hook(report, notify)


async def _ended(channel: LastingChannel, log: SessionLog) -> GetStatusResponse | None:
    """The status after the hook, an empty one where there is no session; None if it takes too long."""
    exporter = ExporterServiceStub(channel)
    asked: Channel | None = None
    ran = False
    with trio.move_on_after(END_SECONDS):
        while True:
            with trio.fail_after(CALL_SECONDS):
                # An exporter that was restarted knows nothing of the wish, and who is asked twice ends once.
                if (connection := await channel.established()) is not asked:
                    reply = await _over_any(partial(exporter.EndSession, EndSessionRequest()))
                    if not reply.success:
                        return GetStatusResponse()
                    asked = connection
                report = await _over_any(partial(exporter.GetStatus, GetStatusRequest()))
            if report.status in _ENDED:
                # A hook may be over before anybody asks; where none ran there is nothing to wait for.
                if ran or not _OF_HOOK.isdisjoint((report.status, report.previous_status)):
                    await log.settle()
                return report
            ran = True
            await trio.sleep(POLL_SECONDS)
    return None


async def _over_any(call: Callable[[], Awaitable[T]]) -> T:
    """What it answers; over another connection if one breaks meanwhile, as asking twice does no harm."""
    while True:
        try:
            return await call()
        except ConnectionLostError:
            await trio.sleep(POLL_SECONDS)
