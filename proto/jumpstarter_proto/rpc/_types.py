"""What callers and handlers share: methods, metadata, status codes, errors and limits."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = [
    "TOO_SLOW",
    "Cardinality",
    "Message",
    "Metadata",
    "Method",
    "NotGrpcError",
    "Options",
    "RpcError",
    "StatusCode",
    "TlsAdvice",
    "UntrustedError",
]

Metadata: TypeAlias = Sequence[tuple[str, "str | bytes"]]
"""Headers or trailers in order. Names are lower case; a value is bytes exactly when its name ends in `-bin`."""


class Message(Protocol):
    """The part of a protobuf message that gRPC needs."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class Cardinality(enum.Enum):
    """How many messages go each way."""

    UNARY_UNARY = enum.auto()
    UNARY_STREAM = enum.auto()
    STREAM_UNARY = enum.auto()
    STREAM_STREAM = enum.auto()

    @property
    def streams_requests(self) -> bool:
        """Whether the caller sends any number of messages."""
        return self in (Cardinality.STREAM_UNARY, Cardinality.STREAM_STREAM)

    @property
    def streams_responses(self) -> bool:
        """Whether the handler sends any number of messages."""
        return self in (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM)


@dataclass(frozen=True)
class Method(Generic[Req, Res]):
    """A remote procedure: its path (`/package.Service/Name`), kind and types."""

    path: str
    cardinality: Cardinality
    request_type: type[Req]
    response_type: type[Res]

    @property
    def name(self) -> str:
        """The part behind the last slash, which is the handler's name too."""
        return self.path.rpartition("/")[2]

    @property
    def service(self) -> str:
        """The full name of the service that has it."""
        return self.path.rpartition("/")[0].removeprefix("/")


TOO_SLOW = "the peer is slow or hangs: try again, or look at its log"
"""The cause of a DEADLINE_EXCEEDED, and what to do, as far as either side of a call knows them."""


class StatusCode(enum.IntEnum):
    """gRPC's status codes (grpc.io, "Status codes and their use in gRPC")."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_EXIT_CODES = {
    StatusCode.CANCELLED: ExitCode.INTERRUPTED,
    StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    StatusCode.DEADLINE_EXCEEDED: ExitCode.TIMEOUT,
    StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    StatusCode.PERMISSION_DENIED: ExitCode.DENIED,
    StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    StatusCode.UNAUTHENTICATED: ExitCode.DENIED,
}


class RpcError(JumpstarterError):
    """A call ended with a status other than OK; also how a handler chooses its own status.

    `str()` is the status's details alone. `trailing_metadata` came, or goes, with the status.
    """

    def __init__(self, code: StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing_metadata = trailing_metadata
        self.exit_code = _EXIT_CODES.get(code, ExitCode.FAILED)

    def __repr__(self) -> str:
        return f"RpcError({self.code.name}, {self.details!r})"


class UntrustedError(RpcError):
    """The connection failed because the certificate of the peer is not trusted."""

    def __init__(
        self, code: StatusCode, details: str = "", trailing_metadata: Metadata = (), *, reason: str = ""
    ) -> None:
        super().__init__(code, details, trailing_metadata)
        self.reason = reason
        """OpenSSL's words for what is wrong with the certificate."""


class NotGrpcError(RpcError):
    """The connection ended before the peer had sent what a gRPC server sends first, so it has executed no call."""


@dataclass(frozen=True)
class TlsAdvice:
    """The next step for a user whose TLS connection fails, which depends on what the peer is."""

    untrusted: str
    """The certificate is not trusted, and its names and its time are right."""
    plain: str
    """The peer does not speak TLS."""


@dataclass(frozen=True)
class Options:
    """Limits and timers of one connection. Sizes in bytes, times in seconds."""

    max_receive: int = 4 * 1024 * 1024
    """Largest message that we take; a larger one ends its call with RESOURCE_EXHAUSTED."""
    max_send: int = 4 * 1024 * 1024
    """Largest message that we send; what the peers of this protocol take."""
    max_header_list: int = 64 * 1024
    """Limit of a received header list, in bytes as defined by HTTP/2 (32 more than name and value for each)."""
    max_streams: int = 1024
    """Most calls that a peer may have open at a time."""
    stream_window: int = 1024 * 1024
    """What a peer may send on one call before we have read any of it."""
    connection_window: int = 64 * 1024 * 1024
    """The same for all calls of a connection together. With pieces of messages we hold at most three times that."""
    keepalive_interval: float | None = None
    """Send a PING after this time without received data; None sends none. 20 suits most networks."""
    keepalive_timeout: float = 20.0
    """The connection is lost after this time without an answer to a PING."""
    unary_seconds: float = math.inf
    """A server's patience with the one message of a call, and with a caller that does not take its one reply."""
    resets_per_second: float = 200.0
    """Calls that a peer may cancel per second, with a burst of five times as many plus `max_streams`."""

    @property
    def resets_at_once(self) -> float:
        """How many of its calls a peer may cancel at once."""
        return 5 * self.resets_per_second + self.max_streams
