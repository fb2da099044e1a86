"""The state of a device as a state machine without I/O: five states that users see, and the transitions between them.

Two layers make the state: the *core*, which lives as long as the hardware, and the *driver*, the object of a session.
Both have the same conditions and the same table (`CONDITION_TRANSITIONS`); a device without a core has only the
second. Three more facts are independent of them: *holder* (has somebody taken the device exclusively?), *stuck* (does
some of its code not return?) and *unplugged* (does the host say that the hardware is not there?). Hardware that is
unplugged while it is held is missing at once, and still held when it returns. A transition that the table does not
allow is a fault of a driver: it is logged and ignored.
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

__all__ = [
    "CONDITION_TRANSITIONS",
    "MAX_REASON_LENGTH",
    "DeviceLayer",
    "LayerCondition",
    "Lifecycle",
    "State",
]

_log = logging.getLogger(__name__)


class State(enum.StrEnum):
    """The state of a device; the values are sent in reports."""

    MISSING = "missing"
    """The hardware is not there. The next use tries again, or the driver notices its return."""
    STARTING = "starting"
    """Its driver is acquiring the hardware."""
    READY = "ready"
    BUSY = "busy"
    """Ready, and exclusively in use."""
    FAILED = "failed"
    """The hardware or its driver is broken. The next use starts again."""


class LayerCondition(enum.Enum):
    """The condition of one layer of a device. Its value has the state that users see."""

    CLOSED = (State.READY, "closed")
    """Not in use, and nothing prevents its use."""
    STARTING = (State.STARTING, "starting")
    READY = (State.READY, "ready")
    """Open, and the hardware is there."""
    GONE = (State.MISSING, "gone")
    """Open, but the hardware is not there: it can come back without being opened again."""
    MISSING = (State.MISSING, "missing")
    """Closed, and the hardware was not there at the last attempt."""
    FAILED = (State.FAILED, "failed")
    """Closed or closing because of a fault."""

    @property
    def state(self) -> State:
        """The state that users see."""
        return self.value[0]

    @property
    def is_open(self) -> bool:
        """Whether the hardware was acquired and can be used at once."""
        return self in (LayerCondition.READY, LayerCondition.GONE)


_C = LayerCondition

CONDITION_TRANSITIONS: dict[LayerCondition, frozenset[LayerCondition]] = {
    # A check without opening the device may have found no hardware, or a fault.
    _C.CLOSED: frozenset({_C.STARTING, _C.MISSING, _C.FAILED}),
    _C.STARTING: frozenset({_C.READY, _C.GONE, _C.MISSING, _C.FAILED, _C.CLOSED}),
    # Not STARTING: an open layer is closed before it is opened again, or two objects would have the hardware.
    _C.READY: frozenset({_C.GONE, _C.MISSING, _C.FAILED, _C.CLOSED}),
    # READY is allowed here only: a layer that stayed open knows that its hardware is the same as before.
    _C.GONE: frozenset({_C.READY, _C.MISSING, _C.FAILED, _C.CLOSED}),
    # Never READY: the hardware was not acquired. CLOSED means that the hardware was seen to return.
    _C.MISSING: frozenset({_C.STARTING, _C.FAILED, _C.CLOSED}),
    # Never READY or GONE: a fault ends only when a new start succeeds.
    _C.FAILED: frozenset({_C.STARTING, _C.MISSING}),
}
"""The conditions that may follow each condition. Each may also follow itself, with another reason."""

MAX_REASON_LENGTH = 4096
"""Characters of a reason, which is logged and part of every report."""

Watcher = Callable[[State, State, str], None]
"""Called with the old state, the new state and its reason, in the thread that made the change."""


class DeviceLayer:
    """One layer of a device. Safe to use from any thread."""

    def __init__(self, life: Lifecycle) -> None:
        self._lifecycle = life
        self.condition = LayerCondition.CLOSED
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether it can be used without being opened."""
        return self.condition.is_open

    def starting(self) -> None:
        """The driver starts to acquire the hardware."""
        with self._lifecycle.changing():
            if self.condition.is_open:
                self._lifecycle.misused(self, LayerCondition.STARTING)
                self.closed()
            self._enter(LayerCondition.STARTING, "")

    def ready(self) -> None:
        """The hardware is there and works; only an open layer can report that."""
        self._enter(LayerCondition.READY, "")

    def started(self) -> None:
        """The driver has opened it; it may have reported meanwhile that its hardware is still missing."""
        with self._lifecycle.changing():
            if self.condition is LayerCondition.STARTING:
                self._enter(LayerCondition.READY, "")

    def missing(self, reason: str) -> None:
        """The hardware is not there. An open layer stays open."""
        with self._lifecycle.changing():
            is_closed = self.condition in (LayerCondition.CLOSED, LayerCondition.MISSING)
            self._enter(LayerCondition.MISSING if is_closed else LayerCondition.GONE, reason)

    def found(self) -> None:
        """Missing hardware was seen again without opening it."""
        with self._lifecycle.changing():
            if self.condition is LayerCondition.MISSING:
                self._enter(LayerCondition.CLOSED, "")

    def failed(self, reason: str) -> None:
        """The hardware or its driver is broken."""
        self._enter(LayerCondition.FAILED, reason)

    def closed(self, missing: str | None = None) -> None:
        """The layer was closed; `missing` is set if hardware was not there, and says why. A fault remains."""
        with self._lifecycle.changing():
            if missing is not None:
                self._enter(LayerCondition.MISSING, missing)
            elif self.condition is LayerCondition.GONE:
                self._enter(LayerCondition.MISSING, self.reason)
            elif self.condition in (LayerCondition.STARTING, LayerCondition.READY):
                self._enter(LayerCondition.CLOSED, "")

    def _enter(self, condition: LayerCondition, reason: str) -> None:
        with self._lifecycle.changing():
            if condition is not self.condition and condition not in CONDITION_TRANSITIONS[self.condition]:
                self._lifecycle.misused(self, condition)
                return
            self.condition, self.reason = condition, _short(reason)
            if condition is LayerCondition.READY:
                self._lifecycle.was_ready = True
            elif condition.state in (State.MISSING, State.FAILED):
                self._lifecycle.was_ready = False
            if self is self._lifecycle.core and condition.state is State.READY:
                # The hardware that a driver did not find when it was opened is there.
                self._lifecycle.driver.found()


class Lifecycle:
    """One device's state. Safe to use from any thread.

    A new device is ready: whether its hardware is there is checked at its first use.
    """

    UNTRIED: ClassVar[str] = "not tried yet"
    """Nothing has shown yet that the hardware is there."""
    UNUSED: ClassVar[str] = "not in use"
    strict: ClassVar[bool] = False
    """Whether a forbidden transition raises an exception; for tests."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.driver = DeviceLayer(self)
        self.core = DeviceLayer(self)
        self._holder: str | None = None
        self._stuck: dict[object, str] = {}
        self._unplugged = ""
        self.was_ready = False
        """Whether the hardware was there when it was last tried."""
        self._watchers: list[Watcher] = []
        self._depth = 0

    @property
    def condition(self) -> State:
        """The hardware's state, whether the device is held or not; never BUSY."""
        return State.MISSING if self._unplugged else self._deciding.condition.state

    @property
    def state(self) -> State:
        """The state that users see."""
        with self._lock:
            if self._stuck:
                return State.FAILED
            state = self.condition
            return State.BUSY if state is State.READY and self._holder is not None else state

    @property
    def reason(self) -> str:
        """The reason for this state; empty for a ready device in use."""
        with self._lock:
            if self._stuck:
                return next(iter(self._stuck.values()))
            if self._unplugged:
                return self._unplugged
            if self.condition is not State.READY:
                return self._deciding.reason
            if self._holder is not None:
                return self._holder
            if self.driver.is_open:
                return ""
            return self.UNUSED if self.was_ready else self.UNTRIED

    @property
    def is_untried(self) -> bool:
        """Whether it is ready as far as anybody knows: nobody has used it yet."""
        with self._lock:
            return self.state is State.READY and self.reason == self.UNTRIED

    @property
    def _deciding(self) -> DeviceLayer:
        """The layer in the worse state."""
        order = (State.FAILED, State.STARTING, State.MISSING, State.READY)
        return min((self.driver, self.core), key=lambda layer: order.index(layer.condition.state))

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher` with every change of state or reason from now on."""
        self._watchers.append(watcher)

    def starting(self) -> None:
        """The driver starts to acquire the hardware."""
        self.driver.starting()

    def ready(self) -> None:
        """The hardware is there and works."""
        self.driver.ready()

    def closed(self) -> None:
        """The hardware was released without an error."""
        self.driver.closed()

    def missing(self, reason: str) -> None:
        """The hardware is not there."""
        self.driver.missing(reason)

    def failed(self, reason: str) -> None:
        """The hardware or its driver is broken."""
        self.driver.failed(reason)

    @contextmanager
    def exclusive(self, what: str) -> Iterator[None]:
        """Hold the device exclusively for the block; `what` says why, such as "being flashed".

        Raises:
            DeviceBusy: it is already held; the message says for what.
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
        """Why the host knows that the hardware is not there; empty if it is there, or if that is unknown."""
        return self._unplugged

    def unplugged(self, reason: str, *, stays_open: bool = False) -> None:
        """The host knows that the hardware is not there: the device is missing for that reason.

        This has precedence over what the layers report. A previous fault is cleared. An open layer cannot be used
        after the hardware returns, unless it `stays_open`.
        """
        with self.changing():
            self._unplugged = _short(reason)
            for layer in (self.core, self.driver):
                if layer.condition is LayerCondition.FAILED or (layer.is_open and not stays_open):
                    layer.closed(missing=reason)

    def plugged(self) -> None:
        """The hardware is there (again); a missing device can be opened by its next use."""
        with self.changing():
            self._unplugged = ""
            for layer in (self.core, self.driver):
                layer.found()

    @property
    def is_stuck(self) -> bool:
        """Whether some of its driver's code does not return."""
        return bool(self._stuck)

    def stuck(self, reason: str) -> Callable[[], None]:
        """Some of its driver's code does not return, and nobody waits for it.

        The device is failed, whatever its driver reports, until the returned function is called.
        """
        token = object()
        with self.changing():
            self._stuck[token] = reason

        def returned() -> None:
            with self.changing():
                del self._stuck[token]

        return returned

    def misused(self, layer: DeviceLayer, wanted: LayerCondition) -> None:
        """A layer was asked for a transition that the table forbids.

        Raises:
            JumpstarterUsageError: if `strict`.
        """
        what = f"a device that is {layer.condition.value[1]} cannot become {wanted.value[1]}"
        if self.strict:
            raise JumpstarterUsageError(what)
        _log.warning("%s; see its driver's code", what)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make several changes as one; watchers are called after the block."""
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
