"""The exporter's status as its users see it: one state machine without I/O.

The values are the wire's. Each update, also one that repeats the status, grows the version by one, so that a
watcher can tell that it missed some.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from jumpstarter_proto.errors import JumpstarterUsageError

__all__ = ["TRANSITIONS", "Reason", "Report", "Status", "StatusMachine"]


class Status(enum.IntEnum):
    """`jumpstarter.v1.ExporterStatus`, except UNSPECIFIED, which nobody is in."""

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
"""The ways between them. A status may also follow itself, with another message; nothing follows OFFLINE."""


@dataclass(frozen=True)
class Reason:
    """Why a board is not available."""

    code: str
    """For programs, such as "local-use"."""
    sentence: str
    """For people, such as "in local use by ana"."""


@dataclass(frozen=True)
class Report:
    """What GetStatus tells."""

    status: Status
    message: str
    version: int
    previous: Status | None
    """None before the first update."""


class StatusMachine:
    """One session's status."""

    def __init__(self) -> None:
        self._report = Report(Status.AVAILABLE, "", 0, None)
        self._told = -1
        self.on_change: Callable[[Report], None] | None = None
        """Called with each update, right after it; it must not raise."""
        self.on_tell: Callable[[], None] | None = None
        """Called when somebody was told; it must not raise."""

    @property
    def report(self) -> Report:
        """As it is now."""
        return self._report

    @property
    def is_told(self) -> bool:
        """Whether somebody was told of the newest update."""
        return self._told == self._report.version

    def tell(self) -> Report:
        """As it is now, for a user."""
        self._told = self._report.version
        if self.on_tell is not None:
            self.on_tell()
        return self._report

    def become(self, status: Status, message: str = "") -> None:
        """Move on.

        Raises:
            JumpstarterUsageError: there is no way from here to there; nothing has changed.
        """
        now = self._report
        if status is not now.status and status not in TRANSITIONS[now.status]:
            raise JumpstarterUsageError(f"an exporter that is {now.status.name} cannot become {status.name}")
        self._report = Report(status, message, now.version + 1, now.status)
        if self.on_change is not None:
            self.on_change(self._report)
