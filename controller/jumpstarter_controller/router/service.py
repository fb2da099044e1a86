"""RouterService: joins two calls, and copies frames between them without decoding.

Nothing is read from a call before it has its other side, nor from one side faster than the other takes it. What a
router holds is bounded three times: of one direction by HTTP/2's window, one frame on its way and what the socket has
not taken (2.5 MiB); in all by `MAX_BUFFERED_BYTES`, beyond which the streams that hold most are ended; and by the
number of streams.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import trio
from jumpstarter_proto.rpc import Method, Options, RpcError, ServerCall, Servicer, StatusCode
from jumpstarter_proto.v1.router_grpc import ROUTER_SERVICE_STREAM

from jumpstarter_controller.identity.authenticate import bearer
from jumpstarter_controller.process.server_log import RefusalLog
from jumpstarter_controller.router.stream_pairing import StreamPairing, TooManyStreamsError
from jumpstarter_controller.router.tokens import RouterClaims, RouterTokens

__all__ = ["LAST_SECONDS", "MAX_BUFFERED_BYTES", "MAX_STREAMS", "ROUTER_OPTIONS", "RouterService"]

MEBIBYTE = 1024 * 1024
MAX_STREAMS = 8192
"""The limit of calls, of both sides together."""
MAX_BUFFERED_BYTES = 128 * MEBIBYTE
"""Bytes; while there are more, new streams are refused, and those that hold most end. Python and TLS need some 450 KiB
more for each connection that has carried much."""
MAX_STREAMS_PER_TOKEN = 16
"""The limit of streams with the same token at a time. Two are the normal case."""
LAST_SECONDS = 3.0
"""The time for streams at shutdown: short commands complete, and consoles reconnect."""
GUARD_SECONDS = 0.25
"""Between two checks of the buffered bytes, while they are few."""
HURRY_SECONDS = 0.05
"""The same when it is a quarter of the bound; longer with very many streams, so that looking costs little."""
LOOK_SECONDS = 0.0001
"""For each of them, at least."""
ROUTER_OPTIONS = Options(
    keepalive_interval=20.0,
    max_receive=MEBIBYTE,
    max_send=MEBIBYTE,
    stream_window=MEBIBYTE,
    connection_window=4 * MEBIBYTE,
)
"""Frames have 64 KiB; one of more than a MiB is a mistake."""

_log = logging.getLogger(__name__)


class _Frame:
    """A received frame. `StreamRequest` and `StreamResponse` have the same fields, so it is sent unchanged."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the frame unchanged."""
        return self.data

    @classmethod
    def FromString(cls, data: bytes) -> _Frame:  # noqa: N802 - protobuf's name
        """What came, kept."""
        return cls(data)


_Call = ServerCall[Any, Any]


class _Side:
    """One call: it waits for its other side, then both are one stream."""

    def __init__(self, call: _Call, about: Mapping[str, str]) -> None:
        self.call = call
        self.about = about
        self.scope = trio.CancelScope()
        """Cancelled if the router runs out of room for streams."""
        self.joined = trio.Event()
        self.over = trio.Event()
        """The pair has ended."""
        self.failure: RpcError | None = None
        self.carried = 0
        """Bytes of the frame that is on its way to the other side."""
        self.sent = 0
        """Bytes that the other side has taken."""

    @property
    def held(self) -> int:
        """Bytes in memory because of it."""
        return self.call.held + self.carried


class RouterService(Servicer):
    """jumpstarter.v1.RouterService. `limit_memory` has to run as well."""

    METHODS: ClassVar[tuple[Method[Any, Any], ...]] = (
        Method(ROUTER_SERVICE_STREAM.path, ROUTER_SERVICE_STREAM.cardinality, _Frame, _Frame),
    )

    def __init__(
        self, tokens: RouterTokens, *, most_streams: int = MAX_STREAMS, most_held: int = MAX_BUFFERED_BYTES
    ) -> None:
        self._tokens = tokens
        self._most_streams = most_streams
        self._most_held = most_held
        self._pairing: StreamPairing[_Side] = StreamPairing(MAX_STREAMS_PER_TOKEN)
        self._sides: set[_Side] = set()
        self.pairs = 0
        """The number of joined pairs."""
        self.held = 0
        """Buffered bytes, as of the last check."""
        self.received = 0
        """Received bytes since the start."""
        self.sent = 0
        """Sent bytes since the start."""
        self.refused = 0
        """Streams that were rejected because of a limit."""
        self.refusals = RefusalLog(_log)
        """Streams that were rejected because of an invalid token."""

    @property
    def waiting(self) -> int:
        """The number of streams that wait for their peer."""
        return self._pairing.waiting

    @property
    def streams(self) -> int:
        """The number of calls, of both sides together."""
        return len(self._sides)

    async def limit_memory(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End the streams that buffer most while the limit is exceeded, until cancelled."""
        task_status.started()
        while True:
            sides = [(side.held, side) for side in self._sides]
            self.held = total = sum(held for held, _ in sides)
            if total > self._most_held:
                self._end_greediest(sides, total)
            hurry = max(HURRY_SECONDS, LOOK_SECONDS * len(sides))
            await trio.sleep(hurry if self.held * 4 >= self._most_held else max(GUARD_SECONDS, hurry))

    def _end_greediest(self, sides: list[tuple[int, _Side]], total: int) -> None:
        for held, side in sorted(sides, key=lambda one: one[0], reverse=True):
            if total <= self._most_held:
                return
            _log.warning(
                "a stream is ended: it holds %d bytes, and all together %d", held, total, extra=side.about
            )
            total -= held
            self.refused += 1
            side.scope.cancel()

    async def Stream(self, call: _Call) -> None:  # noqa: N802 - the procedure's name
        """One side of a connection."""
        try:
            admission = self._admit(call)
        except RpcError as error:
            self.refusals.note(error, peer=call.peer)
            raise
        about = admission.about
        call.set_authenticated(
            f"lease {about.get('namespace', '')}/{about['lease']}" if "lease" in about else ""
        )
        if len(self._sides) >= self._most_streams or self.held > self._most_held:
            raise self._no_room("the router has no room for another stream; dial again later")
        # A peer may wait for our headers before it sends anything.
        await call.send_initial_metadata()
        side = _Side(call, about)
        name = admission.stream
        try:
            other = self._pairing.arrive(name, side)
        except TooManyStreamsError:
            raise self._no_room("too many streams have this token; dial again for another") from None
        self._sides.add(side)
        try:
            with side.scope:
                if other is None:
                    await self._wait(side, admission.seconds)
                else:
                    await self._join(side, other)
                return
        finally:
            self._sides.discard(side)
            self._pairing.leave(name, side)
        raise RpcError(
            StatusCode.RESOURCE_EXHAUSTED, "the router holds too much that this stream's reader does not take"
        )

    def _admit(self, call: _Call) -> RouterClaims:
        try:
            token = bearer(call.metadata)
        except RpcError as error:
            raise RpcError(
                StatusCode.UNAUTHENTICATED, f"missing or invalid authorization: {error.details}"
            ) from None
        return self._tokens.admit(token)

    def _no_room(self, sentence: str) -> RpcError:
        self.refused += 1
        return RpcError(StatusCode.RESOURCE_EXHAUSTED, sentence)

    async def _wait(self, side: _Side, seconds: float) -> None:
        """Wait for the peer stream and the end of the pair; the peer cannot come after the expiry of the token."""
        try:
            with trio.move_on_after(seconds):
                await side.joined.wait()
            if not side.joined.is_set():
                raise RpcError(StatusCode.DEADLINE_EXCEEDED, "the other side never came; dial again")
            await side.over.wait()
        except trio.Cancelled:
            # This side's call has ended: the other, which may just have come, must not wait for it.
            side.over.set()
            raise
        if side.failure is not None:
            raise side.failure

    async def _join(self, side: _Side, other: _Side) -> None:
        """Copy both ways until both have ended, or either has died.

        Not by `byte_streams.join`: frames go on undecoded, within the bounds above, and what confirms that bytes
        were taken goes through them, between the two ends. A side that has died is an error for the other.
        """
        other.joined.set()
        self.pairs += 1
        began = trio.current_time()
        _log.debug("stream joined", extra=side.about)
        failure: RpcError | None = _gone()
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await other.over.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                async with trio.open_nursery() as copying:
                    copying.start_soon(self._copy, side, other)
                    copying.start_soon(self._copy, other, side)
                failure = None
                nursery.cancel_scope.cancel()
        except* RpcError as errors:
            _log.debug("stream broke: %s", errors.exceptions[0], extra=side.about)
        finally:
            self.pairs -= 1
            carried, seconds = side.sent + other.sent, trio.current_time() - began
            _log.info("stream ended: %d bytes in %.1f s", carried, seconds, extra=side.about)
            other.failure = other.failure or failure
            other.over.set()
        if failure is not None:
            raise failure

    async def _copy(self, source: _Side, target: _Side) -> None:
        """Copy one direction until its GOAWAY frame; the other direction continues."""
        source.call.pass_on_to(target.call, partial(self._passed_on, source))
        send = target.call.send
        async for frame in source.call:
            source.carried = size = len(frame.data)
            self.received += size
            await send(frame)
            self.sent += size
            source.sent += size
            source.carried = 0

    def _passed_on(self, source: _Side, size: int) -> bool:
        """A frame that need not wait goes out in the moment when it comes; `_copy` has those that do."""
        if source.carried:
            return False
        self.received += size
        self.sent += size
        source.sent += size
        return True


def _gone() -> RpcError:
    return RpcError(StatusCode.ABORTED, "the other side of this stream is gone; dial again")
