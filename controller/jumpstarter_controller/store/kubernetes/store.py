"""A store in the objects of one namespace of a Kubernetes cluster."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeAlias, TypeVar

import msgspec
from jumpstarter_proto.json_texts import decode_json

from jumpstarter_controller.lab import Exporter, ExporterDevices, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store.contract import (
    Change,
    Conflict,
    Cursor,
    DamagedError,
    Half,
    Snapshot,
    Stored,
    StoreError,
    StoreEvent,
    TooOldError,
    Unknown,
    WatchResult,
    Written,
    stages,
)
from jumpstarter_controller.store.kubernetes.api import (
    MANAGER,
    MERGE_PATCH,
    Api,
    UnansweredError,
    WrongAnswerError,
    refusal,
)
from jumpstarter_controller.store.kubernetes.events import EventRecorder
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.follower import Followers, Versions
from jumpstarter_controller.store.kubernetes.kinds import MAPPINGS, with_devices
from jumpstarter_controller.store.kubernetes.mapping import (
    API_VERSION,
    NoRecordError,
    place_of,
    revision_of,
)
from jumpstarter_controller.store.kubernetes.mapping import (
    Mapping as KindMapping,
)
from jumpstarter_controller.store.kubernetes.patch import merge_patch

__all__ = ["KubernetesStore"]

RETRY_SECONDS = 10.0
"""For so long a request is made again while the server is busy or does not answer. All others wait for that: when it
was in vain, those that follow are made once, until one is answered."""
FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 2.0
MAX_GONE = 10_000
"""Deleted objects that are remembered. A reader that is further behind has to take a snapshot."""
MAX_REJECTED = 1000
"""Unreadable objects that are remembered. Each is logged once."""
BUSY = 429
RETRIED = {BUSY, 500, 502, 503, 504}
MAX_WRITES = 8
"""The number of changes of a stage that are sent concurrently."""
MAX_LABELLED = 100
"""Objects that get labels between two watches."""
CONFLICT, MISSING = 409, 404

_log = logging.getLogger(__name__)
T = TypeVar("T")
_Outcome: TypeAlias = Written | Conflict | Unknown | StoreError | None


class _ServerError(StoreError):
    """The API server does not answer, or rejects the request."""

    passes = True


class KubernetesStore:
    """One record an object. Others may write to them, too, as with kubectl.

    An object that is not a valid record is left alone, and logged once. An invalid lease counts as deleted, so that its
    board is free for others; of other kinds the last valid version is used (`DamagedError`).
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        *,
        clock: Callable[[], float] = time.time,
        events: EventRecorder | None = None,
    ) -> None:
        """`events` records the changes that are written here. It is closed with the store."""
        self._recorder = events
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._paths = {
            kind: f"/apis/{one.group}/{API_VERSION}/namespaces/{namespace}/{one.plural}"
            for kind, one in MAPPINGS.items()
        }
        self._followers = Followers(api, self._paths, self._event)
        self._lock = threading.Lock()
        self._items: dict[RecordRef, tuple[int, bytes]] = {}
        """The last seen version of each object, as JSON without managed fields."""
        self._gone: dict[RecordRef, int] = {}
        """Deleted objects, with a revision that is not before their deletion."""
        self._forgotten: dict[type[Record], int] = {}
        """By kind: deletions up to this revision are forgotten."""
        self._rejected: dict[RecordRef, str] = {}
        """Unreadable objects, with the reason."""
        self._unflagged: set[RecordRef] = set()
        """Objects whose condition about their validity is not up to date."""
        self._unlabelled: dict[RecordRef, None] = {}
        """Objects whose labels do not match their status."""
        self._said: deque[tuple[RecordRef, str]] = deque(maxlen=MAX_REJECTED)
        self._last_age = 0
        self._wakes = 0
        """The number of calls of `wake`. A request that waits for the server gives up when it changes."""
        self._waiting = threading.Condition()
        self._is_away = False
        """Whether the server did not answer the last request, in spite of retries."""
        self._writers: ThreadPoolExecutor | None = None
        self.on_seen: Callable[[RecordRef], None] = _ignore
        """Called, in any thread, when an object has changed, including fields that are not part of its record."""

    def expect_no_answer(self) -> None:
        """The server may be unreachable: until it has answered once, no request is repeated."""
        self._is_away = True

    # Reading

    def snapshot(self, *, whole: bool = True) -> Snapshot:
        """As `Store.snapshot`; damaged records are always left out."""
        records: dict[RecordRef, Stored] = {}
        versions: dict[type[Record], int] = {}
        for kind in MAPPINGS:
            events, versions[kind] = self._list(kind)
            records |= {one.ref: one.stored for one in events if one.stored is not None}
        damaged = frozenset(ref for ref in self._rejected.copy() if ref[0] is not Lease)
        return Snapshot(records, Versions.of(versions), damaged)

    def newer(self, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        """As `Store.newer`; lists these kinds."""
        if not isinstance(cursor, Versions):
            raise TooOldError
        found: list[StoreEvent] = []
        for kind, seen in cursor.by_kind:
            if kind in kinds:
                if seen < self._forgotten.get(kind, 0):
                    raise TooOldError
                found += (one for one in self._list(kind)[0] if one.revision > seen)
        return found

    def _list(self, kind: type[Record]) -> tuple[list[StoreEvent], int]:
        """Each object of a kind as it is now, those that are gone, and of which resource version that is."""
        items, version = self._patiently(lambda: self._api.pages(self._paths[kind]))
        mapping, events = MAPPINGS[kind], []
        there: set[RecordRef] = set()
        for item in items:
            ref, revision = place_of(mapping, item), revision_of(item)
            there.add(ref)
            if (event := self._told(ref, revision, self._seen(ref, mapping, item))) is not None:
                events.append(event)
        with self._lock:
            known = {ref: revision for ref, (revision, _) in self._items.items() if ref[0] is kind}
            known |= {ref: revision for ref, revision in self._gone.items() if ref[0] is kind}
        for ref, revision in known.items():
            if ref not in there and revision <= version:
                self._forget(ref, version)
                events.append(StoreEvent(ref, version, None))
        return events, version

    def read(self, ref: RecordRef) -> Stored | None:
        """As `Store.read`.

        Raises:
            DamagedError: the object is not a valid record.
            StoreError: the server does not answer.
        """
        item = self._patiently(lambda: self._get(ref))
        if item is None:
            return None
        stored = self._seen(ref, MAPPINGS[ref[0]], item)
        if stored is None and ref[0] is not Lease:
            self._check_damage(ref)
        return stored

    def _check_damage(self, ref: RecordRef) -> None:
        if why := self._rejected.get(ref):
            raise DamagedError(
                f"{_words(ref)} is not a valid record ({why}); correct or delete it with kubectl"
            )

    def _get(self, ref: RecordRef) -> Object | None:
        try:
            item = self._api.ask("GET", self._path(ref))
        except WrongAnswerError as error:
            if _is_gone(error):
                self._forget(ref)
                return None
            raise
        return item

    def _path(self, ref: RecordRef) -> str:
        return f"{self._paths[ref[0]]}/{ref[1].name}"

    def _seen(self, ref: RecordRef, mapping: KindMapping, item: Object) -> Stored | None:
        """The record of an object from the server; None: it is damaged."""
        item["metadata"].pop("managedFields", None)
        revision = revision_of(item)
        with self._lock:
            known = self._items.get(ref)
            if known is None or known[0] <= revision:
                self._items[ref] = revision, msgspec.json.encode(item)
        if known is None or known[0] < revision:
            self.on_seen(ref)
        try:
            stored = mapping.read(item)
        except NoRecordError as error:
            self._reject(ref, str(error), is_ending="deletionTimestamp" in item["metadata"])
            stored = None
        else:
            self._rejected.pop(ref, None)
        if mapping.flagged(item, self._rejected.get(ref, ""), 0.0) is not item:
            self._unflagged.add(ref)
        if mapping.labelled(item) is not item:
            self._unlabelled[ref] = None
        return stored

    def _flag(self) -> None:
        """Have objects that are no records say so in a condition, and those that are again say it no more.

        Whoever was first, or does not let us, is right.
        """
        while self._unflagged:
            ref = self._unflagged.pop()
            mapping = MAPPINGS[ref[0]]
            with self._lock:
                known = self._items.get(ref)
            if known is None:
                continue
            item = decode_json(known[1], dict[str, Any])
            patch = merge_patch(item, mapping.flagged(item, self._rejected.get(ref, ""), self._clock()))
            patch["metadata"] = {"resourceVersion": str(known[0])}
            try:
                self.send("PATCH", ref, patch, kind=MERGE_PATCH, below="/status")
            except (UnansweredError, WrongAnswerError) as error:
                _log.debug("%s gets no condition: %s", _words(ref), error)

    def _label(self) -> None:
        """Have labels say what the status does, of some objects at a time. Whoever was first is right."""
        for ref in list(self._unlabelled)[:MAX_LABELLED]:
            del self._unlabelled[ref]
            with self._lock:
                known = self._items.get(ref)
            if known is None:
                continue
            item = decode_json(known[1], dict[str, Any])
            patch = merge_patch(item, MAPPINGS[ref[0]].labelled(item))
            if not patch:
                continue
            patch["metadata"]["resourceVersion"] = str(known[0])
            try:
                self.learn(ref, self.send("PATCH", ref, patch, kind=MERGE_PATCH))
            except (UnansweredError, WrongAnswerError) as error:
                _log.debug("%s gets no label: %s", _words(ref), error)

    def _reject(self, ref: RecordRef, why: str, *, is_ending: bool) -> None:
        if is_ending:
            self._rejected.pop(ref, None)
            return
        self._rejected[ref] = why
        if (ref, why) not in self._said:
            self._said.append((ref, why))
            what = "and is ignored" if ref[0] is Lease else "and its previous version stays in use"
            _log.warning(
                "%s is not a valid record of a lab: %s; it is not changed, %s until it is corrected or deleted",
                _words(ref),
                why,
                what,
            )

    def _forget(self, ref: RecordRef, revision: int | None = None) -> None:
        """It is gone, which whoever asks what is newer has to hear, whoever was told in between."""
        with self._lock:
            known = self._items.get(ref)
            if known is not None and (revision is None or known[0] <= revision):
                del self._items[ref]
                self._gone[ref] = revision or known[0]
            while len(self._gone) > MAX_GONE:
                oldest = next(iter(self._gone))
                self._forgotten[oldest[0]] = max(self._forgotten.get(oldest[0], 0), self._gone.pop(oldest))
        self._rejected.pop(ref, None)

    # Watching

    def watch(self, cursor: Cursor, seconds: float) -> WatchResult:
        """As `Store.watch`; includes the caller's own changes."""
        if not isinstance(cursor, Versions):
            raise TooOldError
        self._flag()
        self._label()
        with self._lock:
            seen = dict(cursor.by_kind)
            self._gone = {ref: one for ref, one in self._gone.items() if one > seen.get(ref[0], 0)}
        return self._followers.since(cursor, seconds)

    def _event(self, kind: type[Record], word: str, item: Object) -> StoreEvent | None:
        mapping = MAPPINGS[kind]
        ref, revision = place_of(mapping, item), revision_of(item)
        if word == "DELETED":
            self._forget(ref, revision)
            return StoreEvent(ref, revision, None)
        return self._told(ref, revision, self._seen(ref, mapping, item))

    def _told(self, ref: RecordRef, revision: int, stored: Stored | None) -> StoreEvent | None:
        """What is to be said of an object: nothing of one that somebody has damaged, unless it is a lease."""
        if stored is None and ref[0] is not Lease and ref in self._rejected:
            return None
        return StoreEvent(ref, revision, stored)

    def wake(self) -> None:
        """As `Store.wake`."""
        with self._waiting:
            self._wakes += 1
            self._waiting.notify_all()
        self._followers.wake()

    def close(self) -> None:
        """As `Store.close`."""
        self.wake()
        if self._writers is not None:
            self._writers.shutdown()
        self._followers.close()
        if self._recorder is not None:
            self._recorder.close()
        self._api.close()

    # Writing

    def commit(self, changes: Sequence[Change]) -> Sequence[Written]:
        """As `Store.commit`; one request for each change, those of a stage concurrently."""
        done: list[Written | None] = []
        seen: dict[RecordRef, int | None] = {}
        for stage in stages(changes):
            outcomes = self._write_all([(one, seen.get(one.ref, one.revision)) for one in stage])
            for change, outcome in zip(stage, outcomes, strict=True):
                if isinstance(outcome, Written):
                    seen[change.ref] = None if change.record is None else outcome.revision
                done.append(outcome if isinstance(outcome, Written) else None)
            stopped = [one for one in outcomes if isinstance(one, Conflict | Unknown)]
            failed = [one for one in outcomes if isinstance(one, StoreError)]
            while (stopped or failed) and done and done[-1] is None:
                done.pop()
            if stopped:  # whoever has failed beside them is tried again with them
                stopped[0].done, stopped[0].also = tuple(done), tuple(stopped[1:])
                raise stopped[0]
            if failed:
                failed[0].done = tuple(done)
                raise failed[0]
        return [one for one in done if one is not None]

    def _write_all(self, changes: Sequence[tuple[Change, int | None]]) -> list[_Outcome]:
        """The result of each change of a stage; None: it was not tried, because another had failed."""
        if len(changes) == 1:
            return [self._outcome(*changes[0], self._age_of(*changes[0]))]
        if self._writers is None:
            self._writers = ThreadPoolExecutor(MAX_WRITES, "store")
        failed = threading.Event()

        def write(change: Change, seen: int | None, age: int) -> _Outcome:
            if failed.is_set():
                return None
            outcome = self._outcome(change, seen, age)
            if not isinstance(outcome, Written):
                failed.set()
            return outcome

        # Who comes first is the older one, whoever is written first.
        asked = [self._writers.submit(write, *one, self._age_of(*one)) for one in changes]
        wait(asked)
        return [one.result() for one in asked]

    def _age_of(self, change: Change, seen: int | None) -> int:
        return self.age() if seen is None and change.record is not None else 0

    def _outcome(self, change: Change, seen: int | None, age: int) -> _Outcome:
        try:
            return self._write(change, seen, age)
        except (Conflict, Unknown, StoreError) as error:
            return error

    def _write(self, change: Change, seen: int | None, age: int) -> Written:
        ref, mapping = change.ref, MAPPINGS[change.ref[0]]
        if ref[1].namespace != ("" if mapping.is_of_the_lab else self._namespace):
            raise StoreError(
                f"{_words(ref)} cannot be kept: this controller's records are in the namespace {self._namespace}"
            )
        attempt = _Attempt(self, change, seen, age)
        try:
            return self._patiently(attempt)
        except StoreError as error:
            if attempt.may_be_made:
                raise Unknown(ref) from error
            raise

    def age(self) -> int:
        """Of a record that is made now: later than those that this store has made before."""
        with self._lock:
            self._last_age = max(self._last_age + 1, round(self._clock() * 1_000_000))
            return self._last_age

    def item(self, ref: RecordRef, revision: int) -> Object | None:
        """The object as it was at that revision, if it is known or still so."""
        with self._lock:
            known = self._items.get(ref)
        if known is None or known[0] != revision:
            item = self._get(ref)
            if item is None or revision_of(item) != revision:
                return None
            self._seen(ref, MAPPINGS[ref[0]], item)
            return item
        return decode_json(known[1], dict[str, Any])

    def listed(self, item: Object, change: Change) -> Object:
        """The object as it is to be changed: whatever of an exporter's status is written, its devices are, too."""
        record = change.record
        if not isinstance(record, Exporter) or change.half is not Half.STATUS:
            return item
        return with_devices(item, self.latest((ExporterDevices, record.key)) if record.devices else None)

    def latest(self, ref: RecordRef) -> Object | None:
        """The last seen version of an object."""
        with self._lock:
            known = self._items.get(ref)
        return None if known is None else decode_json(known[1], dict[str, Any])

    def refs(self, *kinds: type[Record]) -> list[RecordRef]:
        """Where there is an object of these kinds."""
        with self._lock:
            return [ref for ref in self._items if ref[0] in kinds]

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Repeat a request while the server is busy, for some seconds. StoreError: it failed or was rejected."""
        due = time.monotonic() + (0.0 if self._is_away else RETRY_SECONDS)
        pause, wakes = FIRST_PAUSE_SECONDS, self._wakes
        while True:
            try:
                found = ask()
            except UnansweredError as error:
                failure: Exception = error
                wait = pause
            except WrongAnswerError as error:
                if error.status not in RETRIED:
                    self._is_away = False
                    raise self.refusal(error) from error
                failure = error
                wait = error.retry_seconds or pause
            except (Conflict, DamagedError):
                self._is_away = False
                raise
            else:
                self._is_away = False
                return found
            is_late = time.monotonic() + wait > due
            if is_late or self._is_woken(wakes, wait):
                self._is_away = self._is_away or is_late
                raise _ServerError(
                    f"the API server at {self._api.host} does not answer ({failure}); check it; the controller "
                    "continues when it answers"
                ) from failure
            pause = min(pause * 2, MAX_PAUSE_SECONDS)

    def _is_woken(self, wakes: int, seconds: float) -> bool:
        with self._waiting:
            return self._waiting.wait_for(lambda: self._wakes != wakes, seconds)

    def refusal(self, error: WrongAnswerError) -> StoreError:
        """Explain an answer of the API server to the administrator of the lab."""
        return _ServerError(refusal(self._api.host, error))

    @property
    def rejected(self) -> dict[RecordRef, str]:
        """Objects that were seen and are no records, and why."""
        return self._rejected.copy()

    # What an attempt needs

    @property
    def api(self) -> Api:
        """The API server."""
        return self._api

    @property
    def namespace(self) -> str:
        """Where the objects are."""
        return self._namespace

    def send(
        self, method: str, ref: RecordRef, body: Object, *, kind: str = "application/json", below: str = ""
    ) -> Object:
        """One request about a record's object; below it, such as `/status`. Raises as `Api.ask`."""
        path = self._paths[ref[0]] if method == "POST" else self._path(ref) + below
        query = {"fieldManager": MANAGER}
        if method != "DELETE":  # a definition that is too old drops a field with a word, and not without
            query["fieldValidation"] = "Strict"
        return self._api.ask(method, path, body, query, kind)

    def now(self) -> float:
        """The time by the clock of the store."""
        return self._clock()

    def learn(self, ref: RecordRef, item: Object) -> Written:
        """The result of a write."""
        self._seen(ref, MAPPINGS[ref[0]], item)
        return Written(ref, revision_of(item), MAPPINGS[ref[0]].age(item))

    def tell(self, ref: RecordRef, before: Object | None, after: Object) -> None:
        """An object was made or changed here."""
        if self._recorder is not None:
            self._recorder.note(MAPPINGS[ref[0]], before, after)

    def check_made(self, ref: RecordRef) -> None:
        """Raise DamagedError if the name of a new object is taken by one that is not a valid record."""
        self.read(ref)
        self._check_damage(ref)

    def lose(self, ref: RecordRef) -> None:
        """The object was deleted."""
        self._forget(ref)


class _Attempt:
    """A change, which is tried again as long as the answer does not say how it went.

    Each try names the revision upon which the change is made, so that it is made once at most. If an earlier one may
    have been made, the object says by its request's id whether it was.
    """

    def __init__(self, store: KubernetesStore, change: Change, seen: int | None, age: int) -> None:
        self._store = store
        self._age = age
        self._change = change
        self._seen = seen
        self.may_be_made = False

    def __call__(self) -> Written:
        if self.may_be_made and (written := self._find()) is not None:
            return written
        try:
            written = self._send()
        except UnansweredError as error:
            self.may_be_made = self.may_be_made or error.may_have_arrived
            raise
        except WrongAnswerError as error:
            if error.status == CONFLICT or (self._seen is not None and _is_gone(error)):
                if self.may_be_made and (written := self._find()) is not None:
                    return written
                if self._seen is None:
                    self._store.check_made(self._change.ref)
                raise Conflict(self._change.ref) from error
            self.may_be_made = self.may_be_made or (error.status in RETRIED and error.status != BUSY)
            raise
        return written

    def _find(self) -> Written | None:
        """What came of an earlier try, if it was made."""
        change, store = self._change, self._store
        stored = store.read(change.ref)
        if change.record is None:
            return Written(change.ref, (self._seen or 0) + 1) if stored is None else None
        if stored is None or stored.request != change.request or not change.request:
            return None
        return Written(change.ref, stored.revision, getattr(stored.record, "sequence", 0))

    def _send(self) -> Written:
        change, store = self._change, self._store
        ref, mapping = change.ref, MAPPINGS[change.ref[0]]
        if change.record is None:
            if not self._seen:
                raise Conflict(ref)
            store.send("DELETE", ref, {"preconditions": {"resourceVersion": str(self._seen)}})
            store.lose(ref)
            return Written(ref, self._seen + 1)
        if self._seen is None:
            item = mapping.made(change.record, store.namespace, change.request, self._age)
            made = store.send("POST", ref, item)
            store.tell(ref, None, made)
            return store.learn(ref, made)
        before = store.item(ref, self._seen)
        if before is None:
            raise Conflict(ref)
        try:
            listed = store.listed(before, change)
            after = mapping.changed(listed, change.record, change.half, change.request, store.now())
        except NoRecordError:
            raise Conflict(ref) from None
        patch = merge_patch(before, after)
        patch.setdefault("metadata", {})["resourceVersion"] = str(self._seen)
        below = "/status" if change.half is Half.STATUS and mapping.has_mark else ""
        made = store.send("PATCH", ref, patch, kind=MERGE_PATCH, below=below)
        store.tell(ref, before, made)
        return store.learn(ref, made)


def _is_gone(error: WrongAnswerError) -> bool:
    """Whether it is the object that is missing, and not the definition of its kind."""
    return error.status == MISSING and "could not find the requested resource" not in error.message


def _words(ref: RecordRef) -> str:
    kind, key = ref
    return f"{kind.KIND} {key}"


def _ignore(_: RecordRef) -> None:
    """Nobody wants to know."""
