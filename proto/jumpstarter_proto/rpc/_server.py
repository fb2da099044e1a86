"""Calls in: servicers, what their handlers get, and serving connections."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Generic, NoReturn, Protocol, TypeAlias, TypeVar

import trio

from jumpstarter_proto.errors import JumpstarterError, JumpstarterUsageError
from jumpstarter_proto.rpc._channel import _parse
from jumpstarter_proto.rpc._connection_limiter import ConnectionLimiter, ConnectionSlot
from jumpstarter_proto.rpc._connection_policy import ConnectionLimits
from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._events import GoingAway, RequestReceived
from jumpstarter_proto.rpc._guards import LimitedLog
from jumpstarter_proto.rpc._keepalives import KeepAlives
from jumpstarter_proto.rpc._metadata import encode_metadata
from jumpstarter_proto.rpc._mux import CLOSING_GRACE_SECONDS, CallState, Mux
from jumpstarter_proto.rpc._tls import TlsStream
from jumpstarter_proto.rpc._transport import credentials_of, peer_of
from jumpstarter_proto.rpc._types import (
    TOO_SLOW,
    Cardinality,
    Message,
    Metadata,
    Method,
    Options,
    RpcError,
    StatusCode,
)
from jumpstarter_proto.tasks import single

__all__ = [
    "DynamicServicer",
    "Interceptor",
    "Route",
    "ServedConnection",
    "Server",
    "ServerCall",
    "Servicer",
    "serve_connection",
    "status_of",
]

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)

_log = logging.getLogger(__name__)


class Servicer:
    """Base of the generated servicers. A handler is a method with its procedure's name.

    Handlers of one request get it and the call; handlers of many get the call. A handler of one reply returns
    it; others send theirs and return None. The handler is cancelled when its caller cancels, runs out of time
    or is gone; what it raises becomes the call's status (see `status_of`).
    """

    METHODS: ClassVar[tuple[Method[Any, Any], ...]] = ()

    def unimplemented(self, name: str) -> RpcError:
        """The status of a procedure that the servicer does not override."""
        return RpcError(StatusCode.UNIMPLEMENTED, f"{name} is not implemented here")


Route: TypeAlias = tuple[Method[Any, Any], Callable[..., Awaitable[Any]]]
"""A procedure and its handler, which gets what a `Servicer`'s handlers get."""


class DynamicServicer(Servicer):
    """Serves procedures that are found with their first call, so that nothing of them is loaded before."""

    async def find(self, call: ServerCall[Any, Any]) -> Route | None:
        """The procedure that `call.method.path` names, or None if there is none of that name here.

        Interceptors have seen the call. The answer holds for all calls of the same server, or connection.
        """
        raise NotImplementedError


class ServedConnection(Protocol):
    """A connection, as the handlers of its calls know it; it can be a key."""

    ended: trio.Event
    """Set when it is over."""
    heard: float
    """Time of the caller's last message, on trio's clock."""
    working: int
    """Number of running calls that are not held open by their caller; handlers count them."""

    def cut(self, reason: str) -> None:
        """Close it, and send the reason to the caller."""


class ServerCall(Generic[Req, Res]):
    """A call as its handler sees it. One task may send while another receives."""

    def __init__(
        self,
        mux: Mux,
        state: CallState,
        method: Method[Req, Res],
        request: RequestReceived,
        slot: ConnectionSlot,
    ) -> None:
        self.method = method
        self.metadata: Metadata = request.metadata
        self.authority = request.authority
        self.deadline = math.inf if request.timeout is None else trio.current_time() + request.timeout
        """On trio's clock."""
        self._mux = mux
        self._state = state
        self._slot = slot
        self._trailing: Metadata = ()
        self._headers_sent = False

    @property
    def peer(self) -> str:
        """The caller's address in gRPC's notation (`unix:`, `ipv4:192.0.2.1:50051`); empty for a tunnel."""
        return peer_of(self._mux.stream)

    @property
    def uid(self) -> int | None:
        """The local user who made the connection; None for other machines and tunnels."""
        return None if self._slot.credentials is None else self._slot.credentials.uid

    @property
    def pid(self) -> int | None:
        """The local process that made the connection; None for other machines and tunnels."""
        return None if self._slot.credentials is None else self._slot.credentials.pid

    @property
    def connection(self) -> ServedConnection:
        """The caller's connection, which other calls may share."""
        return self._slot

    @property
    def held(self) -> int:
        """Bytes in memory for this call: what was not read of it, and what its connection has not sent."""
        return self._mux.held(self._state)

    def header(self, name: str) -> str | None:
        """A text value of the caller's metadata, the last one if there are several; None if there is none."""
        values = [value for key, value in self.metadata if key == name and isinstance(value, str)]
        return values[-1] if values else None

    def set_authenticated(self, identity: str = "") -> None:
        """The caller is authenticated: the limits of unauthenticated connections no longer apply to this connection.

        Raises:
            RpcError: RESOURCE_EXHAUSTED, that identity has too many connections.
        """
        self._slot.set_authenticated(identity)
        self._mux.release()

    @property
    def is_authenticated(self) -> bool:
        """Whether a caller is authenticated on this connection."""
        return self._slot.is_authenticated

    def disable_auth_timeout(self) -> None:
        """Let the connection stay without authentication; it may still be closed if others need its place."""
        self._slot.disable_auth_timeout()

    def outlive_reset(self, seconds: float) -> None:
        """After a cancellation or a lost connection, let the handler run for `seconds` more.

        Received messages can still be read before `receive` fails; `send` fails immediately. For handlers that forward
        the messages of their callers, and know when they are complete.
        """
        if isinstance(self._state.on_reset, trio.CancelScope):
            self._state.on_reset = _Delay(self._state.on_reset, seconds)

    async def send_initial_metadata(self, metadata: Metadata = ()) -> None:
        """Send headers now. Without it they go, empty, with the first reply, and not at all before an error."""
        if not self._headers_sent:
            self._mux.connection.send_headers(self._state.stream_id, metadata)
            self._headers_sent = True
            self._mux.flush()
        await trio.lowlevel.checkpoint()

    async def send(self, message: Res) -> None:
        """Send a reply, waiting while the caller or the socket takes no more."""
        await self.send_data(message.SerializeToString())

    def allowance(self) -> int:
        """The largest message, in bytes as sent, that `send_now` takes; 0 or less when `send` would have to wait."""
        return self._mux.allowance(self._state) if self._headers_sent else 0

    def send_now(self, data: bytes) -> None:
        """Send a reply, serialised, within the `allowance`; without giving other tasks their turn."""
        self._mux.send_now(self._state, data)

    async def _receive_only(self, seconds: float) -> Req:
        """The only message, which mostly has come with the call."""
        if self._state.messages:
            return await self.receive()
        try:
            with trio.fail_after(seconds):
                return await self.receive()
        except trio.EndOfChannel:
            raise RpcError(StatusCode.INTERNAL, "the caller sent no message to a call that has one") from None
        except trio.TooSlowError:
            raise RpcError(
                StatusCode.DEADLINE_EXCEEDED, f"the call's message did not come within {seconds:g} s"
            ) from None

    async def _send_only(self, message: Res, seconds: float) -> None:
        """Queue the only reply, which goes with the status."""
        data = message.SerializeToString()
        if not self._headers_sent:
            self._headers_sent = True
            self._mux.connection.send_headers(self._state.stream_id, ())
        if len(data) <= self._mux.allowance(self._state):
            self._mux.send_now(self._state, data, more=True)
            return
        with trio.move_on_after(seconds) as patience:
            await self._mux.send(self._state, data, more=True)
        if patience.cancelled_caught:
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, "the caller does not take its reply")

    def pass_on_to(self, other: ServerCall[Any, Any], passed: Callable[[int], bool]) -> None:
        """Forward each later message unchanged to `other`, if it can be sent immediately.

        A task has to receive and send messages that have to wait, and those behind them. `passed` is told the
        size of each before it goes; with False it is left to the task.
        """
        self._state.sink = _Passthrough(other, passed)

    async def receive(self) -> Req:
        """The caller's next message. Raises trio.EndOfChannel when there will be no more."""
        return _parse(self.method.request_type, await self.receive_data())

    async def receive_data(self) -> bytes:
        """The same, serialized. `send_data` is its counterpart."""
        data = await self._mux.receive(self._state)
        if data is None:
            raise trio.EndOfChannel
        self._slot.heard = trio.current_time()
        return data

    async def wait_failed(self) -> RpcError:
        """Wait until the call fails, and return the error; for a task that no longer receives."""
        return await self._mux.wait_failed(self._state)

    async def send_data(self, data: bytes) -> None:
        """`send` for a message that is serialized already."""
        if not self._headers_sent:
            self._headers_sent = True
            self._mux.connection.send_headers(self._state.stream_id, ())
        await self._mux.send(self._state, data)

    def __aiter__(self) -> ServerCall[Req, Res]:
        return self

    async def __anext__(self) -> Req:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What goes with the status, unless an RpcError brings its own. JumpstarterUsageError if gRPC forbids it."""
        encode_metadata(metadata)
        self._trailing = metadata

    def abort(self, code: StatusCode, details: str) -> NoReturn:
        """End the call with this status."""
        raise RpcError(code, details, self._trailing)


class _Delay:
    """Cancels a scope later."""

    def __init__(self, scope: trio.CancelScope, seconds: float) -> None:
        self._scope = scope
        self._seconds = seconds

    def cancel(self) -> None:
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._seconds)


class _Passthrough:
    """Messages of one call to another."""

    def __init__(self, target: ServerCall[Any, Any], passed: Callable[[int], bool]) -> None:
        self._mux = target._mux  # noqa: SLF001 - one module
        self._state = target._state  # noqa: SLF001
        self._passed = passed

    def take(self, message: bytes) -> bool:
        size = len(message)
        if self._mux.allowance(self._state) < size or not self._passed(size):
            return False
        self._mux.send_now(self._state, message, more=True)
        return True

    def flush(self) -> None:
        self._mux.flush()


Interceptor: TypeAlias = Callable[[ServerCall[Any, Any]], Awaitable[None]]
"""Sees each call before its handler does and before any message is read; raises RpcError to refuse it."""


def status_of(error: BaseException) -> tuple[StatusCode, str]:
    """The status that an exception from a handler becomes, by its class (first match)."""
    details = str(error)
    match error:
        case RpcError():
            return error.code, error.details
        case JumpstarterError():
            return StatusCode.__members__.get(error.status, StatusCode.UNKNOWN), details
        case NotImplementedError():
            return StatusCode.UNIMPLEMENTED, details
        case ValueError():
            return StatusCode.INVALID_ARGUMENT, details
        case TimeoutError() | trio.TooSlowError():
            return StatusCode.DEADLINE_EXCEEDED, details
        case ConnectionError() | trio.BrokenResourceError():
            return StatusCode.UNAVAILABLE, details
        case OSError():
            return StatusCode.INTERNAL, details
        case _:
            return StatusCode.UNKNOWN, details or type(error).__name__


async def serve_connection(
    stream: trio.abc.Stream,
    services: Sequence[Servicer],
    *,
    interceptors: Sequence[Interceptor] = (),
    options: Options | None = None,
) -> None:
    """Serve one connection until it ends; cancelling this cancels its handlers and closes the stream."""
    await _Served(stream, _Routes(services), interceptors, options or Options()).run()


class _Routes:
    """Which handler has a procedure."""

    def __init__(self, services: Sequence[Servicer]) -> None:
        self._known: dict[str, Route] = {
            method.path: (method, getattr(service, method.name))
            for service in services
            for method in service.METHODS
        }
        self._dynamic = [service for service in services if isinstance(service, DynamicServicer)]

    def get(self, path: str) -> Route | None:
        """Return the procedure; None if it does not exist. One to be looked up has the handler `_not_found_yet`."""
        route = self._known.get(path)
        if route is None and self._dynamic:
            return Method(path, Cardinality.STREAM_STREAM, Message, Message), _not_found_yet
        return route

    async def find(self, call: ServerCall[Any, Any]) -> Route:
        """RpcError UNIMPLEMENTED if there is no such procedure."""
        path = call.method.path
        for service in self._dynamic:
            route = await service.find(call)
            if route is not None:
                return self._known.setdefault(path, route)
        raise RpcError(StatusCode.UNIMPLEMENTED, NO_METHOD)


NO_METHOD = "Method not found!"
"""As grpcio says it."""


async def _not_found_yet(call: ServerCall[Any, Any]) -> None:
    """The handler of a procedure that a `DynamicServicer` may have."""
    raise AssertionError


class _Served:
    """One connection of a server."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        routes: _Routes,
        interceptors: Sequence[Interceptor],
        options: Options,
        *,
        slot: ConnectionSlot | None = None,
        keepalives: KeepAlives | None = None,
    ) -> None:
        self.mux = Mux(stream, self, client=False, options=options, keepalives=keepalives)
        self._slot = slot or ConnectionSlot()
        self._slot.credentials = credentials_of(stream)
        if self._slot.unauthenticated_bytes is not None:
            self.mux.confine(self._slot.unauthenticated_bytes)
        self.idle = trio.Event()
        """The server is leaving and no call runs."""
        self._routes = routes
        self._interceptors = interceptors
        self._options = options
        self._handlers = 0
        self._leaving = False
        self._stopping = False
        self._scopes: set[trio.CancelScope] = set()
        """Of all calls."""
        self._streams: set[trio.CancelScope] = set()
        """Of calls that may have no end of their own."""

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                await self.mux.run()  # at its end every call fails, which cancels its handler
        finally:
            self._slot.ended.set()

    def say_goodbye(self) -> None:
        """Refuse new calls."""
        self._leaving = True
        if self.mux.lost is None:
            self.mux.connection.goodbye(reason="the server is shutting down")
            self.mux.flush()
        if not self._handlers:
            self.idle.set()

    def end_streams(self) -> None:
        """Cancel calls that stream, and tell their callers; those with one reply go on."""
        self._stopping = True
        for scope in self._streams:
            scope.cancel()

    async def stop(self) -> None:
        """Cancel what runs, tell its callers, and close. Waits a second at most for either."""
        self._stopping = True
        for scope in self._scopes:
            scope.cancel()
        with trio.move_on_after(CLOSING_GRACE_SECONDS):
            await self.idle.wait()
            await self.mux.drain()
        self.mux.close("the server has shut down")
        await self.mux.closed.wait()

    def on_going_away(self, event: GoingAway) -> None:
        """A client closes the connection itself when its calls have ended."""

    def on_end(self) -> None:
        """Send the reason to a caller whose connection is closed."""
        if reason := self._slot.why_cancelled():
            self.mux.cut(reason)
        else:
            self._slot.reason = self.mux.cut_reason

    def on_request(self, event: RequestReceived) -> None:
        """Start the call's handler."""
        if self._leaving or self._handlers >= self._options.max_streams:
            self.mux.connection.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        route = self._routes.get(event.path)
        if route is None:
            self.mux.connection.end_call(event.stream_id, StatusCode.UNIMPLEMENTED, NO_METHOD, ())
            return
        method, handler = route
        state = CallState(event.stream_id)
        state.on_reset = scope = trio.CancelScope()
        self.mux.calls[event.stream_id] = state
        call = ServerCall(self.mux, state, method, event, self._slot)
        self._handlers += 1
        if method.cardinality.streams_requests or method.cardinality.streams_responses:
            self._streams.add(scope)
        self._scopes.add(scope)
        self._nursery.start_soon(self._handle, call, state, handler, scope)

    async def _handle(
        self,
        call: ServerCall[Any, Any],
        state: CallState,
        handler: Callable[..., Awaitable[Any]],
        scope: trio.CancelScope,
    ) -> None:
        # What the caller learns when the server itself is cancelled in the middle.
        code, details = StatusCode.UNAVAILABLE, "the server is shutting down"
        trailing: Metadata = ()
        try:
            scope.deadline = call.deadline
            with scope:
                await self._answer(call, handler, scope)
                code, details = StatusCode.OK, ""
            if scope.cancelled_caught and not self._stopping:
                # Reset: nobody reads the status. Otherwise the caller's time is over.
                code, details = (
                    StatusCode.DEADLINE_EXCEEDED,
                    f"{call.method.name} was not done in the caller's time; {TOO_SLOW}",
                )
            trailing = call._trailing  # noqa: SLF001
        except trio.Cancelled:
            details = self._slot.why_cancelled() or details
            raise
        except Exception as error:  # a handler's outermost edge: whatever it raises is this call's status
            error = single(error)
            code, details = status_of(error)
            trailing = error.trailing_metadata if isinstance(error, RpcError) else call._trailing  # noqa: SLF001
            level = logging.ERROR if _is_unexpected(error) else logging.DEBUG
            _log.log(
                level, "%s failed: %s", call.method.path, str(error) or type(error).__name__, exc_info=error
            )
        finally:
            self._handlers -= 1
            self._streams.discard(scope)
            self._scopes.discard(scope)
            self._slot.renew()
            state.on_reset = None  # nothing is left to cancel
            self._end(state, code, details, trailing)
            if self._leaving and not self._handlers:
                self.idle.set()

    async def _answer(
        self, call: ServerCall[Any, Any], handler: Callable[..., Awaitable[Any]], scope: trio.CancelScope
    ) -> None:
        for interceptor in self._interceptors:
            await interceptor(call)
        if handler is _not_found_yet:
            call.method, handler = await self._routes.find(call)
            if not call.method.cardinality.streams_requests and not call.method.cardinality.streams_responses:
                self._streams.discard(scope)
        cardinality = call.method.cardinality
        if cardinality.streams_requests:
            reply = await handler(call)
        else:
            # Who is not authenticated by now is, if at all, by what the message says.
            self.mux.connection.confine(call._state.stream_id)  # noqa: SLF001 - one module
            reply = await handler(await call._receive_only(self._options.unary_seconds), call)  # noqa: SLF001
        if not cardinality.streams_responses:
            await call._send_only(reply, self._options.unary_seconds)  # noqa: SLF001 - one module

    def _end(self, state: CallState, code: StatusCode, details: str, trailing: Metadata) -> None:
        if not state.is_over and self.mux.lost is None:
            try:
                self.mux.connection.end_call(state.stream_id, code, details, trailing)
            except JumpstarterUsageError:
                # An RpcError's own trailing metadata: a mistake in the handler, which must not cost the status.
                _log.exception("trailing metadata that gRPC forbids")
                self.mux.connection.end_call(state.stream_id, code, details, ())
        self.mux.abandon(state)


def _is_unexpected(error: BaseException) -> bool:
    return not isinstance(error, JumpstarterError) and status_of(error)[0] is StatusCode.UNKNOWN


class Server:
    """Serves any number of connections. One that fails never disturbs the others."""

    def __init__(
        self,
        services: Sequence[Servicer],
        *,
        interceptors: Sequence[Interceptor] = (),
        options: Options | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """`limits` are for a public server; its handlers authenticate callers."""
        self._routes = _Routes(services)
        self._limiter = None if limits is None else ConnectionLimiter(limits)
        self._interceptors = interceptors
        self._options = options or Options()
        self._connections: set[_Served] = set()
        self._arriving: set[trio.CancelScope] = set()
        """Of connections that wait to be let in, or shake hands."""
        self._accepting = trio.CancelScope()
        self._keepalives = KeepAlives()
        """Of connections that come through listeners."""
        self._leaving = False
        self._cuts = LimitedLog(_log)
        """Connections that this server has cut."""

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[Any]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until `shutdown` or cancellation; closes the listeners."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keepalives.run)
            async with trio.open_nursery() as connections:
                with self._accepting:
                    task_status.started()
                    await trio.serve_listeners(
                        self._serve_accepted, list(listeners), handler_nursery=connections
                    )
            nursery.cancel_scope.cancel()

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Serve one connection that did not come through a listener."""
        await self._serve_stream(stream, None)

    async def _serve_accepted(self, stream: trio.abc.Stream) -> None:
        await self._serve_stream(stream, self._keepalives)

    async def _serve_stream(self, stream: trio.abc.Stream, keepalives: KeepAlives | None) -> None:
        peer = peer_of(stream)
        try:
            if self._limiter is None:
                slot = ConnectionSlot()
                with slot.scope:
                    await self._serve_slot(stream, slot, peer, keepalives)
            else:
                async with self._limiter.admit(peer) as slot:
                    await self._serve_slot(stream, slot, peer, keepalives)
        except Exception:
            # A connection's outermost edge: a fault of ours in one must not end the others.
            _log.exception("a connection failed")
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_slot(
        self, stream: trio.abc.Stream, slot: ConnectionSlot, peer: str, keepalives: KeepAlives | None
    ) -> None:
        try:
            if self._leaving or not await self._has_arrived(stream, slot):
                return
            connection = _Served(
                stream,
                self._routes,
                self._interceptors,
                self._options,
                slot=slot,
                keepalives=keepalives,
            )
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)
        finally:
            if reason := slot.why_cancelled():
                self._cuts.write(f"closed the connection of {peer or 'a tunnel'}: {reason}")

    async def _has_arrived(self, stream: trio.abc.Stream, slot: ConnectionSlot) -> bool:
        with trio.CancelScope() as scope:
            self._arriving.add(scope)
            try:
                await slot.wait_for_turn()
                return not isinstance(stream, TlsStream) or await _has_shaken_hands(stream, slot)
            finally:
                self._arriving.discard(scope)
        return False  # the server is shutting down

    async def shutdown(self, grace: float, *, streams: float = math.inf) -> None:
        """Reject new calls, cancel running ones after `grace` seconds, and return when all connections are closed.

        Connections that wait to be accepted, or are in a TLS handshake, are closed immediately.
        Streams get `streams` seconds if that is less: many never end, and their callers can reconnect elsewhere.
        """
        self._leaving = True
        self._accepting.cancel()
        for scope in self._arriving:
            scope.cancel()
        for connection in self._connections.copy():
            connection.say_goodbye()
        with trio.move_on_after(grace):
            with trio.move_on_after(streams):
                await self._until_idle()
            for connection in self._connections.copy():
                connection.end_streams()
            await self._until_idle()
        async with trio.open_nursery() as nursery:
            for connection in self._connections.copy():
                nursery.start_soon(connection.stop)

    async def _until_idle(self) -> None:
        for connection in self._connections.copy():
            await connection.idle.wait()
            await connection.mux.drain()


HANDSHAKE_SECONDS = 10.0


async def _has_shaken_hands(stream: TlsStream, slot: ConnectionSlot) -> bool:
    """Bounded, so that a silent peer holds nothing. Peers that only fetch our certificate leave right after."""
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            await stream.do_handshake()
    except trio.TooSlowError:
        slot.reason = f"no TLS handshake within {HANDSHAKE_SECONDS:g} s"
        return False
    except (trio.BrokenResourceError, OSError) as error:
        _log.debug("no TLS handshake: %s", error.__cause__ or error)
        return False
    return True
