"""Events that a connection reports, in the order in which the peer caused them."""

from __future__ import annotations

from dataclasses import dataclass

from jumpstarter_proto.rpc._types import Metadata, StatusCode

__all__ = [
    "CallEnded",
    "CallReset",
    "Event",
    "GoingAway",
    "HalfClosed",
    "MessageReceived",
    "PongReceived",
    "RequestReceived",
    "ResponseStarted",
    "WindowOpened",
]


@dataclass(slots=True)
class RequestReceived:
    """A peer opened a call. Fires once for each stream of a server, before its messages.

    Does not fire for a call that ended in the bytes that opened it.
    """

    stream_id: int
    path: str
    authority: str
    metadata: Metadata
    timeout: float | None


@dataclass(slots=True)
class ResponseStarted:
    """The peer's initial metadata. Does not fire for a call that ends without any (trailers-only)."""

    stream_id: int
    metadata: Metadata


@dataclass(slots=True)
class MessageReceived:
    """One whole message. Give `credit` back when it has been read, or the peer stops sending."""

    stream_id: int
    data: bytes
    credit: int


@dataclass(slots=True)
class HalfClosed:
    """The peer of a server will send no more messages on this call."""

    stream_id: int


@dataclass(slots=True)
class CallEnded:
    """A client's call has its status. The last event of its stream."""

    stream_id: int
    code: StatusCode
    details: str
    metadata: Metadata


@dataclass(slots=True)
class CallReset:
    """A server's call was cancelled by its peer, or broke the protocol. The last event of its stream.

    Fires in the place of its `RequestReceived` if that was not reported yet: what follows on the stream is of no call.
    """

    stream_id: int
    reason: str


@dataclass(slots=True)
class WindowOpened:
    """More may be sent: on one stream, or on all of them when `stream_id` is 0."""

    stream_id: int


@dataclass(slots=True)
class GoingAway:
    """The peer takes no new calls. Those above `last_stream_id` were never started."""

    last_stream_id: int
    reason: str


@dataclass(slots=True)
class PongReceived:
    """The acknowledgement of our PING."""


Event = (
    RequestReceived
    | ResponseStarted
    | MessageReceived
    | HalfClosed
    | CallEnded
    | CallReset
    | WindowOpened
    | GoingAway
    | PongReceived
)
