"""Keeps the Secrets with tokens, and the statuses, of clients and exporters up to date.

Before each action it reads the object and its Secret again, because a watch may be behind. When another replica or a
person changes them first, it starts again.
"""

from __future__ import annotations

import base64
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.notifications import Broadcast

from jumpstarter_controller.identity import Subject
from jumpstarter_controller.kube_identity.name_watch import NameWatch
from jumpstarter_controller.kube_identity.secrets import (
    KEY,
    KINDS,
    SecretContent,
    SecretOwner,
    SecretStep,
    SeenSecret,
    next_step,
    secret_name,
    why_blocked,
)
from jumpstarter_controller.kube_identity.token_status import next_look, with_credential, with_trouble
from jumpstarter_controller.lab import Client, Draft, Exporter, Key, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.process.server_log import about
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import objects
from jumpstarter_controller.store import DamagedError
from jumpstarter_controller.store.kubernetes.api import (
    MANAGER,
    MERGE_PATCH,
    UnansweredError,
    WrongAnswerError,
)
from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.kinds import MAPPINGS
from jumpstarter_controller.store.kubernetes.mapping import NoRecordError
from jumpstarter_controller.store.kubernetes.patch import merge_patch
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

__all__ = ["CredentialReconciler", "SecretTokens"]

MAX_WORKERS = 4
"""Objects that are handled concurrently."""
MAX_TRIES = 8
"""The number of conflicts in a row after which an object is tried again later."""
PAUSE_SECONDS = 0.1
FIRST_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0
LOOK_SECONDS = 30.0
"""The longest pause, so that a change of the wall clock is noticed."""
MAX_SAID = 1000
MISSING, CONFLICT = 404, 409
PERMANENT_ERROR_CODES = {400, 403, 422}
"""Status codes of errors that remain until a quota, a role or an immutable Secret is changed."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class SecretTokens(Protocol):
    """The source of the tokens in Secrets."""

    @property
    def endpoint(self) -> str:
        """The endpoint that the tokens are valid for."""

    @property
    def note(self) -> str:
        """A note about such tokens for the object's status, besides the expiry; empty: none."""

    async def for_secret(self, record: Client | Exporter) -> tuple[str, float]:
        """A new token, and when it expires in seconds since the epoch."""

    async def content(self, token: str) -> SecretContent:
        """The claims of a token in a Secret, which is untrusted."""


@dataclass(frozen=True)
class _State:
    """An object and its Secret, and the next step for them."""

    ref: RecordRef
    record: Client | Exporter
    item: Object
    secret: Object | None
    """The Secret, without its content."""
    step: SecretStep
    after: Object
    """The object with its new status."""
    content: SecretContent

    @property
    def is_done(self) -> bool:
        """Whether nothing has to be written."""
        return self.after is self.item and self.step in {SecretStep.KEEP, SecretStep.BLOCKED}


class CredentialReconciler:
    """Reconciles Secrets and statuses. `run` has to run on the replica that leads."""

    def __init__(self, store: KubernetesStore, reconciler: Reconciler, tokens: SecretTokens) -> None:
        self._store = store
        self._reconciler = reconciler
        self._tokens = tokens
        self._watch = NameWatch(
            store, "secrets", SeenSecret.of, lambda name: _kind_of(name) is not None, self.notice
        )
        self._pending: dict[RecordRef, None] = {}
        self._busy: set[RecordRef] = set()
        self._later: dict[RecordRef, float] = {}
        """When to check an object again without an event."""
        self._failures: dict[RecordRef, int] = {}
        self._told: dict[RecordRef, float] = {}
        """When the reason for a missing token was last written to the status of an object."""
        self._rotated: dict[RecordRef, str] = {}
        """The uids of objects with a rotated token that is not in the Secret yet."""
        self._news = Broadcast()
        self._said: dict[str, None] = {}
        self._threads = trio.CapacityLimiter(MAX_WORKERS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reconcile until cancelled."""
        token = trio.lowlevel.current_trio_token()

        def seen(ref: RecordRef) -> None:
            if ref[0] in KINDS:
                token.run_sync_soon(self._notice, ref)

        self._store.on_seen = seen
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch.run)
                await self._watch.listed.wait()
                for ref in self._store.refs(*KINDS):
                    self._notice(ref)
                for _ in range(MAX_WORKERS):
                    nursery.start_soon(self._work)
        finally:
            self._store.on_seen = lambda _: None

    # What there is to do

    def _notice(self, ref: RecordRef) -> None:
        self._pending[ref] = None
        self._news.notify()

    def notice(self, names: Iterable[str]) -> None:
        """Secrets with these names have changed: check their objects, if they belong to clients or exporters."""
        for name in names:
            if (kind := _kind_of(name)) is not None:
                of = name.removesuffix(secret_name(kind, ""))
                self._notice((kind, Key(self._store.namespace, of)))

    def _take(self) -> RecordRef | None:
        now = self._reconciler.clock()
        for ref in [ref for ref, due in self._later.items() if due <= now]:
            del self._later[ref]
            self._pending[ref] = None
        found = next((one for one in self._pending if one not in self._busy), None)
        if found is not None:
            del self._pending[found]
        return found

    async def _work(self) -> None:
        while True:
            ref = self._take()
            if ref is None:
                left = min(self._later.values(), default=math.inf) - self._reconciler.clock()
                with trio.move_on_after(max(0.0, min(left, LOOK_SECONDS))):
                    await self._news.wait()
                continue
            self._busy.add(ref)
            try:
                due = await self._tend(ref)
            finally:
                self._busy.discard(ref)
            self._later.pop(ref, None)
            if due is not None:
                self._later[ref] = due
            if ref in self._pending:
                self._news.notify()

    async def _tend(self, ref: RecordRef) -> float | None:
        """Reconcile an object. Returns when to check it again, in seconds since the epoch."""
        try:
            for attempt in range(MAX_TRIES):
                state = await self._known(ref)
                if state is not None and not state.is_done:
                    state = await self._read(ref)
                    if state is not None and not state.is_done:
                        await self._act(state)
                        await trio.sleep(PAUSE_SECONDS * attempt)
                        continue
                self._failures.pop(ref, None)
                self._told.pop(ref, None)
                if state is None or state.step is SecretStep.BLOCKED:
                    return None  # until somebody changes it
                return next_look(state.content.expires, self._reconciler.clock(), state.content.renew_at)
        except DamagedError:
            return None  # until somebody repairs it, of which the store tells
        except (UnansweredError, WrongAnswerError, JumpstarterError) as error:
            sentence = self._store.refusal(error) if isinstance(error, WrongAnswerError) else error
            self._say(ref, str(sentence))
            if isinstance(error, WrongAnswerError) and error.status in PERMANENT_ERROR_CODES:
                await self._tell(ref, str(sentence))
        except (
            Exception
        ):  # the edge of one object: a fault of ours must not take the tokens of all others away
            _log.exception("the token of %s %s cannot be looked after", ref[0].KIND, ref[1])
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        pause = FIRST_RETRY_SECONDS * float(2 ** min(failures - 1, 10))
        return self._reconciler.clock() + min(pause, MAX_RETRY_SECONDS)

    def _say(self, ref: RecordRef, why: str) -> None:
        """Log each reason once, and not for each object."""
        reason = why.replace(secret_name(ref[0], ref[1].name), "*")
        if reason not in self._said:
            if len(self._said) >= MAX_SAID:
                self._said.clear()
            self._said[reason] = None
            _log.warning("%s %s has no token in its Secret yet: %s", ref[0].KIND, ref[1], why)

    async def _tell(self, ref: RecordRef, why: str) -> None:
        """Write the reason to the status of the object if possible. The token is requested again later."""
        item, now = self._store.latest(ref), self._reconciler.clock()
        # For what an object says is news of it: a reason that is another each time must not be told all the time.
        if item is None or now < self._told.get(ref, -math.inf) + MAX_RETRY_SECONDS:
            return
        after = with_trouble(item, self._tokens.endpoint, why, now)
        try:
            if after is not item:
                self._told[ref] = now
                await self._write_status(ref, item, after)
        except (UnansweredError, WrongAnswerError) as error:
            _log.debug("%s %s does not say why it has no token: %s", ref[0].KIND, ref[1], error)

    # What an object needs

    async def _known(self, ref: RecordRef) -> _State | None:
        """The state according to the watches, which may be behind."""
        seen = self._watch.seen.get(secret_name(ref[0], ref[1].name))
        return await self._state(ref, self._store.latest(ref), seen)

    async def _read(self, ref: RecordRef) -> _State | None:
        """The current state, read from the API server."""
        await self._do(partial(self._store.read, ref))
        name = secret_name(ref[0], ref[1].name)
        try:
            seen = SeenSecret.of(await self._ask("GET", f"{self._watch.path}/{name}"))
        except WrongAnswerError as error:
            if error.status != MISSING:
                raise
            seen = None
        return await self._state(ref, self._store.latest(ref), seen)

    async def _state(self, ref: RecordRef, item: Object | None, seen: SeenSecret | None) -> _State | None:
        """Return None if the object does not exist, is being deleted, or is invalid: then there is nothing to do."""
        kind, key = ref
        if item is None:
            return None
        try:
            record = MAPPINGS[kind].read(item).record
        except NoRecordError:
            return None
        assert isinstance(record, Client | Exporter)
        name, now = secret_name(kind, key.name), self._reconciler.clock()
        content = await self._tokens.content(seen.token) if seen is not None and seen.token else None
        shell = None if seen is None else seen.shell
        step = next_step(
            shell,
            content,
            SecretOwner.of(item),
            Subject(KINDS[kind], key.namespace, key.name, record.uid),
            is_out=dig(item, "status", "credential", "name") == name and self._rotated.get(ref) != record.uid,
            now=now,
        )
        endpoint = self._tokens.endpoint
        if step is SecretStep.BLOCKED:
            assert shell is not None
            after = with_trouble(item, endpoint, why_blocked(shell), now)
        elif step in {SecretStep.KEEP, SecretStep.ADOPT}:
            assert content is not None
            after = with_credential(item, endpoint, name, content.expires, now=now, note=self._tokens.note)
        else:
            after = item
        return _State(ref, record, item, shell, step, after, content or SecretContent())

    # What is done

    async def _act(self, state: _State) -> None:
        """Do the next step. On a conflict nothing is done."""
        try:
            match state.step:
                case SecretStep.ROTATE:
                    await self._rotate(state)
                case SecretStep.WRITE:
                    state = await self._write(state)
                case SecretStep.ADOPT:
                    await self._send(state, {})
            if state.after is not state.item:
                await self._write_status(state.ref, state.item, state.after)
        except WrongAnswerError as error:
            if error.status not in {CONFLICT, MISSING}:
                raise

    async def _rotate(self, state: _State) -> None:
        """Rotate the object's tokens: all earlier ones become invalid."""
        kind, key = state.ref

        def apply(draft: Draft, _: float) -> str:
            record = draft.get(kind, key)
            if not isinstance(record, Client | Exporter) or record.uid != state.record.uid:
                return ""  # somebody else has done it, or it is not known here yet
            return objects.renew(draft, record).uid

        if uid := await self._reconciler.change(apply):
            self._rotated[state.ref] = uid
            _log.warning(
                "the Secret %s was deleted or emptied: the tokens of %s %s from before are no longer valid",
                secret_name(kind, key.name),
                kind.KIND,
                key,
                extra=about(state.record),
            )

    async def _write(self, state: _State) -> _State:
        token, expires = await self._tokens.for_secret(state.record)
        await self._send(state, {KEY: base64.b64encode(token.encode()).decode()})
        self._rotated.pop(state.ref, None)
        _log.info("a new token is in its Secret", extra=about(state.record))
        name = secret_name(state.ref[0], state.ref[1].name)
        after = with_credential(
            state.item,
            self._tokens.endpoint,
            name,
            expires,
            now=self._reconciler.clock(),
            note=self._tokens.note,
        )
        return replace(state, after=after)

    async def _send(self, state: _State, data: Object) -> None:
        """Write the Secret with this data and its owner."""
        name, owner = secret_name(state.ref[0], state.ref[1].name), SecretOwner.of(state.item)
        metadata: Object = {"ownerReferences": owner.references(state.secret)}
        if state.secret is None:
            metadata |= {"name": name, "namespace": self._store.namespace}
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "Opaque",
                "metadata": metadata,
                "data": data,
            }
            answer = await self._ask("POST", self._watch.path, secret)
        else:
            metadata["resourceVersion"] = dig(state.secret, "metadata", "resourceVersion")
            patch = {"metadata": metadata} | ({"data": data} if data else {})
            answer = await self._ask("PATCH", f"{self._watch.path}/{name}", patch)
        seen = SeenSecret.of(answer)
        self._watch.learn(name, seen, seen.revision)

    async def _write_status(self, ref: RecordRef, item: Object, after: Object) -> None:
        patch = merge_patch(item, after)
        patch["metadata"] = {"resourceVersion": item["metadata"]["resourceVersion"]}

        def write() -> None:
            answer = self._store.send("PATCH", ref, patch, kind=MERGE_PATCH, below="/status")
            self._store.learn(ref, answer)

        await self._do(write)

    async def _ask(self, method: str, path: str, body: Object | None = None) -> Object:
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        query = None if body is None else {"fieldManager": MANAGER}
        return await self._do(partial(self._store.api.ask, method, path, body, query, kind))

    async def _do(self, ask: Callable[[], T]) -> T:
        """In a thread. When cancelled, it is left to itself: what it writes names the version that it was read at."""
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._threads)


def _kind_of(name: str) -> type[Record] | None:
    """Return the kind of object that a Secret of this name belongs to; None if there is none."""
    return next((kind for kind in KINDS if name.endswith(secret_name(kind, "")) and name[0] != "-"), None)
