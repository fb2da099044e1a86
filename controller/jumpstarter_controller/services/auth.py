"""Who calls: from a call's metadata to the record of a client, an exporter or a host, and how long that holds."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Kind, ReasonCode, refused
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.audit.entry import stranger_refused
from jumpstarter_controller.identity import Authenticator, Subject, VerifiedCaller, authorise, expired
from jumpstarter_controller.lab import Client, Draft, Exporter, Host, Key, LabState
from jumpstarter_controller.process.logs import RefusalLog
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import objects

__all__ = ["CallAuthenticator", "CallerSession", "subject_exists"]

_log = logging.getLogger(__name__)

R = TypeVar("R", Client, Exporter, Host)
LOOK_SECONDS = 30.0
"""A token's end is noticed so soon, also when the wall clock was set."""
MIN_SECONDS = 0.05


@dataclass(frozen=True)
class CallerSession(Generic[R]):
    """Somebody whose token was good when their call began. A call that stays open asks again."""

    record: R
    uid: str
    """Of the token, or of the record as another issuer's user found it."""
    expires: float
    """When the token ends, in seconds since the epoch."""
    external: bool
    """Another issuer's token."""
    reconciler: Reconciler

    def pause(self, most: float) -> float:
        """How long to wait until the next `check`, at most so many seconds."""
        left = self.expires - self.reconciler.clock()
        return max(MIN_SECONDS, min(most, left))

    def check(self, state: LabState | None = None) -> None:
        """Whether the token still counts, by a draft or else by what is acknowledged.

        Raises:
            RpcError: its owner was deleted, disabled or has a new token.
            TokenError: its time is over.
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
            raise expired()

    async def watch(self) -> NoReturn:
        """Wait until the token counts no more, and raise as `check` does."""
        while True:
            self.check()
            await self.reconciler.wait(type(self.record), self.record.key, self.pause(LOOK_SECONDS))


class CallAuthenticator:
    """Lets in who has a valid token of an object that exists and is enabled."""

    def __init__(
        self, reconciler: Reconciler, authenticator: Authenticator, provisioned: Collection[str] = ()
    ) -> None:
        """`provisioned` are the namespaces where users of other issuers become clients when they first call."""
        self._reconciler = reconciler
        self._authenticator = authenticator
        self._provisioned = provisioned
        self.refusals = RefusalLog(_log)

    async def greet(self, call: ServerCall[Any, Any]) -> None:
        """Authenticate a connection's first caller before its message is read, which may be large; refuse nobody.

        An interceptor. What is wrong with a caller is said by the call itself, for some are open to everybody.
        """
        if call.is_authenticated or call.header("authorization") is None:
            return
        with suppress(JumpstarterError):
            if call.header("jumpstarter-kind") == Kind.EXPORTER:
                await self._known(call, Kind.EXPORTER, Exporter)
            elif call.header("jumpstarter-kind") == Kind.HOST:
                await self._known(call, Kind.HOST, Host)
            else:
                await self._known(call, Kind.CLIENT, Client)

    async def client(self, call: ServerCall[Any, Any]) -> Client:
        """The calling client. RpcError says why it is none."""
        return (await self.client_session(call)).record

    async def exporter(self, call: ServerCall[Any, Any]) -> Exporter:
        """The calling exporter. RpcError says why it is none."""
        return (await self.exporter_session(call)).record

    async def client_session(self, call: ServerCall[Any, Any]) -> CallerSession[Client]:
        """The same, for a call that may take a while."""
        return await self._session(call, Kind.CLIENT, Client)

    async def exporter_session(self, call: ServerCall[Any, Any]) -> CallerSession[Exporter]:
        """The same, for a call that may take a while."""
        return await self._session(call, Kind.EXPORTER, Exporter)

    async def host_session(self, call: ServerCall[Any, Any]) -> CallerSession[Host]:
        """The calling host. RpcError says why it is none."""
        return await self._session(call, Kind.HOST, Host)

    async def either(self, call: ServerCall[Any, Any]) -> Client | Exporter:
        """By the call's own word for what it is."""
        if call.header("jumpstarter-kind") == Kind.EXPORTER:
            return await self.exporter(call)
        return await self.client(call)

    async def any_session(
        self, call: ServerCall[Any, Any]
    ) -> CallerSession[Client] | CallerSession[Exporter] | CallerSession[Host]:
        """Whoever calls, by the call's own word for what it is. RpcError says why it is nobody."""
        match call.header("jumpstarter-kind"):
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
        if caller.is_nobody:  # also when there is such an object by now: who signed the token is not known
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
            raise AssertionError("nobody is authorised as nothing")
        now = self._reconciler.clock()
        authorise(caller, (partial(record.accepts_uid, now=now), record.username))
        _check_enabled(record)
        call.trust(f"{kind.lower()} {record.name} of {record.namespace}")
        uid = record.uid if caller.subject is None else caller.subject.uid
        return CallerSession(record, uid, caller.expires, caller.subject is None, self._reconciler)

    async def _provision(self, caller: VerifiedCaller) -> None:
        """Make the caller a client, where users of other issuers may become one by themselves."""
        if caller.namespace not in self._provisioned:
            return
        key = Key(caller.namespace, caller.name)
        objects.check_names(key, {})

        def apply(draft: Draft, now: float) -> None:
            if draft.get(Client, key) is None:  # several calls of theirs may have come at once
                objects.create(draft, now, Kind.CLIENT, key, {}, username=caller.username)

        await self._reconciler.change(apply)
        _log.info("client made for a user of another issuer", extra={"client": caller.name})


async def subject_exists(reconciler: Reconciler, subject: Subject) -> bool:
    """Whether there is a client, an exporter or a host with tokens that name this."""
    record = await reconciler.find(objects.TYPES[subject.kind], Key(subject.namespace, subject.name))
    return record is not None and record.accepts_uid(subject.uid, reconciler.clock())


def _check_enabled(record: Client | Exporter | Host) -> None:
    # A disabled exporter gets no leases, and stays connected.
    if isinstance(record, Client) and not record.enabled:
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"client {record.name} is disabled; ask who runs the lab to enable it",
        )
