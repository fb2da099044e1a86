"""The Secrets of a lab's clients and exporters as they are in the namespace, followed by a watch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import trio

from jumpstarter_controller.kube_identity.secrets import content_of
from jumpstarter_controller.store.contract import Event
from jumpstarter_controller.store.kubernetes.api import UnansweredError, WrongAnswerError
from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.follower import Follower
from jumpstarter_controller.store.kubernetes.mapping import revision_of
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

__all__ = ["SecretWatch", "SeenSecret"]

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
END_SECONDS = 1.0
"""So long the thread of the watch may take to end."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeenSecret:
    """One of them."""

    revision: int
    shell: Object
    """The Secret without what is in it."""
    token: str = field(repr=False)
    """Empty where somebody has emptied it."""

    @classmethod
    def of(cls, secret: Object) -> SeenSecret:
        """A Secret as it came from the server."""
        return cls(revision_of(secret), {"metadata": secret["metadata"]}, content_of(secret))


class SecretWatch:
    """`run` has to run. What is known is in `secrets`, by name."""

    def __init__(
        self,
        store: KubernetesStore,
        is_wanted: Callable[[str], bool],
        changed: Callable[[Iterable[str]], None],
    ) -> None:
        """`changed` gets the names of those that are others than before."""
        self._store = store
        self.path = f"/api/v1/namespaces/{store.namespace}/secrets"
        self._is_wanted = is_wanted
        self._changed = changed
        self.secrets: dict[str, SeenSecret] = {}
        self.listed = trio.Event()
        """Set when all of them were seen once."""
        self._said = ""

    async def run(self) -> NoReturn:
        """Follow them until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                secrets, version = await trio.to_thread.run_sync(
                    self._store.api.pages, self.path, abandon_on_cancel=True
                )
            except (UnansweredError, WrongAnswerError, ValueError, KeyError) as error:
                self._say(error)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            self._said, pause = "", FIRST_PAUSE_SECONDS
            self._take_all(secrets)
            await self._follow(version)

    def _say(self, error: Exception) -> None:
        sentence = self._store.refusal(error) if isinstance(error, WrongAnswerError) else error
        if str(sentence) != self._said:
            self._said = str(sentence)
            _log.warning("the Secrets of clients and exporters cannot be looked after: %s", sentence)

    async def _follow(self, version: int) -> None:
        """Until the server does not know any more what has happened since."""
        token = trio.lowlevel.current_trio_token()
        follower = Follower(
            self._store.api, self.path, version, partial(self._event, token), threading.Condition()
        )
        try:
            await trio.to_thread.run_sync(follower.thread.join, abandon_on_cancel=True)
        finally:
            follower.stop()
            with trio.CancelScope(shield=True), trio.move_on_after(END_SECONDS):
                await trio.to_thread.run_sync(follower.thread.join, abandon_on_cancel=True)

    def _event(self, token: trio.lowlevel.TrioToken, word: str, secret: Object) -> Event | None:
        """In the watch's thread."""
        name = str(dig(secret, "metadata", "name"))
        if self._is_wanted(name):
            seen = SeenSecret.of(secret)
            token.run_sync_soon(self.learn, name, None if word == "DELETED" else seen, seen.revision)
        return None

    def _take_all(self, secrets: list[Object]) -> None:
        found = {str(dig(one, "metadata", "name")): one for one in secrets}
        seen = {name: SeenSecret.of(one) for name, one in found.items() if self._is_wanted(name)}
        others = {
            name
            for name in seen.keys() | self.secrets.keys()
            if name not in seen
            or name not in self.secrets
            or seen[name].revision != self.secrets[name].revision
        }
        self.secrets = seen
        self.listed.set()
        self._changed(others)

    def learn(self, name: str, seen: SeenSecret | None, revision: int) -> None:
        """It is so, or is gone, since that revision."""
        known = self.secrets.get(name)
        if known is not None and known.revision > revision:
            return
        if seen is None:
            self.secrets.pop(name, None)
        else:
            self.secrets[name] = seen
        if known is None or known.revision != revision:
            self._changed([name])
