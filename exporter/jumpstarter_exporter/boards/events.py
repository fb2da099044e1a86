"""The answers of `Occupancy`: whether a local call is allowed, and which actions to perform."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

__all__ = [
    "PHASE_TRANSITIONS",
    "ApplyChange",
    "BeginLease",
    "CallTarget",
    "CleanUpLease",
    "CloseWaitingSession",
    "CutConnection",
    "DeclineLease",
    "DelayLease",
    "EndLease",
    "LocalRefusal",
    "NotifyLocalUsers",
    "OccupancyAction",
    "ReturnLease",
    "ServedLease",
    "ServingPhase",
    "WithheldReason",
]


class ServingPhase(enum.StrEnum):
    """The phase of a lease."""

    WAITING = "waiting"
    """It waits for the board, which somebody uses here or something withholds."""
    PREPARING = "preparing"
    """The beforeLease hook runs."""
    LEASED = "leased"
    CLEANING = "cleaning"
    """The afterLease hook runs."""


PHASE_TRANSITIONS: dict[ServingPhase, frozenset[ServingPhase]] = {
    ServingPhase.WAITING: frozenset({ServingPhase.PREPARING}),
    ServingPhase.PREPARING: frozenset({ServingPhase.LEASED, ServingPhase.CLEANING}),
    ServingPhase.LEASED: frozenset({ServingPhase.CLEANING}),
    ServingPhase.CLEANING: frozenset(),
}
"""The phases that may follow each phase. A phase may repeat, and a lease may end in any of them."""


class WithheldReason(enum.StrEnum):
    """Why a board cannot be leased although nobody uses it. Each reason ends independently."""

    HOOK_FAILED = "hook failed"
    """Until the hook's lease is released."""
    DRAINED = "drained"
    """Until it is resumed."""
    STOPPED = "stopped"
    """Until it is resumed or its file is reloaded."""
    CHANGING = "changing"
    """Its configuration has changed, until the change is applied."""
    HARDWARE = "hardware"
    """Until the missing hardware is there."""
    UNKNOWN = "not known who has it"
    """Until the controller says, or the board is resumed. Local users do not get it either, as a lease may have it."""


@dataclass(frozen=True)
class ServedLease:
    """A lease of this board."""

    name: str
    client: str
    phase: ServingPhase = ServingPhase.WAITING
    declinable: bool = field(default=False, compare=False)
    """Whether the controller can take it back and give it another board."""
    until: str = ""
    """When it ends, for people; empty if the controller does not say."""


class CallTarget(enum.Enum):
    """The session in which a local call runs."""

    LOCAL = "local"
    LEASE = "lease"
    """The lease's session and its objects: with --override."""
    LOOK = "look"
    """Any existing session; the call opens nothing."""


class LocalRefusal(msgspec.Struct, frozen=True):
    """Why a local call is refused: `code` for programs, `sentence` for people."""

    code: str
    sentence: str


class BeginLease(msgspec.Struct, frozen=True):
    """Close the local session, open the lease's session if necessary, and admit its users, after the hook if `hook`."""

    lease: ServedLease
    hook: bool = True


class CleanUpLease(msgspec.Struct, frozen=True):
    """Run the afterLease hook of a lease that was served before a restart."""

    lease: ServedLease


class DelayLease(msgspec.Struct, frozen=True):
    """Open the lease's session, and refuse its calls for that reason."""

    lease: ServedLease
    reason: str


class CloseWaitingSession(msgspec.Struct, frozen=True):
    """Close the session of a waiting lease that the controller has ended; nothing was prepared for it."""

    lease: ServedLease


class DeclineLease(msgspec.Struct, frozen=True):
    """Tell the controller that the lease needs another board."""

    lease: ServedLease
    reason: str


class ReturnLease(msgspec.Struct, frozen=True):
    """Close the session of a waiting lease, and tell the controller that the lease is over."""

    lease: ServedLease
    reason: str


class EndLease(msgspec.Struct, frozen=True):
    """End a current lease whose time is over and that the controller has not renewed."""

    lease: ServedLease
    reason: str


class NotifyLocalUsers(msgspec.Struct, frozen=True):
    """Notify local users."""

    text: str


class CutConnection(msgspec.Struct, frozen=True):
    """A connection was idle for too long: tell its user why, and close what it holds."""

    connection: object
    reason: str


class ApplyChange(msgspec.Struct, frozen=True):
    """Apply the pending change, as nobody uses the board. Repeated until the reason is removed."""


OccupancyAction: TypeAlias = (
    BeginLease
    | CleanUpLease
    | CloseWaitingSession
    | DelayLease
    | DeclineLease
    | ReturnLease
    | EndLease
    | NotifyLocalUsers
    | CutConnection
    | ApplyChange
)
