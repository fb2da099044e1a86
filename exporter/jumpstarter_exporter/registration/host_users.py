"""Users of the host of a board that has a controller: whether they may use it now, and in which session."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import trio
from jumpstarter_proto.rpc import LimitedLog, RpcError, ServedConnection, ServerCall, StatusCode

from jumpstarter_exporter.boards.events import Admission, Refusal
from jumpstarter_exporter.boards.keeper import Keeper
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.entrance import Use
from jumpstarter_exporter.people import person_of
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.view import see_all, see_since

__all__ = ["FORCE", "OVERRIDE", "REFUSAL", "HostUsers"]

OVERRIDE = "x-jumpstarter-override"
"""Metadata: "1" takes part in a lease."""
FORCE = "x-jumpstarter-force"
"""The same while a hook of it runs."""
REFUSAL = "x-jumpstarter-refusal"
"""Why a call was refused, for programs; goes with the status."""

_log = logging.getLogger(__name__)


class HostUsers:
    """They share one session, which is opened for the first of them and closed before a lease begins."""

    def __init__(self, keeper: Keeper, make: Callable[[], Session]) -> None:
        """`make` gives a new session, with driver objects of its own."""
        self._leased: Session | None = None
        self._lease_ended = time.time()
        """In seconds since 1970: that of the last lease, as far as is known."""
        self._keeper = keeper
        self._make = make
        self._session: Session | None = None
        self._changing = trio.Lock()
        self._leaving = trio.Event()
        self._left = trio.Event()
        self._why = ""
        self._nursery: trio.Nursery | None = None
        self._told = LimitedLog(_log, logging.INFO)
        self._overriding: set[ServedConnection] = set()

    @property
    def leased(self) -> Session | None:
        """That of the lease that has the board."""
        return self._leased

    @leased.setter
    def leased(self, session: Session | None) -> None:
        self._leased, self._lease_ended = session, time.time()

    async def run(self) -> None:
        """Until cancelled; the devices that they have used are closed then."""
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """The session in which one of them makes that call. RpcError when they may not."""
        person = await person_of(call)
        session = self.leased or await self._own()
        is_here = call.uid is not None
        if is_here:
            see_all()
            looks = session.reads(use)
        else:
            see_since(self._lease_ended)
            looks = not (use.does or use.follows) if self._keeper.is_leased else session.reads(use)
        answer = self._keeper.local_call(
            call.connection,
            person,
            reads=looks,
            override=is_here and call.header(OVERRIDE) == "1",
            force=is_here and call.header(FORCE) == "1",
        )
        match answer:
            case Refusal(code, sentence):
                raise RpcError(StatusCode.PERMISSION_DENIED, sentence, [(REFUSAL, code)])
            case Admission.LOCAL:
                session = await self._own()
            case Admission.LEASE if self.leased is None:
                raise RpcError(StatusCode.UNAVAILABLE, "the lease is just beginning, or ending; try again")
            case Admission.LEASE:
                assert self.leased is not None
                session = self.leased
                self._announce(call.connection, person, session)
        return await session.enter(call, use)

    @property
    def session(self) -> Session | None:
        """The one in which they look, if there is one."""
        return self.leased or self._session

    def tell(self, text: str) -> None:
        """Let them read that: in the log of their session, or in the host's while they have none."""
        if self._session is None:
            self._told.write(f"users of this host: {text}")
        else:
            self._session.tell(text)

    async def look_for(self, slot: Slot) -> None:
        """Open that device of theirs, to see whether its hardware is there. What comes of it is its state."""
        try:
            session = await self._own()
            if self.leased is None:
                await session.node(str(slot.uuid)).open()
        except Exception as error:  # any driver's open; a lease may have come meanwhile, too
            _log.debug("%s is not there: %s", slot, error)

    async def leave(self, why: str) -> None:
        """Close their session, if there is one. Shielded: what they have used is closed when this returns."""
        with trio.CancelScope(shield=True):
            async with self._changing:
                if self._session is not None:
                    self._why = why
                    self._leaving.set()
                    await self._left.wait()

    async def _own(self) -> Session:
        async with self._changing:
            if self._session is None:
                if self._nursery is None:
                    raise RpcError(StatusCode.UNAVAILABLE, "the exporter is starting, or ending; try again")
                self._leaving, self._left = trio.Event(), trio.Event()
                self._session = await self._nursery.start(self._live)
            return self._session

    async def _live(self, *, task_status: trio.TaskStatus[Session]) -> None:
        try:
            async with self._make() as session, trio.open_nursery() as nursery:
                nursery.start_soon(session.tree.keep_open)
                task_status.started(session)
                await self._leaving.wait()
                session.end_calls(self._why)
                nursery.cancel_scope.cancel()
        finally:
            self._session = None
            self._left.set()

    def _announce(self, connection: ServedConnection, person: str, session: Session) -> None:
        """The lease's user reads who takes part, once of each connection."""
        self._overriding = {one for one in self._overriding if not one.ended.is_set()}
        if connection not in self._overriding:
            self._overriding.add(connection)
            session.tell(f"{person} of this host takes part in the lease, with --override")
