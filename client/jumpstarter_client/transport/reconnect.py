"""A gRPC channel that reconnects.

When the connection is lost, running calls fail at once with UNAVAILABLE. They are never repeated, because the exporter
may have executed them. The next call waits for a new connection.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.rpc import (
    Channel,
    ClientCall,
    Message,
    Metadata,
    Method,
    NotGrpcError,
    RpcError,
    StatusCode,
)
from jumpstarter_proto.tasks import collapsed

from jumpstarter_client.transport.connection_state import ConnectionState, ConnectionStateMachine, FinalError

__all__ = ["ConnectionLostError", "Dial", "ReconnectingChannel", "open_reconnecting"]

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[Channel]]
"""Opens one connection for the block. An error is the reason why the attempt failed; after a `FinalError` there is no
further attempt."""

RETRY_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0
"""Before an attempt, after several fruitless ones. A peer may take each connection and close it at once."""
BRIEF_SECONDS = 1.0
"""A connection that is lost sooner was fruitless."""

_log = logging.getLogger(__name__)


class ConnectionLostError(RpcError):
    """The connection was lost during this call. Unless the message says more, the exporter may have executed it."""


class _UnusableConnectionError(RpcError):
    """A connection was lost, or did not answer, before the first call could use it."""


@asynccontextmanager
async def open_reconnecting(
    dial: Dial,
    *,
    retry_seconds: float = RETRY_SECONDS,
    explain: Callable[[RpcError], Awaitable[RpcError]] | None = None,
) -> AsyncIterator[ReconnectingChannel]:
    """Yield a channel that connects for its first call, and again for the first call after a lost connection.

    If a connection is lost before a call could use it, the channel tries again for `retry_seconds`. Leaving the block
    shuts the channel down. `explain` may replace the error of a call by one that says more to a user. It also gets the
    `NotGrpcError` of a channel that never reached a gRPC server.
    """
    with collapsed():
        async with trio.open_nursery() as nursery:
            channel = ReconnectingChannel(dial, nursery, retry_seconds, explain)
            try:
                yield channel
            finally:
                channel.close()
                nursery.cancel_scope.cancel()


class ReconnectingChannel:
    """Has the methods of `Channel` that stubs and driver clients use. Any number of tasks may use it concurrently."""

    def __init__(
        self,
        dial: Dial,
        nursery: trio.Nursery,
        retry_seconds: float,
        explain: Callable[[RpcError], Awaitable[RpcError]] | None = None,
    ) -> None:
        self.resync: Callable[[Channel], Awaitable[None]] | None = None
        """Called with each new connection except the first, before any call uses it. An error fails the attempt."""
        self._dial = dial
        self._nursery = nursery
        self._patience = retry_seconds
        self._explain = explain
        self._has_worked = False
        """A connection has ended otherwise than without an answer of a gRPC server."""
        self._fruitless = 0
        """How many attempts in a row led to no connection that lasted."""
        self._machine = ConnectionStateMachine()
        self._channel: Channel | None = None
        self._disconnect_scope = trio.CancelScope()
        self._changed = Broadcast()

    @property
    def shutdown_reason(self) -> RpcError | None:
        """Why the channel is shut down; None until then."""
        return self._machine.reason if self._machine.state is ConnectionState.SHUTDOWN else None

    async def wait_connected(self) -> Channel:
        """Return a connection on which a call can start now, and connect if there is none.

        Raises:
            ConnectionLostError: the new connection was lost at once.
            RpcError: connecting failed, or the channel is shut down. Unless it is, the next caller tries again.
        """
        tried = False
        before = self._machine.connections
        while True:
            channel = self._current()
            if channel is not None:
                return channel
            if self._machine.state is ConnectionState.SHUTDOWN or (
                tried and self._machine.state is ConnectionState.IDLE
            ):
                assert self._machine.reason is not None
                await trio.lowlevel.checkpoint()
                reason = _copy_of(self._machine.reason)
                if self.shutdown_reason is None and self._machine.connections > before:
                    raise await self._no_answer(reason)
                raise reason
            if self._machine.state is not ConnectionState.READY and self._machine.request():
                self._nursery.start_soon(self._connect)
            # It stays so: a peer that takes each connection and closes it at once is not asked again and again.
            tried = tried or self._machine.state is ConnectionState.CONNECTING
            await self._changed.wait()

    async def next_connection(self) -> Channel | None:
        """Wait for a connection without requesting one. Returns None after a shutdown."""
        while (channel := self._current()) is None:
            if self._machine.state is ConnectionState.SHUTDOWN:
                return None
            await self._changed.wait()
        return channel

    def start_task(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run a task, which must not raise, until the channel is closed; then it is cancelled."""
        self._nursery.start_soon(task)

    async def wait_disconnected(self) -> None:
        """Wait until the current or the next connection is lost, without requesting another one."""
        while self._machine.state is not ConnectionState.READY:
            await self._changed.wait()
        while self._machine.state is ConnectionState.READY:
            await self._changed.wait()

    def disconnect(self) -> None:
        """Drop a connection that does not answer; the next call makes a new one."""
        self._disconnect_scope.cancel()

    def shut_down(self, reason: RpcError) -> None:
        """Fail all running and future calls with `reason`."""
        self._machine.shut_down(reason)
        self.disconnect()
        self._changed.notify()

    def close(self) -> None:
        """Shut down at the end of the block; running calls have failed already."""
        self._machine.shut_down(RpcError(StatusCode.UNAVAILABLE, "the channel was closed"))
        self._changed.notify()

    def _current(self) -> Channel | None:
        # After GOAWAY the old connection only finishes its running calls.
        channel = self._channel
        return (
            channel
            if self._machine.state is ConnectionState.READY and channel and not channel.closed
            else None
        )

    async def _connect(self) -> None:
        """Make one connection and keep it until it is lost."""
        before = self._machine.reason
        again = before is not None and self._has_worked
        if before is not None and again:
            _log.warning("lost the connection to the board (%s); reconnecting", _cause(before))
        deadline = trio.current_time() + self._patience
        while True:
            if pause := self._pause():
                await trio.sleep(pause)
            if self._machine.state is ConnectionState.SHUTDOWN:
                break
            reason = await self._one_connection(again)
            if self._machine.state is ConnectionState.READY:
                self._machine.mark_lost(reason)
                break
            if not isinstance(reason, _UnusableConnectionError) or trio.current_time() >= deadline:
                self._machine.mark_failed(reason)
                break
            _log.info("%s; trying again", reason)
            self._fruitless += 1
        self._channel = None
        self._changed.notify()

    def _pause(self) -> float:
        if self._fruitless <= 1:
            return 0.0
        return min(FIRST_PAUSE_SECONDS * (1 << min(self._fruitless - 2, 10)), MAX_PAUSE_SECONDS)

    async def _one_connection(self, again: bool) -> RpcError:
        """Run one connection and return why it ended. The state is READY if calls could use it."""
        self._disconnect_scope = scope = trio.CancelScope()
        try:
            async with self._dial() as channel:
                with scope:
                    if self.resync is not None and self._machine.connections:
                        await _resynced(channel, self.resync)
                    self._channel = channel
                    self._machine.mark_connected()
                    if again:
                        _log.warning("reconnected to the board")
                    self._changed.notify()
                    since = trio.current_time()
                    reason = await channel.wait_closed()
                    lasted = trio.current_time() - since >= BRIEF_SECONDS
                    self._fruitless = 0 if lasted else self._fruitless + 1
                    self._has_worked = self._has_worked or not isinstance(reason, NotGrpcError)
                if scope.cancelled_caught:
                    reason = RpcError(StatusCode.UNAVAILABLE, "the exporter does not answer")
        except JumpstarterError as error:
            return _as_status(error)
        return reason

    async def wait_closed(self) -> RpcError:
        """Stay connected until that is impossible, and return the reason."""
        while True:
            try:
                channel = await self.wait_connected()
            except ConnectionLostError:
                continue
            except RpcError as error:
                return error
            await channel.wait_closed()
            while self._channel is channel:
                await self._changed.wait()

    async def _failure(self, channel: Channel, name: str, error: RpcError) -> RpcError:
        """Return the error to raise: another one if the call failed only because its connection was lost."""
        lost = channel.lost
        if lost is None or (error.code, error.details) != (lost.code, lost.details):
            return error if self._explain is None else await self._explain(error)
        if self.shutdown_reason is not None:
            return _copy_of(self.shutdown_reason)
        if isinstance(lost, NotGrpcError):
            return await self._no_answer(lost)
        return ConnectionLostError(
            StatusCode.UNAVAILABLE,
            f"lost the connection to the board during {name} ({_cause(error)}); the call may or may not have been "
            "executed: check the board, then try again",
        )

    async def _no_answer(self, lost: RpcError) -> RpcError:
        """Return the error of a call that was not sent, or at least not read by a gRPC server."""
        if isinstance(lost, NotGrpcError) and self._explain is not None and not self._has_worked:
            return await self._explain(lost)
        return ConnectionLostError(lost.code, f"the exporter does not answer ({_cause(lost)}); try again")

    async def unary(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Res:
        """Send one message and return the reply. `timeout` starts when the channel is connected.

        Raises:
            ConnectionLostError: the connection was lost during the call.
            RpcError: the status of the call, or why there is no connection.
        """
        channel = await self.wait_connected()
        try:
            return await channel.unary(method, request, timeout=timeout, metadata=metadata)
        except RpcError as error:
            raise await self._failure(channel, method.name, error) from error.__cause__

    @asynccontextmanager
    async def server_stream(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """Send one message and iterate over the replies. See `unary`."""
        channel = await self.wait_connected()
        try:
            async with channel.server_stream(method, request, timeout=timeout, metadata=metadata) as call:
                yield call
        except RpcError as error:
            raise await self._failure(channel, method.name, error) from error.__cause__

    @asynccontextmanager
    async def stream(
        self, method: Method[Req, Res], *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """Open a call with any number of messages in both directions. See `unary`."""
        channel = await self.wait_connected()
        try:
            async with channel.stream(method, timeout=timeout, metadata=metadata) as call:
                yield call
        except RpcError as error:
            raise await self._failure(channel, method.name, error) from error.__cause__


async def _resynced(channel: Channel, renew: Callable[[Channel], Awaitable[None]]) -> None:
    try:
        await renew(channel)
    except RpcError as error:
        if error.code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
            raise _UnusableConnectionError(
                StatusCode.UNAVAILABLE, f"the exporter does not answer: {error.details}"
            ) from None
        raise


def _as_status(error: JumpstarterError) -> RpcError:
    if isinstance(error, RpcError):
        return error
    status = RpcError(StatusCode.__members__.get(error.status, StatusCode.UNKNOWN), str(error))
    status.exit_code = error.exit_code
    return status


def _cause(error: RpcError) -> str:
    return error.details.removeprefix("the connection broke: ")


def _copy_of(reason: RpcError) -> RpcError:
    """Return a new exception object for each caller."""
    kind = FinalError if isinstance(reason, FinalError) else type(reason)
    error = kind(reason.code, reason.details, reason.trailing_metadata)
    error.exit_code = reason.exit_code
    return error
