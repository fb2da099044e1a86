"""Decides which present data a restored lab keeps. No I/O.

An ended lease must not hold a board again, an active lease must continue, and a revoked token must not become valid
again. So leases, the state of exporters, identities, and whether the lab is drained stay as they are now. Clients,
exporters, hosts, policies and labels are restored from the backup.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Key,
    LabState,
    Lease,
    PairingCode,
    Record,
)
from jumpstarter_controller.lab.tables import RecordRef

__all__ = ["CarryOver", "carry_over", "dropped_codes", "is_other_lab", "valid_again"]

Subject = Client | Exporter | Host
SUBJECTS: tuple[type[Subject], ...] = (Client, Exporter, Host)
RESTORED = "it was deleted after the backup and is restored; it needs a new token"


@dataclass
class CarryOver:
    """The differences from the backup, and notes for the person who restores it."""

    changes: dict[RecordRef, Record | None] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def put(self, record: Record, backup: LabState) -> None:
        """Write this record."""
        if backup.get(type(record), record.key) != record:
            self.changes[type(record), record.key] = record

    def remove(self, record: Record) -> None:
        """Delete this record."""
        self.changes[type(record), record.key] = None


def dropped_codes(backup: LabState) -> CarryOver:
    """The backup without its pairing codes, because codes that were used since would be valid again."""
    found = CarryOver()
    codes = list(backup.all(PairingCode))
    for code in codes:
        found.remove(code)
    unused = [code for code in codes if not code.redeemer]
    if unused:
        names = _names(f"{code.kind.lower()} {code.namespace}/{code.subject}" for code in unused)
        found.sentences.append(f"pairing codes are not restored; make new ones for {names}")
    return found


def is_other_lab(present: LabState, backup: LabState) -> bool:
    """Whether the present lab has nothing of the backup: as one that began anew where the database was missing."""
    known = _uids(backup)
    return bool(known) and not known & _uids(present)


def _uids(lab: LabState) -> set[str]:
    return {one.uid for kind in (*SUBJECTS, Lease) for one in lab.all(kind)} - {""}


def carry_over(backup: LabState, present: LabState) -> CarryOver:
    """The records to restore, if the present data can be read."""
    found = dropped_codes(backup)
    for kind in SUBJECTS:
        found.sentences += _tokens(found, backup, present, kind)
        made_since = [one for one in present.all(kind) if backup.get(kind, one.key) is None]
        if made_since:
            names = _names(str(one.key) for one in made_since)
            found.sentences.append(
                f"{kind.KIND}s that were made after the backup are gone: {names}; make them anew if they are needed"
            )
    for devices in present.all(ExporterDevices):
        if backup.get(Exporter, devices.key) is not None:
            found.put(devices, backup)
    found.sentences += _leases(found, backup, present)
    if (drain := present.get(Drain, Drain.KEY)) is not None:
        found.put(drain, backup)
    elif (former := backup.get(Drain, Drain.KEY)) is not None:
        found.remove(former)
    return found


def count_as_deleted(damaged: Iterable[RecordRef]) -> str:
    """A note about present records that cannot be read: so no revoked token is valid again."""
    names = _names(f"{kind.KIND} {key}" for kind, key in damaged)
    return f"records of the present data that are damaged count as deleted: {names}"


def valid_again(backup: LabState, present: LabState) -> list[str]:
    """Notes about tokens that are invalid now, and become valid when the backup is restored unchanged."""
    sentences = []
    for kind in SUBJECTS:
        gone, rotated, disabled = _taken_away(backup, present, kind)
        for what, records in (("deleted", gone), ("given a new token", rotated), ("disabled", disabled)):
            if records:
                names = _names(str(one.key) for one in records)
                sentences.append(
                    f"{kind.KIND}s that were {what} after the backup are as they were in it, with their old tokens: "
                    f"{names}; take back what is not to be: jumpstarter-controller admin {kind.KIND} --help"
                )
    return sentences


def _taken_away(
    backup: LabState, present: LabState, kind: type[Subject]
) -> tuple[list[Subject], list[Subject], list[Subject]]:
    """The records of the backup that were deleted, got new tokens, or were disabled since."""
    gone: list[Subject] = []
    rotated: list[Subject] = []
    disabled: list[Subject] = []
    for record in sorted(backup.all(kind), key=lambda one: one.key):
        now = present.get(kind, record.key)
        if now is None:
            gone.append(record)
            continue
        if _identity(now) != _identity(record):
            rotated.append(record)
        if record.enabled and not now.enabled:
            disabled.append(record)
    return gone, rotated, disabled


def _identity(record: Subject) -> tuple[str, ...]:
    """Whose tokens are its own; not those that it has replaced itself, which end by themselves."""
    return record.uid, record.username


def _tokens(found: CarryOver, backup: LabState, present: LabState, kind: type[Subject]) -> Iterator[str]:
    """Keep the identities of now: revoked tokens stay invalid, and valid tokens stay valid."""
    gone, rotated, disabled = _taken_away(backup, present, kind)
    for record in backup.all(kind):
        now = present.get(kind, record.key)
        found.put(_without_token(record) if now is None else _as_now(record, now), backup)
    command = f"jumpstarter-controller admin {kind.KIND}"
    if gone:
        names = _names(str(one.key) for one in gone)
        yield (
            f"{kind.KIND}s that were deleted after the backup are there again, and their old tokens are invalid: "
            f"{names}; delete them, or give them new tokens: jumpstarter-controller admin pair {kind.KIND} NAME --renew"
        )
        if users := [one for one in gone if one.username]:
            names = _names(str(one.key) for one in users)
            yield f"of these, users of another issuer are disabled: {names}; to let them in: {command} enable NAME"
    if rotated:
        names = _names(str(one.key) for one in rotated)
        yield f"{kind.KIND}s that got new tokens after the backup keep them, and the old ones stay revoked: {names}"
    if disabled:
        names = _names(str(one.key) for one in disabled)
        yield f"{kind.KIND}s that were disabled after the backup stay so: {names}; otherwise: {command} enable NAME"


def _without_token(record: Subject) -> Subject:
    """The record from the backup with a new uid, so that no token is valid for it."""
    uid = str(uuid.uuid4())
    if isinstance(record, Client):
        enabled = record.enabled and not record.username
        return replace(record, uid=uid, previous_uid="", previous_uid_until=0.0, enabled=enabled)
    if isinstance(record, Exporter):
        enabled = record.enabled and not record.username
        fresh = Exporter(namespace=record.namespace, name=record.name)
        return replace(
            fresh,
            uid=uid,
            created=record.created,
            labels=record.labels,
            username=record.username,
            enabled=enabled,
            host=record.host,
            said=record.said,
            status=ExporterStatus.OFFLINE,
            status_message=RESTORED,
        )
    return replace(record, uid=uid)


def _as_now(record: Subject, now: Subject) -> Subject:
    """The settings from the backup, with the identity and the state of now."""
    enabled = record.enabled and now.enabled
    if isinstance(now, Client):
        return replace(now, labels=record.labels, created=record.created, enabled=enabled)
    if isinstance(now, Exporter) and isinstance(record, Exporter):
        return replace(
            now,
            labels=record.labels,
            created=record.created,
            enabled=enabled,
            host=record.host,
            said=record.said,
        )
    return replace(record, uid=now.uid)


def _leases(found: CarryOver, backup: LabState, present: LabState) -> Iterator[str]:
    for lease in present.all(Lease):
        found.put(lease, backup)
    # Only what has ended is ever forgotten: what is open in the backup and not there now has ended meanwhile.
    forgotten = [lease for lease in backup.open_leases() if present.get(Lease, lease.key) is None]
    for lease in forgotten:
        found.remove(lease)
    without = [
        lease
        for lease in present.open_leases()
        if backup.get(Client, Key(lease.namespace, lease.client)) is None
        or (lease.exporter and backup.get(Exporter, Key(lease.namespace, lease.exporter)) is None)
    ]
    if without:
        names = _names(str(lease.key) for lease in without)
        yield f"leases end, as their client or exporter was made after the backup: {names}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
