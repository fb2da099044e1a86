"""Calls out: a channel over one byte stream, and the calls made on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Generic, Protocol, TypeVar

import trio

from jumpstarter_proto.rpc._events import GoingAway, RequestReceived
from jumpstarter_proto.rpc._mux import CallState, Mux
from jumpstarter_proto.rpc._types import TOO_SLOW, Message, Metadata, Method, Options, RpcError, StatusCode

__all__ = ["Caller", "Channel", "ClientCall", "open_channel"]

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


@asynccontextmanager
async def open_channel(
    stream: trio.abc.Stream,
    *,
    authority: str = "localhost",
    scheme: str = "http",
    metadata: Metadata = (),
    options: Options | None = None,
) -> AsyncIterator[Channel]:
    """A channel over a connected byte stream, which it closes at the end.

    `metadata` goes with each call, as credentials do. Leaving the block resets calls that are still open. A peer
    that does not speak gRPC is noticed by the first call, not here.
    """
    channel = Channel(
        stream, authority=authority, scheme=scheme, metadata=metadata, options=options or Options()
    )
    # A plain nursery would wrap what the block raises into a group.
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(channel._mux.run)  # noqa: SLF001 - one module
        try:
            yield channel
        except BaseException as error:  # re-raised below, outside of the nursery
            failure = error
        finally:
            channel._mux.close("the channel was closed")  # noqa: SLF001
    if failure is not None:
        raise failure


class Caller(Protocol):
    """What a stub needs to make calls: a `Channel`, or what finds one for each call. See `Channel` for the methods."""

    async def unary(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Res:
        """Send one message and return the reply."""

    def server_stream(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[Req, Res]]:
        """Send one message; iterate over the call for the replies."""

    def stream(
        self, method: Method[Req, Res], *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AbstractAsyncContextManager[ClientCall[Req, Res]]:
        """A call with any number of messages each way."""

    async def wait_closed(self) -> RpcError:
        """Wait until no call can be made any more and return the reason."""


class Channel:
    """One connection to a peer. It does not connect again: open another when `closed`.

    Every method may be used by any number of tasks at a time.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, authority: str, scheme: str, metadata: Metadata, options: Options
    ) -> None:
        self._mux = Mux(stream, self, client=True, options=options)
        self._authority = authority
        self._scheme = scheme
        self._metadata = tuple(metadata)
        self._refusal: RpcError | None = None

    @property
    def closed(self) -> bool:
        """Whether new calls would fail."""
        return self._mux.lost is not None or self._refusal is not None

    @property
    def lost(self) -> RpcError | None:
        """Why the connection is gone, which every call that was open failed with; None while it is not."""
        return self._mux.lost

    async def wait_closed(self) -> RpcError:
        """Wait for the connection's end and return the reason."""
        await self._mux.closed.wait()
        return self._mux.lost or RpcError(StatusCode.UNAVAILABLE, "the connection was closed")

    async def unary(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Res:
        """Send one message and return the reply.

        `timeout` is in seconds, enforced here and told to the peer. Cancelling the caller cancels the handler.

        Raises:
            RpcError: the call's status, UNAVAILABLE when the connection is lost, DEADLINE_EXCEEDED in time.
        """
        call: ClientCall[Req, Res] = ClientCall(self._mux, method)
        try:
            if timeout is None:
                return await self._unary(call, request, None, metadata)
            with trio.fail_after(max(timeout, 0)):
                return await self._unary(call, request, timeout, metadata)
        except trio.TooSlowError:
            raise _too_slow(method, timeout) from None
        finally:
            call._leave()  # noqa: SLF001 - one module

    async def _unary(
        self, call: ClientCall[Req, Res], request: Req, timeout: float | None, metadata: Metadata
    ) -> Res:
        await self._start(call, timeout, metadata)
        await call._send_only(request)  # noqa: SLF001
        try:
            reply = await call.receive()
        except trio.EndOfChannel:
            raise RpcError(StatusCode.INTERNAL, "the peer ended the call without a reply") from None
        await call._finish()  # noqa: SLF001
        return reply

    @asynccontextmanager
    async def server_stream(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """Send one message; iterate over the call for the replies. See `stream` for the rest."""
        async with self._open(method, timeout, metadata) as call:
            await call._send_only(request)  # noqa: SLF001 - one module
            yield call

    @asynccontextmanager
    async def stream(
        self, method: Method[Req, Res], *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """A call with any number of messages each way. Leaving the block resets it, unless it has ended.

        A `timeout` bounds the whole block: passing it raises RpcError(DEADLINE_EXCEEDED) from the block.
        """
        async with self._open(method, timeout, metadata) as call:
            self._mux.flush()  # a handler may have to run before there is a first message
            yield call

    @asynccontextmanager
    async def _open(
        self, method: Method[Req, Res], timeout: float | None, metadata: Metadata
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """A call whose headers are queued."""
        call: ClientCall[Req, Res] = ClientCall(self._mux, method)
        try:
            if timeout is None:
                # Without a scope of its own, so that async generators may yield from inside of the block.
                await self._start(call, None, metadata)
                yield call
                return
            with trio.move_on_after(max(timeout, 0)) as scope:
                await self._start(call, timeout, metadata)
                yield call
            if scope.cancelled_caught:
                raise _too_slow(method, timeout)
        finally:
            call._leave()  # noqa: SLF001 - one module

    async def _start(self, call: ClientCall[Req, Res], timeout: float | None, metadata: Metadata) -> None:
        mux = self._mux
        while True:
            if error := mux.lost or self._refusal:
                await trio.lowlevel.checkpoint()
                raise RpcError(error.code, error.details)
            if mux.connection.has_room_for_a_call:
                break
            await mux.room.park()
        try:
            stream_id = mux.connection.start_call(
                call.method.path,
                scheme=self._scheme,
                authority=self._authority,
                timeout=timeout,
                metadata=(*self._metadata, *metadata) if metadata else self._metadata,
            )
        except BaseException:
            mux.room.unpark()  # a waiting call may take the place
            raise
        call._start(stream_id)  # noqa: SLF001 - one module

    def on_request(self, event: RequestReceived) -> None:
        """Servers do not call."""

    def on_end(self) -> None:
        """The channel was closed on this side."""

    def on_going_away(self, event: GoingAway) -> None:
        """Refuse new calls; running calls finish."""
        reason = f" ({event.reason})" if event.reason else ""
        self._refusal = RpcError(
            StatusCode.UNAVAILABLE, f"the peer is going away and takes no new calls; connect again{reason}"
        )


class ClientCall(Generic[Req, Res]):
    """A call in progress. One task may send while another receives."""

    def __init__(self, mux: Mux, method: Method[Req, Res]) -> None:
        self.method = method
        self._mux = mux
        self._state = CallState(0)
        self._half_closed = False

    def _start(self, stream_id: int) -> None:
        self._state.stream_id = stream_id
        self._mux.calls[stream_id] = self._state

    async def _send_only(self, request: Req) -> None:
        self._half_closed = True
        try:
            await self._mux.send(self._state, request.SerializeToString(), end=True)
        except RpcError:
            if self._state.ended is None:
                raise
            # The peer has answered before it read all; its status says more than our failure to send.

    async def send(self, message: Req) -> None:
        """Send a message, waiting while the peer or the socket takes no more.

        Raises:
            RpcError: the call has ended, with its status; RESOURCE_EXHAUSTED for a message that is too large.
        """
        await self._mux.send(self._state, message.SerializeToString())

    async def send_data(self, data: bytes) -> None:
        """`send` for a message that is serialized already."""
        await self._mux.send(self._state, data)

    def allowance(self) -> int:
        """The largest message, in bytes as sent, that `send_now` takes; 0 or less when `send` would have to wait."""
        return 0 if self._half_closed else self._mux.allowance(self._state)

    def send_now(self, data: bytes) -> None:
        """Send a message, serialised, within the `allowance`; without giving other tasks their turn."""
        self._mux.send_now(self._state, data)

    async def send_eof(self) -> None:
        """Send no more messages; replies still arrive."""
        await trio.lowlevel.checkpoint()
        if not self._half_closed:
            self._half_closed = True
            self._mux.send_eof(self._state)

    async def initial_metadata(self) -> Metadata:
        """Wait for the peer's headers; none when the call ended without any.

        Raises:
            RpcError: the call has failed without headers.
        """
        state = self._state
        while state.headers is None:
            if state.failure is not None:
                raise RpcError(state.failure.code, state.failure.details)
            if state.ended is not None:
                await trio.lowlevel.checkpoint()
                self._raise_for_status()
                return ()
            await state.changed.park()
        return state.headers.metadata

    async def receive(self) -> Res:
        """Receive the next reply.

        Raises:
            trio.EndOfChannel: there are no more and the status is OK.
            RpcError: any other status.
        """
        return _parse(self.method.response_type, await self.receive_data())

    async def receive_data(self) -> bytes:
        """The same, serialized. `send_data` is its counterpart."""
        data = await self._mux.receive(self._state)
        if data is None:
            self._raise_for_status()
            raise trio.EndOfChannel
        return data

    def __aiter__(self) -> ClientCall[Req, Res]:
        return self

    async def __anext__(self) -> Res:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def wait_failed(self) -> RpcError:
        """Wait until the call ends with another status than OK, and return that; for a task that no longer receives."""
        return await self._mux.wait_failed(self._state)

    @property
    def has_succeeded(self) -> bool:
        """Whether the peer has ended it with the status OK."""
        return self._state.ended is not None and self._state.ended.code is StatusCode.OK

    @property
    def trailing_metadata(self) -> Metadata:
        """What came with the status; empty before."""
        return () if self._state.ended is None else self._state.ended.metadata

    async def _finish(self) -> None:
        """Wait for the status behind the only reply."""
        state = self._state
        while state.ended is None:
            if state.failure is not None:
                raise RpcError(state.failure.code, state.failure.details)
            if state.messages:
                raise RpcError(StatusCode.INTERNAL, "the peer sent several replies to a call that has one")
            await state.changed.park()
        self._raise_for_status()

    def _raise_for_status(self) -> None:
        ended = self._state.ended
        if ended is not None and ended.code is not StatusCode.OK:
            raise RpcError(ended.code, ended.details, ended.metadata)

    def _leave(self) -> None:
        state = self._state
        if state.stream_id and not state.is_over:
            self._mux.abandon(state)
        state.messages = None


def _too_slow(method: Method[Req, Res], timeout: float | None) -> RpcError:
    return RpcError(
        StatusCode.DEADLINE_EXCEEDED,
        f"{method.name} was not done within {timeout or 0:g} s; {TOO_SLOW}",
    )


M = TypeVar("M", bound=Message)


def _parse(message_type: type[M], data: bytes) -> M:
    try:
        return message_type.FromString(data)  # type: ignore[attr-defined, no-any-return]
    except Exception as error:
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - keeps this import off the start

        if not isinstance(error, DecodeError):
            raise
        raise RpcError(
            StatusCode.INTERNAL, f"the peer's message is not a {message_type.__name__}: {error}"
        ) from None
