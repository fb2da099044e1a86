"""How long an exporter waits before it asks its controller again, and how loudly it says so. No I/O, no clock.

It never gives up while the process lives. A controller that is away comes back; one that does not know us any more
needs a human, who finds the sentence in the log, and is asked slowly.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Backoff, ReasonCode, means
from jumpstarter_proto.rpc import RpcError, StatusCode

__all__ = ["Pace", "Patience", "Pause", "Repetition", "is_gone", "is_refusal"]

SHORT = 0.5
LONGEST = 30.0
SLOW_FIRST = 5.0
SLOW = 60.0
REPEAT = 10
"""A reason that stays the same is said aloud again so many tries later."""

CURE = (
    "; for a new token, whoever runs the controller makes a code with `jumpstarter-controller admin pair "
    "exporter NAME --renew`, and `jumpstarter-exporter enrol` takes it"
)
_REFUSALS = frozenset((StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.ALREADY_EXISTS))


def is_refusal(error: JumpstarterError) -> bool:
    """Whether the controller has understood who we are, and does not want us."""
    if not isinstance(error, RpcError):
        return True  # the configuration makes no sense
    return error.code in _REFUSALS or means(
        error,
        ReasonCode.BAD_TOKEN,
        ReasonCode.TOKEN_EXPIRED,
        ReasonCode.CALLER_DENIED,
        ReasonCode.CALLER_GONE,
        ReasonCode.NOT_FOUND,
    )


def is_gone(error: JumpstarterError) -> bool:
    """Whether the controller knows no such exporter any more: its lease ended with it.

    With a host all of its boards have gone.
    """
    return isinstance(error, RpcError) and means(error, ReasonCode.CALLER_GONE)


@dataclass(frozen=True)
class Pause:
    """Seconds to wait, and how to say why."""

    seconds: float
    level: int
    sentence: str


class Pace:
    """How fast what a peer says is taken: so many things at once, and then so many a second."""

    def __init__(self, burst: int, per_second: float) -> None:
        self.per_second = per_second
        self._burst_seconds = burst / per_second
        self._next = 0.0
        """When the next one would be taken if they came evenly."""
        self._is_slowed = False

    def take(self, now: float) -> tuple[float, bool]:
        """Seconds to wait behind one thing, and whether that is new: none had to wait since it was quiet."""
        if self._next <= now:
            self._is_slowed = False
        self._next = max(self._next, now) + 1 / self.per_second
        wait = max(0.0, self._next - now - self._burst_seconds)
        is_new = wait > 0 and not self._is_slowed
        self._is_slowed |= is_new
        return wait, is_new


class Repetition:
    """A sentence that is said again and again: aloud the first time, and each `REPEAT`th."""

    def __init__(self) -> None:
        self._said = ""
        self._times = 0

    def is_aloud(self, sentence: str) -> bool:
        """Whether to say it aloud now; another one begins anew."""
        if sentence != self._said:
            self._said, self._times = sentence, 0
        self._times += 1
        return self._times % REPEAT == 1

    def forget(self) -> None:
        """The next one is the first."""
        self._said, self._times = "", 0


class Patience:
    """One conversation that is begun again and again."""

    def __init__(self, cure: str = CURE) -> None:
        """`cure` is what to do about a token that does not count."""
        self._cure = cure
        self._away = Backoff(SHORT, LONGEST)
        self._refused = Backoff(SLOW_FIRST, SLOW)
        self._repetition = Repetition()

    def worked(self) -> None:
        """It went on for a while: the next failure is the first again."""
        self._away.reset()
        self._refused.reset()
        self._repetition.forget()

    def ended(self) -> Pause:
        """The other side ended it in good order."""
        return Pause(self._away.next(), logging.INFO, "the controller ended the status stream")

    def failed(self, error: JumpstarterError) -> Pause:
        """It broke, or was refused."""
        if is_refusal(error):
            sentence = f"the controller does not take this exporter: {error}{self._cure if _is_denied(error) else ''}"
            return Pause(self._refused.next(), self._level(sentence, logging.ERROR), sentence)
        sentence = str(error)
        return Pause(self._away.next(), self._level(sentence, logging.WARNING), sentence)

    def _level(self, sentence: str, level: int) -> int:
        return level if self._repetition.is_aloud(sentence) else logging.INFO


def _is_denied(error: JumpstarterError) -> bool:
    return isinstance(error, RpcError) and error.code in (
        StatusCode.UNAUTHENTICATED,
        StatusCode.PERMISSION_DENIED,
    )
