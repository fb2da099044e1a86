"""Whatever records another writes, as long as they are records: the lab goes on, and everybody can look at it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from msgspec.structs import replace

from jumpstarter_controller.app import drained_text
from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Draft,
    Drain,
    Exporter,
    ExporterStatus,
    Lease,
    LeaseCondition,
    PairingCode,
    Policy,
    Record,
    Rule,
)
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.reconciler.test_reconciler_others import ANN, BOARD
from jumpstarter_controller.scheduling import ExporterPresence, Scheduler
from jumpstarter_controller.services.messages import exporter_message, lease_news
from jumpstarter_controller.services.policy_changes import policy_message
from jumpstarter_controller.services.watch_filter import WatchFilter
from jumpstarter_controller.store import MemoryStore
from jumpstarter_controller.store.contract import MAX_PRIORITY, MAX_RECORD_TIME_SECONDS, check_bounds, key_of
from jumpstarter_controller.store.whole import fill, overwrite

WAIT = 10.0
NOW = 1_800_000_000.0
TIMES = st.sampled_from([0.0, -1.0, 1e9, 2e9, MAX_RECORD_TIME_SECONDS, -MAX_RECORD_TIME_SECONDS]) | st.floats(
    -MAX_RECORD_TIME_SECONDS, MAX_RECORD_TIME_SECONDS
)
PERHAPS = st.none() | TIMES
NUMBERS = st.sampled_from([0, 1, -1, 2**31, MAX_RECORD_TIME_SECONDS])
PRIORITIES = st.sampled_from([0, 1, -1, MAX_PRIORITY, -MAX_PRIORITY])
NAMES = st.sampled_from(["one", "two", "ann", "", "x/y"])
SELECTORS = st.sampled_from(["board=rpi4", "", "board in (", "a=b,", "\n", "!x", "x" * 5000])
LABELS = st.dictionaries(
    st.sampled_from(["board", "", "a/b/c", "\n", "x" * 300]),
    st.sampled_from(["rpi4", "", "\x1b[2J"]),
    max_size=2,
)
WORDS = st.sampled_from(["", "Ready", "x\ny"])
FEW = st.sampled_from([False, False, False, True])


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(one, max_size=3).map(tuple)


def records(of: type[Any], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    common = {
        "namespace": st.sampled_from(["lab", "lab", "", "other"]),
        "name": NAMES.filter(bool),
        "created": TIMES,
    }
    return st.builds(of, **(common | fields))


ANYTHING = st.one_of(
    records(
        Lease,
        name=st.sampled_from("abcd"),
        client=NAMES,
        selector=SELECTORS,
        exporter_name=NAMES,
        duration=TIMES,
        begin_time=PERHAPS,
        end_time=PERHAPS,
        tags=LABELS,
        release=FEW,
        waited=st.booleans(),
        waits_for_board=st.booleans(),
        exporter=NAMES,
        priority=PRIORITIES,
        offered=PERHAPS,
        begun=PERHAPS,
        ended=PERHAPS,
        conditions=several(
            st.builds(LeaseCondition, st.sampled_from(ConditionType), FEW, WORDS, WORDS, TIMES)
        ),
    ),
    records(
        Exporter,
        uid=NAMES,
        labels=LABELS,
        enabled=st.booleans(),
        devices=NUMBERS,
        status=st.sampled_from(ExporterStatus),
        lease=st.sampled_from(["", "a", "b", "none"]),
        answers=st.booleans(),
        gone_since=PERHAPS,
    ),
    records(Client, labels=LABELS, previous_uid=NAMES, previous_uid_until=TIMES, enabled=st.booleans()),
    records(
        Policy, exporters=SELECTORS, rules=several(st.builds(Rule, several(SELECTORS), PRIORITIES, PERHAPS))
    ),
    records(PairingCode, kind=NAMES, subject=NAMES, digest=NAMES, expires=TIMES, redeemer=NAMES),
    st.builds(Drain, namespace=st.just(""), name=st.just("lab"), reason=WORDS, created=TIMES),
)


def look(reconciler: Reconciler) -> None:
    """As clients, those who watch, and the service manager do."""
    refs = reconciler.queue_positions()
    for lease in reconciler.committed.all(Lease):
        lease_news(lease, refs.get(lease.key), reconciler.clock()).SerializeToString()
    for exporter in reconciler.committed.all(Exporter):
        exporter_message(exporter, is_online=True).SerializeToString()
    WatchFilter(
        "lab", "ann", pb.WatchRequest(exporters=True, leases=pb.LEASE_SCOPE_ALL, lease_filter="a=b")
    ).all(reconciler.committed)
    for policy in reconciler.committed.all(Policy):
        policy_message(policy).SerializeToString()
    if (drain := reconciler.committed.get(Drain, Drain.KEY)) is not None:
        drained_text(drain)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Lease(namespace="lab", name="", client="ann"), "it has no name"),
        (Lease(namespace="lab", name="p\x1b1", client="ann"), "characters that cannot be shown"),
        (Exporter(namespace="lab\u202e", name="one"), "characters that cannot be shown"),
        (
            Lease(namespace="lab", name="a", client="ann", priority=MAX_PRIORITY + 1),
            "its priority is 2147483648",
        ),
        (
            Policy(namespace="lab", name="a", rules=(Rule(("",), -MAX_PRIORITY - 2),)),
            "its priority is -2147483649",
        ),
    ],
)
def test_what_no_peer_could_be_told_is_not_taken_as_a_record(record: Record, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_bounds(record)


OFFERED_AND_BEGUN = Lease(
    namespace="lab",
    name="a",
    client="ann",
    created=NOW,
    duration=600.0,
    exporter_name="one",
    exporter="one",
    offered=0.0,
    begun=NOW,
)


@example([OFFERED_AND_BEGUN, replace(BOARD, lease="a")])
@given(st.lists(ANYTHING, min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_what_was_due_is_not_due_again_when_it_is_done(written: list[Record]) -> None:
    """The controller would turn without an end."""
    draft, presence = Draft(), ExporterPresence()
    for record in (ANN, BOARD, *written):
        draft.put(record)
    presence.connected(BOARD.key, NOW)
    scheduler = Scheduler(presence)
    for _ in range(10):
        wake = scheduler.reconcile(draft, NOW)
        draft.commit()
        if wake is None or wake > NOW:
            return
    raise AssertionError(f"at {NOW} something has been due since {wake}")


@given(st.lists(ANYTHING, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_records_another_writes_the_lab_goes_on(written: list[Record]) -> None:
    store = MemoryStore()
    fill(store, ANN, BOARD)

    async def run() -> None:
        reconciler = Reconciler(store)
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            reconciler.presence.connected(BOARD.key, reconciler.clock())
            for record in written:
                check_bounds(record)
                overwrite(store, {key_of(record): record})
            with trio.fail_after(WAIT):
                for _ in range(4):
                    await reconciler.change(lambda *_: None)
                    await trio.testing.wait_all_tasks_blocked()
                look(reconciler)
            nursery.cancel_scope.cancel()

    trio.run(run)
    trio.run(run)  # and it starts again
