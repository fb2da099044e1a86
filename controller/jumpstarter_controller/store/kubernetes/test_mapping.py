"""Records and objects, without a server: what is written is read back, and nothing else is touched."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jumpstarter_controller.lab import (
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
    ReportedDevice,
    ReportedHook,
    Rule,
    UnavailableReason,
)
from jumpstarter_controller.lab.tables import KINDS
from jumpstarter_controller.store.contract import Half, aged, blank, defaults_of, merged
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.kinds import MAPPINGS, MAX_LISTED, with_devices
from jumpstarter_controller.store.kubernetes.mapping import NoRecordError
from jumpstarter_controller.store.kubernetes.patch import merge_patch
from jumpstarter_controller.store.kubernetes.texts import (
    duration_text,
    read_duration,
    read_time,
    time_text,
)

NOW = 1_764_460_800.5
NAMES = st.sampled_from(["a", "rpi4-1", "01a2212b-4e9e"])
TEXTS = st.sampled_from(["", "x", "banana", "ä\u2028\U0001f600", '{"a": null}'])
LABELS = st.dictionaries(
    st.sampled_from(["board", "team", "jumpstarter.dev/host"]), st.sampled_from(["", "a", "b"])
)
TIMES = st.integers(1_500_000_000_000, 2_500_000_000_000).map(lambda ms: ms / 1000)
SPANS = st.one_of(st.integers(1, 10_000_000).map(float), st.integers(1, 10_000_000).map(lambda ms: ms / 1000))
SELECTORS = st.sampled_from(
    ["", "board=rpi4", "a in (x,y),b notin (z),board=rpi4,!c,d", "k in (a)", "ram>2", "a="]
)
CONDITIONS = st.lists(
    st.builds(
        LeaseCondition,
        st.sampled_from(ConditionType),
        st.booleans(),
        st.sampled_from(["Ready", "NoAccess"]),
        TEXTS,
        TIMES,
        TEXTS,
    ),
    unique_by=lambda one: one.type,
    max_size=4,
).map(tuple)
COMMON = {"namespace": st.just("lab"), "name": NAMES, "uid": TEXTS, "created": TIMES}
RULES = st.builds(
    Rule,
    clients=st.lists(SELECTORS, max_size=2).map(tuple),
    priority=st.integers(-5, 5),
    maximum_duration=st.none() | SPANS,
    description=TEXTS,
)
RECORDS: dict[type[Record], st.SearchStrategy[Record]] = {
    Client: st.builds(
        Client,
        **COMMON,
        labels=LABELS,
        username=TEXTS,
        enabled=st.booleans(),
        previous_uid=TEXTS,
        previous_uid_until=st.just(0.0) | TIMES,
    ),
    Exporter: st.builds(
        Exporter,
        **COMMON,
        labels=LABELS,
        username=TEXTS,
        enabled=st.booleans(),
        devices=st.integers(0, 9),
        status=st.sampled_from(ExporterStatus),
        status_message=TEXTS,
        answers=st.booleans(),
        host=TEXTS,
        said=LABELS,
        reasons=st.lists(st.builds(UnavailableReason, TEXTS, TEXTS), max_size=2).map(tuple),
        gone_since=st.none() | TIMES,
        lease=TEXTS,
        replica=TEXTS,
    ),
    Lease: st.builds(
        Lease,
        **COMMON,
        client=NAMES,
        selector=SELECTORS,
        exporter_name=TEXTS,
        duration=st.just(0.0) | SPANS,
        begin_time=st.none() | TIMES,
        end_time=st.none() | TIMES,
        tags=LABELS,
        context=LABELS,
        allow_disabled=st.booleans(),
        release=st.booleans(),
        release_reason=TEXTS,
        waited=st.booleans(),
        waits_for_board=st.booleans(),
        exporter=TEXTS,
        priority=st.integers(-5, 5),
        offered=st.none() | TIMES,
        begun=st.none() | TIMES,
        ended=st.none() | TIMES,
        conditions=CONDITIONS,
    ),
    Policy: st.builds(Policy, **COMMON, exporters=SELECTORS, rules=st.lists(RULES, max_size=3).map(tuple)),
    Host: st.builds(Host, **COMMON, labels=LABELS, may_label=st.lists(TEXTS, max_size=2).map(tuple)),
    PairingCode: st.builds(
        PairingCode,
        **COMMON,
        kind=TEXTS,
        subject=TEXTS,
        digest=TEXTS,
        expires=TIMES,
        labels=LABELS,
        may_label=st.lists(TEXTS, max_size=2).map(tuple),
        renew=st.booleans(),
        redeemer=TEXTS,
        made=TEXTS,
        replaced=TEXTS,
        issued=st.booleans(),
    ),
    ExporterDevices: st.builds(
        ExporterDevices,
        **COMMON,
        omitted=st.integers(0, 3),
        hooks=st.lists(st.builds(ReportedHook, TEXTS, st.integers(1, 300), TEXTS), max_size=2).map(tuple),
        devices=st.lists(st.builds(ReportedDevice, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), max_size=2).map(
            tuple
        ),
    ),
    Drain: st.builds(Drain, **(COMMON | {"namespace": st.just(""), "name": st.just("lab")}), reason=TEXTS),
}
TREES = st.recursive(
    st.integers() | st.booleans() | TEXTS, lambda inner: st.dictionaries(st.sampled_from("abc"), inner)
)
PAIRS = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(RECORDS[kind], RECORDS[kind]))


def full(kind: type[Record], namespace: str = "lab") -> Record:
    """A record with something in every field."""
    common: dict[str, Any] = {"namespace": namespace, "name": "full", "uid": "of-it", "created": NOW}
    labels = {"board": "rpi4"}
    records: list[Record] = [
        Client(
            **common,
            labels=labels,
            username="dex:ann",
            enabled=False,
            previous_uid="old",
            previous_uid_until=NOW,
        ),
        Exporter(
            **common,
            labels=labels,
            username="dex:e1",
            enabled=False,
            devices=3,
            status=ExporterStatus.AFTER_LEASE_HOOK_FAILED,
            status_message="no\u2028power",
            reasons=(UnavailableReason("local-use", "ann is at it"), UnavailableReason("drained")),
            answers=True,
            host="pi4",
            said=labels,
            gone_since=NOW,
            lease="one",
            replica="pod-1",
        ),
        Lease(
            **common,
            client="ann",
            selector="a in (x,y),b notin (z),board=rpi4",
            exporter_name="rpi4",
            duration=90.5,
            begin_time=NOW,
            end_time=NOW + 1,
            tags={"team": "a"},
            context={"build": "7"},
            allow_disabled=True,
            release=True,
            release_reason="done",
            waited=True,
            waits_for_board=True,
            exporter="rpi4",
            priority=-3,
            offered=NOW,
            begun=NOW,
            ended=NOW,
            conditions=(
                LeaseCondition(ConditionType.PENDING, True, "NotAvailable", "busy", NOW, "all-leased"),
                LeaseCondition(ConditionType.READY, False, "Expired", "", NOW),
            ),
        ),
        Policy(
            **common,
            exporters="board=rpi4",
            rules=(Rule(clients=("team=a", ""), priority=7, maximum_duration=60.0, description="CI"),),
        ),
        Host(**common, labels=labels, may_label=("rack",)),
        PairingCode(
            **common,
            kind="Host",
            subject="pi4",
            digest="d",
            expires=NOW,
            labels=labels,
            may_label=("rack",),
            renew=True,
            redeemer="r",
            made="m",
            replaced="p",
            issued=True,
        ),
        ExporterDevices(
            **common,
            devices=(
                ReportedDevice("power", "power", "a.b.C", "ready", "why", "what", "u-1"),
                ReportedDevice("x"),
            ),
            omitted=2,
            hooks=(ReportedHook("beforeLease", 120, "endLease"),),
        ),
        Drain(**(common | {"namespace": "", "name": "lab"}), reason="new kernel"),
    ]
    (found,) = (one for one in records if type(one) is kind)
    return found


class Server:
    """What an API server does with an object, as far as it matters here."""

    def __init__(self, made: Object) -> None:
        self.version = 7
        self.item = json.loads(json.dumps(made))
        self.item["metadata"] |= {
            "uid": "of-the-server",
            "creationTimestamp": "2026-11-28T08:00:00Z",
            "resourceVersion": "7",
            "generation": 1,
        }
        self.item.pop("status", None)

    def patch(self, patch: Object, half: Half) -> None:
        patch = json.loads(json.dumps(patch))
        own = {key: value for key, value in patch.items() if (key == "status") == (half is Half.STATUS)}
        self.item = _merge(self.item, own)
        self.version += 1
        self.item["metadata"]["resourceVersion"] = str(self.version)


def _merge(item: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    found = dict(item) if isinstance(item, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merge(found.get(key), value)
    return found


def test_every_kind_of_record_has_its_object() -> None:
    assert MAPPINGS.keys() == RECORDS.keys() == set(KINDS)
    for kind, mapping in MAPPINGS.items():
        halves = {*mapping.spec, *mapping.status, *mapping.marked}
        own = {"namespace", "name", "uid", "created", "sequence"}
        special = {Exporter: {"devices"}, Lease: {"ended", "conditions"}}.get(kind, set())
        assert set(kind.__struct_fields__) - own - special == halves, kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_record_has_something_in_every_field(kind: type[Record]) -> None:
    record, usual = full(kind), defaults_of(kind)
    assert [name for name in usual if name != "sequence" and getattr(record, name) == usual[name]] == []


@given(PAIRS, st.sampled_from(Half), st.integers(0, 10**16))
def test_what_is_written_is_read_back(pair: tuple[Record, Record], half: Half, age: int) -> None:
    record, other = pair
    other = replace(other, name=record.name)
    mapping = MAPPINGS[type(record)]
    server = Server(mapping.made(record, "lab", "first", age))
    found = mapping.read(server.item)
    assert found.record == aged(blank(record), age)
    assert (found.revision, found.request, mapping.age(server.item)) == (7, "first", age)
    for number, (now, to) in enumerate(((record, Half.STATUS), (other, half), (record, half)), 2):
        before = mapping.read(server.item).record
        after = mapping.changed(server.item, now, to, f"request-{number}", NOW)
        server.patch(merge_patch(server.item, after), to if mapping.has_mark else Half.SPEC)
        found = mapping.read(server.item)
        pair = (now, before) if to is Half.SPEC else (before, now)
        assert found.record == aged(merged(*pair), age)
        assert found.request == f"request-{number}"


@given(PAIRS, st.sampled_from(Half))
def test_what_somebody_else_wrote_stays(pair: tuple[Record, Record], half: Half) -> None:
    record, other = pair
    mapping = MAPPINGS[type(record)]
    server = Server(mapping.made(record, "lab", "first", 1))
    theirs: dict[str, dict[str, Any]] = {
        "metadata": {
            "annotations": {"helm.sh/chart": "lab"},
            "finalizers": ["a/b"],
            "ownerReferences": [{"uid": "x"}],
        },
        "spec": {"sharedWith": ["bob"]},
        "status": {"credential": {"name": "ann-client"}, "endpoint": "lab:8082"},
    }
    condition = {
        "type": "Theirs",
        "status": "True",
        "reason": "R",
        "message": "",
        "lastTransitionTime": "2026-11-28T08:00:00Z",
    }
    if type(record) in {Client, Exporter, Lease}:
        theirs["status"]["conditions"] = [condition]
    server.item = _merge(server.item, theirs)
    if isinstance(record, Lease):
        server.item["status"]["ended"] = False
    before = copy.deepcopy(server.item)
    after = mapping.changed(server.item, replace(other, name=record.name), half, "second", NOW)
    assert server.item == before
    assert "finalizers" not in json.dumps(merge_patch(server.item, after))
    server.patch(merge_patch(server.item, after), half if mapping.has_mark else Half.SPEC)
    for part in ("metadata", "spec", "status"):
        for key, value in theirs[part].items():
            if key != "conditions":
                left = server.item[part][key]
                assert left == value or value.items() <= left.items()
    conditions = server.item["status"].get("conditions", [condition])
    assert condition in conditions


@given(TREES, TREES)
def test_a_merge_patch_makes_the_one_of_the_other(before: Any, after: Any) -> None:
    one, other = {"x": before}, {"x": after}
    patch = merge_patch(one, other)
    assert _merge(one, patch) == other
    assert bool(patch) == (json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))


@given(TIMES)
def test_times_are_exact(time: float) -> None:
    assert read_time(time_text(time)) == time


@given(SPANS)
def test_durations_are_exact(span: float) -> None:
    assert read_duration(duration_text(span)) == span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-28T08:00:16Z", 1_795_852_816.0),
        ("2026-11-28T09:00:16.25+01:00", 1_795_852_816.25),
        ("0001-01-01T00:00:00Z", -62_135_596_800.0),
    ],
)
def test_times_of_others_are_read(text: str, seconds: float) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01T00:00:00Z", "2026-11-28", "2026-11-28T08:00:16", "1" * 99]
)
def test_what_is_not_a_time_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a time|month|range"):
        read_time(text)


def lease_object(**spec: Any) -> Object:
    return {
        "metadata": {
            "namespace": "lab",
            "name": "one",
            "uid": "u",
            "resourceVersion": "5",
            "creationTimestamp": "2026-11-28T08:00:00Z",
        },
        "spec": {"clientRef": {"name": "ann"}, "selector": {"matchLabels": {"board": "rpi4"}}} | spec,
    }


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"duration": "banana"}, "its duration: 'banana' is not a duration"),
        ({"duration": "0s"}, "its duration: '0s' is zero"),
        ({"duration": 5}, "its duration"),
        ({"beginTime": "soon"}, "its beginTime: 'soon' is not a time"),
        (
            {"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}},
            "its selector: 'Like' is none of",
        ),
        ({"selector": {"matchLabels": {"a b": "c"}}}, "its selector: label key 'a b'"),
        ({"clientRef": {}}, "client"),
        ({"tags": {"a": 1}}, "tags"),
        ({"release": "yes"}, "release"),
    ],
)
def test_a_lease_that_is_none_says_why(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(NoRecordError, match=why):
        MAPPINGS[Lease].read(lease_object(**spec))


def test_a_lease_of_kubectl_is_as_old_as_its_object() -> None:
    stored = MAPPINGS[Lease].read(lease_object(duration="30m"))
    assert stored.record == Lease(
        namespace="lab",
        name="one",
        uid="u",
        created=1_795_852_800.0,
        sequence=1_795_852_800_000_000,
        client="ann",
        selector="board=rpi4",
        duration=1800.0,
    )
    assert stored.request == ""


def test_an_object_that_is_being_deleted_is_gone() -> None:
    item = lease_object()
    item["metadata"]["deletionTimestamp"] = "2026-11-28T08:00:00Z"
    with pytest.raises(NoRecordError, match="being deleted"):
        MAPPINGS[Lease].read(item)


def policy_object(**spec: Any) -> Object:
    return {"metadata": lease_object()["metadata"], "spec": spec}


ANYBODY: list[Object] = [{"clientSelector": {}}]


@pytest.mark.parametrize(
    "rule",
    [
        {"from": ANYBODY, "maximumDuration": "banana"},
        {"from": ANYBODY, "spotAccess": True},
        {"from": [*ANYBODY, {"clientSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}]},
        {"from": "everybody"},
        {"from": ANYBODY, "priority": "high"},
    ],
)
def test_a_rule_that_cannot_be_read_admits_nobody(rule: dict[str, Any]) -> None:
    item = policy_object(policies=[rule, {"from": ANYBODY}])
    policy = MAPPINGS[Policy].read(item).record
    assert isinstance(policy, Policy)
    assert [one.clients for one in policy.rules] == [(), ("",)]


def test_a_policy_for_exporters_that_nobody_can_tell_stays_a_policy() -> None:
    item = policy_object(exporterSelector={"matchLabels": {"a b": ""}}, policies=[{"from": ANYBODY}])
    policy = MAPPINGS[Policy].read(item).record
    assert isinstance(policy, Policy)
    assert policy.rules == ()


def test_an_exporter_of_jumpstarters_own_controller_has_the_devices_that_are_listed() -> None:
    mapping = MAPPINGS[Exporter]
    record = Exporter(namespace="lab", name="one", devices=1)
    server = Server(mapping.made(record, "lab", "", 1))
    server.item["status"] = {"devices": [{"uuid": "a"}, {"uuid": "b"}], "exporterStatus": "SomethingNew"}
    found = mapping.read(server.item).record
    assert isinstance(found, Exporter)
    assert (found.devices, found.status) == (2, ExporterStatus.UNSPECIFIED)
    server.patch(
        merge_patch(server.item, mapping.changed(server.item, record, Half.STATUS, "", NOW)), Half.STATUS
    )
    assert mapping.read(server.item).record == replace(record, uid="", created=0.0)
    server.item["status"]["devices"].append({"uuid": "c"})  # it writes again
    found = mapping.read(server.item).record
    assert isinstance(found, Exporter)
    assert found.devices == 3


def test_devices_are_listed_as_jumpstarters_own_tools_read_them() -> None:
    devices = [
        {"path": "rpi4", "client": "a.Composite", "uuid": "1"},
        {"path": "rpi4.power", "client": "a.Power", "uuid": "2"},
        {"path": "rpi4.no.dots", "uuid": "3"},
        {"path": "before"},
        {"path": "rpi4.power.relay", "uuid": "4"},
    ]
    item = {"spec": {}, "status": {"endpoint": "lab:1"}}
    listed = with_devices(item, {"status": {"devices": devices}})
    name, client = "jumpstarter.dev/name", "jumpstarter.dev/client"
    assert listed["status"]["devices"] == [
        {"uuid": "1", "labels": {name: "rpi4", client: "a.Composite"}},
        {"uuid": "2", "parent_uuid": "1", "labels": {name: "power", client: "a.Power"}},
        {"uuid": "3", "parent_uuid": "1", "labels": {name: "no.dots"}},
        {"uuid": "4", "parent_uuid": "2", "labels": {name: "relay"}},
    ]
    assert with_devices(listed, {"status": {"devices": devices}}) is listed
    assert with_devices(listed, None) == item
    many = [{"path": str(number), "uuid": str(number)} for number in range(2 * MAX_LISTED)]
    assert len(with_devices(item, {"status": {"devices": many}})["status"]["devices"]) == MAX_LISTED
