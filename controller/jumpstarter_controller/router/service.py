"""RouterService: joins two calls, frame by frame, without looking into a frame.

Nothing is read from a call before it has its other side, nor from one side faster than the other takes it: what
a router holds of a stream is bounded by HTTP/2's window, whatever the peers do.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import trio
from jumpstarter_proto.rpc import Method, Options, RpcError, ServerCall, Servicer, StatusCode
from jumpstarter_proto.v1.router_grpc import ROUTER_SERVICE_STREAM

from jumpstarter_controller.identity.authenticate import bearer
from jumpstarter_controller.router.pairing import Pairing, TooManyWaitError
from jumpstarter_controller.router.tokens import RouterTokens

__all__ = ["ROUTER_OPTIONS", "RouterService"]

MOST_WAITING = 4096
WAIT_SECONDS = 24 * 3600.0
"""For the other side. Its lease ends it sooner, by closing the connection that it came on."""
ROUTER_OPTIONS = Options(keepalive_interval=20.0, connection_window=4 * 1024 * 1024)

_log = logging.getLogger(__name__)


class _Frame:
    """A frame as it came. `StreamRequest` and `StreamResponse` have the same fields, so it can go on as it is."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """What came."""
        return self.data

    @classmethod
    def FromString(cls, data: bytes) -> _Frame:  # noqa: N802 - protobuf's name
        """What came, kept."""
        return cls(data)


_Call = ServerCall[Any, Any]


class _Side:
    """A call that waits for its other side."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        self.joined = trio.Event()
        self.over = trio.Event()
        """The pair has ended."""
        self.failure: RpcError | None = None


class RouterService(Servicer):
    """jumpstarter.v1.RouterService."""

    METHODS: ClassVar[tuple[Method[Any, Any], ...]] = (
        Method(ROUTER_SERVICE_STREAM.path, ROUTER_SERVICE_STREAM.cardinality, _Frame, _Frame),
    )

    def __init__(self, tokens: RouterTokens) -> None:
        self._tokens = tokens
        self._pairing: Pairing[_Side] = Pairing(MOST_WAITING)
        self.pairs = 0
        """How many are joined now."""

    @property
    def waiting(self) -> int:
        """How many wait for their other side."""
        return len(self._pairing)

    async def Stream(self, call: _Call) -> None:  # noqa: N802 - the procedure's name
        """One side of a connection."""
        try:
            token = bearer(call.metadata)
        except RpcError as error:
            raise RpcError(
                StatusCode.UNAUTHENTICATED, f"missing or invalid authorization: {error.details}"
            ) from None
        name = self._tokens.stream_of(token)
        # A peer may wait for our headers before it sends anything.
        await call.send_initial_metadata()
        side = _Side(call)
        try:
            other = self._pairing.arrive(name, side)
        except TooManyWaitError:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED, "too many streams wait for their other side; dial again later"
            ) from None
        if other is None:
            await self._wait(name, side)
        else:
            await self._join(side, other)

    async def _wait(self, name: str, side: _Side) -> None:
        try:
            try:
                with trio.move_on_after(WAIT_SECONDS):
                    await side.joined.wait()
            finally:
                self._pairing.leave(name, side)
            if not side.joined.is_set():
                raise RpcError(StatusCode.DEADLINE_EXCEEDED, "the other side never came; dial again")
            await side.over.wait()
        except trio.Cancelled:
            # This side's call has ended: the other, which may just have come, must not wait for it.
            side.failure = _gone()
            side.over.set()
            raise
        if side.failure is not None:
            raise side.failure

    async def _join(self, side: _Side, other: _Side) -> None:
        """Copy both ways until both have ended, or either has died."""
        other.joined.set()
        self.pairs += 1
        failure: RpcError | None = _gone()
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await other.over.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                async with trio.open_nursery() as copying:
                    copying.start_soon(_copy, side.call, other.call)
                    copying.start_soon(_copy, other.call, side.call)
                if not other.over.is_set():
                    failure = None
                nursery.cancel_scope.cancel()
        except* RpcError as errors:
            _log.debug("a stream broke: %s", errors.exceptions[0])
        finally:
            self.pairs -= 1
            other.failure = other.failure or failure
            other.over.set()
        if failure is not None:
            raise failure


def _gone() -> RpcError:
    return RpcError(StatusCode.ABORTED, "the other side of this stream is gone; dial again")


async def _copy(source: _Call, target: _Call) -> None:
    """One direction. Its end is the GOAWAY frame that came with it; the other direction goes on."""
    async for frame in source:
        await target.send(frame)
