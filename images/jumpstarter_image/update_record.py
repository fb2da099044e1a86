"""The content and progress of an update: a state machine without I/O, whose record survives a power cut.

The record is stored on the data partition before each step. So after a power cut it shows which step may be half done,
and `restarted` returns how to continue.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "MAX_RESTARTS",
    "NEXT",
    "Ending",
    "Event",
    "PackageChange",
    "UpdateRecord",
    "UpdateStep",
    "update_lines",
]

MAX_RESTARTS = 1
"""The number of boots during an installation or its check that are regarded as power cuts. One more may be caused by
the new version, which is then rolled back."""
MAX_REASON = 300
NO_WAY_BACK = "no file of the version before is kept"


class UpdateStep(enum.StrEnum):
    """The step that is in progress, or was when the power failed."""

    STAGED = "staged"
    """All files are on the data partition, and nothing else was changed."""
    INSTALLING = "installing"
    CHECKING = "checking"
    """The packages are installed, and their services must become ready."""
    TAKING_BACK = "taking back"
    CHECKING_BACK = "checking what was taken back"
    ENDED = "ended"


class Ending(enum.StrEnum):
    """The result of the update."""

    INSTALLED = "installed"
    UNTOUCHED = "untouched"
    TAKEN_BACK = "taken back"
    STUCK = "stuck"
    """Neither version became ready."""


class Event(enum.StrEnum):
    """What happened in a step."""

    DONE = "done"
    FAILED = "failed"
    RESTARTED = "restarted"
    """The host was rebooted before the step was completed."""


NEXT: dict[tuple[UpdateStep, Event], UpdateStep | Ending] = {
    (UpdateStep.STAGED, Event.DONE): UpdateStep.INSTALLING,
    (UpdateStep.STAGED, Event.FAILED): Ending.UNTOUCHED,
    (UpdateStep.STAGED, Event.RESTARTED): Ending.UNTOUCHED,
    (UpdateStep.INSTALLING, Event.DONE): UpdateStep.CHECKING,
    (UpdateStep.INSTALLING, Event.FAILED): UpdateStep.TAKING_BACK,
    (UpdateStep.INSTALLING, Event.RESTARTED): UpdateStep.INSTALLING,
    (UpdateStep.CHECKING, Event.DONE): Ending.INSTALLED,
    (UpdateStep.CHECKING, Event.FAILED): UpdateStep.TAKING_BACK,
    (UpdateStep.CHECKING, Event.RESTARTED): UpdateStep.CHECKING,
    (UpdateStep.TAKING_BACK, Event.DONE): UpdateStep.CHECKING_BACK,
    (UpdateStep.TAKING_BACK, Event.FAILED): Ending.STUCK,
    (UpdateStep.TAKING_BACK, Event.RESTARTED): UpdateStep.TAKING_BACK,
    (UpdateStep.CHECKING_BACK, Event.DONE): Ending.TAKEN_BACK,
    (UpdateStep.CHECKING_BACK, Event.FAILED): Ending.STUCK,
    (UpdateStep.CHECKING_BACK, Event.RESTARTED): UpdateStep.CHECKING_BACK,
    # The remaining work is then repeated: boards, root, files.
    (UpdateStep.ENDED, Event.RESTARTED): UpdateStep.ENDED,
}


class PackageChange(msgspec.Struct, frozen=True):
    """One package that an update installs."""

    name: str
    after: str
    """The new version."""
    before: str = ""
    """The installed version; empty if the package is not installed."""
    back: str = ""
    """The file of that version; empty if it is not stored."""

    def __str__(self) -> str:
        return f"{self.name} {self.after}" + (f" in place of {self.before}" if self.before else "")


class UpdateRecord(msgspec.Struct, frozen=True):
    """An update that was staged."""

    boot: str
    """The kernel's id of the boot in which its step began."""
    changes: tuple[PackageChange, ...]
    files: tuple[str, ...]
    """Names of the package files in the folder of the update."""
    step: UpdateStep = UpdateStep.STAGED
    is_upgrade: bool = False
    """Whether apt upgrades Debian's packages; otherwise the given files are installed."""
    during_leases: bool = False
    drained: tuple[str, ...] = ()
    """Boards that the update has drained and will resume."""
    services: tuple[str, ...] = ()
    """Services that must be ready afterwards."""
    invocations: dict[str, str] = {}
    """The invocation IDs of the services before the installation."""
    restarts: int = 0
    """Boots of the host in this step."""
    ending: Ending | None = None
    reason: str = ""
    """Why it was not installed, or was rolled back."""
    trouble: str = ""
    """Why the previous version did not become ready either."""

    @property
    def is_over(self) -> bool:
        """Whether only cleaning up is left."""
        return self.step is UpdateStep.ENDED

    def after(self, event: Event, why: str = "") -> UpdateRecord:
        """The record after this event. Raises KeyError if the event is not possible in the step."""
        following = NEXT[self.step, event]
        restarts = self.restarts + 1 if event is Event.RESTARTED else 0
        if self.step in (UpdateStep.INSTALLING, UpdateStep.CHECKING) and restarts > MAX_RESTARTS:
            following, restarts = UpdateStep.TAKING_BACK, 0
            why = f"the host was started again {MAX_RESTARTS + 1} times in the middle"
        ending = following if isinstance(following, Ending) else self.ending
        step = UpdateStep.ENDED if isinstance(following, Ending) else following
        if self.step is UpdateStep.STAGED and event is Event.RESTARTED:
            why = "the host was started again before it began"
        reason, trouble = self.reason, self.trouble
        why = why.rstrip(".")
        if why and self.step in (UpdateStep.TAKING_BACK, UpdateStep.CHECKING_BACK):
            trouble = trouble or why[:MAX_REASON]
        elif why:
            reason = reason or why[:MAX_REASON]
        return msgspec.structs.replace(
            self, step=step, ending=ending, restarts=restarts, reason=reason, trouble=trouble
        )

    def restarted(self, boot: str) -> UpdateRecord:
        """The record for this boot. If its step began in another boot, the host was rebooted."""
        if boot == self.boot:
            return self
        return msgspec.structs.replace(self.after(Event.RESTARTED), boot=boot)


def update_lines(record: UpdateRecord) -> list[str]:
    """The lines of the status about the update; none if the host was never updated."""
    names = ", ".join(map(str, record.changes[:4]))
    if len(record.changes) > 4:
        names += f" and {len(record.changes) - 4} packages more"
    look = "`sudo journalctl -u jumpstarter-image-update` says more"
    if record.ending is None:
        return [f"Update: {names}: {record.step}; do not switch this host off."]
    if record.ending is Ending.INSTALLED:
        return [f"Update: {names}."]
    if record.ending is Ending.UNTOUCHED:
        return [f"Update: {names}: nothing was changed: {record.reason}."]
    if record.ending is Ending.TAKEN_BACK:
        if not any(change.back for change in record.changes):
            why = f"{record.reason}; {NO_WAY_BACK}, and the services are ready with what there is"
            return [f"Problem: the update to {names} failed: {why}; {look}."]
        kept = [change.name for change in record.changes if not change.back]
        stays = ""
        if kept:
            more = f" and {len(kept) - 4} packages more" if len(kept) > 4 else ""
            stays = f"; what it has of {', '.join(kept[:4])}{more} stays, as no version before is kept"
        return [f"Problem: the update to {names} was taken back: {record.reason}{stays}; {look}."]
    resume = f" Then: sudo jumpstarter-exporter resume {' '.join(record.drained)}." if record.drained else ""
    has_way_back = any(change.back for change in record.changes)
    then = "the version before was not taken back" if has_way_back else NO_WAY_BACK
    what = "Install a version that works, or write the image to the card again."
    failed = f"Problem: the update to {names} failed: {record.reason}"
    return [f"{failed}; and {then}: {record.trouble}; {look}. {what}{resume}"]
