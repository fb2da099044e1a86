"""Whatever changes, and however slowly somebody reads, what they were told is what is so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.lab import Client, Exporter, Key, LabState, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.change_feed import ChangeFeed
from jumpstarter_controller.services.watch_filter import WatchFilter

MOST = 8
NAMESPACES = st.sampled_from(["lab", "other"])
NAMES = st.sampled_from(["a", "b", "c"])
labels = st.dictionaries(st.just("board"), st.sampled_from(["rpi4", "vf2"]))
exporters = st.builds(
    lambda namespace, name, found: Exporter(namespace=namespace, name=name, labels=found),
    NAMESPACES,
    NAMES,
    labels,
)
leases = st.builds(
    lambda namespace, name, client, exporter, ended, selector: Lease(
        namespace=namespace,
        name=name,
        client=client,
        exporter=exporter,
        begun=1.0 if exporter else None,
        ended=2.0 if ended else None,
        selector=selector,
    ),
    NAMESPACES,
    NAMES,
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["", "a"]),
    st.booleans(),
    st.sampled_from(["", "board=rpi4"]),
)
others = st.builds(lambda namespace, name: Client(namespace=namespace, name=name), NAMESPACES, NAMES)
records = st.one_of(exporters, leases, others)
batches = st.lists(st.tuples(records, st.booleans()), min_size=1, max_size=2 * MOST)
"""Records that are put, or else removed, in one moment."""
wishes = st.builds(
    pb.WatchRequest,
    exporters=st.just(True),
    exporter_filter=st.sampled_from(["", "board=rpi4", "!board"]),
    leases=st.sampled_from(pb.LeaseScope.values()),
    lease_filter=st.sampled_from(["", "board=rpi4"]),
    tag_filter=st.sampled_from(["", "ci=7"]),
)


class Reader:
    """What one who watches knows."""

    def __init__(self, wish: pb.WatchRequest) -> None:
        self.viewer = WatchFilter("lab", "ann", wish)
        self.position: int | None = None
        self.known: dict[RecordRef, Record] = {}
        self.snapshots = 0

    def read(self, feed: ChangeFeed, state: LabState) -> None:
        before = None if self.position is None else feed.since(self.position)
        self.position = feed.position
        if before is None:
            self.snapshots += 1
            self.known = {(type(one), one.key): one for one in self.viewer.all(state).records}
            return
        told = self.viewer.news(before, state)
        for one in told.records:
            ref: RecordRef = (type(one), one.key)
            assert self.known.get(ref) is not one, "it was told that before"
            self.known[ref] = one
            if isinstance(one, Lease) and one.ended is not None:
                del self.known[ref]
        for ref in told.gone:
            del self.known[ref]  # KeyError: it was never told that there is one


class Readers(RuleBasedStateMachine):
    """A lab that changes, and readers who look when they like."""

    @initialize(wishes=st.lists(wishes, min_size=1, max_size=4))
    def begin(self, wishes: list[pb.WatchRequest]) -> None:
        self.view = LabState()
        self.feed = ChangeFeed(MOST)
        self.readers = [Reader(wish) for wish in wishes]
        self.changes = 0

    @rule(batch=batches)
    def change(self, batch: list[tuple[Record, bool]]) -> None:
        made: dict[RecordRef, Record | None] = {
            (type(one), one.key): one if is_put else None for one, is_put in batch
        }
        self.feed.note(made, lambda ref: self.view.get(*ref))
        for (kind, key), record in made.items():
            self.view.set(kind, key, record)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        reader.read(self.feed, self.view)
        shown = {
            (type(one), one.key): one
            for kind in (Exporter, Lease)
            for one in self.view.all(kind)
            if reader.viewer.shows(one)
        }
        assert reader.known == shown
        assert {ref[1].namespace for ref in reader.known} <= {"lab"}

    @invariant()
    def it_is_bounded(self) -> None:
        feed = getattr(self, "feed", None)
        if feed is not None:
            assert len(feed._ring) <= MOST


TestReaders = Readers.TestCase
TestReaders.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def put(feed: ChangeFeed, state: LabState, *made: Record) -> None:
    feed.note([(type(one), one.key) for one in made], lambda ref: state.get(*ref))
    for one in made:
        state.set(type(one), one.key, one)


def test_who_is_not_too_slow_gets_no_second_snapshot_and_who_is_gets_one() -> None:
    feed, view = ChangeFeed(MOST), LabState()
    reader = Reader(pb.WatchRequest(exporters=True))
    reader.read(feed, view)
    for number in range(MOST):
        put(feed, view, Exporter(namespace="lab", name=f"e{number}"))
    reader.read(feed, view)
    assert reader.snapshots == 1
    for number in range(MOST + 1):
        put(feed, view, Exporter(namespace="lab", name=f"e{number}", labels={"a": "b"}))
    reader.read(feed, view)
    assert (reader.snapshots, len(reader.known)) == (2, MOST + 1)


def test_a_lease_that_ends_is_told_of_once_more() -> None:
    feed, view = ChangeFeed(), LabState()
    reader = WatchFilter("lab", "ann", pb.WatchRequest(leases=pb.LEASE_SCOPE_OWN))
    mine = Lease(namespace="lab", name="x", client="ann")
    put(feed, view, mine)
    position = feed.position
    put(feed, view, Lease(namespace="lab", name="x", client="ann", ended=3.0))
    before = feed.since(position)
    assert before is not None
    [told] = reader.news(before, view).records
    assert isinstance(told, Lease)
    assert told.ended == 3.0
    position = feed.position
    view.set(Lease, told.key, None)
    feed.note([(Lease, told.key)], lambda _: told)
    assert not reader.news(feed.since(position) or {}, view), "it was gone before"


@given(st.one_of(st.text(), st.integers().map(lambda n: f"{n:x}")), st.integers(-3, 3))
def test_a_revision_of_somebody_else_is_none(text: str, off: int) -> None:
    feed, wish = ChangeFeed(), b"wish"
    put(feed, LabState(), Exporter(namespace="lab", name="one"))
    revision = feed.revision(feed.position, wish)
    assert feed.position_of(revision, wish) == feed.position
    name, number, check = revision.split(".")
    for one in (text, revision + text if text else "", f"{text}.{number}.{check}"):
        assert one == revision or feed.position_of(one, wish) is None, one
    position = feed.position_of(f"{name}.{text}.{check}", wish)  # whose sender harms themselves alone
    assert position is None or feed.since(position) is None or 0 <= position <= feed.position
    assert feed.position_of(revision, b"another wish") is None
    assert ChangeFeed().position_of(revision, wish) is None, "it was another process's"
    future = feed.position_of(feed.revision(feed.position + 1 + abs(off), wish), wish)
    assert future is not None
    assert feed.since(future) is None


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({}, "nothing to watch"),
        ({"leases": 77}, "77 is not a lease scope"),
        ({"exporters": True, "exporter_filter": "=="}, "=="),
        ({"leases": 1, "tag_filter": "a in b"}, "a in b"),
    ],
)
def test_what_is_not_a_wish_is_rejected(wish: dict[str, Any], why: str) -> None:
    with pytest.raises(RpcError, match=why) as refused:
        WatchFilter("lab", "ann", pb.WatchRequest(**wish))
    assert refused.value.code is StatusCode.INVALID_ARGUMENT


def test_what_nobody_watches_takes_no_room() -> None:
    feed = ChangeFeed()
    feed.note([(Client, Key("lab", "ann"))], lambda _: None)
    assert feed.position == 0
