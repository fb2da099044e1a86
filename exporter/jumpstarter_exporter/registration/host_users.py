"""Users of a host whose board has a controller: whether they may use the board now, and in which session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import trio
from jumpstarter_proto.call_metadata import FORCE, OVERRIDE, REFUSAL
from jumpstarter_proto.rpc import LimitedLog, RpcError, ServedConnection, ServerCall, StatusCode

from jumpstarter_exporter.boards.events import CallTarget, LocalRefusal
from jumpstarter_exporter.boards.occupancy_runner import OccupancyRunner
from jumpstarter_exporter.callers import caller_name
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.record_clock import RECORD_CLOCK
from jumpstarter_exporter.session.selection import CallUse
from jumpstarter_exporter.session.session import Session
from jumpstarter_exporter.visibility import see_all, see_since

__all__ = ["FORCE", "OVERRIDE", "REFUSAL", "HostUsers"]

_log = logging.getLogger(__name__)


class HostUsers:
    """Users of the host share one session, which is opened for the first of them and closed before a lease begins."""

    def __init__(self, occupancy: OccupancyRunner, make: Callable[[], Session]) -> None:
        """`make` creates a session with driver objects of its own."""
        self._leased: Session | None = None
        self._lease_ended = RECORD_CLOCK.begin()
        """When the last lease ended, in seconds since the epoch, as far as is known."""
        self._occupancy = occupancy
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
        """The session of the current lease."""
        return self._leased

    @leased.setter
    def leased(self, session: Session | None) -> None:
        self._leased, self._lease_ended = session, RECORD_CLOCK.begin()

    async def run(self) -> None:
        """Run until cancelled; then the devices of the local session are closed."""
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Session:
        """The session for a user's call. RpcError if the user may not make it."""
        person = await caller_name(call)
        session = self.leased or await self._own()
        is_here = call.uid is not None
        if is_here:
            see_all()
            looks = session.reads(use)
        else:
            see_since(self._lease_ended)
            looks = not (use.does or use.follows) if self._occupancy.is_leased else session.reads(use)
        answer = self._occupancy.local_call(
            call.connection,
            person,
            reads=looks,
            override=is_here and call.header(OVERRIDE) == "1",
            force=is_here and call.header(FORCE) == "1",
        )
        match answer:
            case LocalRefusal(code, sentence):
                raise RpcError(StatusCode.PERMISSION_DENIED, sentence, [(REFUSAL, code)])
            case CallTarget.LOCAL:
                session = await self._own()
            case CallTarget.LEASE if self.leased is None:
                raise RpcError(StatusCode.UNAVAILABLE, "the lease is just beginning or ending; try again")
            case CallTarget.LEASE:
                assert self.leased is not None
                session = self.leased
                self._announce(call.connection, person, session)
        return await session.enter(call, use)

    @property
    def session(self) -> Session | None:
        """The session that their reads use, if there is one."""
        return self.leased or self._session

    def notify(self, text: str) -> None:
        """Notify them: in the log of their session, or in the host's log if they have none."""
        if self._session is None:
            self._told.write(f"users of this host: {text}")
        else:
            self._session.notify(text)

    async def probe(self, slot: Slot) -> None:
        """Open the device in their session, to find out whether its hardware is there. The result is its state."""
        try:
            session = await self._own()
            if self.leased is None:
                await session.node(str(slot.uuid)).open()
        except Exception as error:  # any driver's open; or a lease has begun meanwhile
            _log.debug("%s could not be opened: %s", slot, error)

    async def leave(self, why: str) -> None:
        """Close their session, if there is one. Shielded: its devices are closed when this returns."""
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
                    raise RpcError(StatusCode.UNAVAILABLE, "the exporter is starting or stopping; try again")
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
        """Notify the lease's user of who uses it with --override, once per connection."""
        self._overriding = {one for one in self._overriding if not one.ended.is_set()}
        if connection not in self._overriding:
            self._overriding.add(connection)
            session.notify(f"{person} on the exporter's host uses the lease with --override")
