"""Runs a board's occupancy in trio.

It passes time and closed connections to the state machine, writes its record, and performs its actions.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import trio
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.notifications import AutoResetEvent, Broadcast
from jumpstarter_proto.rpc import ServedConnection

from jumpstarter_exporter.boards.events import (
    CallTarget,
    CutConnection,
    LocalRefusal,
    OccupancyAction,
    ServedLease,
    ServingPhase,
    WithheldReason,
)
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.record_clock import RECORD_CLOCK

__all__ = ["OccupancyRunner", "RecordStore"]


class RecordStore(Protocol):
    """Where the record is stored."""

    async def read(self) -> object:
        """The last record; None if there is none.

        An unreadable record is returned as a value that is not a valid record.
        """

    async def write(self, plain: object) -> None:
        """Write the record; it is on the disk when this returns."""


class OccupancyRunner:
    """Run `run` while the board is served; the other methods are called in its trio loop and return at once.

    For each event the record is written first; then `perform` is called with each action, in order, and `changed` at
    the end. Neither may raise or wait.
    """

    def __init__(
        self,
        occupancy: Occupancy,
        records: RecordStore | None = None,
        *,
        perform: Callable[[OccupancyAction], None],
        changed: Callable[[], None],
    ) -> None:
        """`occupancy` must not be used elsewhere. Without `records`, nothing is known after a restart."""
        self._occupancy = occupancy
        self._records = records
        self._perform = perform
        self._changed = changed
        self._actions: deque[OccupancyAction] = deque()
        self._written: object = None
        self._was_written = Broadcast()
        self._changed_state = AutoResetEvent()
        self._changed_deadline = Broadcast()
        self._connections: set[ServedConnection] = set()
        """Connections that have used the board."""
        self._nursery: trio.Nursery | None = None

    async def restore(self) -> None:
        """Continue from the record of an earlier process; call it first."""
        if self._records is not None:
            found = await self._records.read()
            self._occupancy.restore(found, trio.current_time(), time.time())
            if (began := self._occupancy.began) is not None:
                RECORD_CLOCK.reached(int(began * 1e9))
            # An unreadable record is replaced at once, so that the next process knows the same.
            self._written = None if WithheldReason.UNKNOWN in self.withheld else self._occupancy.record

    async def run(self) -> None:
        """Run until cancelled. Actions whose record was not written by then are not performed."""
        async with trio.open_nursery() as self._nursery:
            for connection in self._connections:
                self._nursery.start_soon(self._until_gone, connection)
            self._nursery.start_soon(self._let_time_pass)
            while True:
                await self._write()
                while self._actions:
                    action = self._actions.popleft()
                    if isinstance(action, CutConnection):
                        self._cut(action)
                    self._perform(action)
                self._changed()
                await self._changed_state.wait()

    def _cut(self, lost: CutConnection) -> None:
        for connection in self._connections:
            if connection is lost.connection:
                connection.cut(lost.reason)

    async def _write(self) -> None:
        while (record := self._occupancy.record) != self._written and self._records is not None:
            await self._records.write(record)
            self._written = record
            self._was_written.notify()

    async def _let_time_pass(self) -> None:
        while True:
            changed = self._changed_deadline.next
            deadline = self._occupancy.deadline
            with trio.move_on_at(math.inf if deadline is None else deadline):
                await changed.wait()
                continue
            for connection in self._connections:
                # A long call sends nothing meanwhile.
                active = trio.current_time() if connection.working else connection.heard
                self._occupancy.touched(connection, active)
            self._happened(self._occupancy.tick(trio.current_time()))

    async def _until_gone(self, connection: ServedConnection) -> None:
        await connection.ended.wait()
        self._connections.discard(connection)
        self._occupancy.local_left(connection, trio.current_time())
        self._happened()

    def _happened(self, actions: Sequence[OccupancyAction] = ()) -> None:
        if self._occupancy.is_beginning:
            self._occupancy.begins_at(RECORD_CLOCK.begin())
        self._actions.extend(actions)
        self._changed_state.set()
        self._changed_deadline.notify()

    # Queries.

    @property
    def lease(self) -> ServedLease | None:
        """The lease that has the board or waits for it."""
        return self._occupancy.lease

    @property
    def began(self) -> float:
        """When the lease got the board, in seconds since the epoch; now if no lease has it."""
        return RECORD_CLOCK.begin() if self._occupancy.began is None else self._occupancy.began

    @property
    def is_leased(self) -> bool:
        """Whether a lease has the board and does not only wait for it; it may not be served yet."""
        return self.lease is not None and self.lease.phase is not ServingPhase.WAITING

    @property
    def status(self) -> tuple[ExporterStatus, str]:
        """The status for the controller while no lease is served."""
        return self._occupancy.status

    @property
    def sentence(self) -> str:
        """Who has the board, as a sentence."""
        return self._occupancy.sentence

    @property
    def withheld(self) -> Mapping[WithheldReason, str]:
        """Why the board cannot be leased although nobody has it."""
        return self._occupancy.withheld

    @property
    def user(self) -> str:
        """The user that a change must wait for, such as "local use by ann"; empty if there is none."""
        return self._occupancy.user

    def is_user(self, connection: ServedConnection) -> bool:
        """Whether a local user uses the board on that connection."""
        return connection in self._connections

    @property
    def reasons(self) -> Sequence[tuple[str, str]]:
        """Why the board is not available: pairs of a code and a sentence."""
        return self._occupancy.reasons

    # Events.

    def offered(self, lease: ServedLease) -> list[OccupancyAction]:
        """A lease is offered. The returned actions are not performed yet.

        Unless it is declined, `confirmed` or `withdrawn` follows.
        """
        actions = self._occupancy.offered(lease, trio.current_time())
        self._happened()
        return actions

    def confirmed(self, actions: Sequence[OccupancyAction]) -> None:
        """The controller confirmed the lease: perform the actions."""
        self._occupancy.confirmed()
        self._happened(actions)

    def withdrawn(self) -> None:
        """The lease does not begin, or that is not known."""
        self._happened(self._occupancy.withdrawn(trio.current_time()))

    def do(self, actions: Sequence[OccupancyAction]) -> None:
        """Perform the actions that a declined lease caused."""
        self._happened(actions)

    def is_finished(self, lease: str) -> bool:
        """Whether the exporter has ended the lease, which the controller may not know."""
        return self._occupancy.is_finished(lease)

    def assigned(self, lease: ServedLease, end: float | None, until: str) -> None:
        """The controller assigned this lease until `end` (seconds since the epoch; None: unknown)."""
        self._happened(self._occupancy.assigned(lease, trio.current_time()))
        if (current := self._occupancy.lease) is not None and current.name == lease.name:
            self._occupancy.ends_at(end, until, trio.current_time(), time.time())

    def gone(self) -> None:
        """The controller says that the board is not leased."""
        self._happened(self._occupancy.gone(trio.current_time()))

    def became(self, phase: ServingPhase) -> None:
        """The served lease enters this phase."""
        self._occupancy.became(phase)
        self._happened()

    async def until_written(self) -> None:
        """Wait until the record of all events so far is on the disk, or cannot be written."""
        while self._records is not None and self._occupancy.record != self._written:
            await self._was_written.wait()

    def over(self, *, is_released: bool = False) -> None:
        """The served lease is over, and the board is cleaned up.

        `is_released`: the controller took the lease back before a hook of it withheld the board.
        """
        if is_released:
            self._occupancy.released()
        self._happened(self._occupancy.over(trio.current_time()))

    def wants(self, lease: ServedLease | None) -> None:
        """A waiting lease would fit this board; None if there is none."""
        self._happened(self._occupancy.wants(lease))

    def left_alone(self, is_alone: bool) -> None:
        """Whether the controller is out of reach and no client of the lease is connected."""
        self._occupancy.left_alone(is_alone)
        self._happened()

    def withhold(
        self,
        reason: WithheldReason,
        why: str,
        *,
        failed: ExporterStatus = ExporterStatus.BEFORE_LEASE_HOOK_FAILED,
    ) -> None:
        """Withhold the board from leases."""
        self._happened(self._occupancy.withhold(reason, why, failed=failed))

    def release(self, *reasons: WithheldReason) -> None:
        """Remove these reasons."""
        self._happened(self._occupancy.release(*reasons, now=trio.current_time()))

    def local_call(
        self,
        connection: ServedConnection,
        person: str,
        *,
        reads: bool = False,
        override: bool = False,
        force: bool = False,
    ) -> CallTarget | LocalRefusal:
        """A local call; unless it only `reads`, its user has the board until the connection ends."""
        answer = self._occupancy.local_call(
            connection, person, trio.current_time(), reads=reads, override=override, force=force
        )
        if answer is CallTarget.LOCAL and connection not in self._connections:
            self._connections.add(connection)
            if self._nursery is not None:
                self._nursery.start_soon(self._until_gone, connection)
        self._happened()
        return answer
