"""One lease, from its first hook to its last: its session, and its clients' tunnels.

It may have to wait for its board first: its clients are connected then, and their calls refused.

When the exporter stops in the middle, the lease stays its client's: calls end with a status, the devices are closed as
their drivers say, the afterLease hook does not run, and nothing is given back. The next process of this exporter takes
the lease up where it was, a hook that was running from its beginning.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import read_claims
from jumpstarter_proto.rpc import LimitedLog, socket_folder, unix_listener
from jumpstarter_proto.tasks import first_of
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_pb2 import ListenResponse

from jumpstarter_exporter.boards.events import Phase
from jumpstarter_exporter.call_notes import CallNote
from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.hooks.life import HookSeconds, SessionLife
from jumpstarter_exporter.logs import BoardLog
from jumpstarter_exporter.registration.controller import Controller
from jumpstarter_exporter.registration.patience import Repetition
from jumpstarter_exporter.registration.tenant import Tenant
from jumpstarter_exporter.registration.tunnel import Expectant
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.status import Status
from jumpstarter_exporter.user_reach import reach_limited_to

__all__ = ["LeaseServer", "Start"]

LAST_LOOK_SECONDS = 1.0
"""After its last status a session stays so long for those who are connected, so that they see how it ended."""
LAST_WORD_SECONDS = 10.0
"""Whoever ended the lease waits for its last status, 0.9's shell for five minutes, and has so long to ask."""
REASON_SECONDS = 10.0
"""A lease whose board its hook refused is kept so long, for its user to see why."""
GRACE_SECONDS = 0.5
RELEASE_SECONDS = 5.0
"""Its controller has so long to take a lease back before others may use the board. It is given back all the same."""
HOOK_SECONDS = 4.0
"""When the exporter stops, an afterLease hook that runs has so long to put the board in order."""
TUNNELS = 64
"""Connections to one lease at a time."""
WAITING_TUNNELS = 4 * TUNNELS
"""That wait for one of those to end; who comes then has to dial again."""
MAX_FORMER_CLIENTS = 64
"""A lease that is given away more often forgets who had it first: nobody does that but a controller that lies."""
MAX_REASON_LENGTH = 1000
"""Characters of why a connection could not be taken, in the log: a router may have said it."""
SILENT_SECONDS = 120.0
"""A connection on which nobody says anything is not kept longer."""

_log = logging.getLogger(__name__)


async def _record_nothing(_: Phase) -> None:
    pass


class Start(enum.Enum):
    """How far a lease is when it begins to be served."""

    NEW = enum.auto()
    PREPARED = enum.auto()
    """Its beforeLease hook has run already, in a process before this one."""
    OVER = enum.auto()
    """Its afterLease hook is all that is left of it."""


class LeaseServer:
    """Serves one lease. Set `ended` when the controller says that it is over, `stopping` when the exporter stops.

    It begins with `begin`; until then its calls are refused because of the `obstacle`.
    """

    def __init__(
        self,
        config: ExporterConfig,
        devices: BoardDevices,
        controller: Controller,
        tenant: Tenant,
        seconds: HookSeconds | None = None,
        *,
        board: BoardLog | None = None,
        obstacle: str = "",
        prepare: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        users_changed: Callable[[], None] = lambda: None,
        record: Callable[[Phase], Awaitable[None]] = _record_nothing,
        on_call: Callable[[CallNote], None] | None = None,
    ) -> None:
        """`prepare` is awaited before its first hook; `users_changed` is called when a connection comes or goes.

        `record` is awaited before users hear that the board is ready, before its last hook, and before it is given
        back. `on_call` is told of each call that is no mere look.
        """
        self.ended = trio.Event()
        self.stopping = trio.Event()
        self.is_begun = False
        """Its hooks and calls may have done something on the board."""
        self.is_released = False
        """Its controller has taken it back from us."""
        self.start = Start.NEW
        self._begins = trio.Event()
        self._given_back = trio.Event()
        self._is_known = trio.Event()
        """Its controller knows that it is over, or will know by itself."""
        self._is_over = False
        """Its last hook has come to its end."""
        self._prepare = prepare
        self._users_changed = users_changed
        self._record = record
        self.exiting = False
        """A hook has failed in such a way that the exporter is to end."""
        self.session = Session(
            devices,
            name=config.exporter_name,
            lease=tenant.lease,
            motd=config.settings.motd,
            begins_ready=False,
            board=board,
            on_call=on_call,
        )
        self.session.obstacle = obstacle
        self._users: dict[trio.CancelScope, str] = {}
        """Clients' connections that are open, and whose each is; empty where its token does not say."""
        self._former: deque[str] = deque(maxlen=MAX_FORMER_CLIENTS)
        """Whose the lease was before it was given away."""
        self._moves = LimitedLog(_log, logging.INFO)
        self._left = trio.Event()
        self._late = LimitedLog(_log, logging.INFO)
        self._refused = Repetition()
        self._refusals = LimitedLog(_log, logging.INFO)
        self._hooks = config.settings.hooks
        self._reach = config.settings.fetch.reach()
        self._controller = controller
        self._tenant = tenant
        self._seconds = seconds

    @property
    def lease(self) -> str:
        """Its name."""
        return self._tenant.lease

    @property
    def is_used(self) -> bool:
        """Whether a client of it is connected."""
        return bool(self._users)

    def begin(self, start: Start = Start.NEW) -> None:
        """The board is free for it."""
        self.start = start
        self._begins.set()

    def give_back(self, reason: str) -> None:
        """It has waited too long: its user hears why, and its controller that it is over."""
        self.session.obstacle = reason
        self._given_back.set()

    def run_out(self) -> None:
        """Its time is over, and its controller, which is out of reach, knows that by itself."""
        self._is_known.set()
        self.session.end_requested.set()

    def belongs_to(self, client: str) -> None:
        """It may have been given away: who had it before sees and does nothing more on the board."""
        before = self._tenant.client
        if not client or client == before:
            return
        self._moves.write(f"lease {self._tenant.lease} is {client}'s now, not {before}'s")
        self._former = deque((*(one for one in self._former if one != client), before), MAX_FORMER_CLIENTS)
        self._tenant = replace(self._tenant, client=client)
        for scope, user in self._users.items():
            if user != client:  # whom it was given to may have been faster than the news
                scope.cancel()

    async def run(self) -> None:
        """To its end. All devices are closed then."""
        lease = self._tenant.lease
        _log.info("lease %s of %s begins", lease, self._tenant.client)
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(socket_folder("jumpstarter-lease-"))
                socket = folder / "socket"
                listener = unix_listener(socket)
            except OSError as error:
                await self._refuse(error)
            else:
                await self._serve(socket, listener)
        _log.info("lease %s is %s", lease, "kept for the next start" if self.is_kept else "over")

    async def _serve(self, socket: Path, listener: trio.SocketListener) -> None:
        tenant, session = self._tenant, self.session
        async with session, trio.open_nursery() as nursery:
            await nursery.start(session.server.serve, [listener])
            life = SessionLife(
                session,
                self._hooks,
                nursery,
                host=str(socket),
                lease=tenant.lease,
                client=tenant.client,
                seconds=self._seconds,
                record=self._record,
            )
            limit = trio.CapacityLimiter(TUNNELS)

            def arrived(connection: ListenResponse) -> None:
                if limit.statistics().tasks_waiting < WAITING_TUNNELS:
                    nursery.start_soon(self._tunnel, connection, limit)
                else:
                    self._refuse_connection("too many wait for others to end")

            listening, deaf = trio.CancelScope(), trio.Event()

            async def listen() -> None:
                with listening:
                    await self._controller.listen(tenant.lease, arrived)
                deaf.set()

            nursery.start_soon(listen)
            if session.obstacle:
                session.status.become(Status.BEFORE_LEASE_HOOK, f"Waiting for the board: {session.obstacle}")
            events = (self._begins, self._given_back, self.ended, self.stopping, session.end_requested)
            await first_of(*(event.wait for event in events))
            is_wanted = self.start is not Start.NEW or not self.ended.is_set()
            if self._begins.is_set() and is_wanted and not self.stopping.is_set():
                await self._prepare()
                self.is_begun = True
                session.obstacle = ""
                nursery.start_soon(session.tree.keep_open)
                if self.start is Start.NEW:
                    if self._hooks.before_lease is None:
                        await self._record(Phase.LEASED)
                    life.begin()
                else:
                    life.go_on()
                if self.start is not Start.OVER:
                    await self._until_over(life)
            elif self._given_back.is_set():
                await self._say_why(session.obstacle)
            if not self.stopping.is_set():
                await self._end(life)
            # First, for clients dial again as soon as they are cut off: who serves the lease next is to hear of them.
            listening.cancel()
            with trio.move_on_after(GRACE_SECONDS):
                await deaf.wait()
            await session.server.shutdown(GRACE_SECONDS)
            nursery.cancel_scope.cancel()

    async def _refuse(self, error: OSError) -> None:
        """This host cannot serve it, as when its disk is full: its user hears why, and it is given back."""
        reason = (
            f"the exporter's host has no place for the lease's socket ({error.strerror or error}); "
            "make room where its temporary files are"
        )
        await self._say_why(reason)
        if not self.ended.is_set() and not self.stopping.is_set():
            await self._as_long_as_there_is_time(self._release)

    async def _say_why(self, reason: str) -> None:
        """It is not served, and its user has the time to see that."""
        _log.error("lease %s cannot be served: %s", self._tenant.lease, reason)
        for status in (Status.BEFORE_LEASE_HOOK, Status.BEFORE_LEASE_HOOK_FAILED):
            self.session.status.become(status, reason)
        with trio.move_on_after(REASON_SECONDS):
            await first_of(self.ended.wait, self.stopping.wait)

    @property
    def is_kept(self) -> bool:
        """The next process takes it up: it is its client's still, or its board is not in order again."""
        is_to_be_cleaned = (self.is_begun or self.start is not Start.NEW) and not self._is_over
        return self.stopping.is_set() and (not self.ended.is_set() or is_to_be_cleaned)

    async def _until_over(self, life: SessionLife) -> None:
        """Wait for the lease's end, or the exporter's."""

        async def refused() -> None:
            await first_of(life.releasing.wait, life.exiting.wait)
            # Whoever leased it asks for the reason first, and then mostly gives it back themselves.
            await trio.sleep(REASON_SECONDS)

        await first_of(self.ended.wait, self.stopping.wait, self.session.end_requested.wait, refused)

    async def _end(self, life: SessionLife) -> None:
        """Its hook, and giving it back if it is we who end it."""
        ours, is_refused = not self.ended.is_set(), life.releasing.is_set()
        await self._as_long_as_there_is_time(life.end)
        self._is_over = life.is_over
        if life.exiting.is_set():
            self.exiting = True
        elif ours:
            if self.is_begun and not is_refused:  # a restart does not let its user in again
                await self._record(Phase.CLEANING)
            await self._as_long_as_there_is_time(self._release)
        await self._last_look()
        life.leave()

    async def _last_look(self) -> None:
        with trio.move_on_after(LAST_LOOK_SECONDS):
            while self._users:
                await self._news().wait()
        status = self.session.status
        if self.session.end_requested.is_set():
            with trio.move_on_after(LAST_WORD_SECONDS):
                while self._users and not status.is_told and not self.stopping.is_set():
                    await first_of(self._news().wait, self.stopping.wait)

    def _news(self) -> trio.Event:
        """Set as soon as a client leaves, or asks for the status."""
        self._left = trio.Event()
        self.session.status.on_tell = self._left.set
        return self._left

    async def _as_long_as_there_is_time(self, function: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                await self.stopping.wait()
                await trio.sleep(HOOK_SECONDS)
                nursery.cancel_scope.cancel()

            nursery.start_soon(cut)
            await function()
            nursery.cancel_scope.cancel()

    async def _release(self) -> None:
        """Give it back; when the controller has ended it meanwhile, that is as good.

        One that is out of reach hears of it later, from whoever serves the board.
        """
        with trio.move_on_after(RELEASE_SECONDS):
            await self._release_now()

    async def _release_now(self) -> None:
        async def release() -> None:
            await self._controller.release(self._tenant.lease)
            self.is_released = True

        await first_of(release, self.ended.wait, self._is_known.wait)

    async def _tunnel(self, connection: ListenResponse, limit: trio.CapacityLimiter) -> None:
        user = read_claims(connection.router_token).client
        async with limit:
            if user and user in self._former:
                self._late.write(f"a connection of {shown(user)} comes too late: the lease was given away")
                return
            scope = trio.CancelScope()
            self._users[scope] = user
            self._users_changed()
            try:
                with scope:
                    async with self._controller.tunnel(connection) as stream:
                        with reach_limited_to(self._reach):
                            await self.session.server.serve_connection(Expectant(stream, SILENT_SECONDS))
            except JumpstarterError as error:
                self._refuse_connection(str(error))
            except (
                Exception
            ):  # one connection's outermost edge: a fault in it must not end the lease's others
                _log.exception("a client's connection failed; it will dial again")
            finally:
                del self._users[scope]
                self._left.set()
                self._users_changed()

    def _refuse_connection(self, reason: str) -> None:
        if self._refused.is_aloud(reason):
            said = shown(reason, MAX_REASON_LENGTH)
            self._refusals.write(f"a client's connection could not be taken: {said}; it will dial again")
