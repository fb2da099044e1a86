"""0.9.0's router: the two streams with a token's `sub` are one pipe; frames are copied as they are."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import jwt
from jumpstarter_proto.v1 import router_pb2

KEY = b"the key of a router in the tests' own controller"
ISSUER = "https://jumpstarter.dev/stream"
AUDIENCE = "https://jumpstarter.dev/router"


class _Side:
    """One of the two streams."""

    def __init__(self, frames: Iterator[Any], context: Any) -> None:
        self.frames = frames
        self.context = context
        self.coming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        """What is to be sent to it; None at the end."""
        self.peer: _Side | None = None
        self.is_met = threading.Event()
        self.has_finished = threading.Event()
        """Nothing more comes from it."""

    def meet(self, peer: _Side) -> None:
        self.peer = peer
        self.is_met.set()

    def copy(self) -> None:
        """Its frames to the other side, until it has no more."""
        assert self.peer is not None
        try:
            for frame in self.frames:
                self.peer.coming.put(frame)
        except grpc.RpcError:
            self.peer.context.cancel()
        finally:
            self.has_finished.set()
            self.peer.coming.put(None)


class UpstreamRouter:
    """The streams that wait for their other side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, _Side] = {}

    def Stream(self, frames: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        """Both sides' call."""
        subject = _subject(context)
        side = _Side(frames, context)
        context.add_callback(side.is_met.set)
        context.add_callback(lambda: side.coming.put(None))
        with self._lock:
            other = self._waiting.pop(subject, None)
            if other is None:
                self._waiting[subject] = side
        if other is not None:
            side.meet(other)
            other.meet(side)
        side.is_met.wait()
        if side.peer is None:  # it has left
            with self._lock:
                if self._waiting.get(subject) is side:
                    del self._waiting[subject]
            return
        copier = threading.Thread(target=side.copy, name="router", daemon=True)
        copier.start()
        try:
            while (frame := side.coming.get()) is not None:
                yield router_pb2.StreamResponse(payload=frame.payload, frame_type=frame.frame_type)
            if context.is_active():
                side.has_finished.wait()
        finally:
            if not context.is_active():
                side.peer.context.cancel()
            copier.join()


def _subject(context: Any) -> str:
    words = dict(context.invocation_metadata())
    try:
        token = words["authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, KEY, ["HS256"], audience=AUDIENCE, issuer=ISSUER)
    except (KeyError, jwt.InvalidTokenError) as error:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"missing or invalid authorization: {error}")
    return str(claims["sub"])
