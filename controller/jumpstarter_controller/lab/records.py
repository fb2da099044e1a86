"""The records of a lab. They are immutable: a change is a new record, so that readers never see half of one.

Times are seconds since the epoch, durations seconds.
"""

from __future__ import annotations

import enum
from typing import ClassVar, NamedTuple

import msgspec
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.report_labels import OWN_PREFIX
from msgspec.structs import replace

__all__ = [
    "LEASE_ENDED",
    "NOT_ANSWERING",
    "TAG_PREFIX",
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
    """Identifies a record among those of its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all records."""

    KIND: ClassVar[str]
    STATUS: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that belong to the status. All other fields are the spec."""

    namespace: str
    name: str
    uid: str = ""
    """Tokens name it. A record with a new uid gets new tokens; tokens with the old uid are invalid."""
    created: float = 0.0

    @property
    def key(self) -> Key:
        """Unique among the records of its kind."""
        return Key(self.namespace, self.name)

    def accepts_uid(self, uid: str, now: float) -> bool:
        """Whether tokens with that uid belong to this record and are valid."""
        return uid == self.uid


class Client(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A user or a program that leases exporters."""

    KIND = "client"

    labels: dict[str, str] = {}
    username: str = ""
    """The user of an external token issuer; empty: only tokens of this controller are accepted."""
    enabled: bool = True
    previous_uid: str = ""
    """The uid before the client rotated its own token. Its tokens are valid until `previous_uid_until`."""
    previous_uid_until: float = 0.0

    def accepts_uid(self, uid: str, now: float) -> bool:
        """Whether tokens with that uid belong to this record and are valid."""
        return uid == self.uid or (bool(uid) and uid == self.previous_uid and now < self.previous_uid_until)


class UnavailableReason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an exporter is not available, for programs and for people."""

    code: str
    """Reported by the exporter, such as "local-use", or `NOT_ANSWERING`."""
    sentence: str = ""


NOT_ANSWERING = "not-answering"
"""Set by the controller: the exporter did not accept or decline a lease in time."""


class Exporter(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A board, registered by the exporter process on its host."""

    KIND = "exporter"
    STATUS = frozenset(
        ("devices", "status", "status_message", "reasons", "answers", "gone_since", "lease", "replica")
    )

    labels: dict[str, str] = {}
    username: str = ""
    enabled: bool = True
    devices: int = 0
    """Number of device reports in its last Register; 0: it is not registered."""
    status: ExporterStatus = ExporterStatus.UNSPECIFIED
    status_message: str = ""
    reasons: tuple[UnavailableReason, ...] = ()
    """Why it is not available. Empty if it is, and for exporters that report the reason as text only."""
    answers: bool = False
    """Whether it accepts or declines each lease. A lease then begins when it is accepted, otherwise at once."""
    host: str = ""
    """The host that registered it as one of its boards; empty: it was created on its own."""
    said: dict[str, str] = {}
    """Labels that its host has set."""
    gone_since: float | None = None
    """When its host retired the board."""
    lease: str = ""
    """The lease that has the exporter, or that it is offered to. Only this field decides which lease has a board."""
    replica: str = ""
    """The controller replica that it is connected to; empty: none, or there is only one controller."""


class Host(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A machine that registers its boards as exporters. It owns their names and may set some of their labels."""

    KIND = "host"

    labels: dict[str, str] = {}
    """Labels that the lab's administrator gives to each of its boards."""
    may_label: tuple[str, ...] = ()
    """Label keys that it may set, in addition to those under `jumpstarter.dev/`."""
    username: ClassVar[str] = ""
    """Users of external token issuers cannot be hosts."""
    enabled: ClassVar[bool] = True


class ReportedDevice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device, as its exporter reported it. All texts are untrusted."""

    path: str
    """Names from below the root, joined by dots."""
    interface: str = ""
    """Such as "power"; empty if the exporter does not report it (Jumpstarter's exporters do not)."""
    client: str = ""
    """Import path of its client class."""
    state: str = ""
    """Such as "ready" or "missing"; empty if the exporter does not report it."""
    reason: str = ""
    """Why it is in that state."""
    description: str = ""
    uuid: str = ""
    """As reported. Jumpstarter's exporters report a new one in each session."""


class ReportedHook(msgspec.Struct, frozen=True, rename="camel"):
    """A hook, as its exporter reported it."""

    name: str
    """`beforeLease` or `afterLease`."""
    timeout_seconds: int
    on_failure: str
    """`warn`, `endLease` or `exit`."""


class ExporterDevices(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Devices and hooks of the exporter of the same name. A separate record: the exporter's status changes often."""

    KIND = "devices"
    STATUS = frozenset(("devices", "omitted", "hooks"))

    devices: tuple[ReportedDevice, ...] = ()
    omitted: int = 0
    """Number of reported devices that were not stored."""
    hooks: tuple[ReportedHook, ...] = ()


LEASE_ENDED = f"{OWN_PREFIX}lease-ended"
"""The label of ended leases, by which Jumpstarter's controller and its tools leave them out."""
TAG_PREFIX = f"metadata.{OWN_PREFIX}"
"""The prefix of a lease's labels that are its tags."""


class ConditionType(enum.StrEnum):
    """Types of lease conditions."""

    PENDING = "Pending"
    UNSATISFIABLE = "Unsatisfiable"
    INVALID = "Invalid"
    READY = "Ready"


class LeaseCondition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A condition of a lease: its type, whether it holds, since when and why."""

    type: ConditionType
    holds: bool
    reason: str
    message: str = ""
    since: float = 0.0
    code: str = ""
    """A reason code for programs. `reason` is limited to Jumpstarter's own words, which are less precise."""


class Lease(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A client's right to use one exporter for some time: the request, and its outcome."""

    KIND = "lease"
    STATUS = frozenset(("exporter", "priority", "offered", "begun", "ended", "conditions"))

    client: str
    """A client of the same namespace."""
    sequence: int = 0
    """Position in the order of creation, independent of the clock. The store assigns it."""
    selector: str = ""
    """Canonical text."""
    exporter_name: str = ""
    """The exporter that was requested by name."""
    duration: float = 0.0
    begin_time: float | None = None
    end_time: float | None = None
    tags: dict[str, str] = {}
    context: dict[str, str] = {}
    allow_disabled: bool = False
    release: bool = False
    """Whether its end was requested."""
    release_reason: str = ""
    """The reason, if one was given."""
    waited: bool = False
    """A command waits for this lease and does not know yet that it has a board. The lease ends if the command stops
    polling or watching."""

    waits_for_board: bool = False
    """Wait for a matching exporter to be registered, instead of ending as unsatisfiable."""

    exporter: str = ""
    """The allocated exporter; empty while the lease waits."""
    priority: int = 0
    offered: float | None = None
    """When it was offered to its exporter, which has not accepted it yet; None once it has begun."""
    begun: float | None = None
    ended: float | None = None
    conditions: tuple[LeaseCondition, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it holds an exporter exclusively."""
        return bool(self.exporter) and self.ended is None

    @property
    def accepted(self) -> bool:
        """Whether its exporter has accepted it."""
        return bool(self.exporter) and self.offered is None

    @property
    def expiry(self) -> float | None:
        """When it expires; None as long as that is not known."""
        if self.end_time is not None:
            return self.end_time
        start = self.begin_time if self.begin_time is not None else self.begun
        return None if start is None else start + self.duration

    @property
    def outcome(self) -> str:
        """The reason for its end as text; empty if no condition has one."""
        last = self.condition(ConditionType.READY)
        if last is None or last.holds:
            last = self.condition(ConditionType.UNSATISFIABLE) or self.condition(ConditionType.INVALID)
        return "" if last is None else last.message or last.reason

    def condition(self, kind: ConditionType) -> LeaseCondition | None:
        """The condition of that type; None if it was never set."""
        return next((one for one in self.conditions if one.type is kind), None)

    def with_condition(self, condition: LeaseCondition) -> Lease:
        """The lease with this condition replaced or appended; the same object if nothing changed."""
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
    """Which clients may use a policy's exporters, with which priority and for how long."""

    clients: tuple[str, ...]
    """Selectors on client labels. One match is enough; an empty tuple matches no client."""
    priority: int = 0
    maximum_duration: float | None = None
    description: str = ""


class Policy(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Which clients may use which exporters. In a namespace without policies all clients may use all exporters."""

    KIND = "policy"

    exporters: str = ""
    """Selector on exporter labels; empty selects all."""
    rules: tuple[Rule, ...] = ()


class Drain(Record, frozen=True, kw_only=True, omit_defaults=True):
    """While this record exists no lease begins in the whole lab; active leases continue."""

    KIND = "drain"
    KEY: ClassVar[Key] = Key("", "lab")
    """There is at most one, with this key."""

    reason: str = ""
    """The reason that the administrator gave."""


class PairingCode(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A single-use code with which a new client, exporter or host gets its token. Only its hash is kept.

    `name` is the name of the code, `subject` the name of the object to create or, with `renew`, of the existing object.
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
    """Hash of the nonce with which it was redeemed. Only the same nonce can redeem it again; empty: not redeemed."""
    made: str = ""
    """The uid of the created object. Written before the object itself, so that a retry creates the same object."""
    replaced: str = ""
    """The object's uid before the renewal."""
    issued: bool = False
    """Whether the object was created and its token may have been sent. A deleted object is not created again."""
