"""A thread for each kind of object that reads its watch, and a log of the received events."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jumpstarter_controller.lab import Record
from jumpstarter_controller.store.contract import StoreError, StoreEvent, TooOldError, WatchResult
from jumpstarter_controller.store.kubernetes.api import Api, Stream, UnansweredError, WrongAnswerError, remedy
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.informer import (
    SILENCE_SECONDS,
    WATCH_SECONDS,
    Informer,
    InformerState,
)

__all__ = ["Follower", "Followers", "Versions"]

_log = logging.getLogger(__name__)

MAX_EVENTS = 10_000
"""Events of a kind that are kept. A reader that is further behind has to take a snapshot."""


@dataclass(frozen=True)
class Versions:
    """By kind of record the resource version up to which somebody has seen everything. A cursor of this store."""

    by_kind: tuple[tuple[type[Record], int], ...]

    @classmethod
    def of(cls, versions: Mapping[type[Record], int]) -> Versions:
        """A cursor of these versions."""
        return cls(tuple(sorted(versions.items(), key=lambda one: one[0].KIND)))


@dataclass
class _Log:
    """What a kind's watch has told since a version."""

    informer: Informer
    since: int
    events: deque[StoreEvent] = field(default_factory=deque)


class Follower:
    """Reads the watch of one kind until `stop`."""

    def __init__(
        self,
        api: Api,
        path: str,
        version: int,
        event: Callable[[str, Object], StoreEvent | None],
        changed: threading.Condition,
    ) -> None:
        self.log = _Log(Informer(version, event), version)
        self._api = api
        self._path = path
        self._changed = changed
        self._stream: Stream | None = None
        self._is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"watch of {path}", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Make the thread end soon; join it afterwards."""
        self._is_over.set()
        with self._changed:
            if self._stream is not None:
                self._stream.end()

    def _run(self) -> None:
        informer = self.log.informer
        while not self._is_over.is_set() and informer.state is InformerState.WATCHING:
            pause = self._watch(informer)
            with self._changed:
                self._changed.notify_all()
            self._is_over.wait(pause)

    def _watch(self, informer: Informer) -> float:
        """Watch until the watch ends; return the seconds until the next one."""
        try:
            with self._api.stream(self._path, informer.query(), WATCH_SECONDS + SILENCE_SECONDS) as stream:
                with self._changed:
                    if self._is_over.is_set():  # since then `stop` has found no stream to end
                        return 0.0
                    self._stream = stream
                    informer.opened()
                    self._changed.notify_all()
                try:
                    for piece in stream.pieces():
                        if self._is_over.is_set():
                            break
                        self._take(informer, piece)
                finally:
                    with self._changed:
                        self._stream = None
        except WrongAnswerError as error:
            words = "; ".join(filter(None, (error.message, remedy(error))))
            with self._changed:
                return informer.refused(error.status, words, error.retry_seconds)
        except (UnansweredError, ValueError) as error:
            with self._changed:
                return informer.failed(str(error))
        except (
            Exception
        ) as error:  # the edge of the thread: a fault of ours must not leave a lab that hears nothing
            _log.exception("the watch of %s cannot be read", self._path)
            with self._changed:
                return informer.failed(f"the watch of {self._path} cannot be read: {error}")
        return informer.ended()

    def _take(self, informer: Informer, piece: bytes) -> None:
        with self._changed:
            log = self.log
            log.events.extend(informer.feed(piece))
            while len(log.events) > MAX_EVENTS:
                log.since = log.events.popleft().revision
            self._changed.notify_all()


class Followers:
    """All watches of a store. One thread asks `since`; `wake` and `close` may come from others."""

    def __init__(
        self,
        api: Api,
        paths: Mapping[type[Record], str],
        event: Callable[[type[Record], str, Object], StoreEvent | None],
    ) -> None:
        self._api = api
        self._paths = paths
        self._event = event
        self._followers: dict[type[Record], Follower] = {}
        self._changed = threading.Condition()
        self._is_woken = False
        self._is_closed = False

    def since(self, versions: Versions, seconds: float) -> WatchResult:
        """What has happened since then, as soon as there is something, and where that ends.

        Raises:
            TooOldError: the server does not know that any more.
            StoreError: there is no watch; says why.
        """
        seen = dict(versions.by_kind)
        if seen.keys() != self._paths.keys():
            raise TooOldError
        due = time.monotonic() + seconds
        self._begin(seen)
        with self._changed:
            while True:
                events = self._news(seen)
                left = due - time.monotonic()
                if events or self._is_woken or self._is_closed or left <= 0:
                    self._is_woken = False
                    return WatchResult(events, Versions.of(self._reached(seen)), self._trouble())
                self._check()
                self._changed.wait(left)

    def _begin(self, seen: Mapping[type[Record], int]) -> None:
        """Have a watch of each kind that knows what has happened since then."""
        for kind, version in seen.items():
            follower = self._followers.get(kind)
            if follower is not None:
                with self._changed:
                    is_fit = (
                        follower.log.informer.state is InformerState.WATCHING
                        and follower.log.since <= version
                    )
                if is_fit:
                    continue
                self._end(follower)

            def event(word: str, item: Object, kind: type[Record] = kind) -> StoreEvent | None:
                return self._event(kind, word, item)

            with self._changed:
                if self._is_closed:
                    return
                path = self._paths[kind]
                self._followers[kind] = Follower(self._api, path, version, event, self._changed)

    def _news(self, seen: Mapping[type[Record], int]) -> list[StoreEvent]:
        """All that is later, which is forgotten up to there: nobody asks for that again."""
        found: list[StoreEvent] = []
        for kind, follower in self._followers.items():
            log, version = follower.log, seen[kind]
            while log.events and log.events[0].revision <= version:
                log.events.popleft()
            log.since = max(log.since, min(version, log.informer.version))
            found += log.events
        return found

    def _reached(self, seen: Mapping[type[Record], int]) -> dict[type[Record], int]:
        return {
            kind: max(version, self._followers[kind].log.informer.version)
            if kind in self._followers
            else version
            for kind, version in seen.items()
        }

    def _check(self) -> None:
        informers = [one.log.informer for one in self._followers.values()]
        if any(one.state is InformerState.BEHIND for one in informers):
            raise TooOldError
        if trouble := self._trouble():
            raise StoreError(trouble)

    def _trouble(self) -> str:
        """Why a kind has no watch; empty: all kinds have one."""
        found = next(filter(None, (one.log.informer.trouble for one in self._followers.values())), "")
        return f"the API server at {self._api.host} does not say what changes: {found}" if found else ""

    @staticmethod
    def _end(follower: Follower) -> None:
        follower.stop()
        follower.thread.join()

    def wake(self) -> None:
        """Make the waiting `since`, or else the next one, return at once."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """No watch is left."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            followers = list(self._followers.values())
        for one in followers:
            one.stop()
        for one in followers:
            one.thread.join()
