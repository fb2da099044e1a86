"""A lease's conditions and its message as Jumpstarter's controller has them: type, status, reason and order."""

from __future__ import annotations

from typing import Any

import pytest
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.v1 import jumpstarter_pb2

from tests.interop.desk import HOUR, Desk, ask, at, bare, said
from tests.interop.raw import refused

# Choosing, row by row


def test_a_lease_for_later_has_no_condition(desk: Desk) -> None:
    desk.board("later")
    lease = desk.lease("later", begin_time=at(HOUR))
    assert (said(lease), lease.exporter) == ([], "")
    assert not lease.HasField("effective_begin_time")
    assert not lease.HasField("effective_end_time")
    assert desk.lease("later", who=desk.bob, seconds=60).exporter, "the board is free until then"


def test_nothing_to_choose_by_is_refused(desk: Desk) -> None:
    assert refused(desk.ann.client, "CreateLease", ask())[0] == "INVALID_ARGUMENT"
    nothing = pb.CreateLeaseRequest(parent="namespaces/default")
    assert refused(desk.ann.client, "CreateLease", nothing)[0] == "INVALID_ARGUMENT"


def test_unsatisfiable_ends_at_once(desk: Desk) -> None:
    desk.board("picky")
    off = desk.board("disabled")
    one = bare(desk.lease("picky", seconds=60).exporter)
    off_name = dict(off.metadata)["jumpstarter-name"]
    desk.lab.set_enabled("Exporter", off_name, enabled=False)
    for reason, words in {
        "ExporterNotFound": {"exporter_name": "nobody"},
        "SelectorMismatch": {"exporter_name": one, "kind": "other"},
        "ExporterDisabled": {"exporter_name": off_name},
        "AllDisabled": {"kind": "disabled"},
        "NoAccess": {"kind": "nothing-has-it"},
    }.items():
        lease = desk.lease(**words)
        assert said(lease) == [("Unsatisfiable", "True", reason)]
        assert lease.conditions[0].message
        assert lease.HasField("effective_end_time"), reason
        assert not lease.exporter
    allowed = desk.lease(exporter_name=off_name, allow_disabled=True)
    assert said(allowed) == [("Ready", "True", "Ready")]
    assert allowed.allow_disabled


def test_what_can_heal_is_pending_and_ready_comes_last(desk: Desk) -> None:
    """Offline, then not ready, then leased, then free: at no time is there a Pending=False or a Ready=False."""
    board = desk.board("healing", status="")
    waiting = desk.lease("healing", name="healing-wait")
    assert said(waiting) == [("Pending", "True", "Offline")]
    board.arrive("AFTER_LEASE_HOOK")
    assert said(desk.get(waiting)) == [("Pending", "True", "NotReady")]
    holder = desk.lease(exporter_name=dict(board.metadata)["jumpstarter-name"], who=desk.bob)
    assert said(holder) == [("Pending", "True", "NotReady")], "the first request is first in the queue"
    board.report("AVAILABLE")
    ready = desk.get(waiting)
    assert said(ready) == [("Pending", "True", "NotReady"), ("Ready", "True", "Ready")]
    assert said(desk.get(holder)) == [("Pending", "True", "NotAvailable")]
    desk.delete(ready)
    assert said(desk.get(ready)) == [("Pending", "True", "NotReady"), ("Ready", "False", "Released")]
    desk.lab.until(lambda: desk.get(holder).exporter)
    assert said(desk.get(holder)) == [("Pending", "True", "NotAvailable"), ("Ready", "True", "Ready")]


def test_an_exporter_without_devices_is_never_leased(desk: Desk) -> None:
    board = desk.board("empty", devices=0)
    lease = desk.lease("empty")
    assert said(lease) == [("Pending", "True", "Offline")]
    board.arrive()
    assert desk.get(lease).exporter
    board.controller("Unregister", jumpstarter_pb2.UnregisterRequest(reason="gone"))
    seen = desk.ann.client("GetExporter", pb.GetExporterRequest(name=desk.get(lease).exporter))
    assert (seen.online, seen.status, seen.status_message) == (False, 1, "gone")


@pytest.mark.parametrize("status", ["AVAILABLE", "UNSPECIFIED"])
def test_which_statuses_can_begin_a_lease(desk: Desk, status: str) -> None:
    desk.board(f"begins-{status.lower()}", status)
    assert desk.lease(f"begins-{status.lower()}").exporter


@pytest.mark.parametrize(
    "status",
    [
        "BEFORE_LEASE_HOOK",
        "LEASE_READY",
        "AFTER_LEASE_HOOK",
        "BEFORE_LEASE_HOOK_FAILED",
        "AFTER_LEASE_HOOK_FAILED",
    ],
)
def test_which_statuses_cannot(desk: Desk, status: str) -> None:
    kind = f"cannot-{status.lower().replace('_', '-')}"
    desk.board(kind, status)
    assert said(desk.lease(kind)) == [("Pending", "True", "NotReady")]


def test_expiry(desk: Desk) -> None:
    desk.board("short")
    lease = desk.lease("short", seconds=1)
    assert lease.exporter
    desk.lab.until(lambda: desk.get(lease).HasField("effective_end_time"))
    ended = desk.get(lease)
    assert said(ended) == [("Ready", "False", "Expired")]
    assert bare(ended.exporter), "who had it stays known"


# The message


def test_a_lease_says_what_was_asked_for_and_what_came_of_it(desk: Desk) -> None:
    desk.board("message")
    lease = desk.lease("message", name="my-lease", tags={"build": "12"})
    assert lease.name == "namespaces/default/leases/my-lease"
    assert lease.client == "namespaces/default/clients/ann"
    assert lease.exporter.startswith("namespaces/default/exporters/message-")
    assert lease.exporter_name == ""
    assert lease.duration.seconds == HOUR
    assert lease.HasField("effective_begin_time")
    assert lease.HasField("effective_duration")
    assert not lease.HasField("effective_end_time")
    assert dict(lease.tags) == {"build": "12"}
    desk.delete(lease)
    ended = desk.get(lease)
    assert ended.HasField("effective_end_time")
    assert refused(desk.ann.client, "CreateLease", ask("message", name="my-lease"))[0] == "UNKNOWN"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("b=2,a=1", "a=1,b=2"),
        ("a==1", "a=1"),
        ("b notin (z,y), a in (d , c)", "a in (c,d),b notin (y,z)"),
        ("a!=1,a!=0", "a notin (0,1)"),
        ("!z , y", "y,!z"),
    ],
)
def test_selectors_come_back_in_canonical_text(desk: Desk, text: str, canonical: str) -> None:
    lease = desk.lease(selector=text)
    assert lease.selector == canonical


def test_no_selector_is_none(desk: Desk) -> None:
    lease = desk.lease(exporter_name="nobody")
    assert (lease.selector, lease.exporter_name) == ("<none>", "nobody")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ({"selector": "a=1,a=2"}, "UNKNOWN", "a"),
        ({"selector": "a in"}, "UNKNOWN", "expected"),
        ({"kind": "x", "seconds": None}, "UNKNOWN", "duration is required"),
        ({"kind": "x", "seconds": 0}, "UNKNOWN", "duration must be positive"),
        ({"kind": "x", "seconds": -1}, "UNKNOWN", "duration must be positive"),
        ({"kind": "x", "seconds": None, "end_time": at(HOUR)}, "UNKNOWN", "duration is required"),
        ({"kind": "x", "begin_time": at(0), "end_time": at(60)}, "UNKNOWN", "duration conflicts"),
        ({"kind": "x", "name": "no/name"}, "UNKNOWN", "name"),
        ({"kind": "x", "tags": {"a/b": "c"}}, "INVALID_ARGUMENT", "tag"),
        ({"kind": "x", "tags": {"a": "b c"}}, "INVALID_ARGUMENT", "tag"),
        ({"kind": "x", "tags": {f"t{n}": "" for n in range(11)}}, "INVALID_ARGUMENT", "tags"),
    ],
)
def test_invalid_input_is_rejected(desk: Desk, words: Any, code: str, sentence: str) -> None:
    seen, details = refused(desk.ann.client, "CreateLease", ask(**words))
    assert seen == code
    assert sentence in details


def test_times(desk: Desk) -> None:
    for words in (
        {"begin_time": at(HOUR)},
        {"begin_time": at(HOUR), "end_time": at(2 * HOUR), "seconds": None},
        {"end_time": at(2 * HOUR)},
    ):
        desk.board("times")
        lease = desk.lease("times", **words)
        assert lease.duration.seconds == pytest.approx(HOUR, abs=2)
        assert lease.HasField("begin_time") or "end_time" in words
        assert lease.HasField("end_time") == ("end_time" in words), "an end is never filled in"
        assert not lease.exporter
