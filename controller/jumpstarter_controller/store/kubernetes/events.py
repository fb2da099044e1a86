"""Events of Kubernetes, which `kubectl describe` shows: what has become of clients, exporters and leases.

Whoever writes a record tells them, in a thread of its own. They are best effort and bounded: nothing waits for them,
and those that are too many, or that the API server does not take, are left out.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from jumpstarter_controller.lab import Client, Exporter, ExporterStatus, Lease, Record
from jumpstarter_controller.store.kubernetes.api import (
    MANAGER,
    MERGE_PATCH,
    Api,
    UnansweredError,
    WrongAnswerError,
    remedy,
)
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.mapping import API_VERSION, Mapping, NoRecordError
from jumpstarter_controller.store.kubernetes.texts import time_text

__all__ = ["Bucket", "EventRecorder", "News", "news_of"]

KINDS = (Client, Exporter, Lease)
"""Of which there is something to tell."""
MAX_WAITING = 1000
"""Changes that wait to be told; more are left out."""
BURST, PER_SECOND = 100, 5.0
"""Events of the lab at once, and behind them."""
OBJECT_BURST, OBJECT_PER_SECOND = 25, 1 / 60
"""Of one object, as Kubernetes' own components have it."""
AGAIN_SECONDS = 600.0
"""What an object was told so long ago is counted there when it happens again."""
MAX_REMEMBERED = 4096
"""Objects and Events of which it is known what was told."""
PAUSE_SECONDS = 10.0
"""When the API server takes none, none is sent for so long."""
CLOSE_SECONDS = 1.0
"""So long those that wait are sent when the store is closed."""
MAX_MESSAGE_LENGTH = 1024
FORBIDDEN, MISSING = 403, 404

_log = logging.getLogger(__name__)
_OFFLINE_STATUSES = frozenset((ExporterStatus.UNSPECIFIED, ExporterStatus.OFFLINE))


class News(NamedTuple):
    """What has become of a record. Reasons that Jumpstarter's own controller has are called as there."""

    reason: str
    message: str
    is_warning: bool = False


def news_of(before: Record | None, after: Record) -> Iterator[News]:
    """What a change of a record means; nothing where nobody would ask. No I/O."""
    if isinstance(after, Lease):
        yield from _lease(before if isinstance(before, Lease) else None, after)
    elif isinstance(after, Exporter):
        yield from _exporter(before if isinstance(before, Exporter) else None, after)
    elif isinstance(after, Client) and not after.username:
        if before is None:
            yield News("CredentialCreated", "The client has a token")
        elif before.uid != after.uid:
            yield News("CredentialCreated", "The client has a new token")


def _lease(before: Lease | None, after: Lease) -> Iterator[News]:
    if after.accepted and after.ended is None and not (before and before.accepted):
        yield News("LeaseAcquired", f"Client {after.client} has exporter {after.exporter}")
    if after.ended is not None and (before is None or before.ended is None):
        is_refused = after.begun is None and not after.release
        yield News("LeaseRefused" if is_refused else "LeaseEnded", after.outcome, is_refused)


def _exporter(before: Exporter | None, after: Exporter) -> Iterator[News]:
    devices = before.devices if before else 0
    if after.devices and not devices:
        yield News("ExporterRegistered", f"Exporter registered its capabilities: deviceCount={after.devices}")
    was_there = before is not None and before.status not in _OFFLINE_STATUSES
    is_there = after.status not in _OFFLINE_STATUSES
    if is_there and not was_there:
        yield News("ExporterOnline", after.status_message or "The exporter is connected")
    elif was_there and not is_there:
        yield News("ExporterOffline", after.status_message or "The exporter is not connected", True)
    if devices and not after.devices:
        yield News("ExporterUnregistered", after.status_message or "Exporter unregistered", True)


@dataclass
class Bucket:
    """Takes so many at once, and so many a second behind them. No I/O."""

    burst: float
    per_second: float
    _tokens: float = field(init=False)
    _at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def takes(self, now: float) -> bool:
        """Whether there is room for one more at that monotonic time."""
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass
class _Told:
    """An Event that is there."""

    name: str
    at: float
    """A monotonic time."""
    count: int = 1


class EventRecorder:
    """Tells what becomes of objects in a namespace. `note` may be called from any thread, and never waits."""

    def __init__(self, api: Api, namespace: str, *, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._path = f"/api/v1/namespaces/{namespace}/events"
        self._waiting: deque[tuple[Mapping, Object | None, Object]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._all = Bucket(BURST, PER_SECOND)
        self._buckets: dict[str, Bucket] = {}
        """By the uid of an object."""
        self._told: dict[Hashable, _Told] = {}
        self._silent_until = 0.0
        self._is_refusal_known = False

    def note(self, mapping: Mapping, before: Object | None, after: Object) -> None:
        """An object was made (`before` is None) or changed by us."""
        if mapping.record not in KINDS:
            return
        with self._changed:
            if self._is_closed or len(self._waiting) >= MAX_WAITING:
                return
            self._waiting.append((mapping, before, after))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Those that wait have a second more. A thread whose request is not answered is left to itself."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
            with self._changed:
                self._waiting.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                mapping, before, after = self._waiting.popleft()
            try:
                self._tell(mapping, before, after)
            except (
                Exception
            ):  # the edge of the thread: what cannot be told keeps nothing else from being told
                _log.exception("an Event cannot be made of %s", after.get("metadata", {}).get("name"))

    def _tell(self, mapping: Mapping, before: Object | None, after: Object) -> None:
        try:
            was = None if before is None else mapping.read(before).record
            record = mapping.read(after).record
        except NoRecordError:
            return
        for news in news_of(was, record):
            now = time.monotonic()
            if now < self._silent_until or not self._has_room(after["metadata"]["uid"], now):
                continue
            try:
                self._send(mapping, after, news, now)
            except UnansweredError as error:
                self._pause(str(error), now)
            except WrongAnswerError as error:
                words = "; ".join(filter(None, (str(error), remedy(error))))
                self._pause(words, now, is_refused=error.status == FORBIDDEN)

    def _has_room(self, uid: str, now: float) -> bool:
        bucket = self._buckets.setdefault(uid, Bucket(OBJECT_BURST, OBJECT_PER_SECOND))
        if len(self._buckets) > MAX_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return bucket.takes(now) and self._all.takes(now)

    def _send(self, mapping: Mapping, item: Object, news: News, now: float) -> None:
        uid = item["metadata"]["uid"]
        told = self._told.get((uid, news))
        when = time_text(int(self._clock()))
        if told is not None and now - told.at < AGAIN_SECONDS:
            change: Object = {"count": told.count + 1, "lastTimestamp": when}
            try:
                self._api.ask(
                    "PATCH", f"{self._path}/{told.name}", change, {"fieldManager": MANAGER}, MERGE_PATCH
                )
            except WrongAnswerError as error:
                if error.status != MISSING:
                    raise
            else:
                told.count, told.at = told.count + 1, now
                return
        name = f"{item['metadata']['name'][:230]}.{secrets.token_hex(8)}"
        self._api.ask("POST", self._path, self._event(mapping, item, news, name, when))
        self._told.pop((uid, news), None)
        self._told[uid, news] = _Told(name, now)
        if len(self._told) > MAX_REMEMBERED:
            del self._told[next(iter(self._told))]

    def _event(self, mapping: Mapping, item: Object, news: News, name: str, when: str) -> Object:
        metadata = item["metadata"]
        return {
            "metadata": {"name": name, "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": f"{mapping.group}/{API_VERSION}",
                "kind": mapping.kind,
                **{key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")},
            },
            "reason": news.reason,
            "message": news.message[:MAX_MESSAGE_LENGTH],
            "type": "Warning" if news.is_warning else "Normal",
            "source": {"component": MANAGER, "host": socket.gethostname()},
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }

    def _pause(self, why: str, now: float, *, is_refused: bool = False) -> None:
        self._silent_until = now + PAUSE_SECONDS
        if is_refused and not self._is_refusal_known:
            self._is_refusal_known = True
            _log.warning("Events cannot be written, so that `kubectl describe` shows none: %s", why)
        else:
            _log.debug("Events cannot be written: %s", why)
