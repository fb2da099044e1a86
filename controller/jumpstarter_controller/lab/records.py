"""The records of a lab. They are immutable: a change is a new record, so that readers never see half of one.

Times are seconds since the epoch, durations seconds.
"""

from __future__ import annotations

import enum
from typing import ClassVar, NamedTuple

import msgspec
from msgspec.structs import replace

__all__ = [
    "NOT_ANSWERING",
    "Client",
    "ConditionType",
    "Drain",
    "Exporter",
    "ExporterDevices",
    "ExporterStatus",
    "Host",
    "Key",
    "Lease",
    "LeaseCondition",
    "PairingCode",
    "Policy",
    "Record",
    "ReportedDevice",
    "Rule",
    "UnavailableReason",
]


class Key(NamedTuple):
    """Which record of its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all records."""

    KIND: ClassVar[str]
    STATUS: ClassVar[frozenset[str]] = frozenset()
    """Its fields that say what came of it; all others are its spec, what was asked for."""

    namespace: str
    name: str
    uid: str = ""
    """Of tokens too: who gets a new one has new tokens, and the old ones count no more."""
    created: float = 0.0

    @property
    def key(self) -> Key:
        """Unique among its kind."""
        return Key(self.namespace, self.name)

    def accepts_uid(self, uid: str, now: float) -> bool:
        """Whether tokens with that uid are its own, and count."""
        return uid == self.uid


class Client(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Who leases."""

    KIND = "client"

    labels: dict[str, str] = {}
    username: str = ""
    """Of an external issuer of tokens; empty: only tokens of our own."""
    enabled: bool = True
    previous_uid: str = ""
    """The uid before it had a new token made; its tokens count until `previous_uid_until`."""
    previous_uid_until: float = 0.0

    def accepts_uid(self, uid: str, now: float) -> bool:
        """Whether tokens with that uid are its own, and count."""
        return uid == self.uid or (bool(uid) and uid == self.previous_uid and now < self.previous_uid_until)


class ExporterStatus(enum.IntEnum):
    """What an exporter says of itself; the numbers are the wire's."""

    UNSPECIFIED = 0
    OFFLINE = 1
    AVAILABLE = 2
    BEFORE_LEASE_HOOK = 3
    LEASE_READY = 4
    AFTER_LEASE_HOOK = 5
    BEFORE_LEASE_HOOK_FAILED = 6
    AFTER_LEASE_HOOK_FAILED = 7


class UnavailableReason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an exporter is not available, for programs and for people."""

    code: str
    """Such as "local-use"; what the exporter calls it, or `NOT_ANSWERING`."""
    sentence: str = ""


NOT_ANSWERING = "not-answering"
"""Our own reason: the exporter did not say whether it takes a lease."""


class Exporter(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A board's host, as it registered itself."""

    KIND = "exporter"
    STATUS = frozenset(
        ("devices", "status", "status_message", "reasons", "answers", "gone_since", "lease", "replica")
    )

    labels: dict[str, str] = {}
    username: str = ""
    enabled: bool = True
    devices: int = 0
    """How many device reports it registered with; none means not registered."""
    status: ExporterStatus = ExporterStatus.UNSPECIFIED
    status_message: str = ""
    reasons: tuple[UnavailableReason, ...] = ()
    """Why it is not available; empty where it is, and of exporters that say it in words only."""
    answers: bool = False
    """It accepts or declines each lease, which begins when it has accepted. Others take what they get."""
    host: str = ""
    """The host that registered it as a board of its own; empty: it was made by itself."""
    said: dict[str, str] = {}
    """The labels that its host says of it, all of which it may set."""
    gone_since: float | None = None
    """When its host said that it does not have the board any more."""
    lease: str = ""
    """The lease that has it, or that it was offered to: nobody else can. A board is taken by a change of this alone."""
    replica: str = ""
    """Which of several controllers has its connection; empty: none has, or there is one controller only."""


class Host(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Who may make exporters of its own boards. It has their names, and sets what it may of their labels."""

    KIND = "host"

    labels: dict[str, str] = {}
    """Of each of its boards, as the lab says."""
    may_label: tuple[str, ...] = ()
    """Keys of labels that it may set, beside those below `jumpstarter.dev/`."""
    username: ClassVar[str] = ""
    """Other issuers' users are no hosts."""
    enabled: ClassVar[bool] = True


class ReportedDevice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One device of an exporter, as its exporter reported it. All texts are the exporter's own words."""

    path: str
    """Names from below the root, joined by dots."""
    interface: str = ""
    """Such as "power"; empty where the exporter does not say it, as Jumpstarter's own."""
    client: str = ""
    """The class that a client of it uses."""
    state: str = ""
    """Such as "ready" or "missing"; empty where the exporter does not say it."""
    reason: str = ""
    """Why it is in that state."""
    description: str = ""
    uuid: str = ""
    """As it was reported; that of Jumpstarter's own exporters is another in each session."""


class ExporterDevices(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The devices of the exporter of the same name. A record of its own, because status changes more often."""

    KIND = "devices"
    STATUS = frozenset(("devices", "omitted"))

    devices: tuple[ReportedDevice, ...] = ()
    omitted: int = 0
    """How many more were reported and are not kept."""


class ConditionType(enum.StrEnum):
    """Kinds of condition of a lease."""

    PENDING = "Pending"
    UNSATISFIABLE = "Unsatisfiable"
    INVALID = "Invalid"
    READY = "Ready"


class LeaseCondition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is true or false of a lease, since when and why."""

    type: ConditionType
    holds: bool
    reason: str
    message: str = ""
    since: float = 0.0
    code: str = ""
    """For programs, where `reason` has to be Jumpstarter's own word, which says less."""


class Lease(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The right of one client to one exporter for some time: what was asked for, and what has come of it."""

    KIND = "lease"
    STATUS = frozenset(("exporter", "priority", "offered", "begun", "ended", "conditions"))

    client: str
    """A client of the same namespace."""
    sequence: int = 0
    """Leases are served in the order in which they were asked for, whatever happened to the clock in between.

    The store says it when it makes the record."""
    selector: str = ""
    """Canonical text."""
    exporter_name: str = ""
    """Asked for by name."""
    duration: float = 0.0
    begin_time: float | None = None
    end_time: float | None = None
    tags: dict[str, str] = {}
    context: dict[str, str] = {}
    allow_disabled: bool = False
    release: bool = False
    """Somebody asked for its end."""
    release_reason: str = ""
    """Why, if they said so."""
    waited: bool = False
    """The command that asked for it waits, and does not know yet that it has a board: it has to be heard of."""

    waits_for_board: bool = False
    """It waits though no exporter could ever be its own, as there may be others some time."""

    exporter: str = ""
    """The exporter that it got; empty while it waits."""
    priority: int = 0
    offered: float | None = None
    """When it was offered to its exporter, which has not accepted it yet; None for all that have begun."""
    begun: float | None = None
    ended: float | None = None
    conditions: tuple[LeaseCondition, ...] = ()

    @property
    def active(self) -> bool:
        """It holds an exporter, which nobody else can have."""
        return bool(self.exporter) and self.ended is None

    @property
    def accepted(self) -> bool:
        """It has an exporter that serves it."""
        return bool(self.exporter) and self.offered is None

    @property
    def expiry(self) -> float | None:
        """When it ends by itself; None before that can be known."""
        if self.end_time is not None:
            return self.end_time
        start = self.begin_time if self.begin_time is not None else self.begun
        return None if start is None else start + self.duration

    @property
    def outcome(self) -> str:
        """Why it has ended, in words; empty where nobody has said it."""
        last = self.condition(ConditionType.READY)
        if last is None or last.holds:
            last = self.condition(ConditionType.UNSATISFIABLE) or self.condition(ConditionType.INVALID)
        return "" if last is None else last.message or last.reason

    def condition(self, kind: ConditionType) -> LeaseCondition | None:
        """The condition of that type, if it was ever set."""
        return next((one for one in self.conditions if one.type is kind), None)

    def with_condition(self, condition: LeaseCondition) -> Lease:
        """The lease with a condition updated in its place, or added as the last. Nothing new: the very same lease."""
        before = self.condition(condition.type)
        if before is None:
            return replace(self, conditions=(*self.conditions, condition))
        if before.holds == condition.holds:
            if (before.reason, before.message) == (condition.reason, condition.message):
                return self
            condition = replace(condition, since=before.since)
        updated = tuple(condition if one.type is condition.type else one for one in self.conditions)
        return replace(self, conditions=updated)


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who may use a policy's exporters, how urgently and how long."""

    clients: tuple[str, ...]
    """Selectors on clients' labels; any of them is enough, none admits nobody."""
    priority: int = 0
    maximum_duration: float | None = None
    description: str = ""


class Policy(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Who may use which exporters. Without any policy in a namespace, everybody may use all of it."""

    KIND = "policy"

    exporters: str = ""
    """Selector on exporters' labels; empty selects all."""
    rules: tuple[Rule, ...] = ()


class Drain(Record, frozen=True, kw_only=True, omit_defaults=True):
    """While there is one, no lease begins in the whole lab: those that run go on, the others wait."""

    KIND = "drain"
    KEY: ClassVar[Key] = Key("", "lab")
    """Of the only one."""

    reason: str = ""
    """What who drained the lab has said."""


class PairingCode(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A single-use code with which a new client, exporter or host gets its token. Only its hash is kept.

    `name` is the code's own; `subject` what will be created, or, with `renew`, what gets a new token.
    """

    KIND = "code"
    STATUS = frozenset(("redeemer", "made", "replaced", "issued"))

    kind: str
    subject: str
    digest: str
    expires: float
    labels: dict[str, str] = {}
    may_label: tuple[str, ...] = ()
    renew: bool = False
    redeemer: str = ""
    """Hash of the nonce of who used it, and may use it again; empty while nobody has."""
    made: str = ""
    """The uid that they got, or get as soon as they ask again: a code is used before it gives anything."""
    replaced: str = ""
    """The uid that was there before."""
    issued: bool = False
    """What it was for is there, and its token may be out: when that is gone, it does not come back with this code."""
