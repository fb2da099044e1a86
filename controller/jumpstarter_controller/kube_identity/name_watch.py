"""Objects of a namespace that are not records, such as Secrets, by their names, followed by a watch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, NoReturn, Protocol, TypeVar

import trio

from jumpstarter_controller.store.contract import StoreEvent
from jumpstarter_controller.store.kubernetes.api import UnansweredError, WrongAnswerError
from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.follower import Follower
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

__all__ = ["NameWatch", "Seen"]

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
LOOK_SECONDS = 5.0
"""The interval in which the watch is checked."""
END_SECONDS = 1.0
"""How long the watch's thread may take to end."""
MAX_GONE = 1000
"""Of which it is known since when they are gone: an answer that is late is seconds behind."""
_log = logging.getLogger(__name__)


class Seen(Protocol):
    """The relevant part of an object."""

    @property
    def revision(self) -> int:
        """Increases with each change."""


T = TypeVar("T", bound=Seen)


class NameWatch(Generic[T]):
    """Follows these objects while `run` is running. `seen` has them by name."""

    def __init__(
        self,
        store: KubernetesStore,
        plural: str,
        parse: Callable[[Object], T],
        is_wanted: Callable[[str], bool],
        changed: Callable[[Iterable[str]], None],
    ) -> None:
        """`changed` gets the names of those that are others than before; `parse` is called in other threads."""
        self._store = store
        self.path = f"/api/v1/namespaces/{store.namespace}/{plural}"
        self._plural = plural
        self._parse = parse
        self._is_wanted = is_wanted
        self._changed = changed
        self.seen: dict[str, T] = {}
        self._gone: dict[str, int] = {}
        """Since which revision; only of those that were deleted last."""
        self.listed = trio.Event()
        """Set when all objects were listed once."""
        self._said = ""

    async def run(self) -> NoReturn:
        """Follow the objects until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                items, version = await trio.to_thread.run_sync(
                    self._store.api.pages, self.path, abandon_on_cancel=True
                )
            except (UnansweredError, WrongAnswerError, ValueError, KeyError) as error:
                self._say(str(self._store.refusal(error) if isinstance(error, WrongAnswerError) else error))
                await trio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
                continue
            self._said, pause = "", FIRST_PAUSE_SECONDS
            self._take_all(items)
            await self._follow(version)

    def _say(self, sentence: str) -> None:
        """Once; empty: nothing stands in the way any more."""
        if sentence and sentence != self._said:
            _log.warning("the %s of clients and exporters cannot be looked after: %s", self._plural, sentence)
        self._said = sentence

    async def _follow(self, version: int) -> None:
        """Until the server does not know any more what has happened since."""
        token = trio.lowlevel.current_trio_token()
        follower = Follower(
            self._store.api, self.path, version, partial(self._event, token), threading.Condition()
        )
        try:
            while follower.thread.is_alive():
                await trio.to_thread.run_sync(follower.thread.join, LOOK_SECONDS, abandon_on_cancel=True)
                self._say(follower.log.informer.trouble)
        finally:
            follower.stop()
            with trio.CancelScope(shield=True), trio.move_on_after(END_SECONDS):
                await trio.to_thread.run_sync(follower.thread.join, abandon_on_cancel=True)

    def _event(self, token: trio.lowlevel.TrioToken, word: str, item: Object) -> StoreEvent | None:
        """Take an event; called in the thread of the watch."""
        name = str(dig(item, "metadata", "name"))
        if self._is_wanted(name):
            seen = self._parse(item)
            token.run_sync_soon(self.learn, name, None if word == "DELETED" else seen, seen.revision)
        return None

    def _take_all(self, items: list[Object]) -> None:
        found = {str(dig(one, "metadata", "name")): one for one in items}
        seen = {name: self._parse(one) for name, one in found.items() if self._is_wanted(name)}
        others = {
            name
            for name in seen.keys() | self.seen.keys()
            if name not in seen or name not in self.seen or seen[name].revision != self.seen[name].revision
        }
        self.seen = seen
        self.listed.set()
        self._changed(others)

    def learn(self, name: str, seen: T | None, revision: int) -> None:
        """Record what has a name since a revision; None: nothing."""
        known = self.seen.get(name)
        if revision < (self._gone.get(name, 0) if known is None else known.revision):
            return  # as the answer to a write, which somebody's deletion has overtaken
        self._gone.pop(name, None)
        if seen is None:
            self.seen.pop(name, None)
            self._gone[name] = revision
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
        else:
            self.seen[name] = seen
        if known is None or known.revision != revision:
            self._changed([name])
