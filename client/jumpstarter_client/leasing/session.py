"""The exporter's side of a lease as its user sees it: what its hooks print, and the end that is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import EndSessionRequest, GetStatusRequest, GetStatusResponse

from jumpstarter_client.lasting import ConnectionLostError, LastingChannel
from jumpstarter_client.leasing.notices import Notify
from jumpstarter_client.logs import entries, is_notice, is_of_hook, line_of

__all__ = ["SessionLog", "end_session", "warn_of_hook"]

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
