"""The exporter's status as its users see it: a state machine without I/O.

The values are those on the wire. Each update increases the version by one, also if the status is the same, so that a
watcher notices missed updates.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterUsageError

__all__ = ["TRANSITIONS", "Status", "StatusMachine", "StatusReason", "StatusReport"]


class Status(enum.IntEnum):
    """`jumpstarter.v1.ExporterStatus` without UNSPECIFIED, which is never used."""

    OFFLINE = 1
    AVAILABLE = 2
    BEFORE_LEASE_HOOK = 3
    LEASE_READY = 4
    AFTER_LEASE_HOOK = 5
    BEFORE_LEASE_HOOK_FAILED = 6
    AFTER_LEASE_HOOK_FAILED = 7


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.OFFLINE: frozenset(),
    Status.AVAILABLE: frozenset({Status.BEFORE_LEASE_HOOK, Status.LEASE_READY, Status.OFFLINE}),
    Status.BEFORE_LEASE_HOOK: frozenset(
        {
            Status.LEASE_READY,
            Status.BEFORE_LEASE_HOOK_FAILED,
            Status.OFFLINE,
            # The lease ended while its hook ran.
            Status.AFTER_LEASE_HOOK,
            Status.AVAILABLE,
        }
    ),
    Status.LEASE_READY: frozenset({Status.AFTER_LEASE_HOOK, Status.AVAILABLE, Status.OFFLINE}),
    Status.AFTER_LEASE_HOOK: frozenset({Status.AVAILABLE, Status.AFTER_LEASE_HOOK_FAILED, Status.OFFLINE}),
    Status.BEFORE_LEASE_HOOK_FAILED: frozenset({Status.AVAILABLE, Status.OFFLINE}),
    Status.AFTER_LEASE_HOOK_FAILED: frozenset({Status.AVAILABLE, Status.OFFLINE}),
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

    status: Status
    message: str
    version: int
    previous: Status | None
    """None before the first update."""


class StatusMachine:
    """One session's status."""

    def __init__(self) -> None:
        self._report = StatusReport(Status.AVAILABLE, "", 0, None)
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

    def change(self, status: Status, message: str = "") -> None:
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
