"""Each kind of record and its object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from jumpstarter_proto.durations import TimeFormatError, parse_go_duration
from jumpstarter_proto.report_labels import CLIENT, NAME, OWN_PREFIX

from jumpstarter_controller.lab import (
    LEASE_ENDED,
    TAG_PREFIX,
    Client,
    ConditionType,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Lease,
    LeaseCondition,
    PairingCode,
    Policy,
    Record,
    Rule,
)
from jumpstarter_controller.selectors import SelectorError, parse
from jumpstarter_controller.selectors.label_selector import label_selector, selector_text
from jumpstarter_controller.store.kubernetes.conditions import condition_of, conditions_of, with_conditions
from jumpstarter_controller.store.kubernetes.fields import (
    Field,
    Object,
    at,
    dig,
    duration_at,
    note,
    reference_at,
    selector_at,
    time_at,
)
from jumpstarter_controller.store.kubernetes.mapping import (
    GROUP,
    LAB_GROUP,
    READABLE,
    WRITTEN,
    Mapping,
    mark_in_conditions,
)
from jumpstarter_controller.store.kubernetes.texts import duration_text, read_time

__all__ = ["MAPPINGS", "with_devices"]

MAX_LISTED = 200
"""Devices in the object of an exporter, which is written with each lease."""

_TOKEN_UID = note("migrated-uid", prefix=OWN_PREFIX)
"""Of clients and exporters: the uid that tokens name, where it is not the object's. Jumpstarter's own annotation."""
_LABELS = at("metadata.labels")
_WORDS = {one: one.name.title().replace("_", "") for one in ExporterStatus}
_STATUSES = {word: one for one, word in _WORDS.items()}


class _WithConditions(Mapping):
    """Its status has a list of conditions, in which ours is the first."""

    def mark(self, item: Object) -> dict[str, Any]:
        return mark_in_conditions(item)

    def write_mark(self, item: Object, mark: dict[str, Any], now: float) -> None:
        text = msgspec.json.encode(mark).decode()
        others = [one for one in conditions_of(item) if one.get("type") != WRITTEN]
        own = condition_of(item, WRITTEN, True, "Written", text, since=now)
        item.setdefault("status", {})["conditions"] = [own, *others]

    def flagged(self, item: Object, why: str, now: float) -> Object:
        before = conditions_of(item)
        others = [one for one in before if one.get("type") != READABLE]
        new = condition_of(item, READABLE, False, "Invalid", why, since=now)
        if why and any(
            one.get("type") == READABLE and one.get("message") == new["message"] for one in before
        ):
            return item
        if not why and len(others) == len(before):
            return item
        status = (item.get("status") or {}) | {"conditions": [*others, new] if why else others}
        return item | {"status": self.completed(status)}

    def completed(self, status: Object) -> Object:
        """The status with what its schema requires."""
        return status


def with_devices(item: Object, devices: Object | None) -> Object:
    """An exporter's object in which its devices are listed as Jumpstarter 0.9's are, from the object that has them.

    The root is not among them: it has another UUID in each session.
    """
    uuids: dict[str, str] = {}
    found: list[Object] = []
    for one in dig(devices or {}, "status", "devices") or ():
        path, uuid = one.get("path", ""), one.get("uuid", "")
        if not path or not uuid or len(found) >= MAX_LISTED:
            continue
        dots = [at for at, letter in enumerate(path) if letter == "."]
        above = next((path[:at] for at in reversed(dots) if path[:at] in uuids), "")
        labels = {NAME: path.removeprefix(f"{above}.") if above else path}
        if client := one.get("client"):
            labels[CLIENT] = client
        uuids[path] = uuid
        found.append({"uuid": uuid, "labels": labels} | ({"parent_uuid": uuids[above]} if above else {}))
    if found == (dig(item, "status", "devices") or []):
        return item
    status = {key: value for key, value in (item.get("status") or {}).items() if key != "devices"}
    return item | {"status": status | ({"devices": found} if found else {})}


class _Exporter(_WithConditions):
    """Devices are counted. Their list (`with_devices`) is for others to read."""

    def values(self, item: Object) -> dict[str, Any]:
        found, mark = super().values(item), self.mark(item)
        listed = _listed(item)
        found["devices"] = mark.get("devices", 0) if mark.get("listed", -1) == listed else listed
        return found

    def marks(self, item: Object, record: Record) -> dict[str, Any]:
        assert isinstance(record, Exporter)
        found = super().marks(item, record)
        return (
            found
            if record.devices == _listed(item)
            else found | {"devices": record.devices, "listed": _listed(item)}
        )

    def write_status(self, item: Object, record: Record, news: dict[str, Any], now: float) -> None:
        assert isinstance(record, Exporter)
        is_there = record.status not in {ExporterStatus.UNSPECIFIED, ExporterStatus.OFFLINE}
        online = ("Seen", "") if is_there else ("Offline", record.status_message or "It is not connected")
        registered = ("Register", "") if record.devices else ("Unregister", "")
        item.setdefault("status", {})["conditions"] = with_conditions(
            item,
            condition_of(item, "Online", is_there, *online, since=now),
            condition_of(item, "Registered", record.devices > 0, *registered, since=now),
        )


class _Lease(_WithConditions):
    def completed(self, status: Object) -> Object:
        return {"ended": False} | status

    def values(self, item: Object) -> dict[str, Any]:
        found = super().values(item)
        status = item.get("status") or {}
        if status.get("ended"):
            times = [one.get("lastTransitionTime") for one in conditions_of(item)]
            end = status.get("endTime") or next(
                (one for one in reversed(times) if one), item["metadata"]["creationTimestamp"]
            )
            found["ended"] = read_time(end)
        codes = self.mark(item).get("codes", {})
        found["conditions"] = [
            LeaseCondition(
                ConditionType(one["type"]),
                one.get("status") == "True",
                one.get("reason", ""),
                one.get("message", ""),
                read_time(one["lastTransitionTime"]),
                codes.get(one["type"], ""),
            )
            for one in conditions_of(item)
            if one.get("type") in set(ConditionType)
        ]
        return found

    def write_status(self, item: Object, record: Record, news: dict[str, Any], now: float) -> None:
        assert isinstance(record, Lease)
        status = item.setdefault("status", {})
        status["ended"] = record.ended is not None
        if "ended" in news:
            _ENDED.write(item, record.ended)
        if "conditions" in news:
            own = set(ConditionType)
            others = [one for one in conditions_of(item) if one.get("type") not in own]
            status["conditions"] = [*others, *(_lease_condition(item, one) for one in record.conditions)]

    def labelled(self, item: Object) -> Object:
        labels = dig(item, "metadata", "labels") or {}
        if not dig(item, "status", "ended") or labels.get(LEASE_ENDED) == "true":
            return item
        return item | {"metadata": item["metadata"] | {"labels": labels | {LEASE_ENDED: "true"}}}

    def marks(self, item: Object, record: Record) -> dict[str, Any]:
        assert isinstance(record, Lease)
        codes = {one.type.value: one.code for one in record.conditions if one.code}
        return super().marks(item, record) | ({"codes": codes} if codes else {})

    def project_spec(self, item: Object, record: Record) -> None:
        assert isinstance(record, Lease)
        labels = parse(record.selector).equalities
        labels = {key: value for key, value in labels.items() if not key.startswith(TAG_PREFIX)}
        labels |= {f"{TAG_PREFIX}{key}": value for key, value in record.tags.items()}
        if record.release:  # it ends with the next write
            labels[LEASE_ENDED] = "true"
        if labels:
            item["metadata"]["labels"] = (dig(item, "metadata", "labels") or {}) | labels


class _Policy(Mapping):
    """A rule that cannot be read admits nobody, and the policy stays one: without any, everybody would be admitted."""

    @property
    def has_mark(self) -> bool:
        return False

    def values(self, item: Object) -> dict[str, Any]:
        found = super().values(item)
        try:
            found["exporters"] = selector_text(dig(item, "spec", "exporterSelector"))
        except SelectorError:
            found["rules"] = []
        return found


class _WithoutStatus(Mapping):
    @property
    def has_mark(self) -> bool:
        return False


def _listed(item: Object) -> int:
    """How many devices Jumpstarter's own controller has listed."""
    found = dig(item, "status", "devices")
    return len(found) if isinstance(found, list) else 0


def _lease_condition(item: Object, one: LeaseCondition) -> Object:
    return condition_of(item, one.type.value, one.holds, one.reason, one.message, since=one.since)


def _rules(given: Any) -> list[Rule]:
    return [_rule(one) for one in given]


def _rule(given: Object) -> Rule:
    """What cannot be read admits nobody, and so does what others may take away, which nobody here can grant."""
    description = str(given.get("description", ""))
    try:
        clients = tuple(selector_text(one.get("clientSelector")) for one in given.get("from") or ())
        maximum = given.get("maximumDuration")
        rule = msgspec.convert(
            {
                "clients": () if given.get("spotAccess") else clients,
                "priority": given.get("priority", 0),
                "maximum_duration": None if maximum is None else parse_go_duration(maximum),
                "description": description,
            },
            Rule,
        )
    except (SelectorError, TimeFormatError, TypeError, AttributeError, msgspec.ValidationError):
        return Rule(clients=(), description=description)
    return rule


def _rule_objects(rules: Sequence[Rule]) -> list[Object]:
    return list(map(_rule_object, rules))


def _rule_object(rule: Rule) -> Object:
    found: Object = {"description": rule.description} if rule.description else {}
    found |= {
        "priority": rule.priority,
        "from": [{"clientSelector": label_selector(one)} for one in rule.clients],
    }
    if rule.maximum_duration is not None:
        found["maximumDuration"] = duration_text(rule.maximum_duration)
    return found


_ENDED = time_at("status.endTime")


def _all() -> Iterator[Mapping]:
    yield _WithConditions(
        Client,
        GROUP,
        "clients",
        "Client",
        spec={
            "labels": _LABELS,
            "username": at("spec.username"),
            "enabled": note("enabled", bool),
            "previous_uid": note("outgoing"),
            "previous_uid_until": note("outgoing_until", float),
        },
        uid=_TOKEN_UID,
    )
    yield _Exporter(
        Exporter,
        GROUP,
        "exporters",
        "Exporter",
        spec={
            "labels": _LABELS,
            "username": at("spec.username"),
            "enabled": at("spec.enabled"),
            "host": note("host"),
            "said": note("said", dict[str, str]),
        },
        status={
            "status": Field(
                ("status", "exporterStatus"),
                lambda word: _STATUSES.get(word, ExporterStatus.UNSPECIFIED),
                lambda one: _WORDS[one],
            ),
            "status_message": at("status.statusMessage"),
            "lease": reference_at("status.leaseRef"),
        },
        marked=("reasons", "answers", "gone_since", "replica"),
        uid=_TOKEN_UID,
    )
    yield _Lease(
        Lease,
        GROUP,
        "leases",
        "Lease",
        spec={
            "client": reference_at("spec.clientRef"),
            "selector": selector_at("spec.selector"),
            "exporter_name": reference_at("spec.exporterRef"),
            "duration": duration_at("spec.duration"),
            "begin_time": time_at("spec.beginTime"),
            "end_time": time_at("spec.endTime"),
            "tags": at("spec.tags"),
            "context": at("spec.context"),
            "allow_disabled": at("spec.allowDisabled"),
            "release": at("spec.release"),
            "release_reason": note("release_reason"),
            "waited": note("waited", bool),
            "waits_for_board": note("waits_for_board", bool),
        },
        status={
            "exporter": reference_at("status.exporterRef"),
            "priority": at("status.priority"),
            "begun": time_at("status.beginTime"),
        },
        marked=("offered",),
    )
    yield _Policy(
        Policy,
        GROUP,
        "exporteraccesspolicies",
        "ExporterAccessPolicy",
        spec={
            "exporters": Field(("spec", "exporterSelector"), lambda _: "", label_selector),
            "rules": Field(("spec", "policies"), _rules, _rule_objects),
        },
    )
    yield _WithoutStatus(
        Host,
        LAB_GROUP,
        "hosts",
        "Host",
        spec={"labels": at("spec.labels"), "may_label": at("spec.mayLabel")},
    )
    yield Mapping(
        PairingCode,
        LAB_GROUP,
        "pairingcodes",
        "PairingCode",
        spec={
            "kind": at("spec.kind"),
            "subject": at("spec.subject"),
            "digest": at("spec.digest"),
            "expires": time_at("spec.expires"),
            "labels": at("spec.labels"),
            "may_label": at("spec.mayLabel"),
            "renew": at("spec.renew"),
        },
        status={name: at(f"status.{name}") for name in ("redeemer", "made", "replaced", "issued")},
    )
    yield Mapping(
        ExporterDevices,
        LAB_GROUP,
        "exporterdevices",
        "ExporterDevices",
        spec={},
        status={name: at(f"status.{name}") for name in ("devices", "omitted", "hooks")},
    )
    yield _WithoutStatus(
        Drain, LAB_GROUP, "drains", "Drain", spec={"reason": at("spec.reason")}, is_of_the_lab=True
    )


MAPPINGS: dict[type[Record], Mapping] = {one.record: one for one in _all()}
"""By the kind of record."""
