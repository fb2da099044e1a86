"""Reports the exporter's devices, labels and status to the controller. Only the newest state is sent.

One task sends at a time, and it reads the state when it has the connection: an old status is never sent after a newer
one. Each message carries a sequence number, so that a delayed message that arrives late has no effect.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.remote import Backoff
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverInstanceReport

from jumpstarter_exporter.registration.controller import ControllerConnection, RegistrationCalls
from jumpstarter_exporter.session.report import REASON, STATE, UNTRIED
from jumpstarter_exporter.status import StatusReason

__all__ = ["SETTLE_SECONDS", "StatusReporter"]

RETRY_SECONDS = 0.3, 10.0
"""The first and the longest pause between two attempts to report."""
SETTLE_SECONDS = 1.0
"""Changes of devices, and passing statuses, are sent after this time if they have not been undone."""

_log = logging.getLogger(__name__)


class StatusReporter:
    """Sends the newest state to the controller, and retries until that succeeds."""

    def __init__(
        self,
        controller: ControllerConnection,
        labels: Callable[[], Mapping[str, str]],
        reports: Callable[[], list[DriverInstanceReport]],
        status: tuple[ExporterStatus, str],
    ) -> None:
        self._controller = controller
        self._labels = labels
        self._reports = reports
        self._status = status
        self._reasons: Sequence[StatusReason] = ()
        self._version = 1
        self._sent_version = 0
        self._due = -math.inf
        """When the newest status is sent if no other follows."""
        self._registered: object = None
        self._wanted: object = None
        self._lock = trio.Lock()
        self._changed = AutoResetEvent()
        self._devices_changed = trio.Event()
        self._is_unregistered = False

    @property
    def status(self) -> ExporterStatus:
        """The newest status, sent or not."""
        return self._status[0]

    def set_status(
        self,
        status: ExporterStatus,
        message: str,
        reasons: Sequence[StatusReason] = (),
        *,
        passing: bool = False,
    ) -> None:
        """Set the status. An older one that was not sent yet is dropped. Ignored after `unregister`.

        `passing`: another status will follow at once; this one is sent only if that takes longer than
        `SETTLE_SECONDS`.
        """
        if not self._is_unregistered:
            self._status, self._reasons = (status, message), reasons
            self._version += 1
            self._due = trio.current_time() + SETTLE_SECONDS if passing else -math.inf
            self._changed.set()

    def devices_changed(self) -> None:
        """Compare the devices with what was sent, soon."""
        self._devices_changed.set()

    async def register(self, calls: RegistrationCalls) -> None:
        """Register and report the status, first on each connection."""
        async with self._lock:
            if not self._is_unregistered:
                self._registered = None
                await self._send(calls)

    async def run(self) -> None:
        """Send changes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle)
            while True:
                await self._changed.wait()
                await self._send_all()

    async def unregister(self, reason: str) -> None:
        """Report OFFLINE and unregister; nothing is sent afterwards. RpcError if that fails."""
        self._is_unregistered = True
        async with self._lock, self._controller.open() as calls:
            await calls.report(ExporterStatus.OFFLINE, reason)
            await calls.unregister("Exporter shutdown")

    async def stop(self) -> None:
        """Send the newest state and stop; the exporter stays registered. RpcError if that fails."""
        try:
            async with self._lock:
                if not self._is_unregistered and not self._is_sent:
                    async with self._controller.reuse_or_open() as calls:
                        await self._send(calls)
        finally:
            self._is_unregistered = True

    async def _settle(self) -> None:
        while True:
            await self._devices_changed.wait()
            await trio.sleep(SETTLE_SECONDS)
            self._devices_changed = trio.Event()
            self._wanted = _summary(self._labels(), _settled(self._reports()))
            if self._wanted != self._registered:
                self._changed.set()

    async def _send_all(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while not self._is_unregistered and not self._is_sent:
            if (left := self._due - trio.current_time()) > 0:
                with trio.move_on_after(left):
                    await self._changed.wait()
                continue
            try:
                async with self._lock:
                    if not self._is_sent:
                        async with self._controller.reuse_or_open() as calls:
                            await self._send(calls)
            except JumpstarterError as error:
                _log.info("status %s could not be reported yet: %s", self.status.name, error)
                await trio.sleep(backoff.next())
            except Exception:  # a fault of ours, for example in a report, must not end the current lease
                _log.exception("reporting status %s failed", self.status.name)
                await trio.sleep(backoff.next())

    @property
    def _is_sent(self) -> bool:
        return self._sent_version == self._version and self._wanted in (None, self._registered)

    async def _send(self, calls: RegistrationCalls) -> None:
        if self._registered is None or self._wanted != self._registered:
            labels, reports, wanted = self._labels(), _settled(self._reports()), self._wanted
            await calls.register(dict(labels), reports)
            self._registered = _summary(labels, reports)
            if self._wanted is wanted:  # otherwise the devices have changed meanwhile
                self._wanted = self._registered
        if self._is_unregistered:
            return
        version = self._version
        await calls.report(*self._status, self._reasons)
        self._sent_version = version


def _settled(reports: Iterable[DriverInstanceReport]) -> list[DriverInstanceReport]:
    """The reports as a controller keeps them until the devices change: without what passes.

    A device is busy or starting for a moment, and whether somebody has used a ready one is seen at its host.
    """
    found = []
    for report in reports:
        if report.labels.get(STATE) in ("busy", "starting", "ready"):
            settled = DriverInstanceReport()
            settled.CopyFrom(report)
            settled.labels[STATE] = "ready"
            for label in (REASON, UNTRIED):
                if label in settled.labels:
                    del settled.labels[label]
            report = settled  # noqa: PLW2901
        found.append(report)
    return found


def _summary(own: Mapping[str, str], settled: Sequence[DriverInstanceReport]) -> object:
    """The part of the reports that matters for choosing a board. UUIDs differ in each session, and do not count."""
    places = {report.uuid: number for number, report in enumerate(settled)}
    devices = tuple(
        (places.get(report.parent_uuid, -1), tuple(sorted(report.labels.items()))) for report in settled
    )
    return tuple(sorted(own.items())), devices
