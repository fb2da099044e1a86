"""The occupancy of a board in a trio loop: time passes, connections end, and what is decided is written and done."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import trio
from jumpstarter_proto.rpc import ServedConnection

from jumpstarter_exporter.boards.events import Action, Admission, Lease, Lose, Phase, Reason, Refusal
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.status import Status

__all__ = ["Keeper", "Records"]


class Records(Protocol):
    """Where the record is kept."""

    async def read(self) -> object:
        """What was written last, None if nothing was. What cannot be read is anything that is no record."""

    async def write(self, plain: object) -> None:
        """On the disk when this returns."""


class Keeper:
    """Use `run` as long as the board is served; the other methods are for its trio loop and return at once.

    Of each event the record is written first; then `perform` is called with each action, in order, and `changed`
    at the end. Neither may raise or wait.
    """

    def __init__(
        self,
        occupancy: Occupancy,
        records: Records | None = None,
        *,
        perform: Callable[[Action], None],
        changed: Callable[[], None],
    ) -> None:
        """`occupancy` is not to be used by anybody else. Without `records`, a restart knows nothing."""
        self._occupancy = occupancy
        self._records = records
        self._perform = perform
        self._changed = changed
        self._actions: deque[Action] = deque()
        self._written: object = None
        self._was_written = trio.Event()
        self._news = trio.Event()
        self._later = trio.Event()
        self._connections: set[ServedConnection] = set()
        """Those that have used the board."""
        self._nursery: trio.Nursery | None = None

    async def restore(self) -> None:
        """Go on where a process before has ended; before anything else."""
        if self._records is not None:
            found = await self._records.read()
            self._occupancy.restore(found, trio.current_time(), time.time())
            # A record that nobody can read is replaced at once: the next process is to know as much.
            self._written = None if Reason.UNKNOWN in self.withheld else self._occupancy.record

    async def run(self) -> None:
        """Until cancelled. What has not been written by then is not done either."""
        async with trio.open_nursery() as self._nursery:
            for connection in self._connections:
                self._nursery.start_soon(self._until_gone, connection)
            self._nursery.start_soon(self._let_time_pass)
            while True:
                await self._write()
                while self._actions:
                    action = self._actions.popleft()
                    if isinstance(action, Lose):
                        self._cut(action)
                    self._perform(action)
                self._changed()
                await self._news.wait()
                self._news = trio.Event()

    def _cut(self, lost: Lose) -> None:
        for connection in self._connections:
            if connection is lost.connection:
                connection.cut(lost.reason)

    async def _write(self) -> None:
        while (record := self._occupancy.record) != self._written and self._records is not None:
            await self._records.write(record)
            self._written = record
            self._was_written.set()
            self._was_written = trio.Event()

    async def _let_time_pass(self) -> None:
        while True:
            self._later = trio.Event()
            deadline = self._occupancy.deadline
            with trio.move_on_at(math.inf if deadline is None else deadline):
                await self._later.wait()
                continue
            for connection in self._connections:
                # A call that takes its time says nothing meanwhile.
                active = trio.current_time() if connection.working else connection.heard
                self._occupancy.touched(connection, active)
            self._happened(self._occupancy.tick(trio.current_time()))

    async def _until_gone(self, connection: ServedConnection) -> None:
        await connection.ended.wait()
        self._connections.discard(connection)
        self._occupancy.local_left(connection, trio.current_time())
        self._happened()

    def _happened(self, actions: Sequence[Action] = ()) -> None:
        self._occupancy.begins_at(time.time())
        self._actions.extend(actions)
        self._news.set()
        self._later.set()

    # What is asked.

    @property
    def lease(self) -> Lease | None:
        """The one that has the board, or waits for it."""
        return self._occupancy.lease

    @property
    def began(self) -> float:
        """When the lease got the board, in seconds since the epoch, also in a process before this one; or else now."""
        return time.time() if self._occupancy.began is None else self._occupancy.began

    @property
    def is_leased(self) -> bool:
        """Whether a lease has the board, and does not only wait for it; it may not be served yet."""
        return self.lease is not None and self.lease.phase is not Phase.WAITING

    @property
    def status(self) -> tuple[Status, str]:
        """What a controller is told while no lease is served."""
        return self._occupancy.status

    @property
    def sentence(self) -> str:
        """Who has it, for everybody on the host."""
        return self._occupancy.sentence

    @property
    def withheld(self) -> Mapping[Reason, str]:
        """What keeps it from being leased though nobody has it, and why."""
        return self._occupancy.withheld

    @property
    def user(self) -> str:
        """Who has it, so that a change waits for them, as "local use by ann"; empty when nobody has it."""
        return self._occupancy.user

    def is_user(self, connection: ServedConnection) -> bool:
        """Whether somebody on the host uses the board on that connection."""
        return connection in self._connections

    @property
    def reasons(self) -> Sequence[tuple[str, str]]:
        """Why it is not available: a word for programs and a sentence for people, of each."""
        return self._occupancy.reasons

    # What happens.

    def offered(self, lease: Lease) -> list[Action]:
        """A lease that may be declined is to begin; nothing is done yet of what is returned.

        If it is not declined, `confirmed` or `withdrawn` follows.
        """
        actions = self._occupancy.offered(lease, trio.current_time())
        self._happened()
        return actions

    def confirmed(self, actions: Sequence[Action]) -> None:
        """It begins: do what was returned."""
        self._occupancy.confirmed()
        self._happened(actions)

    def withdrawn(self) -> None:
        """It does not begin, or it is not known whether it does."""
        self._happened(self._occupancy.withdrawn(trio.current_time()))

    def do(self, actions: Sequence[Action]) -> None:
        """Do what a lease that was declined has brought about."""
        self._happened(actions)

    def is_finished(self, lease: str) -> bool:
        """Whether we have ended it, which its controller may not know."""
        return self._occupancy.is_finished(lease)

    def assigned(self, lease: Lease, end: float | None, until: str) -> None:
        """The controller says that this lease has the board, until `end` (seconds since the epoch; None: not said)."""
        self._happened(self._occupancy.assigned(lease, trio.current_time()))
        if (current := self._occupancy.lease) is not None and current.name == lease.name:
            self._occupancy.ends_at(end, until, trio.current_time(), time.time())

    def gone(self) -> None:
        """The controller says that the board is not leased."""
        self._happened(self._occupancy.gone(trio.current_time()))

    def became(self, phase: Phase) -> None:
        """The lease that is served is so far."""
        self._occupancy.became(phase)
        self._happened()

    async def until_written(self) -> None:
        """Until what a restart has to know of all that has happened is on the disk, or known not to get there."""
        while self._records is not None and self._occupancy.record != self._written:
            await self._was_written.wait()

    def over(self, *, is_released: bool = False) -> None:
        """The lease that was served is over, and the board is in order again.

        Its controller has taken it back from us, if it `is_released`, and not before a hook of it withheld the board.
        """
        if is_released:
            self._occupancy.released()
        self._happened(self._occupancy.over(trio.current_time()))

    def wants(self, lease: Lease | None) -> None:
        """A lease that is not ours waits, and would fit this board; None when there is none."""
        self._happened(self._occupancy.wants(lease))

    def left_alone(self, is_alone: bool) -> None:
        """Whether the controller is out of reach and no user of the lease is connected."""
        self._occupancy.left_alone(is_alone)
        self._happened()

    def withhold(self, reason: Reason, why: str, *, failed: Status = Status.BEFORE_LEASE_HOOK_FAILED) -> None:
        """It is not to be leased."""
        self._happened(self._occupancy.withhold(reason, why, failed=failed))

    def release(self, *reasons: Reason) -> None:
        """These do not withhold it any more."""
        self._happened(self._occupancy.release(*reasons, now=trio.current_time()))

    def local_call(
        self,
        connection: ServedConnection,
        person: str,
        *,
        reads: bool = False,
        override: bool = False,
        force: bool = False,
    ) -> Admission | Refusal:
        """A call of somebody on the host; unless it only `reads`, they use the board until the connection ends."""
        answer = self._occupancy.local_call(
            connection, person, trio.current_time(), reads=reads, override=override, force=force
        )
        if answer is Admission.LOCAL and connection not in self._connections:
            self._connections.add(connection)
            if self._nursery is not None:
                self._nursery.start_soon(self._until_gone, connection)
        self._happened()
        return answer
