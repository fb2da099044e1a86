"""The life of a lease and of an exporter in words, once for each thing that happens."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from jumpstarter_controller.audit.wording import entries, write
from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Drain,
    Exporter,
    ExporterStatus,
    Host,
    Lease,
    LeaseCondition,
    PairingCode,
    Policy,
    Record,
    Rule,
)

LEASE = Lease(namespace="lab", name="l1", client="ann", selector="board=rpi4", duration=60.0, created=100.0)
EXPORTER = Exporter(namespace="lab", name="e1", uid="1")


def said(before: Record | None, after: Record | None) -> list[str]:
    return [sentence for _, sentence, _ in entries(before, after)]


def waits(reason: str, message: str) -> Lease:
    return replace(LEASE, conditions=(LeaseCondition(ConditionType.PENDING, True, reason, message),))


def test_what_is_said_is_kept_without_what_only_debugging_wants() -> None:
    kept: list[tuple[str, str]] = []
    for before, after in ((None, LEASE), (replace(LEASE, ended=130.0), None)):
        write(before, after, lambda sentence, fields: kept.append((sentence, fields["client"])))
    assert kept == [("lease created: board=rpi4, for 60 s", "ann")]


def test_a_leases_life() -> None:
    assert said(None, LEASE) == ["lease created: board=rpi4, for 60 s"]
    offline = waits("Offline", "none is online")
    assert said(LEASE, offline) == ["lease waits: none is online"]
    assert said(offline, waits("Offline", "none is online, still")) == []
    busy = waits("NotAvailable", "all are leased")
    assert said(offline, busy) == ["lease waits: all are leased"]
    ready = LeaseCondition(ConditionType.READY, True, "Ready")
    got = replace(busy, exporter="e1", begun=102.5, conditions=(*busy.conditions, ready))
    assert said(busy, got) == ["lease ready on e1 after 2.5 s"]
    longer = replace(got, duration=120.0)
    assert said(got, longer) == ["lease changed: it lasts 120 s now"]
    bobs = replace(longer, client="bob")
    assert said(longer, bobs) == ["lease transferred from ann to bob"]
    over = LeaseCondition(ConditionType.READY, False, "Released", "it was released")
    ended = replace(bobs, release=True, ended=130.0, conditions=(over,))
    assert said(bobs, ended) == ["lease ended: it was released"]
    assert said(ended, None) == ["lease forgotten"]
    for open_one in (offline, got):
        assert said(open_one, None) == ["lease ended: somebody deleted it"]
    for _, _, fields in [*entries(busy, got), *entries(bobs, ended)]:
        assert fields["exporter"] == "e1"
        assert (fields["namespace"], fields["lease"]) == ("lab", "l1")


def test_a_lab_that_is_drained() -> None:
    drain = Drain(namespace="", name="lab")
    why = replace(drain, reason="new kernel")
    assert said(None, drain) == ["lab is drained: no lease begins until it is resumed"]
    assert said(drain, why) == ["lab is drained (new kernel): no lease begins until it is resumed"]
    assert said(why, None) == ["lab is resumed: leases begin again"]
    busy = waits("NotAvailable", "all are leased")
    held = replace(LEASE, conditions=(replace(busy.conditions[0], message="drained", code="drained"),))
    assert said(busy, held) == ["lease waits: drained"]
    assert said(held, busy) == ["lease waits: all are leased"]


def test_a_lease_that_can_never_be_had() -> None:
    no = LeaseCondition(ConditionType.UNSATISFIABLE, True, "NoAccess", "no exporter matches")
    assert said(None, replace(LEASE, ended=100.0, conditions=(no,))) == [
        "lease created: board=rpi4, for 60 s",
        "lease ended: no exporter matches",
    ]


def test_an_exporter_comes_goes_and_returns() -> None:
    assert said(None, EXPORTER) == ["exporter created"]
    here = replace(EXPORTER, devices=3)
    assert said(EXPORTER, here) == ["exporter registered with 3 devices"]
    available = replace(here, status=ExporterStatus.AVAILABLE, status_message="free")
    assert said(here, available) == ["exporter is AVAILABLE: free"]
    lost = replace(available, status=ExporterStatus.OFFLINE, status_message="nothing was heard of it")
    ((level, sentence, _),) = entries(available, lost)
    assert (level, sentence) == (logging.WARNING, "exporter lost: nothing was heard of it")
    assert said(lost, available) == ["exporter is back, AVAILABLE: free"]
    left = replace(available, devices=0, status=ExporterStatus.OFFLINE, status_message="bye")
    assert said(available, left) == ["exporter unregistered: bye"]
    assert said(EXPORTER, replace(EXPORTER, uid="2")) == [
        "exporter gets a new token, the old ones are no longer valid"
    ]
    assert said(EXPORTER, replace(EXPORTER, enabled=False)) == ["exporter disabled"]
    assert said(EXPORTER, None) == ["exporter deleted"]


def test_other_records() -> None:
    ann = Client(namespace="lab", name="ann", uid="1")
    assert said(None, ann) == ["client created"]
    assert said(ann, replace(ann, labels={"a": "b"})) == []
    code = PairingCode(namespace="lab", name="c", kind="Exporter", subject="e9", digest="secret", expires=1.0)
    assert said(None, code) == ["pairing code for Exporter e9 created"]
    assert said(code, None) == ["pairing code for Exporter e9 deleted"]
    policy = Policy(namespace="lab", name="p", exporters="board in (", rules=(Rule(("a=b", "a b")),))
    created, exporters, clients = said(None, policy)
    assert created == "policy created"
    for sentence, selector in ((exporters, "board in ("), (clients, "a b")):
        assert f"cannot be read, and lets nobody in by it: selector '{selector}': expected" in sentence
        assert sentence.endswith("apply the policy again with a correct one")
    assert said(policy, None) == ["policy deleted"]
    assert said(None, replace(policy, exporters="", rules=(Rule(("a=b",)),))) == ["policy created"]
    policy = Policy(namespace="lab", name="p")
    assert said(policy, replace(policy, exporters="a=b")) == ["policy changed"]
    assert said(None, None) == []


def test_a_host_and_its_boards() -> None:
    host = Host(namespace="lab", name="pi4", uid="1", may_label=("host",))
    assert said(None, host) == ["host created"]
    changed = replace(host, labels={"site": "berlin"}, may_label=())
    assert said(host, changed) == [
        "host's boards have the labels site=berlin",
        "host may set the labels of none",
    ]
    assert said(host, replace(host, uid="2")) == ["host gets a new token, the old ones are no longer valid"]
    assert said(host, None) == ["host deleted"]
    board = replace(EXPORTER, host="pi4", devices=2)
    gone = replace(board, devices=0, gone_since=7.0, status_message="gone since then: why")
    assert said(board, gone) == ["board is gone since then: why"]
    assert said(gone, replace(gone, status_message="still")) == []
    ((_, _, fields),) = entries(board, gone)
    assert (fields["host"], fields["exporter"]) == ("pi4", "e1")
    code = PairingCode(namespace="lab", name="x", kind="Host", subject="pi4", digest="", expires=0.0)
    assert said(code, replace(code, redeemer="r", made="1")) == ["pairing code for Host pi4 used"]
