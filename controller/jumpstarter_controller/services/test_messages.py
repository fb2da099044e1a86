"""Records as the wire's messages: each field is where it belongs."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.json_format import MessageToDict
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2, kubernetes_pb2
from msgspec.structs import replace

from jumpstarter_controller.lab import ConditionType, Exporter, ExporterStatus, Key, Lease, LeaseCondition
from jumpstarter_controller.scheduling import QueuePosition
from jumpstarter_controller.selectors import SelectorError, parse
from jumpstarter_controller.services import messages

WAITS = Lease(
    namespace="lab",
    name="mine",
    created=1.0,
    client="ann",
    exporter_name="two",
    duration=90.5,
    begin_time=200.0,
    end_time=290.5,
    tags={"ci": "7"},
    context={"build": "9"},
    allow_disabled=True,
    conditions=(LeaseCondition(ConditionType.PENDING, True, "Offline", "none is online", 150.9, "drained"),),
)
READY = LeaseCondition(ConditionType.READY, True, "Ready", "exporter one is leased", 205.0)
BEGUN = replace(
    WAITS,
    selector="board=rpi4,site in (a,b),!broken",
    exporter="one",
    begun=205.0,
    conditions=(*WAITS.conditions, READY),
)


def at(seconds: float) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def lasting(seconds: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def pending(message: str = "none is online") -> kubernetes_pb2.Condition:
    since = kubernetes_pb2.Time(seconds=150)
    return kubernetes_pb2.Condition(
        type="Pending", status="True", lastTransitionTime=since, reason="Offline", message=message
    )


def expected(selector: str, *conditions: kubernetes_pb2.Condition, **more: Any) -> client_pb2.Lease:
    return client_pb2.Lease(
        name="namespaces/lab/leases/mine",
        selector=selector,
        duration=lasting(90.5),
        client="namespaces/lab/clients/ann",
        exporter_name="two",
        begin_time=at(200.0),
        end_time=at(290.5),
        tags={"ci": "7"},
        context={"build": "9"},
        allow_disabled=True,
        conditions=conditions,
        **more,
    )


def test_a_lease_that_waits() -> None:
    assert messages.lease_message(WAITS, None, 210.0) == expected("<none>", pending())
    position = QueuePosition(2, 61.0)
    with_place = pending("none is online; number 2 in the queue, at the latest in 2 min")
    assert messages.lease_message(WAITS, position, 210.0) == expected("<none>", with_place)
    offered = replace(WAITS, exporter="one", offered=205.0)
    assert messages.lease_message(offered, None, 210.0) == expected("<none>", pending()), (
        "it has no board yet"
    )


def test_a_lease_that_runs_and_one_that_has_ended() -> None:
    ready = kubernetes_pb2.Condition(
        type="Ready",
        status="True",
        lastTransitionTime=kubernetes_pb2.Time(seconds=205),
        reason="Ready",
        message="exporter one is leased",
    )
    more = {"exporter": "namespaces/lab/exporters/one", "effective_begin_time": at(205.0)}
    runs = expected(BEGUN.selector, pending(), ready, effective_duration=lasting(5.25), **more)
    assert messages.lease_message(BEGUN, None, 210.25) == runs
    early = expected(BEGUN.selector, pending(), ready, effective_duration=lasting(0.0), **more)
    assert messages.lease_message(BEGUN, None, 100.0) == early, "the clock was set back"
    ended = replace(
        BEGUN, ended=212.5, conditions=(*WAITS.conditions, replace(READY, holds=False, reason="Expired"))
    )
    ready.status, ready.reason = "False", "Expired"
    more["effective_end_time"] = at(212.5)
    over = expected(BEGUN.selector, pending(), ready, effective_duration=lasting(7.5), **more)
    assert messages.lease_message(ended, None, 1000.0) == over


def test_news_of_a_lease_have_its_place_and_a_word_for_programs_while_it_waits() -> None:
    news = messages.lease_news(WAITS, QueuePosition(3, 12.5), 210.0)
    assert (news.place, news.at_the_latest, news.reason) == (3, lasting(12.5), "drained")
    assert news.lease == messages.lease_message(WAITS, QueuePosition(3, 12.5), 210.0)
    assert messages.lease_news(WAITS, QueuePosition(3, -1.0), 210.0).at_the_latest == lasting(0.0)
    assert not messages.lease_news(WAITS, QueuePosition(3, None), 210.0).HasField("at_the_latest")
    plain = messages.lease_news(BEGUN, None, 210.0)
    assert (plain.place, plain.reason) == (0, ""), "why it waited is no reason any more"
    refused = LeaseCondition(ConditionType.UNSATISFIABLE, True, "NoAccess", "", 1.0, "no-board")
    over = replace(WAITS, ended=210.0, conditions=(*WAITS.conditions, refused))
    assert messages.lease_news(over, None, 210.0).reason == "no-board"


@pytest.mark.parametrize(
    ("number", "seconds", "sentence"),
    [
        (1, None, "next in the queue"),
        (2, None, "number 2 in the queue"),
        (1, 0.0, "next in the queue, at the latest in a minute"),
        (1, 60.0, "next in the queue, at the latest in a minute"),
        (3, 60.5, "number 3 in the queue, at the latest in 2 min"),
        (3, 120.0, "number 3 in the queue, at the latest in 2 min"),
    ],
)
def test_where_it_stands_in_the_queue(number: int, seconds: float | None, sentence: str) -> None:
    assert messages.position_sentence(QueuePosition(number, seconds)) == sentence


def test_an_exporter() -> None:
    record = Exporter(
        namespace="lab",
        name="one",
        labels={"board": "rpi4"},
        status=ExporterStatus.AFTER_LEASE_HOOK,
        status_message="in local use",
        enabled=False,
    )
    wanted = {
        "name": "namespaces/lab/exporters/one",
        "labels": {"board": "rpi4"},
        "status": "EXPORTER_STATUS_AFTER_LEASE_HOOK",
        "statusMessage": "in local use",
        "enabled": False,
    }
    assert MessageToDict(messages.exporter_message(record, is_online=False)) == wanted
    online = messages.exporter_message(replace(record, enabled=True), is_online=True)
    assert MessageToDict(online) == wanted | {"enabled": True, "online": True}


def test_a_lease_for_the_older_calls() -> None:
    exporter = Exporter(namespace="lab", name="one", uid="the-uid")
    ended = replace(BEGUN, ended=212.5)
    found = messages.lease_v1(ended, exporter, None)
    selector = kubernetes_pb2.LabelSelector(match_labels={"board": "rpi4"})
    selector.match_expressions.add(key="broken", operator="DoesNotExist")
    selector.match_expressions.add(key="site", operator="In", values=["a", "b"])
    assert found == jumpstarter_pb2.GetLeaseResponse(
        duration=lasting(90.5),
        selector=selector,
        begin_time=at(205.0),
        end_time=at(212.5),
        exporter_uuid="the-uid",
        conditions=messages.conditions_of(ended, None),
    )
    assert str(messages.selector_of(selector)) == str(parse(ended.selector))
    waits = messages.lease_v1(WAITS, None, QueuePosition(1, None))
    assert not waits.HasField("begin_time")
    assert waits.conditions[0].message == "none is online; next in the queue"


@pytest.mark.parametrize(
    ("operator", "values", "words"),
    [
        ("Gt", ["1"], "operator Gt of ram is not In"),
        ("\x1b[2J", [], "operator .x1b"),
        ("In", [], "ram In has the wrong number of values"),
        ("NotIn", [], "wrong number of values"),
        ("Exists", ["1"], "wrong number of values"),
        ("DoesNotExist", ["1"], "wrong number of values"),
    ],
)
def test_a_structured_selector_that_is_none(operator: str, values: list[str], words: str) -> None:
    selector = kubernetes_pb2.LabelSelector()
    selector.match_expressions.add(key="ram", operator=operator, values=values)
    with pytest.raises(SelectorError, match=words):
        messages.selector_of(selector)


def test_times_that_no_message_can_have_are_its_first_and_last() -> None:
    assert messages.timestamp(-5.0) == timestamp_pb2.Timestamp()
    assert messages.timestamp(1e20).ToJsonString() == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    "name", ["", "namespaces/lab", "namespaces/lab/leases/", "namespaces//leases/a", "x/lab/leases/a"]
)
def test_names_are_written_in_one_way(name: str) -> None:
    assert messages.name_of("namespaces/lab/leases/a", "leases") == Key("lab", "a")
    assert messages.namespace_of("namespaces/lab") == "lab"
    with pytest.raises(RpcError) as refused:
        messages.name_of(name, "leases")
    assert refused.value.code is StatusCode.INVALID_ARGUMENT
    if name != "namespaces/lab":
        with pytest.raises(RpcError, match="write it as namespaces/NAMESPACE"):
            messages.namespace_of(name)
    with pytest.raises(RpcError, match="Client, Exporter or Host"):
        messages.kind_of(name)
