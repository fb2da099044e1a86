"""What clients may ask for: each refusal is a sentence, and leaves the lab as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from msgspec.structs import replace

from jumpstarter_controller.lab import (
    Client,
    Draft,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Key,
    Lease,
    Policy,
    Rule,
    UnavailableReason,
)
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler
from jumpstarter_controller.services import changes
from jumpstarter_controller.services.messages import duration_of, seconds_of, time_of, timestamp

NS = "lab"
NOW = 1_800_000_000.0
ANN = Client(namespace=NS, name="ann", uid="1", labels={"team": "a"})
BOB = Client(namespace=NS, name="bob", uid="2", labels={"team": "b"})


def asked(seconds: float = 60.0, **fields: Any) -> client_pb2.Lease:
    return client_pb2.Lease(duration=duration_of(seconds), **{"selector": "board=rpi4", **fields})


@pytest.fixture
def draft() -> Draft:
    draft = Draft()
    labels = {"board": "rpi4"}
    draft.put(ANN)
    draft.put(BOB)
    draft.put(
        Exporter(namespace=NS, name="one", uid="3", devices=1, labels=labels, status=ExporterStatus.AVAILABLE)
    )
    draft.commit()
    return draft


def held(draft: Draft, **fields: Any) -> Lease:
    """A lease of ann's that has begun."""
    lease = changes.create_lease(draft, NOW, ANN, "", asked(**fields))
    presence = ExporterPresence()
    presence.connected(Key(NS, "one"), NOW)
    Scheduler(presence).reconcile(draft, NOW)
    found = draft.get(Lease, lease.key)
    assert found is not None
    assert found.active
    return found


def refused(code: StatusCode, words: str, change: Callable[[], object]) -> None:
    with pytest.raises(RpcError, match=words) as error:
        change()
    assert error.value.code is code
    assert error.value.details.isprintable(), "it does something to a terminal"
    assert len(error.value.details) < 1000


DAY = 86400.0
NONSENSE: list[tuple[StatusCode, str, client_pb2.Lease]] = [
    (StatusCode.INVALID_ARGUMENT, "selector or exporter_name", asked(selector="")),
    (StatusCode.UNKNOWN, "duration is required", client_pb2.Lease(selector="a=b")),
    (StatusCode.UNKNOWN, "duration must be positive", asked(0)),
    (StatusCode.UNKNOWN, "duration must be positive", asked(-5)),
    (StatusCode.UNKNOWN, "at most 3650 days", asked(1e12)),
    (StatusCode.UNKNOWN, "is not allowed", asked(selector="a in (\x1b[2J")),
    (StatusCode.UNKNOWN, "at most 8192", asked(selector="a" * 100_000)),
    (StatusCode.UNKNOWN, "at most 8192", asked(selector=",".join(f"k{n}!=x" for n in range(900)))),
    (StatusCode.UNKNOWN, "not a valid name for an exporter", asked(selector="", exporter_name="a/b")),
    (StatusCode.UNKNOWN, "not a valid name for an exporter", asked(selector="", exporter_name="x" * 100_000)),
    (StatusCode.UNKNOWN, "not a valid name for an exporter", asked(selector="", exporter_name="a\nb\x1b[2J")),
    (StatusCode.INVALID_ARGUMENT, "at most 10 tags", asked(tags={f"t{n}": "v" for n in range(10_000)})),
    (StatusCode.INVALID_ARGUMENT, "tags:", asked(tags={"t": "v" * 100_000})),
    (StatusCode.INVALID_ARGUMENT, "at most 10 tags", asked(tags={f"t{n}": "v" for n in range(11)})),
    (StatusCode.INVALID_ARGUMENT, "plain name of your own", asked(tags={"a.b/c": "v"})),
    (StatusCode.INVALID_ARGUMENT, "plain name of your own", asked(tags={"jumpstarter-x": "v"})),
    (StatusCode.INVALID_ARGUMENT, "at most 8 entries", asked(context={f"t{n}": "v" for n in range(9)})),
    (StatusCode.INVALID_ARGUMENT, "at most 8 entries", asked(context={"k" * 33: "v"})),
    (StatusCode.INVALID_ARGUMENT, "at most 8 entries", asked(context={"k": "v" * 65})),
    (StatusCode.INVALID_ARGUMENT, "cannot be printed", asked(context={"t": "a\x1bb"})),
    (StatusCode.INVALID_ARGUMENT, "cannot be printed", asked(context={"a\x1bb": "t"})),
    (StatusCode.UNKNOWN, "more than 3650 days", asked(begin_time=timestamp_pb2.Timestamp(seconds=10**15))),
    (StatusCode.UNKNOWN, "more than 3650 days", asked(begin_time=timestamp_pb2.Timestamp(seconds=-(10**15)))),
    (StatusCode.UNKNOWN, "have ended already", asked(begin_time=timestamp(NOW - DAY))),
    (StatusCode.UNKNOWN, "have ended already", asked(end_time=timestamp(NOW - 1))),
    (StatusCode.UNKNOWN, "have ended already", asked(begin_time=timestamp(NOW - 60))),
    (StatusCode.UNKNOWN, "conflicts", asked(begin_time=timestamp(NOW), end_time=timestamp(NOW + 1))),
    (
        StatusCode.UNKNOWN,
        "duration is required",
        client_pb2.Lease(selector="a=b", end_time=timestamp(NOW + DAY)),
    ),
]


@pytest.mark.parametrize(
    ("code", "words", "wish"), NONSENSE, ids=[f"{n[1]}-{i}" for i, n in enumerate(NONSENSE)]
)
def test_invalid_input_is_rejected(
    draft: Draft, code: StatusCode, words: str, wish: client_pb2.Lease
) -> None:
    refused(code, words, lambda: changes.create_lease(draft, NOW, ANN, "", wish))
    assert draft.changes() == {}


@pytest.mark.parametrize("name", ["a/b", "a b", "x" * 64, "ü\n", "\x1b[2J", "-", "x" * 1_000_000])
def test_names_that_are_none(draft: Draft, name: str) -> None:
    refused(
        StatusCode.UNKNOWN,
        "not a valid name for a lease",
        lambda: changes.create_lease(draft, NOW, ANN, name, asked()),
    )


def test_a_name_that_is_taken(draft: Draft) -> None:
    changes.create_lease(draft, NOW, BOB, "mine", asked())
    refused(
        StatusCode.UNKNOWN, "already exists", lambda: changes.create_lease(draft, NOW, ANN, "mine", asked())
    )


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1), st.booleans(), st.booleans())
def test_any_times_are_a_lease_or_a_sentence(seconds: int, nanos: int, begin: bool, end: bool) -> None:
    draft = Draft()
    draft.put(ANN)
    wish = client_pb2.Lease(
        selector="a", duration=duration_pb2.Duration(seconds=seconds % 10**9, nanos=nanos)
    )
    if begin:
        wish.begin_time.CopyFrom(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))
    if end:
        wish.end_time.CopyFrom(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))
    try:
        lease = changes.create_lease(draft, NOW, ANN, "", wish)
    except RpcError as error:
        sentence = error.details
    else:
        sentence = "fine"
        assert 0 < lease.duration <= 3650 * DAY
        assert lease.expiry is None or NOW < lease.expiry < NOW + 2 * 3650 * DAY
    assert sentence


def test_a_lease_has_all_that_was_asked_for(draft: Draft) -> None:
    tags = {f"t{number}": "v" for number in range(changes.MAX_TAGS)}
    context = {"k" * 32: "v" * 64} | {f"c{number}": "x" for number in range(changes.MAX_CONTEXT - 1)}
    wish = asked(
        exporter_name="one",
        begin_time=timestamp(NOW + 10),
        tags=tags,
        context=context,
        allow_disabled=True,
    )
    lease = changes.create_lease(draft, NOW, ANN, "mine", wish, waited=True, waits_for_board=True)
    assert lease.uid
    assert replace(lease, uid="") == Lease(
        namespace=NS,
        name="mine",
        created=NOW,
        sequence=1,
        client="ann",
        selector="board=rpi4",
        exporter_name="one",
        duration=60.0,
        begin_time=NOW + 10,
        tags=tags,
        context=context,
        allow_disabled=True,
        waited=True,
        waits_for_board=True,
    )
    plain = changes.create_lease(
        draft, NOW, ANN, "", asked(begin_time=timestamp(NOW + 1), end_time=timestamp(NOW + 61))
    )
    assert (plain.allow_disabled, plain.waited, plain.waits_for_board) == (False, False, False)
    assert (plain.begin_time, plain.end_time) == (NOW + 1, NOW + 61)


def test_who_asks_in_the_same_moment_is_served_in_the_order_of_asking(draft: Draft) -> None:
    names = ["z", "a", "m"]
    for name in names:
        changes.create_lease(draft, NOW, ANN, name, asked())
    scheduler = Scheduler(ExporterPresence())
    scheduler.presence.connected(Key(NS, "one"), NOW)
    served = []
    for _ in names:
        scheduler.reconcile(draft, NOW)
        lease = draft.holder(Key(NS, "one"))
        assert lease is not None
        served.append(lease.name)
        changes.release(draft, lease)
    assert served == names


def test_a_client_has_a_bounded_number_of_open_leases(draft: Draft) -> None:
    first = changes.create_lease(draft, NOW, ANN, "", asked())
    for _ in range(2):
        changes.create_lease(draft, NOW, ANN, "", asked(), most_open=3)
    refused(
        StatusCode.RESOURCE_EXHAUSTED,
        "release some",
        lambda: changes.create_lease(draft, NOW, ANN, "", asked(), most_open=3),
    )
    changes.create_lease(draft, NOW, BOB, "", asked(), most_open=3)
    elsewhere = replace(ANN, namespace="other")
    draft.put(elsewhere)
    changes.create_lease(draft, NOW, elsewhere, "", asked(), most_open=3)
    draft.put(replace(first, ended=NOW))
    changes.create_lease(draft, NOW, ANN, "", asked(), most_open=3)


def test_nobody_is_given_more_leases_than_they_may_have(draft: Draft) -> None:
    lease = held(draft)
    changes.create_lease(draft, NOW, BOB, "", asked())
    wish = client_pb2.Lease(client=f"namespaces/{NS}/clients/bob")

    def give(most_open: int) -> Lease:
        return changes.update_lease(draft, NOW, ANN, lease.key, wish, most_open=most_open)

    refused(StatusCode.RESOURCE_EXHAUSTED, "client bob has 1 leases .*; choose another", lambda: give(1))
    assert give(2).client == "bob"


def limit(draft: Draft, longest: float) -> None:
    rule = Rule(("team=a",), maximum_duration=longest)
    draft.put(Policy(namespace=NS, name="p", rules=(rule,)))


def test_nobody_extends_beyond_what_policies_allow(draft: Draft) -> None:
    lease = held(draft)
    limit(draft, 100.0)
    for wish in (
        client_pb2.Lease(duration=duration_of(101)),
        client_pb2.Lease(duration=duration_of(1), end_time=timestamp(NOW + 101)),
    ):
        refused(
            StatusCode.PERMISSION_DENIED,
            "for 100 s at most, not 101 s",
            partial(changes.update_lease, draft, NOW + 1, ANN, lease.key, wish),
        )
    longer = client_pb2.Lease(duration=duration_of(100))
    assert changes.update_lease(draft, NOW + 1, ANN, lease.key, longer).expiry == NOW + 100


def test_a_lease_that_waits_is_not_lost_by_asking_for_too_much(draft: Draft) -> None:
    limit(draft, 100.0)
    held(draft)
    waits = changes.create_lease(draft, NOW, ANN, "", asked())
    longer = client_pb2.Lease(duration=duration_of(101))
    refused(
        StatusCode.PERMISSION_DENIED,
        "ask for less time",
        lambda: changes.update_lease(draft, NOW, ANN, waits.key, longer),
    )
    assert draft.get(Lease, waits.key) == waits


def test_a_lease_that_was_only_offered_still_waits(draft: Draft) -> None:
    """It can be moved to later, which gives the board back, and is nobody else's; its command has to be heard of."""
    one = draft.get(Exporter, Key(NS, "one"))
    assert one is not None
    draft.put(replace(one, answers=True))
    created = changes.create_lease(draft, NOW, ANN, "", asked(), waited=True)
    presence = ExporterPresence()
    presence.connected(one.key, NOW)
    Scheduler(presence).reconcile(draft, NOW)
    offered = draft.get(Lease, created.key)
    assert offered is not None
    assert (offered.exporter, offered.offered) == ("one", NOW)
    bob = f"namespaces/{NS}/clients/bob"
    refused(StatusCode.UNKNOWN, "has not started yet", lambda: transfer(draft, offered, bob))
    longer = client_pb2.Lease(duration=duration_of(90))
    changed = changes.update_lease(draft, NOW, ANN, created.key, longer)
    assert (changed.exporter, changed.duration, changed.waited) == ("one", 90.0, True)
    later = client_pb2.Lease(duration=duration_of(60), begin_time=timestamp(NOW + 100))
    changed = changes.update_lease(draft, NOW, ANN, created.key, later)
    assert (changed.exporter, changed.offered, changed.begin_time) == ("", None, NOW + 100)
    longer = client_pb2.Lease(duration=duration_of(61))
    assert changes.update_lease(draft, NOW, ANN, created.key, longer).begin_time == NOW + 100


def test_who_ended_it_first_has_said_why(draft: Draft) -> None:
    lease = held(draft)
    changes.release(draft, lease, "hook failed\x1b[2J" + "x" * 100_000)
    first = draft.get(Lease, lease.key)
    assert first is not None
    assert first.release_reason.startswith("hook failed\\x1b")
    assert len(first.release_reason) < 1100
    changes.release(draft, first, "another")
    assert draft.get(Lease, lease.key) is first


def transfer(draft: Draft, lease: Lease, to: str) -> Lease:
    wish = client_pb2.Lease(client=to)
    return changes.update_lease(draft, NOW, ANN, lease.key, wish)


def test_transfers(draft: Draft) -> None:
    waits = changes.create_lease(draft, NOW, ANN, "", asked(selector="board=none"))
    bob = f"namespaces/{NS}/clients/bob"
    refused(StatusCode.UNKNOWN, "has not started yet", lambda: transfer(draft, waits, bob))
    lease = held(draft)
    for to, code, words in (
        ("bob", StatusCode.INVALID_ARGUMENT, "not a resource name"),
        ("namespaces/other/clients/bob", StatusCode.UNKNOWN, "different namespace"),
        (f"namespaces/{NS}/clients/eve\x1b", StatusCode.UNKNOWN, "target client not found"),
    ):
        refused(code, words, partial(transfer, draft, lease, to))
    draft.put(replace(BOB, enabled=False))
    refused(StatusCode.UNKNOWN, "bob is disabled", lambda: transfer(draft, lease, bob))
    draft.put(BOB)
    limit(draft, 100.0)
    refused(
        StatusCode.PERMISSION_DENIED, "no access policy lets client bob", lambda: transfer(draft, lease, bob)
    )
    draft.put(Policy(namespace=NS, name="p", rules=(Rule(("",)),)))
    assert transfer(draft, lease, bob).client == "bob"
    refused(
        StatusCode.UNKNOWN,
        "permission denied",
        lambda: changes.update_lease(draft, NOW, ANN, lease.key, asked()),
    )


def test_the_begin_of_a_started_lease_stays(draft: Draft) -> None:
    lease = held(draft)
    begin = client_pb2.Lease(duration=duration_of(60), begin_time=timestamp(NOW + 10))
    refused(
        StatusCode.UNKNOWN, "already started", lambda: changes.update_lease(draft, NOW, ANN, lease.key, begin)
    )
    end = client_pb2.Lease(duration=duration_of(60), end_time=timestamp(NOW + 300))
    changed = changes.update_lease(draft, NOW, ANN, lease.key, end)
    assert (changed.begin_time, changed.expiry, changed.duration) == (None, NOW + 300, 300.0)
    over = client_pb2.Lease(duration=duration_of(10))
    refused(
        StatusCode.UNKNOWN,
        "would have ended 0 s ago",
        lambda: changes.update_lease(draft, NOW + 10, ANN, lease.key, over),
    )
    gone = client_pb2.Lease(duration=duration_of(5))
    refused(
        StatusCode.UNKNOWN,
        "would have ended 5 s ago",
        lambda: changes.update_lease(draft, NOW + 10, ANN, lease.key, gone),
    )


LABELS = st.dictionaries(
    st.sampled_from(
        ["board", "team", "jumpstarter.dev/model", "jumpstarter.dev/vendor", "jumpstarter.devil/x"]
    ),
    st.sampled_from(["a", "b"]),
)


@given(LABELS, LABELS, st.booleans())
def test_an_exporter_sets_the_labels_that_are_its_own_and_takes_none_from_the_lab(
    before: dict[str, str], said: dict[str, str], is_of_a_host: bool
) -> None:
    """Policies choose boards by label."""
    draft = Draft()
    host = "pi4" if is_of_a_host else ""
    draft.put(Exporter(namespace=NS, name="one", uid="3", labels=before, host=host))
    after = changes.register(draft, Key(NS, "one"), said, ()).labels
    for key in {*before, *said}:
        is_own = key.startswith("jumpstarter.dev/") and not is_of_a_host
        assert after.get(key) == (said if is_own else before).get(key)


def test_an_exporter_has_a_bounded_number_of_devices(draft: Draft) -> None:
    key, report = Key(NS, "one"), jumpstarter_pb2.DriverInstanceReport(uuid="1")
    assert changes.register(draft, key, {}, [report] * changes.MAX_DEVICES).devices == changes.MAX_DEVICES
    refused(
        StatusCode.INVALID_ARGUMENT,
        "at most 4096 devices",
        lambda: changes.register(draft, key, {}, [report] * (changes.MAX_DEVICES + 1)),
    )


def test_an_exporter_that_is_ready_or_leaves_has_no_reason_not_to_be(draft: Draft) -> None:
    key, reasons = Key(NS, "one"), (UnavailableReason("local-use", "in use"),)

    def seen() -> tuple[ExporterStatus, int, tuple[UnavailableReason, ...]]:
        record = draft.get(Exporter, key)
        assert record is not None
        return record.status, record.devices, record.reasons

    for status in (ExporterStatus.AVAILABLE, ExporterStatus.UNSPECIFIED):
        changes.report(draft, key, ExporterStatus.AFTER_LEASE_HOOK, "", reasons)
        assert seen() == (ExporterStatus.AFTER_LEASE_HOOK, 1, reasons)
        changes.report(draft, key, status, "", reasons)
        assert seen() == (status, 1, ())
    changes.report(draft, key, ExporterStatus.AFTER_LEASE_HOOK, "", reasons)
    changes.unregister(draft, key, "")
    assert seen() == (ExporterStatus.OFFLINE, 0, ())


def test_a_board_that_is_gone_says_nothing_else_when_its_exporter_leaves_and_is_back_when_it_registers(
    draft: Draft,
) -> None:
    key = Key(NS, "one")
    record = draft.get(Exporter, key)
    assert record is not None
    gone = replace(record, gone_since=NOW, status_message="gone since", devices=0)
    draft.put(gone)
    changes.unregister(draft, key, "bye")
    assert draft.get(Exporter, key) is gone
    assert (
        changes.register(draft, key, {}, [jumpstarter_pb2.DriverInstanceReport(uuid="1")]).gone_since is None
    )


def test_devices_that_are_not_kept_are_counted_anew(draft: Draft) -> None:
    key, root = Key(NS, "one"), jumpstarter_pb2.DriverInstanceReport(uuid="1")
    nameless = jumpstarter_pb2.DriverInstanceReport(uuid="2", parent_uuid="1")
    for count in (1, 3, 0):
        changes.register(draft, key, {}, [root, *[nameless] * count])
        known = draft.get(ExporterDevices, key)
        assert known is not None
        assert (known.devices, known.omitted) == ((), count)


def test_what_exporters_write_does_nothing_to_a_terminal(draft: Draft) -> None:
    key = Key(NS, "one")
    changes.report(draft, key, ExporterStatus.AVAILABLE, "\x1b[2J\nfake line" + "x" * 100_000)
    record = draft.get(Exporter, key)
    assert record is not None
    assert record.status_message.isprintable()
    assert len(record.status_message) < 1100
    changes.unregister(draft, key, "bye\x07")
    record = draft.get(Exporter, key)
    assert record is not None
    assert record.status_message == "bye\\x07"


@given(st.integers(0, 4_000_000_000_000))
def test_times_and_durations_are_seconds_and_nanoseconds(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    for message in (timestamp(seconds), duration_of(seconds)):
        assert message.seconds == milliseconds // 1000
        assert abs(message.nanos - milliseconds % 1000 * 1_000_000) < 1000
    assert abs(time_of(timestamp(seconds)) - seconds) < 1e-6
    assert abs(seconds_of(duration_of(seconds)) - seconds) < 1e-6
