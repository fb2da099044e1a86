"""Describes changes of records as text. The reconciler calls it when a change is in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from jumpstarter_proto.texts import shown

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Lease,
    PairingCode,
    Policy,
    Record,
)
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.selectors import SelectorError, parse

__all__ = ["Entry", "entries", "write"]

Entry = tuple[int, str, dict[str, str]]
"""Level, sentence, fields."""

_log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)
_OLD_ONES = {False: "the old ones are no longer valid", True: "the old one stays valid for one day"}


def write(
    before: Record | None, after: Record | None, keep: Callable[[str, Mapping[str, str]], None]
) -> None:
    """Log what a change means, and add it to the audit log."""
    for level, sentence, fields in entries(before, after):
        _log.log(level, "%s", sentence, extra=fields)
        if level >= logging.INFO:
            keep(sentence, fields)


def entries(before: Record | None, after: Record | None) -> Iterator[Entry]:
    """The description of a change; nothing if it is not worth an entry."""
    record = after or before
    match record:
        case None | ExporterDevices():  # what an exporter registers with is said of the exporter
            return
        case Lease():
            sentences = _lease(_as(Lease, before), _as(Lease, after))
        case Exporter():
            sentences = _exporter(_as(Exporter, before), _as(Exporter, after))
        case PairingCode():
            sentences = _existence(f"pairing code for {record.kind} {record.subject}", before, after)
        case Policy():
            sentences = _policy(before, _as(Policy, after))
        case Drain():
            sentences = _drain(_as(Drain, before), _as(Drain, after))
        case _:
            sentences = _existence(record.KIND, before, after)
    for level, sentence in sentences:
        yield level, sentence, about(record)


_Sentences = Iterator[tuple[int, str]]


def _as(kind: type[R], record: Record | None) -> R | None:
    return record if isinstance(record, kind) else None


def _lease(before: Lease | None, after: Lease | None) -> _Sentences:
    if after is None:
        if before is not None and before.ended is None:  # by a program that does not ask this controller
            yield logging.INFO, "lease ended: somebody deleted it"
        else:
            yield logging.DEBUG, "lease forgotten"
        return
    if before is None:
        asked = " ".join(word for word in (after.exporter_name, after.selector) if word)
        yield logging.INFO, f"lease created: {asked}, for {after.duration:g} s"
    else:
        if before.client != after.client:
            yield logging.INFO, f"lease transferred from {before.client} to {after.client}"
        # Once it has begun, its begin moves with a clock that was set, and nothing else moves it.
        begins = before.begin_time != after.begin_time and before.begun is None
        if begins or (before.duration, before.end_time) != (after.duration, after.end_time):
            yield logging.INFO, f"lease changed: it lasts {after.duration:g} s now"
    if before and before.offered is not None and not after.exporter and after.ended is None:
        yield logging.INFO, f"lease was not taken by {before.exporter}; it waits again"
    if after.accepted and not (before and before.accepted):
        waited = max(0.0, (after.begun or after.created) - after.created)
        yield logging.INFO, f"lease ready on {after.exporter} after {waited:.1f} s"
    if after.ended is not None:
        if before is None or before.ended is None:
            yield logging.INFO, f"lease ended: {after.outcome}"
        return
    waits = after.condition(ConditionType.PENDING)
    if waits is not None and not after.exporter:
        was = before and before.condition(ConditionType.PENDING)
        if not was or (was.reason, was.code) != (
            waits.reason,
            waits.code,
        ):  # its message may change with every step of the queue
            yield logging.INFO, f"lease waits: {waits.message or waits.reason}"


def _policy(before: Record | None, after: Policy | None) -> _Sentences:
    yield from _existence("policy", before, after)
    if after is None:
        return
    selectors = (after.exporters, *(one for rule in after.rules for one in rule.clients))
    for selector in selectors:
        try:
            parse(selector)
        except SelectorError as error:  # written by another program
            yield (
                logging.WARNING,
                (
                    f"policy has a selector that cannot be read, and lets nobody in by it: {shown(str(error), 200)}; "
                    "apply the policy again with a correct one"
                ),
            )


def _exporter(before: Exporter | None, after: Exporter | None) -> _Sentences:
    yield from _existence("exporter", before, after)
    if before is None or after is None:
        return
    if after.gone_since is not None:
        if before.gone_since is None:
            yield logging.INFO, f"board is {after.status_message}"
        return
    if after.devices and (before.devices, before.labels) != (after.devices, after.labels):
        yield logging.INFO, f"exporter registered with {after.devices} devices"
    elif before.devices and not after.devices:
        yield logging.INFO, f"exporter unregistered: {after.status_message}"
        return
    if before.status is after.status:
        return
    if after.status is ExporterStatus.OFFLINE and not before.devices:
        return  # it has registered, and connects next
    said = after.status.name + (f": {after.status_message}" if after.status_message else "")
    if after.status is ExporterStatus.OFFLINE:
        yield logging.WARNING, f"exporter lost: {after.status_message}"
    elif before.status is ExporterStatus.OFFLINE:
        yield logging.INFO, f"exporter is back, {said}"
    else:
        yield logging.INFO, f"exporter is {said}"


def _existence(word: str, before: Record | None, after: Record | None) -> _Sentences:
    if before is None:
        yield logging.INFO, f"{word} created"
    elif after is None:
        yield logging.INFO, f"{word} deleted"
    elif isinstance(before, Client | Exporter | Host) and isinstance(after, Client | Exporter | Host):
        if before.uid != after.uid:
            kept = isinstance(after, Client) and after.previous_uid == before.uid
            yield logging.INFO, f"{word} gets a new token, {_OLD_ONES[kept]}"
        if before.enabled != after.enabled:
            yield logging.INFO, f"{word} {'enabled' if after.enabled else 'disabled'}"
        if isinstance(before, Host) and isinstance(after, Host):
            yield from _host(before, after)
    elif isinstance(before, PairingCode) and isinstance(after, PairingCode):
        if before.redeemer != after.redeemer:
            yield logging.INFO, f"{word} used"
    elif isinstance(after, Policy):
        yield logging.INFO, f"{word} changed"


def _drain(before: Drain | None, after: Drain | None) -> _Sentences:
    if after is None:
        yield logging.INFO, "lab is resumed: leases begin again"
    elif before is None or before.reason != after.reason:
        why = f" ({after.reason})" if after.reason else ""
        yield logging.INFO, f"lab is drained{why}: no lease begins until it is resumed"


def _host(before: Host, after: Host) -> _Sentences:
    if before.labels != after.labels:
        labels = ",".join(f"{key}={value}" for key, value in sorted(after.labels.items()))
        yield logging.INFO, f"host's boards have the labels {labels or 'of their own only'}"
    if before.may_label != after.may_label:
        yield logging.INFO, f"host may set the labels {', '.join(after.may_label) or 'of none'}"
