"""Serves one lease from its first hook to its last: its session, and the tunnels of its clients.

A lease may have to wait for its board. Clients can connect meanwhile, but their calls are refused.

When the exporter stops during a lease, the lease stays with its client: calls end with a status, the devices are
closed as their drivers say, the afterLease hook does not run, and the lease is not returned. The next process of this
exporter resumes the lease in the same phase; a hook that was running starts again.
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
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.remote import read_claims
from jumpstarter_proto.rpc import LimitedLog, socket_folder, unix_listener
from jumpstarter_proto.tasks import first_of
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_pb2 import ListenResponse

from jumpstarter_exporter.boards.events import ServingPhase
from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.hooks.session_hooks import HookSeconds, SessionHooks
from jumpstarter_exporter.registration.controller import ControllerConnection
from jumpstarter_exporter.registration.first_byte_timeout import FirstByteTimeout
from jumpstarter_exporter.registration.lease_assignment import LeaseAssignment
from jumpstarter_exporter.registration.retry_policy import RepeatedMessage
from jumpstarter_exporter.session.call_notes import CallNote
from jumpstarter_exporter.session.logs import BoardLog
from jumpstarter_exporter.session.session import Session
from jumpstarter_exporter.user_reach import reach_limited_to

__all__ = ["LeaseServer", "LeaseStart"]

LINGER_SECONDS = 1.0
"""After its last status a session stays this long, so that connected clients can read how it ended."""
LAST_STATUS_SECONDS = 10.0
"""A client that ended the session has this long to read its last status; 0.9's shell waits up to five minutes for
it."""
REASON_SECONDS = 10.0
"""A lease whose beforeLease hook failed is kept this long, so that its user can read the reason."""
GRACE_SECONDS = 0.5
RELEASE_SECONDS = 5.0
"""Limit for returning the lease to the controller before others may use the board. It is returned later in any case."""
HOOK_SECONDS = 4.0
"""When the exporter stops, a running afterLease hook has this long to finish."""
MAX_TUNNELS = 64
"""Connections to one lease at a time."""
MAX_WAITING_TUNNELS = 4 * MAX_TUNNELS
"""Connections that may wait for a place; a client beyond that must dial again."""
MAX_PREVIOUS_CLIENTS = 64
"""A lease that is transferred more often forgets its first clients; only a faulty controller does that."""
MAX_REASON_LENGTH = 1000
"""Characters of the logged reason why a connection failed; the text may come from a router."""
FIRST_BYTE_SECONDS = 120.0
"""A connection on which the client sends nothing is closed after this time."""

_log = logging.getLogger(__name__)


async def _record_nothing(_: ServingPhase) -> None:
    pass


class LeaseStart(enum.Enum):
    """The phase in which serving begins."""

    NEW = enum.auto()
    PREPARED = enum.auto()
    """The beforeLease hook has run in an earlier process."""
    OVER = enum.auto()
    """Only the afterLease hook is left."""


class LeaseServer:
    """Serves one lease.

    Set `ended` when the controller says that the lease is over, `stopping` when the exporter stops. The lease starts
    with `begin`; until then its calls are refused because of `obstacle`.
    """

    def __init__(
        self,
        config: ExporterConfig,
        devices: BoardDevices,
        controller: ControllerConnection,
        assignment: LeaseAssignment,
        hook_seconds: HookSeconds | None = None,
        *,
        board: BoardLog | None = None,
        obstacle: str = "",
        prepare: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        users_changed: Callable[[], None] = lambda: None,
        record: Callable[[ServingPhase], Awaitable[None]] = _record_nothing,
        on_call: Callable[[CallNote], None] | None = None,
    ) -> None:
        """`prepare` is awaited before the first hook; `users_changed` is called when a connection opens or closes.

        `record` is awaited before users learn that the board is ready, before the last hook, and before the lease is
        returned. `on_call` gets each call that changes something.
        """
        self.ended = trio.Event()
        self.stopping = trio.Event()
        self.is_begun = False
        """Hooks and calls may have changed something on the board."""
        self.is_released = False
        """The controller has taken the lease back."""
        self.start = LeaseStart.NEW
        self._begins = trio.Event()
        self._is_returned = trio.Event()
        self._is_known = trio.Event()
        """The controller knows that the lease is over, or will find out without us."""
        self._is_over = False
        """The last hook has finished."""
        self._prepare = prepare
        self._users_changed = users_changed
        self._record = record
        self.exiting = False
        """A hook failed with `onFailure: exit`."""
        self.session = Session(
            devices,
            name=config.exporter_name,
            lease=assignment.lease,
            motd=config.settings.motd,
            begins_ready=False,
            board=board,
            on_call=on_call,
        )
        self.session.obstacle = obstacle
        self._users: dict[trio.CancelScope, str] = {}
        """Open connections of clients, with the name of each client; empty if the token does not say."""
        self._previous_clients: deque[str] = deque(maxlen=MAX_PREVIOUS_CLIENTS)
        """Clients that had the lease before it was transferred."""
        self._moves = LimitedLog(_log, logging.INFO)
        self._left = trio.Event()
        self._late = LimitedLog(_log, logging.INFO)
        self._refused = RepeatedMessage()
        self._refusals = LimitedLog(_log, logging.INFO)
        self._hooks = config.settings.hooks
        self._reach = config.settings.fetch.reach()
        self._controller = controller
        self._assignment = assignment
        self._seconds = hook_seconds

    @property
    def lease(self) -> str:
        """Its name."""
        return self._assignment.lease

    @property
    def is_used(self) -> bool:
        """Whether a client is connected."""
        return bool(self._users)

    def begin(self, start: LeaseStart = LeaseStart.NEW) -> None:
        """Start: the board is free for the lease."""
        self.start = start
        self._begins.set()

    def return_lease(self, reason: str) -> None:
        """Return the lease, which has waited too long, and give its user the reason."""
        self.session.obstacle = reason
        self._is_returned.set()

    def expire(self) -> None:
        """End the lease because its time is over. The controller cannot be reached and ends it by itself."""
        self._is_known.set()
        self.session.end_requested.set()

    def set_client(self, client: str) -> None:
        """Set the lease's client after a transfer. The connections of its previous client are cut."""
        before = self._assignment.client
        if not client or client == before:
            return
        self._moves.write(f"lease {self._assignment.lease} was transferred from {before} to {client}")
        self._previous_clients = deque(
            (*(one for one in self._previous_clients if one != client), before), MAX_PREVIOUS_CLIENTS
        )
        self._assignment = replace(self._assignment, client=client)
        for scope, user in self._users.items():
            if user != client:  # the new client may have connected before this message arrived
                scope.cancel()

    async def run(self) -> None:
        """Serve the lease to its end. All devices are closed when this returns, also after a cancellation."""
        lease = self._assignment.lease
        _log.info("lease %s of %s begins", lease, self._assignment.client)
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(socket_folder("jumpstarter-lease-"))
                socket = folder / "socket"
                listener = unix_listener(socket)
            except OSError as error:
                await self._refuse(error)
            else:
                await self._serve(socket, listener)
        _log.info("lease %s %s", lease, "is kept for the next start" if self.is_kept else "has ended")

    async def _serve(self, socket: Path, listener: trio.SocketListener) -> None:
        assignment, session = self._assignment, self.session
        async with session, trio.open_nursery() as nursery:
            await nursery.start(session.server.serve, [listener])
            hooks = SessionHooks(
                session,
                self._hooks,
                nursery,
                host=str(socket),
                lease=assignment.lease,
                client=assignment.client,
                seconds=self._seconds,
                record=self._record,
            )
            limit = trio.CapacityLimiter(MAX_TUNNELS)

            def arrived(connection: ListenResponse) -> None:
                if limit.statistics().tasks_waiting < MAX_WAITING_TUNNELS:
                    nursery.start_soon(self._tunnel, connection, limit)
                else:
                    self._refuse_connection("too many connections are waiting")

            listening, listen_ended = trio.CancelScope(), trio.Event()

            async def listen() -> None:
                with listening:
                    await self._controller.listen(assignment.lease, arrived)
                listen_ended.set()

            nursery.start_soon(listen)
            if session.obstacle:
                session.status.change(
                    ExporterStatus.BEFORE_LEASE_HOOK, f"Waiting for the board: {session.obstacle}"
                )
            events = (self._begins, self._is_returned, self.ended, self.stopping, session.end_requested)
            await first_of(*(event.wait for event in events))
            is_wanted = self.start is not LeaseStart.NEW or not self.ended.is_set()
            if self._begins.is_set() and is_wanted and not self.stopping.is_set():
                await self._prepare()
                self.is_begun = True
                session.obstacle = ""
                nursery.start_soon(session.tree.keep_open)
                if self.start is LeaseStart.NEW:
                    if self._hooks.before_lease is None:
                        await self._record(ServingPhase.LEASED)
                    hooks.begin()
                else:
                    hooks.go_on()
                if self.start is not LeaseStart.OVER:
                    await self._wait_until_over(hooks)
            elif self._is_returned.is_set():
                await self._report_reason(session.obstacle)
            if not self.stopping.is_set():
                await self._end(hooks)
            # First, because clients dial again as soon as they are cut off, and the next LeaseServer must get those
            # calls.
            listening.cancel()
            with trio.move_on_after(GRACE_SECONDS):
                await listen_ended.wait()
            await session.server.shutdown(GRACE_SECONDS)
            nursery.cancel_scope.cancel()

    async def _refuse(self, error: OSError) -> None:
        """Report that this host cannot serve the lease, for example because its disk is full, and return the lease."""
        reason = (
            f"the exporter's host cannot create the lease's socket ({error.strerror or error}); "
            "free some space in its temporary folder"
        )
        await self._report_reason(reason)
        if not self.ended.is_set() and not self.stopping.is_set():
            await self._run_with_stop_deadline(self._release)

    async def _report_reason(self, reason: str) -> None:
        """Report why the lease is not served, and give its user time to read it."""
        _log.error("lease %s cannot be served: %s", self._assignment.lease, reason)
        for status in (ExporterStatus.BEFORE_LEASE_HOOK, ExporterStatus.BEFORE_LEASE_HOOK_FAILED):
            self.session.status.change(status, reason)
        with trio.move_on_after(REASON_SECONDS):
            await first_of(self.ended.wait, self.stopping.wait)

    @property
    def is_kept(self) -> bool:
        """Whether the next process resumes the lease: it still runs, or its afterLease hook has not finished."""
        is_to_be_cleaned = (self.is_begun or self.start is not LeaseStart.NEW) and not self._is_over
        return self.stopping.is_set() and (not self.ended.is_set() or is_to_be_cleaned)

    async def _wait_until_over(self, hooks: SessionHooks) -> None:
        """Wait for the end of the lease, or for the exporter to stop."""

        async def refused() -> None:
            await first_of(hooks.releasing.wait, hooks.exiting.wait)
            # The client reads the reason first, and then usually releases the lease itself.
            await trio.sleep(REASON_SECONDS)

        await first_of(self.ended.wait, self.stopping.wait, self.session.end_requested.wait, refused)

    async def _end(self, hooks: SessionHooks) -> None:
        """Run the afterLease hook, and return the lease if the exporter ends it."""
        ours, is_refused = not self.ended.is_set(), hooks.releasing.is_set()
        await self._run_with_stop_deadline(hooks.end)
        self._is_over = hooks.is_over
        if hooks.exiting.is_set():
            self.exiting = True
        elif ours:
            if self.is_begun and not is_refused:  # after a restart its user must not be admitted again
                await self._record(ServingPhase.CLEANING)
            await self._run_with_stop_deadline(self._release)
        await self._linger()
        hooks.leave()

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER_SECONDS):
            while self._users:
                await self._next_client_event().wait()
        status = self.session.status
        if self.session.end_requested.is_set():
            with trio.move_on_after(LAST_STATUS_SECONDS):
                while self._users and not status.is_read and not self.stopping.is_set():
                    await first_of(self._next_client_event().wait, self.stopping.wait)

    def _next_client_event(self) -> trio.Event:
        """An event that is set when a client disconnects or reads the status."""
        self._left = trio.Event()
        self.session.status.on_read = self._left.set
        return self._left

    async def _run_with_stop_deadline(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run the function, for `HOOK_SECONDS` at most after the exporter was told to stop."""

        async def deadline() -> None:
            await self.stopping.wait()
            await trio.sleep(HOOK_SECONDS)

        await first_of(function, deadline)

    async def _release(self) -> None:
        """Return the lease. If the controller has ended it meanwhile, nothing is left to do.

        If the controller cannot be reached, the lease is returned later by whoever serves the board.
        """
        with trio.move_on_after(RELEASE_SECONDS):
            await self._release_now()

    async def _release_now(self) -> None:
        async def release() -> None:
            await self._controller.release(self._assignment.lease)
            self.is_released = True

        await first_of(release, self.ended.wait, self._is_known.wait)

    async def _tunnel(self, connection: ListenResponse, limit: trio.CapacityLimiter) -> None:
        user = read_claims(connection.router_token).client
        async with limit:
            if user and user in self._previous_clients:
                self._late.write(
                    f"rejected a connection of {shown(user)}: the lease was transferred to another client"
                )
                return
            scope = trio.CancelScope()
            self._users[scope] = user
            self._users_changed()
            try:
                with scope:
                    async with self._controller.tunnel(connection) as stream:
                        with reach_limited_to(self._reach):
                            await self.session.server.serve_connection(
                                FirstByteTimeout(stream, FIRST_BYTE_SECONDS)
                            )
            except JumpstarterError as error:
                self._refuse_connection(str(error))
            except (
                Exception
            ):  # outermost edge of one connection: a fault in it must not end the lease's other connections
                _log.exception("a client's connection failed; the client will dial again")
            finally:
                del self._users[scope]
                self._left.set()
                self._users_changed()

    def _refuse_connection(self, reason: str) -> None:
        if self._refused.is_due(reason):
            said = shown(reason, MAX_REASON_LENGTH)
            self._refusals.write(
                f"a client's connection could not be accepted: {said}; the client will dial again"
            )
