"""What `Occupancy` answers: whether a local call may go on, and what is to be done."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "NEXT",
    "Action",
    "Admission",
    "Apply",
    "Begin",
    "Clean",
    "Close",
    "Decline",
    "End",
    "GiveBack",
    "Lease",
    "Lose",
    "Phase",
    "Reason",
    "Refusal",
    "Tell",
    "Wait",
]


class Phase(enum.StrEnum):
    """How far a lease is."""

    WAITING = "waiting"
    """For the board: somebody uses it here, or something withholds it."""
    PREPARING = "preparing"
    """Its beforeLease hook runs."""
    LEASED = "leased"
    CLEANING = "cleaning"
    """Its afterLease hook runs."""


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.PREPARING}),
    Phase.PREPARING: frozenset({Phase.LEASED, Phase.CLEANING}),
    Phase.LEASED: frozenset({Phase.CLEANING}),
    Phase.CLEANING: frozenset(),
}
"""The ways between them; each may also follow itself, and a lease may be over in each."""


class Reason(enum.StrEnum):
    """What keeps a board from being leased, though nobody uses it. Each has an end of its own."""

    HOOK_FAILED = "hook failed"
    """Until the lease of the hook is released."""
    DRAINED = "drained"
    """Until it is resumed."""
    STOPPED = "stopped"
    """Until it is resumed, or its file is read again."""
    CHANGING = "changing"
    """What belongs to it is other than what is served, until that is taken up."""
    HARDWARE = "hardware"
    """Until what is missing is there."""
    UNKNOWN = "not known who has it"
    """Until its controller has said, or it is resumed. Users of the host do not get it either: a lease may have it."""


@dataclass(frozen=True)
class Lease:
    """A lease of this board."""

    name: str
    client: str
    phase: Phase = Phase.WAITING
    declinable: bool = field(default=False, compare=False)
    """Its controller takes it back and gives it another board."""
    until: str = ""
    """When it ends, for people; empty where the controller does not say."""


class Admission(enum.Enum):
    """In which session a local call runs."""

    LOCAL = "local"
    LEASE = "lease"
    """The lease's own, on its objects: with --override."""
    LOOK = "look"
    """In whichever there is; it opens nothing."""


@dataclass(frozen=True)
class Refusal:
    """Why a local call may not go on: `code` for programs, `sentence` for people."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Begin:
    """Close the local session, open the lease's if it is not, and let its users in: behind its hook, if `hook`."""

    lease: Lease
    hook: bool = True


@dataclass(frozen=True)
class Clean:
    """Run the afterLease hook of a lease that was served before the exporter was started again."""

    lease: Lease


@dataclass(frozen=True)
class Wait:
    """Open the lease's session, and refuse its calls for that reason."""

    lease: Lease
    reason: str


@dataclass(frozen=True)
class Close:
    """Close the session of a lease that has waited: its controller has ended it, and nothing was prepared for it."""

    lease: Lease


@dataclass(frozen=True)
class Decline:
    """Tell the controller that another board has to do."""

    lease: Lease
    reason: str


@dataclass(frozen=True)
class GiveBack:
    """Close the session of a lease that has waited, and tell its controller that it is over."""

    lease: Lease
    reason: str


@dataclass(frozen=True)
class End:
    """End a lease that runs: nobody has heard of it, and its time is over."""

    lease: Lease
    reason: str


@dataclass(frozen=True)
class Tell:
    """Let local users read that."""

    text: str


@dataclass(frozen=True)
class Lose:
    """A connection has done nothing for too long: tell its user, and end what it holds."""

    connection: object
    reason: str


@dataclass(frozen=True)
class Apply:
    """Take up the change that is pending: nobody uses the board. Said again until the reason is released."""


Action: TypeAlias = Begin | Clean | Close | Wait | Decline | GiveBack | End | Tell | Lose | Apply
