"""What a device is, as a state machine without I/O: five states that users see, and the ways between them.

Two layers make the state: the *core*, what of the device lives as long as its hardware, and the *driver*, the object
that a session has. Each goes through the same conditions by the same table (`WAYS`); a device without a core has only
the second. Beside them *holder* (has somebody taken the device for themselves?), *stuck* (does some of its code not
come back?) and *unplugged* (does the host say that it is not there?) are facts of their own, because hardware that
vanishes under its user is missing at once, and is still held when it returns. What is said against the table is a fault
in a driver: it is logged and does not happen.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.errors import DeviceBusy

__all__ = ["MAX_REASON_LENGTH", "WAYS", "Condition", "Layer", "Lifecycle", "State"]

_log = logging.getLogger(__name__)


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


class Condition(enum.Enum):
    """What one layer of a device is. Its value is the state that users see of it."""

    CLOSED = (State.READY, "closed")
    """Nobody uses it, and nothing speaks against using it."""
    STARTING = (State.STARTING, "starting")
    READY = (State.READY, "ready")
    """Open, and the hardware is there."""
    GONE = (State.MISSING, "gone")
    """Open, and the hardware is not there: it can come back without being opened again."""
    MISSING = (State.MISSING, "missing")
    """Closed, and the hardware was not there when it was looked for."""
    FAILED = (State.FAILED, "failed")
    """Closed, or about to be, because of a fault."""

    @property
    def state(self) -> State:
        """As users see it."""
        return self.value[0]

    @property
    def is_open(self) -> bool:
        """Whether the hardware was acquired, and can be used without being acquired again."""
        return self in (Condition.READY, Condition.GONE)


WAYS: dict[Condition, frozenset[Condition]] = {
    # Somebody who looked without opening it may have found no hardware, or a fault.
    Condition.CLOSED: frozenset({Condition.STARTING, Condition.MISSING, Condition.FAILED}),
    Condition.STARTING: frozenset(
        {Condition.READY, Condition.GONE, Condition.MISSING, Condition.FAILED, Condition.CLOSED}
    ),
    # Not to STARTING: what is open is closed before it is opened again, or two would have the hardware.
    Condition.READY: frozenset({Condition.GONE, Condition.MISSING, Condition.FAILED, Condition.CLOSED}),
    # Only what stayed open through the gap knows that its hardware is the one that it was.
    Condition.GONE: frozenset({Condition.READY, Condition.MISSING, Condition.FAILED, Condition.CLOSED}),
    # Never READY: nobody has acquired the hardware. CLOSED is hardware that was seen to come back.
    Condition.MISSING: frozenset({Condition.STARTING, Condition.FAILED, Condition.CLOSED}),
    # Never READY, nor GONE: a fault ends when a start has shown that it is gone.
    Condition.FAILED: frozenset({Condition.STARTING, Condition.MISSING}),
}
"""What may follow what. A condition may also follow itself, with another reason."""

MAX_REASON_LENGTH = 4096
"""Characters of a reason, which goes to the log and into every report."""

Watcher = Callable[[State, State, str], None]
"""Called with the state before, the state now and its reason, in whichever thread made the change."""


class Layer:
    """One layer of a device. Safe to use from any thread."""

    def __init__(self, life: Lifecycle) -> None:
        self._life = life
        self.condition = Condition.CLOSED
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened."""
        return self.condition.is_open

    def starting(self) -> None:
        """The hardware begins to be acquired."""
        with self._life.changing():
            if self.condition.is_open:
                self._life.misused(self, Condition.STARTING)
                self.closed()
            self._enter(Condition.STARTING, "")

    def ready(self) -> None:
        """The hardware is there and works; only what was opened can say so."""
        self._enter(Condition.READY, "")

    def started(self) -> None:
        """It has been opened; it may have said meanwhile that its hardware is still missing."""
        with self._life.changing():
            if self.condition is Condition.STARTING:
                self._enter(Condition.READY, "")

    def missing(self, reason: str) -> None:
        """The hardware is not there. What is open stays open."""
        with self._life.changing():
            is_closed = self.condition in (Condition.CLOSED, Condition.MISSING)
            self._enter(Condition.MISSING if is_closed else Condition.GONE, reason)

    def found(self) -> None:
        """Hardware that was missing was seen, by somebody who did not open it."""
        with self._life.changing():
            if self.condition is Condition.MISSING:
                self._enter(Condition.CLOSED, "")

    def failed(self, reason: str) -> None:
        """The hardware or its driver is broken."""
        self._enter(Condition.FAILED, reason)

    def closed(self, missing: str | None = None) -> None:
        """It was closed; `missing` says that hardware was not there, and why. A fault stays one."""
        with self._life.changing():
            if missing is not None:
                self._enter(Condition.MISSING, missing)
            elif self.condition is Condition.GONE:
                self._enter(Condition.MISSING, self.reason)
            elif self.condition in (Condition.STARTING, Condition.READY):
                self._enter(Condition.CLOSED, "")

    def _enter(self, condition: Condition, reason: str) -> None:
        with self._life.changing():
            if condition is not self.condition and condition not in WAYS[self.condition]:
                self._life.misused(self, condition)
                return
            self.condition, self.reason = condition, _short(reason)
            if self is self._life.core and condition.state is State.READY:
                # Hardware that a driver did not find when it was opened is there.
                self._life.driver.found()


class Lifecycle:
    """One device's state. Safe to use from any thread.

    A new one is ready: whether its hardware is there is found out at its first use, not before.
    """

    UNOPENED: ClassVar[str] = "not in use yet"
    strict: ClassVar[bool] = False
    """Whether what the table forbids is an exception; in tests."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.driver = Layer(self)
        self.core = Layer(self)
        self._holder: str | None = None
        self._stuck: dict[object, str] = {}
        self._unplugged = ""
        self._watchers: list[Watcher] = []
        self._depth = 0

    @property
    def condition(self) -> State:
        """The hardware's state, whether somebody holds the device or not; never BUSY."""
        return State.MISSING if self._unplugged else self._deciding.condition.state

    @property
    def state(self) -> State:
        """What users see."""
        with self._lock:
            if self._stuck:
                return State.FAILED
            state = self.condition
            return State.BUSY if state is State.READY and self._holder is not None else state

    @property
    def reason(self) -> str:
        """Why it is in this state; empty for a ready device that is in use."""
        with self._lock:
            if self._stuck:
                return next(iter(self._stuck.values()))
            if self._unplugged:
                return self._unplugged
            if self.condition is not State.READY:
                return self._deciding.reason
            if self._holder is not None:
                return self._holder
            return "" if self.driver.is_open else self.UNOPENED

    @property
    def _deciding(self) -> Layer:
        """The layer that is worse off."""
        order = (State.FAILED, State.STARTING, State.MISSING, State.READY)
        return min((self.driver, self.core), key=lambda layer: order.index(layer.condition.state))

    def watch(self, watcher: Watcher) -> None:
        """Hear of every change of state or reason from now on."""
        self._watchers.append(watcher)

    def starting(self) -> None:
        """Its driver begins to acquire the hardware."""
        self.driver.starting()

    def ready(self) -> None:
        """The hardware is there and works."""
        self.driver.ready()

    def closed(self) -> None:
        """The hardware was released in good order."""
        self.driver.closed()

    def missing(self, reason: str) -> None:
        """The hardware is not there."""
        self.driver.missing(reason)

    def failed(self, reason: str) -> None:
        """The hardware or its driver is broken."""
        self.driver.failed(reason)

    @contextmanager
    def exclusive(self, what: str) -> Iterator[None]:
        """Hold the device for the block; `what` says why, such as "being flashed".

        Raises:
            DeviceBusy: it is held already; the message says for what.
        """
        with self.changing():
            if self._holder is not None:
                raise DeviceBusy(f"the device is {self._holder}; wait until that is done, or end it")
            self._holder = _short(what)
        try:
            yield
        finally:
            with self.changing():
                self._holder = None

    @property
    def why_unplugged(self) -> str:
        """Why the host knows that the hardware is not there; empty if it is, or nobody knows."""
        return self._unplugged

    def unplugged(self, reason: str, *, stays_open: bool = False) -> None:
        """The host knows that the hardware is not there: whatever the layers say, it is missing, for that reason.

        A fault that it had is over. What is open is of no use when it comes back, unless it `stays_open`.
        """
        with self.changing():
            self._unplugged = _short(reason)
            for layer in (self.core, self.driver):
                if layer.condition is Condition.FAILED or (layer.is_open and not stays_open):
                    layer.closed(missing=reason)

    def plugged(self) -> None:
        """It is there (again); what was missing can be opened, and is not before somebody does."""
        with self.changing():
            self._unplugged = ""
            for layer in (self.core, self.driver):
                layer.found()

    @property
    def is_stuck(self) -> bool:
        """Whether some of its driver's code does not come back."""
        return bool(self._stuck)

    def stuck(self, reason: str) -> Callable[[], None]:
        """Some of its driver's code does not come back, and nobody waits for it.

        It is failed, whatever its driver says, until the function that this returns is called.
        """
        token = object()
        with self.changing():
            self._stuck[token] = reason

        def returned() -> None:
            with self.changing():
                del self._stuck[token]

        return returned

    def misused(self, layer: Layer, wanted: Condition) -> None:
        """Somebody wants a change that the table does not have; for layers.

        Raises:
            JumpstarterUsageError: if `strict`.
        """
        what = f"a device that is {layer.condition.value[1]} cannot become {wanted.value[1]}"
        if self.strict:
            raise JumpstarterUsageError(what)
        _log.warning("%s; see its driver's code", what)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make changes in the block, which nobody else sees one by one; watchers hear of them behind it."""
        with self._lock:
            self._depth += 1
            before, why = self.state, self.reason
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth and (self.state, self.reason) != (before, why):
                    for watcher in self._watchers:
                        watcher(before, self.state, self.reason)


def _short(reason: object) -> str:
    text = reason if type(reason) is str else str(reason)
    return text if len(text) <= MAX_REASON_LENGTH else text[:MAX_REASON_LENGTH] + "..."
