"""Calls to an exporter through connections that may break.

A call that runs when its connection breaks fails at once, with UNAVAILABLE, and is never made a second time: whether
the exporter carried it out is not known. The next call waits for a new connection.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import Channel, ClientCall, Message, Metadata, Method, RpcError, StatusCode

from jumpstarter_client.transport.connection_state import FinalError, Line, Stage

__all__ = ["ConnectionLostError", "Dial", "LastingChannel", "open_lasting"]

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[Channel]]
"""One connection, while the block lasts. What it raises is why the try failed; `FinalError` lets nobody try again."""

PATIENCE = 60.0

_log = logging.getLogger(__name__)


class ConnectionLostError(RpcError):
    """The connection broke while this call ran. What the call was to do may have been done, or not."""


class _UnusedError(RpcError):
    """A connection broke, or was silent, before anybody could use it."""


@asynccontextmanager
async def open_lasting(dial: Dial, *, patience: float = PATIENCE) -> AsyncIterator[LastingChannel]:
    """A channel that dials for its first call, and again for the first call after a connection broke.

    A connection that breaks before it was of any use is followed by another for `patience` seconds.
    """
    failure: BaseException | None = None
    # A plain nursery would wrap what the block raises into a group.
    async with trio.open_nursery() as nursery:
        channel = LastingChannel(dial, nursery, patience)
        try:
            yield channel
        except BaseException as error:  # re-raised below, outside of the nursery
            failure = error
        finally:
            channel.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class LastingChannel:
    """Has the methods of a `Channel` that stubs and driver clients use. Any number of tasks may use it at a time."""

    def __init__(self, dial: Dial, nursery: trio.Nursery, patience: float) -> None:
        self.renew: Callable[[Channel], Awaitable[None]] | None = None
        """Awaited with each connection but the first before anybody calls on it. What it raises fails the try."""
        self._dial = dial
        self._nursery = nursery
        self._patience = patience
        self._line = Line()
        self._channel: Channel | None = None
        self._hanging_up = trio.CancelScope()
        self._moved = trio.Event()

    @property
    def over(self) -> RpcError | None:
        """Why there will be no connection any more; None while there may be."""
        return self._line.reason if self._line.stage is Stage.OVER else None

    async def established(self) -> Channel:
        """A connection on which a call can be made right now.

        Raises:
            RpcError: it cannot be had. After `over` at once; otherwise the next one who asks tries again.
        """
        tried = False
        while True:
            channel = self._usable()
            if channel is not None:
                return channel
            if self._line.stage is Stage.OVER or (tried and self._line.stage is Stage.APART):
                assert self._line.reason is not None
                await trio.lowlevel.checkpoint()
                raise _again(self._line.reason)
            if self._line.stage is not Stage.CONNECTED and self._line.want():
                self._nursery.start_soon(self._connect)
            tried = self._line.stage is Stage.DIALLING
            await self._moved.wait()

    async def connected(self) -> Channel | None:
        """Wait for a connection that somebody else asks for; None when there will be none any more."""
        while (channel := self._usable()) is None:
            if self._line.stage is Stage.OVER:
                return None
            await self._moved.wait()
        return channel

    def run_beside(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run a task, which must not raise, until the channel is closed."""
        self._nursery.start_soon(task)

    async def broke(self) -> None:
        """Wait for the next time that a connection is gone. It is not asked for again by this."""
        while self._line.stage is not Stage.CONNECTED:
            await self._moved.wait()
        while self._line.stage is Stage.CONNECTED:
            await self._moved.wait()

    def hang_up(self) -> None:
        """Leave a connection that does not answer; the next call has a new one."""
        self._hanging_up.cancel()

    def end(self, reason: RpcError) -> None:
        """There is to be no connection any more: what runs, and each call from now on, fails with this."""
        self._line.end(reason)
        self.hang_up()
        self._wake()

    def close(self) -> None:
        """Connect no more; what runs has failed."""
        self._line.end(RpcError(StatusCode.UNAVAILABLE, "the channel was closed"))
        self._wake()

    def _usable(self) -> Channel | None:
        # One that takes no new calls is left to those that run on it; its end is near.
        channel = self._channel
        return channel if self._line.stage is Stage.CONNECTED and channel and not channel.closed else None

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _connect(self) -> None:
        """One connection, from the try to its end."""
        before = self._line.reason
        again = before is not None and self._line.connections > 0
        if before is not None and again:
            _log.warning("the connection to the board broke (%s); connecting again", _cause(before))
        deadline = trio.current_time() + self._patience
        while True:
            reason = await self._one_connection(again)
            if self._line.stage is Stage.CONNECTED:
                self._line.broke(reason)
                break
            if not isinstance(reason, _UnusedError) or trio.current_time() >= deadline:
                self._line.failed(reason)
                break
            _log.info("%s; dialling again", reason)
        self._channel = None
        self._wake()

    async def _one_connection(self, again: bool) -> RpcError:
        """Why it ended. The line is connected then, if it was of use."""
        self._hanging_up = scope = trio.CancelScope()
        try:
            async with self._dial() as channel:
                with scope:
                    if self.renew is not None and self._line.connections:
                        await _proven(channel, self.renew)
                    self._channel = channel
                    self._line.answered()
                    if again:
                        _log.warning("connected to the board again")
                    self._wake()
                    reason = await channel.wait_closed()
                if scope.cancelled_caught:
                    reason = RpcError(StatusCode.UNAVAILABLE, "the other side does not answer")
        except JumpstarterError as error:
            return _as_status(error)
        return reason

    async def wait_closed(self) -> RpcError:
        """Wait until there is no connection and none can be had, and return the reason. Keeps connected meanwhile."""
        while True:
            try:
                channel = await self.established()
            except RpcError as error:
                return error
            await channel.wait_closed()
            while self._channel is channel:
                await self._moved.wait()

    def _lost(self, channel: Channel, name: str, error: RpcError) -> RpcError | None:
        """The error of a call that had none of its own: its connection broke, or was ended."""
        lost = channel.lost
        if lost is None or (error.code, error.details) != (lost.code, lost.details):
            return None
        if self.over is not None:
            return _again(self.over)
        return ConnectionLostError(
            StatusCode.UNAVAILABLE,
            f"the connection to the board broke during {name} ({_cause(error)}); it may have been done or not: "
            "look at the board, then try again",
        )

    async def unary(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Res:
        """Send one message and return the reply. `timeout` counts from the moment of the connection.

        Raises:
            ConnectionLostError: the connection broke meanwhile.
            RpcError: the call's status, or why there is no connection.
        """
        channel = await self.established()
        try:
            return await channel.unary(method, request, timeout=timeout, metadata=metadata)
        except RpcError as error:
            raise self._lost(channel, method.name, error) or error from error.__cause__

    @asynccontextmanager
    async def server_stream(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """Send one message; iterate over the call for the replies. See `unary`."""
        channel = await self.established()
        try:
            async with channel.server_stream(method, request, timeout=timeout, metadata=metadata) as call:
                yield call
        except RpcError as error:
            raise self._lost(channel, method.name, error) or error from error.__cause__

    @asynccontextmanager
    async def stream(
        self, method: Method[Req, Res], *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """A call with any number of messages each way. See `unary`."""
        channel = await self.established()
        try:
            async with channel.stream(method, timeout=timeout, metadata=metadata) as call:
                yield call
        except RpcError as error:
            raise self._lost(channel, method.name, error) or error from error.__cause__


async def _proven(channel: Channel, renew: Callable[[Channel], Awaitable[None]]) -> None:
    try:
        await renew(channel)
    except RpcError as error:
        if error.code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
            raise _UnusedError(
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


def _again(reason: RpcError) -> RpcError:
    """An exception of its own for each who asks."""
    kind = FinalError if isinstance(reason, FinalError) else type(reason)
    error = kind(reason.code, reason.details, reason.trailing_metadata)
    error.exit_code = reason.exit_code
    return error
