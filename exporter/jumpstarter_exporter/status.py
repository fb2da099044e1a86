"""The exporter's status as its users see it: a state machine without I/O.

The values are those on the wire. Each update increases the version by one, also if the status is the same, so that a
watcher notices missed updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.exporter_status import ExporterStatus

__all__ = ["TRANSITIONS", "StatusMachine", "StatusReason", "StatusReport"]


_S = ExporterStatus
TRANSITIONS: dict[ExporterStatus, frozenset[ExporterStatus]] = {
    _S.OFFLINE: frozenset(),
    _S.AVAILABLE: frozenset({_S.BEFORE_LEASE_HOOK, _S.LEASE_READY, _S.OFFLINE}),
    _S.BEFORE_LEASE_HOOK: frozenset(
        {
            _S.LEASE_READY,
            _S.BEFORE_LEASE_HOOK_FAILED,
            _S.OFFLINE,
            # The lease ended while its hook ran.
            _S.AFTER_LEASE_HOOK,
            _S.AVAILABLE,
        }
    ),
    _S.LEASE_READY: frozenset({_S.AFTER_LEASE_HOOK, _S.AVAILABLE, _S.OFFLINE}),
    _S.AFTER_LEASE_HOOK: frozenset({_S.AVAILABLE, _S.AFTER_LEASE_HOOK_FAILED, _S.OFFLINE}),
    _S.BEFORE_LEASE_HOOK_FAILED: frozenset({_S.AVAILABLE, _S.OFFLINE}),
    _S.AFTER_LEASE_HOOK_FAILED: frozenset({_S.AVAILABLE, _S.OFFLINE}),
}
"""The statuses that may follow each status. A status may repeat with another message; nothing follows OFFLINE."""


@dataclass(frozen=True)
class StatusReason:
    """Why a board is not available."""

    code: str
    """For programs, such as "local-use"."""
    sentence: str
    """For people, such as "in local use by ana"."""


@dataclass(frozen=True)
class StatusReport:
    """What GetStatus returns."""

    status: ExporterStatus
    message: str
    version: int
    previous: ExporterStatus | None
    """None before the first update."""


class StatusMachine:
    """One session's status."""

    def __init__(self) -> None:
        self._report = StatusReport(ExporterStatus.AVAILABLE, "", 0, None)
        self._read_version = -1
        self.on_change: Callable[[StatusReport], None] | None = None
        """Called after each update; it must not raise."""
        self.on_read: Callable[[], None] | None = None
        """Called when a user has read the status; it must not raise."""

    @property
    def report(self) -> StatusReport:
        """The current status."""
        return self._report

    @property
    def is_read(self) -> bool:
        """Whether a user has read the newest update."""
        return self._read_version == self._report.version

    def read(self) -> StatusReport:
        """Read the current status for a user."""
        self._read_version = self._report.version
        if self.on_read is not None:
            self.on_read()
        return self._report

    def change(self, status: ExporterStatus, message: str = "") -> None:
        """Change the status.

        Raises:
            JumpstarterUsageError: the table forbids it; nothing has changed.
        """
        now = self._report
        if status is not now.status and status not in TRANSITIONS[now.status]:
            raise JumpstarterUsageError(f"an exporter that is {now.status.name} cannot change {status.name}")
        self._report = StatusReport(status, message, now.version + 1, now.status)
        if self.on_change is not None:
            self.on_change(self._report)
