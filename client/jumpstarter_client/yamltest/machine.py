"""The order of steps, retries and clean-up in a test. No I/O, no clock; `run` executes it.

`next` returns what to do. Report the result with `succeeded` or `failed`, or with `stopped` if the whole test ends
early. Each step of `always` runs once, in order, unless `stopped` is called a second time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.yamltest.model import Group, Item, StepCall

__all__ = ["CleanUp", "Do", "EndTest", "RetryPause", "RunMachine", "RunOutcome", "RunPhase"]


class RunOutcome(enum.Enum):
    """The outcome of a test or a step."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """The hardware does not meet the requirements of the test."""
    ERROR = "error"
    """It could not run or finish, for example because the exporter or a device is gone."""
    INTERRUPTED = "interrupted"


class RunPhase(enum.Enum):
    """The phase of a test."""

    STEPS = "steps"
    ALWAYS = "always"
    OVER = "over"


@dataclass(frozen=True)
class Do:
    """Run this step."""

    call: StepCall
    attempt: int
    """The attempt of the step, from 1."""
    depth: int
    """The number of groups around it."""


@dataclass(frozen=True)
class RetryPause:
    """Wait before the next attempt."""

    seconds: float


@dataclass(frozen=True)
class CleanUp:
    """The steps of `always` follow; returned once."""


@dataclass(frozen=True)
class EndTest:
    """The test has ended."""

    outcome: RunOutcome
    reason: str


@dataclass
class _Frame:
    """A running list of steps, of a group or of the test."""

    items: tuple[Item, ...]
    group: Group | None = None
    index: int = 0
    attempt: int = 1
    """The attempt of the step at `index`."""


class RunMachine:
    """The state machine of one test."""

    def __init__(self, steps: tuple[Item, ...], always: tuple[Item, ...]) -> None:
        self.phase = RunPhase.STEPS
        self.outcome = RunOutcome.PASSED
        self.reason = ""
        self._always = always
        self._frames = [_Frame(steps)]
        self._pause: float | None = None
        self._is_running = False
        self._cleanup_is_new = False
        """The phase has changed to clean-up, and `next` has not returned that yet."""

    def next(self) -> Do | RetryPause | CleanUp | EndTest:
        """Return what to do now. JumpstarterUsageError if the result of the last step is missing."""
        if self._is_running:
            raise JumpstarterUsageError("the result of the previous step is missing")
        if self._pause is not None:
            seconds, self._pause = self._pause, None
            return RetryPause(seconds)
        while self.phase is not RunPhase.OVER:
            if self._cleanup_is_new:
                self._cleanup_is_new = False
                return CleanUp()
            frame = self._frames[-1]
            if frame.index == len(frame.items):
                self._leave()
                continue
            item = frame.items[frame.index]
            if isinstance(item, Group):
                self._frames.append(_Frame(item.steps, item))
            elif isinstance(item, StepCall):
                self._is_running = True
                return Do(item, frame.attempt, len(self._frames) - 1)
        return EndTest(self.outcome, self.reason)

    def succeeded(self) -> None:
        """Record that the step succeeded."""
        self._finish_step()
        self._advance()

    def failed(self, reason: str, outcome: RunOutcome = RunOutcome.FAILED) -> None:
        """Record that the attempt failed: the step or its group is retried, or the test has failed."""
        self._finish_step()
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
        if self.phase is RunPhase.STEPS:
            self._begin_always()
        else:
            self._advance()  # the rest of the clean-up still runs

    def stopped(self, outcome: RunOutcome, reason: str) -> None:
        """End the test: start the clean-up, or leave it."""
        self._is_running = False
        self._pause = None
        self._note(outcome, reason)
        if self.phase is RunPhase.STEPS:
            self._begin_always()
        else:
            self.phase = RunPhase.OVER

    def _finish_step(self) -> None:
        if not self._is_running:
            raise JumpstarterUsageError("no step is running")
        self._is_running = False

    def _advance(self) -> None:
        frame = self._frames[-1]
        frame.index += 1
        frame.attempt = 1

    def _leave(self) -> None:
        """Leave a finished list of steps."""
        if len(self._frames) > 1:
            self._frames.pop()
            self._advance()
        elif self.phase is RunPhase.STEPS:
            self._begin_always()
        else:
            self.phase = RunPhase.OVER

    def _begin_always(self) -> None:
        self.phase = RunPhase.ALWAYS
        self._cleanup_is_new = True
        self._frames = [_Frame(self._always)]

    def _note(self, outcome: RunOutcome, reason: str) -> None:
        """Record an outcome: the first failure decides, and an interruption overrides it."""
        if self.outcome is RunOutcome.PASSED or outcome is RunOutcome.INTERRUPTED:
            if self.reason and reason:
                reason = f"{reason}; before: {self.reason}"
            self.outcome, self.reason = outcome, reason
        elif reason:
            self.reason = f"{self.reason}; then: {reason}"
