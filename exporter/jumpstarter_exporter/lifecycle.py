"""A device's life as a state machine without I/O: five states, a table of the ways between them, a reason.

What users see is one of the five states. Inside, *condition* (is the hardware there and well?) and *holder*
(has somebody taken it for themselves?) are two facts, because hardware that vanishes under its user is
missing at once, and is still held when it returns. `busy` is what a ready device with a holder is called.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.errors import DeviceBusy

__all__ = ["TRANSITIONS", "Lifecycle", "State"]


class State(enum.StrEnum):
    """What a device is; the values travel in reports."""

    MISSING = "missing"
    """The hardware is not there. The next use looks again, or the driver notices its return."""
    STARTING = "starting"
    """Its driver is acquiring the hardware."""
    READY = "ready"
    BUSY = "busy"
    """Ready, and somebody has it for themselves."""
    FAILED = "failed"
    """The hardware or its driver is broken. The next use tries from the beginning."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.READY: frozenset({State.STARTING, State.BUSY, State.MISSING, State.FAILED}),
    State.STARTING: frozenset({State.READY, State.BUSY, State.MISSING, State.FAILED}),
    State.BUSY: frozenset({State.READY, State.STARTING, State.MISSING, State.FAILED}),
    State.MISSING: frozenset({State.STARTING, State.READY, State.BUSY, State.FAILED}),
    State.FAILED: frozenset({State.STARTING, State.READY, State.BUSY, State.MISSING}),
}
"""The visible ways. A state may also follow itself, with another reason."""

MAX_REASON_LENGTH = 4096
"""Characters of a reason, which goes to the log and into every report."""

Watcher = Callable[[State, State, str], None]
"""Called with the state before, the state now and its reason, in whichever thread made the change."""


class Lifecycle:
    """One device's state. Safe to use from any thread.

    A new one is ready: whether its hardware is there is found out at its first use, not before.
    """

    UNOPENED: ClassVar[str] = "not in use yet"

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._condition = State.READY
        self._reason = self.UNOPENED
        self._holder: str | None = None
        self._stuck: dict[object, str] = {}
        self._watchers: list[Watcher] = []

    @property
    def condition(self) -> State:
        """The hardware's state, whether somebody holds the device or not; never BUSY."""
        return self._condition

    @property
    def state(self) -> State:
        """What users see."""
        with self._lock:
            if self._stuck:
                return State.FAILED
            held = self._condition is State.READY and self._holder is not None
            return State.BUSY if held else self._condition

    @property
    def reason(self) -> str:
        """Why it is in this state; empty for a ready device that is in use."""
        with self._lock:
            if self._stuck:
                return next(iter(self._stuck.values()))
            if self._condition is State.READY and self._holder is not None:
                return self._holder
            return self._reason

    def watch(self, watcher: Watcher) -> None:
        """Hear of every change of state or reason from now on."""
        self._watchers.append(watcher)

    def starting(self) -> None:
        """Its driver begins to acquire the hardware."""
        self._become(State.STARTING, "")

    def ready(self) -> None:
        """The hardware is there and works."""
        self._become(State.READY, "")

    def closed(self) -> None:
        """The hardware was released in good order; as before the first use."""
        if self._condition in (State.STARTING, State.READY):
            self._become(State.READY, self.UNOPENED)

    def missing(self, reason: str) -> None:
        """The hardware is not there."""
        self._become(State.MISSING, reason)

    def failed(self, reason: str) -> None:
        """The hardware or its driver is broken."""
        self._become(State.FAILED, reason)

    @contextmanager
    def exclusive(self, what: str) -> Iterator[None]:
        """Hold the device for the block; `what` says why, such as "being flashed".

        Raises:
            DeviceBusy: it is held already; the message says for what.
        """
        with self._lock:
            if self._holder is not None:
                raise DeviceBusy(f"the device is {self._holder}; wait until that is done, or end it")
            self._change(self._condition, self._reason, what)
        try:
            yield
        finally:
            with self._lock:
                self._change(self._condition, self._reason, None)

    @property
    def is_stuck(self) -> bool:
        """Whether some of its driver's code does not come back."""
        return bool(self._stuck)

    def stuck(self, reason: str) -> Callable[[], None]:
        """Some of its driver's code does not come back, and nobody waits for it.

        It is failed, whatever its driver says, until the function that this returns is called.
        """
        token = object()
        with self._lock, self._changing():
            self._stuck[token] = reason

        def returned() -> None:
            with self._lock, self._changing():
                del self._stuck[token]

        return returned

    def _become(self, condition: State, reason: str) -> None:
        with self._lock:
            before = self._condition
            if condition is not before and condition not in TRANSITIONS[before]:
                raise JumpstarterUsageError(f"a device that is {before} cannot become {condition}")
            self._change(condition, reason, self._holder)

    def _change(self, condition: State, reason: str, holder: str | None) -> None:
        with self._changing():
            self._condition, self._reason, self._holder = condition, _short(reason), holder and _short(holder)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        before, why = self.state, self.reason
        yield
        if (self.state, self.reason) != (before, why):
            for watcher in self._watchers:
                watcher(before, self.state, self.reason)


def _short(reason: object) -> str:
    text = reason if type(reason) is str else str(reason)
    return text if len(text) <= MAX_REASON_LENGTH else text[:MAX_REASON_LENGTH] + "..."
