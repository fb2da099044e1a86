"""What the controller is to know of this exporter: its devices, its labels, its status. The newest counts.

One task tells at a time, and what it tells is read when it has the connection: an old status can neither be told
after a newer one nor overtake it. The controller is told a number with each, so that one which was thought lost on
the way and arrives late changes nothing either.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Backoff
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport

from jumpstarter_exporter.registration.controller import Calls, Controller
from jumpstarter_exporter.report import REASON, STATE
from jumpstarter_exporter.status import Reason, Status

__all__ = ["SETTLE_SECONDS", "Announcer"]

SETTLE_SECONDS = 1.0
"""Devices that change are told when they have had time to change back, and so is what is to pass."""

_log = logging.getLogger(__name__)


class Announcer:
    """Tells the controller what there is to tell, as often as it takes."""

    def __init__(
        self,
        controller: Controller,
        labels: Callable[[], Mapping[str, str]],
        reports: Callable[[], list[DriverInstanceReport]],
        status: tuple[Status, str],
    ) -> None:
        self._controller = controller
        self._labels = labels
        self._reports = reports
        self._status = status
        self._reasons: Sequence[Reason] = ()
        self._version = 1
        self._told = 0
        self._due = -math.inf
        """The newest is told then, if nothing has followed it."""
        self._registered: object = None
        self._wanted: object = None
        self._lock = trio.Lock()
        self._news = trio.Event()
        self._devices = trio.Event()
        self._left = False

    @property
    def status(self) -> Status:
        """The newest, told or not."""
        return self._status[0]

    def become(
        self, status: Status, message: str, reasons: Sequence[Reason] = (), *, passing: bool = False
    ) -> None:
        """A new status; what came before it is not told any more. Nothing follows `leave`.

        `passing`: another one follows in a moment, and this one is told only if that takes `SETTLE_SECONDS`.
        """
        if not self._left:
            self._status, self._reasons = (status, message), reasons
            self._version += 1
            self._due = trio.current_time() + SETTLE_SECONDS if passing else -math.inf
            self._news.set()

    def devices_changed(self) -> None:
        """Look at the devices again, soon."""
        self._devices.set()

    async def introduce(self, calls: Calls) -> None:
        """The first words on a connection: register, and say how we are."""
        async with self._lock:
            if not self._left:
                self._registered = None
                await self._tell(calls)

    async def run(self) -> None:
        """Tell what is new, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle)
            while True:
                await self._news.wait()
                self._news = trio.Event()
                await self._tell_all()

    async def leave(self, reason: str) -> None:
        """The last words, once: offline, and not registered. RpcError if nobody hears them."""
        self._left = True
        async with self._lock, self._controller.open() as calls:
            await calls.report(Status.OFFLINE, reason)
            await calls.unregister("Exporter shutdown")

    async def stop(self) -> None:
        """Say what is newest, and nothing after it: the exporter stays registered. RpcError if nobody hears it."""
        try:
            async with self._lock:
                if not self._left and not self._is_told:
                    async with self._controller.at_hand() as calls:
                        await self._tell(calls)
        finally:
            self._left = True

    async def _settle(self) -> None:
        while True:
            await self._devices.wait()
            await trio.sleep(SETTLE_SECONDS)
            self._devices = trio.Event()
            self._wanted = _summary(self._labels(), self._reports())
            if self._wanted != self._registered:
                self._news.set()

    async def _tell_all(self) -> None:
        backoff = Backoff(0.3, 10.0)
        while not self._left and not self._is_told:
            if (left := self._due - trio.current_time()) > 0:
                self._news = trio.Event()
                with trio.move_on_after(left):
                    await self._news.wait()
                continue
            try:
                async with self._lock:
                    if not self._is_told:
                        async with self._controller.at_hand() as calls:
                            await self._tell(calls)
            except JumpstarterError as error:
                _log.info("the controller does not know yet that we are %s: %s", self.status.name, error)
                await trio.sleep(backoff.next())
            except Exception:  # a fault of ours, as in what is told: the lease that runs must not end with it
                _log.exception("the controller does not know yet that we are %s", self.status.name)
                await trio.sleep(backoff.next())

    @property
    def _is_told(self) -> bool:
        return self._told == self._version and self._wanted in (None, self._registered)

    async def _tell(self, calls: Calls) -> None:
        if self._registered is None or self._wanted != self._registered:
            labels, reports, wanted = self._labels(), self._reports(), self._wanted
            await calls.register(dict(labels), reports)
            self._registered = _summary(labels, reports)
            if self._wanted is wanted:  # or else the devices have changed meanwhile
                self._wanted = self._registered
        if self._left:
            return
        version = self._version
        await calls.report(*self._status, self._reasons)
        self._told = version


def _summary(own: Mapping[str, str], reports: list[DriverInstanceReport]) -> object:
    """What matters to who looks for a board. UUIDs are new for each session, and a device is busy for a moment."""
    passing = ("busy", "starting")

    def labels(report: DriverInstanceReport) -> tuple[tuple[str, str], ...]:
        found = dict(report.labels)
        if found.get(STATE) in passing:
            found[STATE] = "ready"
        if found.get(STATE) == "ready":
            found.pop(REASON, None)
        return tuple(sorted(found.items()))

    places = {report.uuid: number for number, report in enumerate(reports)}
    devices = tuple((places.get(report.parent_uuid, -1), labels(report)) for report in reports)
    return tuple(sorted(own.items())), devices
