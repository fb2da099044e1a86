"""What every store has to be, against a plain dictionary; and that stores which are not are found out.

Another store needs an `Adapter`; that of Kubernetes is in tests/kube, as it needs an API server.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace as changed

from jumpstarter_controller.lab import (
    Client,
    ConditionType,
    Exporter,
    ExporterStatus,
    Key,
    Lease,
    LeaseCondition,
    PairingCode,
    Record,
)
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import (
    Change,
    Conflict,
    Cursor,
    Half,
    Snapshot,
    Store,
    Stored,
    StoreEvent,
    TooOldError,
    Unknown,
    WatchResult,
    Written,
    aged,
    blank,
    key_of,
    merged,
)
from jumpstarter_controller.store.memory import MemoryStore
from jumpstarter_controller.store.sqlite import SqliteStore

SECONDS = 5.0
"""Events have to come, and none of these stores needs long."""


@dataclass
class Adapter:
    """How the suite gets at a store: two handles on the same records, as two processes have them."""

    open: Callable[[], Store]
    namespace: str = "lab"
    """Of all records. A store may be of one."""


@contextmanager
def memory(kind: Callable[[], MemoryStore] = MemoryStore) -> Iterator[Adapter]:
    one = kind()
    yield Adapter(lambda: one)


def torn(
    store: MemoryStore, changes: Sequence[Change], at: int, chance: random.Random, *, is_unsure: bool = False
) -> tuple[list[Written | None], list[Unknown]]:
    """Make of a batch that stops `at` a change what a store may make: all before its stage, and any of the stage.

    What it says of that; when it `is_unsure`, it does not know of all.
    """
    begin = at
    while changes[at].stage and begin and changes[begin - 1].stage == changes[at].stage:
        begin -= 1
    done: list[Written | None] = list(MemoryStore.commit(store, changes[:begin]))
    also: list[Unknown] = []
    for number in range(begin, len(changes)):
        change = changes[number]
        if number > at and (not change.stage or change.stage != changes[at].stage):
            break
        told = None
        if number != at and (choice := chance.randrange(3 if is_unsure else 2)):
            with suppress(Conflict):
                (told,) = MemoryStore.commit(store, behind([change], done))
                if choice == 2:
                    also.append(Unknown(change.ref))
                    told = None
        done.append(told)
    return done, also


def behind(changes: Sequence[Change], done: Sequence[Written | None]) -> list[Change]:
    """The changes, if they are made behind those that are done already."""
    revisions = {one.ref: one.revision for one in done if one is not None}
    return [one._replace(revision=revisions.get(one.ref, one.revision)) for one in changes]


class Cuts(MemoryStore):
    """It does what a store may do: it stops anywhere, and does not know whether it has made the next change."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(1)

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        if self._random.random() < 0.5:
            return super().commit(changes)
        count = self._random.randrange(len(changes))
        done, also = torn(self, changes, count, self._random, is_unsure=True)
        stopped = changes[count]
        if self._random.random() < 0.5:
            change = behind([stopped], done)[0]
            if any(one and one.ref == stopped.ref for one in done) and self.read(stopped.ref) is None:
                change = change._replace(revision=None)
            with suppress(Conflict):
                super().commit([change])
        raise Unknown(stopped.ref, done, also)


class Delays:
    """A handle on a store that tells of one kind of records later than of another."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._random = random.Random(2)
        self._late: dict[type[Record], list[StoreEvent]] = {}
        self._cursor: Cursor = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        self._begin(cursor)
        seen = self._store.watch(cursor, 0 if self._late else seconds)
        self._cursor = seen.cursor
        for event in seen.events:
            self._late.setdefault(event.ref[0], []).append(event)
        told = [kind for kind in self._late if self._random.random() < 0.5]
        return replace(seen, events=[event for kind in told for event in self._late.pop(kind)])

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        self._begin(cursor)
        late = [event for kind in kinds for event in self._late.get(kind, [])]
        return [*late, *self._store.newer(cursor, kinds)]

    def _begin(self, cursor: Cursor) -> None:
        """A reader that comes anew, from a snapshot, is told nothing older than that."""
        if cursor != self._cursor:
            self._late.clear()
            self._cursor = cursor


@contextmanager
def shaken() -> Iterator[Adapter]:
    one = Cuts()
    yield Adapter(lambda: cast("Store", Delays(one)))


@contextmanager
def sqlite() -> Iterator[Adapter]:
    with tempfile.TemporaryDirectory(prefix="store-", dir="/dev/shm") as folder:
        yield Adapter(lambda: SqliteStore(Path(folder) / "lab.sqlite"))


def made(kind: type[Record], key: Key, text: str) -> Record:
    """A record of which both halves have that text in them; its labels and its selector are such as may be."""
    namespace, name = key
    label = text if text.isascii() else "long"
    label = label[:63]
    if kind is Client:
        return Client(namespace=namespace, name=name, labels={"team": label}, username=text)
    if kind is Exporter:
        status = ExporterStatus.AVAILABLE
        return Exporter(
            namespace=namespace,
            name=name,
            labels={"board": label},
            status=status,
            status_message=text,
            lease=text,
        )
    if kind is PairingCode:
        return PairingCode(
            namespace=namespace,
            name=name,
            kind="Client",
            subject=text,
            digest="",
            expires=1.5,
            redeemer=text,
        )
    condition = LeaseCondition(ConditionType.READY, True, "Ready", text, 2.0)
    return Lease(
        namespace=namespace,
        name=name,
        client="ann",
        selector=f"board={label}",
        exporter=text,
        conditions=(condition,),
    )


PLACES: st.SearchStrategy[tuple[type[Record], str]] = st.tuples(
    st.sampled_from([Client, Exporter, Lease, PairingCode]), st.sampled_from("ab")
)
TEXTS = st.sampled_from(["", "x", "y", "ä\u2028\U0001f600", "z" * 300])


class Contract(RuleBasedStateMachine):
    """Does what users of a store do, from two handles."""

    adapter: Callable[[], object]

    @initialize()
    def begin(self) -> None:
        self._context = self.adapter()
        adapter = self._context.__enter__()  # type: ignore[attr-defined]
        self.namespace: str = adapter.namespace
        self.handles: list[Store] = [adapter.open(), adapter.open()]
        self.model: dict[RecordRef, Stored] = {}
        self.newest: dict[RecordRef, int] = {}
        """By record: the last revision that was given, also of records that are gone."""
        self.number = 0
        self.mirrors = [dict(one.snapshot().records) for one in self.handles]
        self.cursors: list[Cursor] = [one.snapshot().cursor for one in self.handles]
        self.gone: list[dict[RecordRef, int]] = [{}, {}]
        """By handle: since when it knows that a record is gone."""
        self.ages: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "handles"):
            for one in self.handles:
                one.close()
            self._context.__exit__(None, None, None)  # type: ignore[attr-defined]

    @rule(data=st.data(), handle=st.sampled_from([0, 1]), length=st.integers(1, 4))
    def commit(self, data: st.DataObject, handle: int, length: int) -> None:
        changes = [self._change(data) for _ in range(length)]
        stops, after = self._expected(changes)
        store = self.handles[handle]
        try:
            done = list(store.commit(changes))
        except Conflict as conflict:
            assert stops is not None, "nothing was in the way"
            assert conflict.ref == changes[stops].ref  # noqa: PT017
            done = [one for one in conflict.done if one is not None]
            assert len(done) in {0, stops}, "as far as it got, or nothing at all"
        except Unknown as unknown:
            done = [one for one in unknown.done if one is not None]
            left = changes[len(done)]
            assert left.ref == unknown.ref  # noqa: PT017
            found = store.read(left.ref)
            was = after[len(done) - 1] if done else self.model
            if left.record is None and left.ref in was and found is None:  # nothing else is known of it
                known = [self.newest.get(left.ref, 0), *(one.revision for one in done)]
                done.append(Written(left.ref, max(known) + 1))
            elif found is not None and found.request == left.request:
                done.append(Written(left.ref, found.revision, getattr(found.record, "sequence", 0)))
        else:
            assert stops is None, f"{changes[stops or 0]} was written over what it did not know"
            assert len(done) == len(changes)
        self._take(changes, done, after)
        for outcome in done:  # which nobody has to tell who wrote it
            self._learn(handle, outcome.ref)

    @rule(data=st.data(), handle=st.sampled_from([0, 1]), length=st.integers(2, 4))
    def commit_at_once(self, data: st.DataObject, handle: int, length: int) -> None:
        """Of changes of one stage any may be made, and it is said which."""
        drawn = [self._change(data)._replace(stage=1) for _ in range(length)]
        changes = list({one.ref: one for one in drawn}.values())
        expected = [self._expected([one]) for one in changes]
        wrong = {one.ref for one, (stops, _) in zip(changes, expected, strict=True) if stops is not None}
        store = self.handles[handle]
        done: list[Written | None]
        try:
            done = list(store.commit(changes))
        except (Conflict, Unknown) as stopped:
            done = [*stopped.done, *[None] * (len(changes) - len(stopped.done))]
            for one in (stopped, *stopped.also):
                number = next(number for number, change in enumerate(changes) if change.ref == one.ref)
                assert done[number] is None
                assert isinstance(one, Unknown) or one.ref in wrong
                if isinstance(one, Unknown):
                    done[number] = self._found(store, changes[number])
        else:
            assert not wrong, "something was written over what was not known"
            assert len(done) == len(changes)
        made = [
            (outcome, change, after)
            for change, outcome, (_, after) in zip(changes, done, expected, strict=True)
            if outcome is not None
        ]
        for outcome, change, after in sorted(
            made, key=lambda one: one[0].age
        ):  # in whichever order they were made
            assert change.ref not in wrong
            self._take([change], [outcome], after)
            self._learn(handle, change.ref)

    def _found(self, store: Store, change: Change) -> Written | None:
        """What came of a change of which the store does not know it; None: nothing."""
        found = store.read(change.ref)
        if change.record is None:
            is_made = found is None and change.ref in self.model
            return Written(change.ref, self.newest[change.ref] + 1) if is_made else None
        if found is None or found.request != change.request:
            return None
        return Written(change.ref, found.revision, getattr(found.record, "sequence", 0))

    def _change(self, data: st.DataObject) -> Change:
        kind, name = data.draw(PLACES)
        ref: RecordRef = (kind, Key(self.namespace, name))
        stored = self.model.get(ref)
        half = data.draw(st.sampled_from(Half)) if stored is not None else Half.SPEC
        goes = stored is not None and data.draw(st.integers(0, 4)) == 0
        record = None if goes else made(kind, ref[1], data.draw(TEXTS))
        half = Half.SPEC if goes else half
        revision = stored.revision if stored is not None else None
        if data.draw(st.integers(0, 5)) == 0:
            revision = data.draw(st.sampled_from([None, 0, self.newest.get(ref, 1)]))
        self.number += 1
        return Change(ref, half, record, revision, f"request-{self.number}")

    def _expected(self, changes: Sequence[Change]) -> tuple[int | None, list[dict[RecordRef, Stored]]]:
        """At which change a batch has to stop, and the records after each of those before it."""
        records, written = dict(self.model), set[RecordRef]()
        after: list[dict[RecordRef, Stored]] = []
        for number, change in enumerate(changes):
            stored = records.get(change.ref)
            seen = change.revision
            if change.ref in written:
                seen = None if stored is None else stored.revision
            if change.record is None and stored is None:
                return number, after
            if seen != (None if stored is None else stored.revision):
                return number, after
            written.add(change.ref)
            if change.record is None:
                del records[change.ref]
            else:
                if stored is None:
                    record = blank(change.record)
                elif change.half is Half.SPEC:
                    record = merged(change.record, stored.record)
                else:
                    record = merged(stored.record, change.record)
                records[change.ref] = Stored(record, -number - 1, change.request)
            after.append(dict(records))
        return None, after

    def _take(
        self, changes: Sequence[Change], done: Sequence[Written], after: list[dict[RecordRef, Stored]]
    ) -> None:
        """What was written has come of what was asked, in its order."""
        for number, (change, outcome) in enumerate(zip(changes, done, strict=False)):
            ref = change.ref
            assert outcome.ref == ref
            assert outcome.revision > self.newest.get(ref, -1), "an older revision than before"
            self.newest[ref] = outcome.revision
            expected, was = after[number].get(ref), self.model.get(ref)
            if expected is None:
                self.model.pop(ref)
                continue
            age = outcome.age if was is None else getattr(was.record, "sequence", 0)
            record = aged(expected.record, age)
            if isinstance(record, Lease) and was is None:
                assert all(age > one for one in self.ages), "who comes later is younger"
                self.ages.append(age)
            self.model[ref] = Stored(record, outcome.revision, change.request)

    def _learn(self, handle: int, ref: RecordRef) -> None:
        if ref in self.model:
            self.mirrors[handle][ref] = self.model[ref]
        else:
            self.mirrors[handle].pop(ref, None)
            self.gone[handle][ref] = self.newest[ref]

    @rule(handle=st.sampled_from([0, 1]), ref=PLACES)
    def read(self, handle: int, ref: tuple[type[Record], str]) -> None:
        at = (ref[0], Key(self.namespace, ref[1]))
        assert self.handles[handle].read(at) == self.model.get(at)

    @rule(handle=st.sampled_from([0, 1]))
    def fall_behind(self, handle: int) -> None:
        """A reader comes anew."""
        snapshot = self.handles[handle].snapshot()
        self.mirrors[handle], self.cursors[handle] = dict(snapshot.records), snapshot.cursor

    @rule(handle=st.sampled_from([0, 1]), cursor=st.sampled_from([-1, 10**9, "tomorrow", None, (1, 2)]))
    def come_from_nowhere(self, handle: int, cursor: Cursor) -> None:
        with pytest.raises(TooOldError):
            self.handles[handle].watch(cursor, 0)
        with pytest.raises(TooOldError):
            self.handles[handle].newer(cursor, [Client])

    @rule(handle=st.sampled_from([0, 1]))
    def follow(self, handle: int) -> None:
        """Whoever watches comes to have what there is, and no record goes back to what it was."""
        store, mirror, due = self.handles[handle], self.mirrors[handle], time.monotonic() + SECONDS
        while mirror != self.model:
            assert time.monotonic() < due, "an event was lost"
            try:
                seen = store.watch(self.cursors[handle], 0.05)
            except TooOldError:
                self.fall_behind(handle)
                return
            self.cursors[handle] = seen.cursor
            self._hear(handle, seen.events)

    @rule(
        handle=st.sampled_from([0, 1]), kinds=st.sets(st.sampled_from([Client, Exporter, Lease, PairingCode]))
    )
    def catch_up(self, handle: int, kinds: set[type[Record]]) -> None:
        """Whoever asks what is newer has what there is of these kinds, at once."""
        try:
            events = self.handles[handle].newer(self.cursors[handle], kinds)
        except TooOldError:
            self.fall_behind(handle)
            return
        assert {one.ref[0] for one in events} <= kinds
        self._hear(handle, events)
        mirror = self.mirrors[handle]
        for ref in self.model.keys() | mirror.keys():
            assert ref[0] not in kinds or mirror.get(ref) == self.model.get(ref), "it is late"

    def _hear(self, handle: int, events: Sequence[StoreEvent]) -> None:
        mirror = self.mirrors[handle]
        for event in events:
            known = mirror.get(event.ref)
            newest = self.gone[handle].get(event.ref, -1) if known is None else known.revision
            if newest >= event.revision:
                continue
            if event.stored is None:
                mirror.pop(event.ref, None)
                self.gone[handle][event.ref] = event.revision
            else:
                assert event.stored.revision == event.revision
                mirror[event.ref] = event.stored

    @invariant()
    def what_was_written_is_there(self) -> None:
        for store in getattr(self, "handles", ()):
            assert dict(store.snapshot().records) == self.model


def ageless(record: Record) -> Record:
    return aged(record, 0)


def machine(adapter: Callable[[], object]) -> type[Contract]:
    return type("Machine", (Contract,), {"adapter": staticmethod(adapter)})


@pytest.mark.parametrize("adapter", [memory, shaken, sqlite])
def test_a_store_is_what_the_contract_says(adapter: Callable[[], object]) -> None:
    run_state_machine_as_test(
        machine(adapter),
        settings=settings(max_examples=25 if adapter is sqlite else 60, stateful_step_count=25),
    )


class LosesEvents(MemoryStore):
    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, seconds)
        return replace(seen, events=seen.events[1:])


class LooksAwhile(MemoryStore):
    """Its swap is none: it takes whatever revision it is given."""

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        known = self.snapshot().records
        revisions = (known[one.ref].revision if one.ref in known else None for one in changes)
        return super().commit(
            [one._replace(revision=revision) for one, revision in zip(changes, revisions, strict=True)]
        )


class InAnotherOrder(MemoryStore):
    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        return list(reversed(super().commit(list(reversed(changes)))))


class IsBehind(MemoryStore):
    """Its snapshot is that of before the last commit, as a cache's may be."""

    _cached: Snapshot | None = None

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        self._cached = super().snapshot()
        return super().commit(changes)

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        return self._cached or super().snapshot()


class DoesNotKnowAndHasWritten(MemoryStore):
    """Nobody could find out."""

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        super().commit([one._replace(request="") for one in changes[:1]])
        raise Unknown(changes[0].ref)


class RefusesAndHasWritten(MemoryStore):
    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        super().commit(changes)
        raise Conflict(changes[0].ref)


class Forgets(MemoryStore):
    """It keeps a status that was there when its record was made anew."""

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        done = super().commit(changes)
        for change, one in zip(changes, done, strict=True):
            if change.revision is None and change.record is not None and one.ref in self._records:
                kept = self._records[one.ref]
                self._records[one.ref] = kept._replace(record=aged(change.record, one.age))
        return done


class MakesAnewWithoutAge(MemoryStore):
    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        return [one._replace(age=0) for one in super().commit(changes)]


class LosesWhatIsGone(MemoryStore):
    """It tells of no end of a record."""

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, seconds)
        return replace(seen, events=[one for one in seen.events if one.stored is not None])


class NumbersEventsAnew(MemoryStore):
    """Its events come with revisions of records that those do not have."""

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, seconds)
        last = max((one.revision for one in seen.events), default=0)
        return replace(seen, events=[one._replace(revision=last) for one in seen.events])


class ReadsWhatWasBefore(MemoryStore):
    """Its `read` is a cache's."""

    _cached: Snapshot | None = None

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        self._cached = super().snapshot()
        return super().commit(changes)

    def read(self, ref: RecordRef) -> Stored | None:
        return super().read(ref) if self._cached is None else self._cached.records.get(ref)


class WritesBothHalves(MemoryStore):
    """It takes a change for the whole record."""

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        done = super().commit(changes)
        for change, one in zip(changes, done, strict=True):
            kept = self._records.get(one.ref)
            if change.revision is not None and change.record is not None and kept is not None:
                record = aged(change.record, getattr(kept.record, "sequence", 0))
                self._records[one.ref] = kept._replace(record=record)
        return done


class GoesOnBehindAConflict(MemoryStore):
    """It says that it stopped, and has made what comes behind."""

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        try:
            return super().commit(changes)
        except Conflict as conflict:
            with suppress(Conflict):
                super().commit(changes[len(conflict.done) + 1 :])
            raise


class KnowsNothingNewer(MemoryStore):
    """It answers from what it has heard."""

    _heard: Cursor = 0

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        seen = super().watch(cursor, seconds)
        self._heard = seen.cursor
        return seen

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        late = {one.ref for one in super().newer(self._heard, kinds)}
        return [one for one in super().newer(cursor, kinds) if one.ref not in late]


class KnowsEveryCursor(MemoryStore):
    """Whoever is too far behind, or ahead, hears nothing instead of that."""

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        try:
            return super().watch(cursor, seconds)
        except TooOldError:
            return WatchResult((), self.snapshot().cursor)


@pytest.mark.parametrize(
    "wrong",
    [
        LosesWhatIsGone,
        NumbersEventsAnew,
        ReadsWhatWasBefore,
        WritesBothHalves,
        GoesOnBehindAConflict,
        KnowsEveryCursor,
        KnowsNothingNewer,
        LosesEvents,
        LooksAwhile,
        InAnotherOrder,
        IsBehind,
        DoesNotKnowAndHasWritten,
        RefusesAndHasWritten,
        Forgets,
        MakesAnewWithoutAge,
    ],
)
def test_a_store_that_is_not_is_found_out(wrong: type[MemoryStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SECONDS", 0.1)
    with pytest.raises((AssertionError, ExceptionGroup, Conflict, pytest.fail.Exception)):
        run_state_machine_as_test(
            machine(lambda: memory(wrong)),
            settings=settings(
                max_examples=300,
                stateful_step_count=25,
                phases=[Phase.generate],
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_a_place_is_where_a_record_stands() -> None:
    record = made(Client, Key("lab", "a"), "x")
    assert key_of(changed(record, labels={})) == (Client, Key("lab", "a"))
