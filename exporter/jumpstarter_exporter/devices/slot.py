"""A slot: a device's place on the host, which outlives the sessions that use it.

A slot exists with or without its hardware. It has the device's UUID, its state and its worker threads, so that a device
with code that does not return stays failed in the next session. The driver object of a session uses those of the slot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.process import DescriptorStore

from jumpstarter_exporter.device_state import Lifecycle, State
from jumpstarter_exporter.devices.cores import SlotCore
from jumpstarter_exporter.devices.opening import Closings
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.errors import DeviceBusy, DeviceMissing
from jumpstarter_exporter.isolation import isolated
from jumpstarter_exporter.threads import BoardThreads, DeviceThreads

__all__ = ["Slot"]

MAX_TOLD = 8
"""Reasons that are remembered, so that they are not logged again."""

_log = logging.getLogger(__name__)


class Slot:
    """One device of a board."""

    def __init__(
        self,
        path: str,
        spec: Spec,
        uuid: UUID,
        *,
        parent: Slot | None,
        threads: BoardThreads,
        closings: Closings,
        descriptors: DescriptorStore,
        board: str = "",
        driver: Driver | None = None,
    ) -> None:
        """`threads` are those of the `board`, `closings` and `descriptors` the process's.

        `driver` is the object that it is made for, if one was made by hand.
        """
        self.path = path
        self.spec = spec
        self.uuid = uuid
        self.parent = parent
        self.lifecycle: Lifecycle = Lifecycle() if driver is None else driver.lifecycle
        self.threads = DeviceThreads(path, threads)
        self.closings = closings
        self.descriptors = descriptors
        self._about = {"board": board}
        """For log records, so that callers need not know the board."""
        self.labels: Mapping[str, str] = spec.labels
        """What its driver added to its labels when it was last asked."""
        self.is_kept = False
        """Whether its UUID is the same at the next start."""
        self.core: SlotCore | None = None
        """What of it lives as long as its hardware, if its driver class has such a thing."""
        self._user: object = None
        self._told: set[str] = set()
        """The reasons for its state that were logged since it was ready."""
        self._came = Broadcast()
        self.is_followed = False
        """Whether `came` is sure to be set when its hardware comes."""
        self._uses: set[trio.CancelScope] = set()
        self.why_gone = ""
        """Why the host knows that this very device is not there, whatever has its name now; see `unplugged`."""
        self._holds: set[trio.CancelScope] = set()
        self.lifecycle.watch(self._log_change)
        if spec.fault:
            self.lifecycle.failed(spec.fault)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    def make_core(self, config: Driver | None) -> None:
        """Make its core, if its driver class has one; `config` is a driver object that was made by hand."""
        kind = self.spec.kind.core_of
        if kind is None or self.spec.fault:
            return
        config = self.spec.make() if config is None else config
        if not isinstance(config, self.spec.kind):
            return  # it cannot be made, as a session will find, too
        above = self.parent
        while above is not None and above.core is None:
            above = above.parent
        try:
            with isolated(f"{kind.__name__}.__init__()"):
                self.core = SlotCore(self, kind(config), None if above is None else above.core)
        except Exception as error:  # any driver's code; its neighbours must be served
            self.lifecycle.core.failed(f"its core cannot be made: {error}")

    @property
    def state(self) -> State:
        """The state that users see."""
        return self.lifecycle.state

    @property
    def reason(self) -> str:
        """Why it is in this state."""
        return self.lifecycle.reason

    @property
    def is_untried(self) -> bool:
        """Whether nobody has used it yet, so that its hardware may not be there."""
        return self.lifecycle.is_untried

    @property
    def came(self) -> trio.Event:
        """Set when its hardware is plugged in the next time."""
        return self._came.next

    @property
    def is_announced(self) -> bool:
        """Whether it is missing, and its return will be announced."""
        return bool(self.lifecycle.why_unplugged) or (self.is_followed and self.state is State.MISSING)

    def unplugged(self, reason: str, *, names_may_lead_elsewhere: bool = False) -> None:
        """The host knows that its hardware is not there. Calls that need it end. In the trio loop of the exporter.

        If its `names_may_lead_elsewhere`, it was found by what it is: another device may be at its port by now, which
        is let go of if it was taken for this one (see `held`).
        """
        if names_may_lead_elsewhere:
            self.why_gone = reason
            for hold in self._holds:
                hold.cancel()
        if self.lifecycle.why_unplugged != reason:
            self.is_followed = True
            self.lifecycle.unplugged(reason, stays_open=self.spec.kind.waits_for_hardware)
            for use in self._uses:
                use.cancel()

    def plugged(self) -> None:
        """It is there (again): wake the tasks that keep it open. In the exporter's trio loop."""
        if self.lifecycle.why_unplugged:
            self.appeared()

    def appeared(self) -> None:
        """The device was plugged in, whether it was known as missing or not. Only in the trio loop.

        If it cannot be opened nevertheless, there will be no notification when that changes.
        """
        self.is_followed = False
        self.why_gone = ""
        self.lifecycle.plugged()
        if self.spec.fault:
            self.lifecycle.failed(self.spec.fault)
        self._came.notify()

    @contextmanager
    def needed(self) -> Iterator[None]:
        """What is done in the block needs its hardware: it ends when that is unplugged.

        Raises:
            DeviceMissing: it was, or is. So is what fails meanwhile in another way.
        """
        try:
            with trio.CancelScope() as scope:
                self._uses.add(scope)
                try:
                    yield
                finally:
                    self._uses.discard(scope)
        except Exception as error:
            if (why := self.lifecycle.why_unplugged) and not isinstance(error, JumpstarterError):
                raise DeviceMissing(f"{self} is not there: {why}") from error
            raise
        if scope.cancelled_caught:
            raise DeviceMissing(f"{self} is not there: {self.lifecycle.why_unplugged or 'it was unplugged'}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that holds the hardware, for an object that stays open while the device is unplugged.

        Raises:
            DeviceMissing: the host knows that it is not this device's; see `unplugged`.
        """
        with trio.CancelScope() as scope:
            self._holds.add(scope)
            try:
                if self.why_gone:
                    scope.cancel()
                yield
            finally:
                self._holds.discard(scope)
        if scope.cancelled_caught:
            raise DeviceMissing(f"{self} is not there: {self.why_gone or 'it was unplugged'}")

    def lend_to(self, driver: Driver) -> None:
        """Pass the device's own attributes to a session's driver object."""
        driver.lifecycle = self.lifecycle
        driver.threads = self.threads
        if self.path:  # the root's belongs to the session
            driver.uuid = self.uuid
        if self.core is not None:
            driver.core = self.core.core

    def claim(self, user: object) -> None:
        """Have the device open: one session's driver object at a time. Again for the same user is fine.

        Raises:
            DeviceBusy: another session has.
        """
        if self._user not in (None, user):
            raise DeviceBusy(f"{self} is in use in another session of this host; wait until that ends")
        self._user = user

    def give_back(self, user: object) -> None:
        """Its driver object is closed."""
        if self._user is user:
            self._user = None

    def _log_change(self, before: State, now: State, reason: str) -> None:
        if now in (State.MISSING, State.FAILED):
            if reason not in self._told:  # once, however often it is tried
                _log.warning("%s", self.sentence(now, reason), extra=self._about)
            self._told = {*self._told, reason} if len(self._told) < MAX_TOLD else {reason}
        elif now is State.READY:
            if self._told:
                _log.info("%s is ready again", self._named, extra=self._about)
            self._told = set()

    def sentence(self, state: State, reason: str = "") -> str:
        """A sentence such as "the device power.relay has failed: ...": a device can have any word as its name."""
        verb = "has failed" if state is State.FAILED else f"is {state}"
        return f"{self._named} {verb}: {reason}" if reason else f"{self._named} {verb}"

    @property
    def _named(self) -> str:
        return f"the device {self.path}" if self.path else str(self)

    def __str__(self) -> str:
        return self.path or "the exporter's root"
