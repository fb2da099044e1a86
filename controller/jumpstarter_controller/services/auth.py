"""Authenticates calls: from the metadata of a call to the record of the client, exporter or host that makes it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from jumpstarter_proto.call_metadata import KIND
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Kind, ReasonCode, refused
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.audit.entry import stranger_refused
from jumpstarter_controller.identity import Authenticator, Subject, VerifiedCaller, authorise, expired
from jumpstarter_controller.lab import Client, Draft, Exporter, Host, Key, LabState
from jumpstarter_controller.process.server_log import RefusalLog
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import objects

__all__ = ["CallAuthenticator", "CallerSession", "subject_exists"]

_log = logging.getLogger(__name__)

R = TypeVar("R", Client, Exporter, Host)
LOOK_SECONDS = 30.0
"""The longest pause between two checks of a token, so that a change of the wall clock is noticed."""
MIN_SECONDS = 0.05


@dataclass(frozen=True)
class CallerSession(Generic[R]):
    """An authenticated caller. A call that stays open checks again that the token is still valid."""

    record: R
    uid: str
    """The uid in the token; with an external token, the uid of the record when the call began."""
    expires: float
    """When the token ends, in seconds since the epoch."""
    external: bool
    """Whether the token is from an external issuer."""
    reconciler: Reconciler

    def pause(self, most: float) -> float:
        """Seconds to wait until the next `check`, at most `most`."""
        left = self.expires - self.reconciler.clock()
        return max(MIN_SECONDS, min(most, left))

    def check(self, state: LabState | None = None) -> None:
        """Check that the token is still valid, in this state or else in the committed one.

        Raises:
            RpcError: the caller was deleted or disabled, or has a new token.
            TokenError: the token has expired.
        """
        record = (state or self.reconciler.committed).get(type(self.record), self.record.key)
        word = type(self.record).KIND
        if record is None or not record.accepts_uid(self.uid, self.reconciler.clock()):
            raise refused(
                StatusCode.UNAUTHENTICATED,
                f"{word} {self.record.name} was deleted or has a new token; fetch its configuration",
                ReasonCode.CALLER_DENIED,
            )
        _check_enabled(record)
        if self.expires <= self.reconciler.clock():
            raise expired(Kind(word.capitalize()))

    async def watch(self) -> NoReturn:
        """Wait until the token is no longer valid, and raise as `check` does."""
        while True:
            self.check()
            await self.reconciler.wait(type(self.record), self.record.key, self.pause(LOOK_SECONDS))


class CallAuthenticator:
    """Accepts callers with a valid token of a client, exporter or host that exists and is enabled."""

    def __init__(
        self, reconciler: Reconciler, authenticator: Authenticator, provisioned: Collection[str] = ()
    ) -> None:
        """In the namespaces `provisioned`, users of external issuers become clients with their first call."""
        self._reconciler = reconciler
        self._authenticator = authenticator
        self._provisioned = provisioned
        self.refusals = RefusalLog(_log)

    async def greet(self, call: ServerCall[Any, Any]) -> None:
        """Authenticate the first caller of a connection, before its message (which may be large) is read.

        To be used as an interceptor. It rejects no call, because some calls need no token; the call itself does.
        """
        if call.is_authenticated or call.header("authorization") is None:
            return
        with suppress(JumpstarterError):
            if call.header(KIND) == Kind.EXPORTER:
                await self._known(call, Kind.EXPORTER, Exporter)
            elif call.header(KIND) == Kind.HOST:
                await self._known(call, Kind.HOST, Host)
            else:
                await self._known(call, Kind.CLIENT, Client)

    async def client(self, call: ServerCall[Any, Any]) -> Client:
        """The calling client. RpcError: it cannot be authenticated."""
        return (await self.client_session(call)).record

    async def exporter(self, call: ServerCall[Any, Any]) -> Exporter:
        """The calling exporter. RpcError: it cannot be authenticated."""
        return (await self.exporter_session(call)).record

    async def client_session(self, call: ServerCall[Any, Any]) -> CallerSession[Client]:
        """Like `client`, for a call that stays open."""
        return await self._session(call, Kind.CLIENT, Client)

    async def exporter_session(self, call: ServerCall[Any, Any]) -> CallerSession[Exporter]:
        """Like `exporter`, for a call that stays open."""
        return await self._session(call, Kind.EXPORTER, Exporter)

    async def host_session(self, call: ServerCall[Any, Any]) -> CallerSession[Host]:
        """The calling host. RpcError: it cannot be authenticated."""
        return await self._session(call, Kind.HOST, Host)

    async def either(self, call: ServerCall[Any, Any]) -> Client | Exporter:
        """The calling client or exporter, according to the call's `jumpstarter-kind`."""
        if call.header(KIND) == Kind.EXPORTER:
            return await self.exporter(call)
        return await self.client(call)

    async def any_session(
        self, call: ServerCall[Any, Any]
    ) -> CallerSession[Client] | CallerSession[Exporter] | CallerSession[Host]:
        """The caller, according to the call's `jumpstarter-kind`. RpcError: it cannot be authenticated."""
        match call.header(KIND):
            case Kind.HOST:
                return await self.host_session(call)
            case Kind.EXPORTER:
                return await self.exporter_session(call)
            case _:
                return await self.client_session(call)

    async def _session(self, call: ServerCall[Any, Any], kind: Kind, of: type[R]) -> CallerSession[R]:
        try:
            return await self._known(call, kind, of)
        except JumpstarterError as error:
            said = {key: call.header(f"jumpstarter-{key}") or "" for key in ("namespace", "name")}
            fields = {"namespace": said["namespace"], kind.lower(): said["name"], "peer": call.peer}
            self.refusals.note(error, **fields)
            self._reconciler.record(*stranger_refused(self._reconciler.clock(), error, fields))
            raise

    async def _known(self, call: ServerCall[Any, Any], kind: Kind, of: type[R]) -> CallerSession[R]:
        caller = await self._authenticator.caller(call.metadata, kind)
        key = Key(caller.namespace, caller.name)
        if caller.is_nobody:  # even if such an object exists now: the signer of the token is unknown
            there = self._reconciler.committed.get(of, key)
            authorise(caller, None if there is None else (lambda _: False, ""))
        record = (
            self._reconciler.committed.get(of, key)
            if caller.subject is None
            else await self._reconciler.find(of, key)
        )
        if record is None and of is Client and caller.subject is None:
            await self._provision(caller)
            record = self._reconciler.committed.get(of, Key(caller.namespace, caller.name))
        if record is None:
            authorise(caller, None)
            raise AssertionError("the user has no name")
        now = self._reconciler.clock()
        authorise(caller, (partial(record.accepts_uid, now=now), record.username))
        _check_enabled(record)
        call.set_authenticated(f"{kind.lower()} {record.name} of {record.namespace}")
        uid = record.uid if caller.subject is None else caller.subject.uid
        return CallerSession(record, uid, caller.expires, caller.subject is None, self._reconciler)

    async def _provision(self, caller: VerifiedCaller) -> None:
        """Create a client for a user of an external issuer, in namespaces where that is allowed."""
        if caller.namespace not in self._provisioned:
            return
        key = Key(caller.namespace, caller.name)
        objects.check_names(key, {})

        def apply(draft: Draft, now: float) -> None:
            if draft.get(Client, key) is None:  # several first calls may arrive at once
                objects.create(draft, now, Kind.CLIENT, key, {}, username=caller.username)

        await self._reconciler.change(apply)
        _log.info("client created for a user of an external issuer", extra={"client": caller.name})


async def subject_exists(reconciler: Reconciler, subject: Subject) -> bool:
    """Whether the client, exporter or host that a token names exists, with the token's uid."""
    record = await reconciler.find(objects.TYPES[subject.kind], Key(subject.namespace, subject.name))
    return record is not None and record.accepts_uid(subject.uid, reconciler.clock())


def _check_enabled(record: Client | Exporter | Host) -> None:
    # A disabled exporter gets no leases, and stays connected.
    if isinstance(record, Client) and not record.enabled:
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"client {record.name} is disabled; ask the lab's administrator to enable it",
        )
