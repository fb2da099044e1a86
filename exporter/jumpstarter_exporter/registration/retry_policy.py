"""When an exporter retries after a failure, and at which level the failure is logged. No I/O, no clock.

An exporter never gives up while its process lives. A controller that is away returns by itself; one that rejects the
exporter needs a person, who finds the message in the log, and is asked less often.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Backoff, ReasonCode, means
from jumpstarter_proto.rpc import RpcError, StatusCode

__all__ = ["RateLimit", "RepeatedMessage", "RetryDelay", "RetryPolicy", "is_gone", "is_rejection"]

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 30.0
FIRST_RETRY_AFTER_REJECTION_SECONDS = 5.0
MAX_RETRY_AFTER_REJECTION_SECONDS = 60.0
TRIES_BETWEEN_WARNINGS = 10
"""A repeated message is logged at its own level again after this number of tries."""

RENEWAL_HINT = (
    "; for a new token, the controller's administrator creates a code with `jumpstarter-controller admin pair "
    "exporter NAME --renew`, and `jumpstarter-exporter enrol` takes it"
)
_REJECTIONS = frozenset((StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.ALREADY_EXISTS))


def is_rejection(error: JumpstarterError) -> bool:
    """Whether the controller has identified this exporter and rejects it."""
    if not isinstance(error, RpcError):
        return True  # the configuration is invalid
    return error.code in _REJECTIONS or means(
        error,
        ReasonCode.BAD_TOKEN,
        ReasonCode.TOKEN_UNFIT,
        ReasonCode.TOKEN_EXPIRED,
        ReasonCode.CALLER_DENIED,
        ReasonCode.CALLER_GONE,
        ReasonCode.NOT_FOUND,
    )


def is_gone(error: JumpstarterError) -> bool:
    """Whether the controller no longer knows the exporter, so that its lease has ended, too.

    When a host is deleted, all of its boards are.
    """
    return isinstance(error, RpcError) and means(error, ReasonCode.CALLER_GONE)


@dataclass(frozen=True)
class RetryDelay:
    """Seconds to wait, and the message with its log level."""

    seconds: float
    level: int
    sentence: str


class RateLimit:
    """A token bucket: a burst of messages, then so many per second."""

    def __init__(self, burst: int, per_second: float) -> None:
        self.per_second = per_second
        self._burst_seconds = burst / per_second
        self._next = 0.0
        """When the next message would be due at an even rate."""
        self._is_slowed = False

    def take(self, now: float) -> tuple[float, bool]:
        """Seconds to wait after one message, and whether the limit was reached anew."""
        if self._next <= now:
            self._is_slowed = False
        self._next = max(self._next, now) + 1 / self.per_second
        wait = max(0.0, self._next - now - self._burst_seconds)
        is_new = wait > 0 and not self._is_slowed
        self._is_slowed |= is_new
        return wait, is_new


class RepeatedMessage:
    """A message that repeats: due the first time, and then every `TRIES_BETWEEN_WARNINGS`th time."""

    def __init__(self) -> None:
        self._said = ""
        self._times = 0

    def is_due(self, sentence: str) -> bool:
        """Whether to log it at its own level now; another message starts a new count."""
        if sentence != self._said:
            self._said, self._times = sentence, 0
        self._times += 1
        return self._times % TRIES_BETWEEN_WARNINGS == 1

    def forget(self) -> None:
        """Start a new count."""
        self._said, self._times = "", 0


class RetryPolicy:
    """Delays between attempts of one conversation."""

    def __init__(self, cure: str = RENEWAL_HINT) -> None:
        """`cure` tells what to do about a rejected token."""
        self._cure = cure
        self._away = Backoff(FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
        self._refused = Backoff(FIRST_RETRY_AFTER_REJECTION_SECONDS, MAX_RETRY_AFTER_REJECTION_SECONDS)
        self._repetition = RepeatedMessage()

    def succeeded(self) -> None:
        """The conversation lasted a while: the next failure counts as the first."""
        self._away.reset()
        self._refused.reset()
        self._repetition.forget()

    def ended(self) -> RetryDelay:
        """The controller ended the stream without an error."""
        return RetryDelay(self._away.next(), logging.INFO, "the controller ended the status stream")

    def failed(self, error: JumpstarterError) -> RetryDelay:
        """The conversation failed or was rejected."""
        if is_rejection(error):
            sentence = (
                f"the controller rejected this exporter: {error}{self._cure if _is_denied(error) else ''}"
            )
            return RetryDelay(self._refused.next(), self._level(sentence, logging.ERROR), sentence)
        sentence = str(error)
        return RetryDelay(self._away.next(), self._level(sentence, logging.WARNING), sentence)

    def _level(self, sentence: str, level: int) -> int:
        return level if self._repetition.is_due(sentence) else logging.INFO


def _is_denied(error: JumpstarterError) -> bool:
    return isinstance(error, RpcError) and error.code in (
        StatusCode.UNAUTHENTICATED,
        StatusCode.PERMISSION_DENIED,
    )
