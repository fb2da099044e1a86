"""The life of a child process, without I/O: events in, the next step out.

    STARTING -> READY -> ENDING -> ENDED

Each state can be skipped but the last. A child ends when nobody uses it, when it does not become ready in time, and
when it sends what it must not. It has ended when its process has. What must be done is in the result of each event.
"""

from __future__ import annotations

import enum
import signal

from jumpstarter_exporter.hosting.child_messages import Ready

__all__ = ["ChildLifecycle", "ChildState", "ChildStep"]

MAX_FAULTY_LINES = 16
"""A child may send so many lines that cannot be read, such as text of C libraries, before it is ended."""


class ChildState(enum.Enum):
    """See above."""

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    ENDED = "ended"


class ChildStep(enum.Enum):
    """What is to be done next."""

    NONE = "none"
    SERVE = "serve"
    """Connect to it."""
    TERMINATE = "terminate"
    """Send SIGTERM, and SIGKILL if it does not end in time."""
    KILL = "kill"
    """Send SIGKILL to the child and all that it has started."""


class ChildLifecycle:
    """One child. `reason` says why it has ended or is to end; it is set once."""

    def __init__(self, name: str) -> None:
        """`name` is for messages."""
        self.state = ChildState.STARTING
        self.reason = ""
        self.report: Ready | None = None
        self._name = name
        self._faulty = 0

    @property
    def is_over(self) -> bool:
        """Whether it can no longer be used."""
        return self.state in (ChildState.ENDING, ChildState.ENDED)

    @property
    def was_expected(self) -> bool:
        """Whether it was to end because nobody used it any more."""
        return self.is_over and not self.reason

    def is_ready(self, report: Ready) -> ChildStep:
        """It says that it can be used. Only the first time counts."""
        if self.state is not ChildState.STARTING:
            return self.faulty_line() if self.state is ChildState.READY else ChildStep.NONE
        self.report = report
        self.state = ChildState.READY
        return ChildStep.SERVE

    def faulty_line(self) -> ChildStep:
        """It sent a line that is not a message, or not at this time."""
        self._faulty += 1
        if self.is_over or self._faulty <= MAX_FAULTY_LINES:
            return ChildStep.NONE
        return self.fail(f"{self._name} sends what cannot be read; see the exporter's log, and try again")

    def start_expired(self, seconds: float) -> ChildStep:
        """Record that the child was not ready in time."""
        if self.state is not ChildState.STARTING:
            return ChildStep.NONE
        return self.fail(
            f"{self._name} was not ready within {seconds:g} s; see the exporter's log for what its drivers wait for"
        )

    def fail(self, reason: str) -> ChildStep:
        """Record a fault, because of which the child must end."""
        if self.is_over:
            return ChildStep.NONE
        self.reason = reason
        self.state = ChildState.ENDING
        return ChildStep.TERMINATE

    def released(self) -> ChildStep:
        """Nobody uses it any more."""
        if self.is_over:
            return ChildStep.NONE
        self.state = ChildState.ENDING
        return ChildStep.TERMINATE

    def end_expired(self) -> ChildStep:
        """It has not ended in time after SIGTERM, which it also gets when its task is cancelled."""
        return ChildStep.NONE if self.state is ChildState.ENDED else ChildStep.KILL

    def exited(self, code: int, said: str = "") -> ChildStep:
        """Its process has ended, with this exit code, or minus the number of a signal. `said` is its last output.

        What it has started may still run.
        """
        if self.state is ChildState.ENDED:
            return ChildStep.NONE
        if not self.is_over:
            before = "" if self.state is ChildState.READY else " before it was ready"
            if before and self._faulty:
                before += ", and what it sent cannot be read"
            detail = f": {said}" if said else ""
            self.reason = f"{self._name} {_how(code)}{before}{detail}; it starts again at the next use"
        self.state = ChildState.ENDED
        return ChildStep.KILL


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with the exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by the signal {-code}"
