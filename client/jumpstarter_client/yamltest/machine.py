"""What comes next in a test: steps, tries, clean-up. No I/O, no clock; `run` carries it out.

`next` says what to do; the answer is `succeeded` or `failed`, or `stopped` when the whole test is over early.
Whatever happens, each step of `always` is done once, in order, unless a second `stopped` comes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.yamltest.model import Call, Group, Item

__all__ = ["CleanUp", "Do", "End", "Machine", "Outcome", "Pause", "Phase"]


class Outcome(enum.Enum):
    """How a test, or one of its steps, ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The hardware lacks what the test requires."""
    ERROR = "error"
    """It could not be run, or not to its end: the exporter or a device is gone, say."""
    INTERRUPTED = "interrupted"


class Phase(enum.Enum):
    """Where a test is."""

    STEPS = "steps"
    ALWAYS = "always"
    OVER = "over"


@dataclass(frozen=True)
class Do:
    """Run this step."""

    call: Call
    attempt: int
    """From 1, of the step itself."""
    depth: int
    """How many groups it is in."""


@dataclass(frozen=True)
class Pause:
    """Wait before the next try."""

    seconds: float


@dataclass(frozen=True)
class CleanUp:
    """From here on, `always`; said once."""


@dataclass(frozen=True)
class End:
    """The test is over."""

    outcome: Outcome
    reason: str


@dataclass
class _Frame:
    """A list of steps that is being done; of a group, or of the test itself."""

    items: tuple[Item, ...]
    group: Group | None = None
    index: int = 0
    attempt: int = 1
    """Of the step at `index`."""


class Machine:
    """One test."""

    def __init__(self, steps: tuple[Item, ...], always: tuple[Item, ...]) -> None:
        self.phase = Phase.STEPS
        self.outcome = Outcome.PASSED
        self.reason = ""
        self._always = always
        self._frames = [_Frame(steps)]
        self._pause: float | None = None
        self._is_doing = False
        self._is_news = False
        """The phase has changed, and nobody was told."""

    def next(self) -> Do | Pause | CleanUp | End:
        """What to do now. JumpstarterUsageError while the last step has not been answered."""
        if self._is_doing:
            raise JumpstarterUsageError("the step before was neither succeeded nor failed")
        if self._pause is not None:
            seconds, self._pause = self._pause, None
            return Pause(seconds)
        while self.phase is not Phase.OVER:
            if self._is_news:
                self._is_news = False
                return CleanUp()
            frame = self._frames[-1]
            if frame.index == len(frame.items):
                self._leave()
                continue
            item = frame.items[frame.index]
            if isinstance(item, Group):
                self._frames.append(_Frame(item.steps, item))
            elif isinstance(item, Call):
                self._is_doing = True
                return Do(item, frame.attempt, len(self._frames) - 1)
        return End(self.outcome, self.reason)

    def succeeded(self) -> None:
        """The step is done."""
        self._answered()
        self._go_on()

    def failed(self, reason: str, outcome: Outcome = Outcome.FAILED) -> None:
        """The step's try has failed: it is tried again, or its group is, or the test has failed."""
        self._answered()
        while True:
            frame = self._frames[-1]
            item = frame.items[frame.index]
            if frame.attempt <= item.retries:
                frame.attempt += 1
                self._pause = item.delay or None
                return
            if frame.group is None:
                break
            self._frames.pop()
        self._note(outcome, reason)
        if self.phase is Phase.STEPS:
            self._begin_always()
        else:
            self._go_on()  # the rest of the clean-up still matters

    def stopped(self, outcome: Outcome, reason: str) -> None:
        """The test ends here: on to the clean-up, or out of it."""
        self._is_doing = False
        self._pause = None
        self._note(outcome, reason)
        if self.phase is Phase.STEPS:
            self._begin_always()
        else:
            self.phase = Phase.OVER

    def _answered(self) -> None:
        if not self._is_doing:
            raise JumpstarterUsageError("there is no step to answer for")
        self._is_doing = False

    def _go_on(self) -> None:
        frame = self._frames[-1]
        frame.index += 1
        frame.attempt = 1

    def _leave(self) -> None:
        """A list of steps is done."""
        if len(self._frames) > 1:
            self._frames.pop()
            self._go_on()
        elif self.phase is Phase.STEPS:
            self._begin_always()
        else:
            self.phase = Phase.OVER

    def _begin_always(self) -> None:
        self.phase = Phase.ALWAYS
        self._is_news = True
        self._frames = [_Frame(self._always)]

    def _note(self, outcome: Outcome, reason: str) -> None:
        """The first thing that went wrong is what the test ends with; an interruption is said in any case."""
        if self.outcome is Outcome.PASSED or outcome is Outcome.INTERRUPTED:
            if self.reason and reason:
                reason = f"{reason}; before: {self.reason}"
            self.outcome, self.reason = outcome, reason
        elif reason:
            self.reason = f"{self.reason}; then: {reason}"
