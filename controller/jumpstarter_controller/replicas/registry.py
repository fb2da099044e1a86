"""Announces this replica to the others, and reads which others are alive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn, Protocol, TypeVar

import trio

from jumpstarter_controller.replicas.members import ANNOUNCE_SECONDS, Members, ReplicaRecord
from jumpstarter_controller.store import StoreError

__all__ = ["Registry", "ReplicaRecords"]

LOOK_SECONDS = 2.0
RETRY_SECONDS = 1.0
LEAVE_SECONDS = 2.0
T = TypeVar("T")

_log = logging.getLogger(__name__)


class Retry(Protocol):
    """Repeats a blocking request in a thread. When cancelled, the abandoned thread keeps the limiter."""

    async def __call__(self, ask: Callable[[], T], *, limiter: trio.CapacityLimiter) -> T: ...


class ReplicaRecords(Protocol):
    """A shared record for each replica. Blocking. StoreError: it cannot be read or written."""

    def all(self) -> Mapping[str, ReplicaRecord]:
        """All records, by name."""

    def write(self, name: str, address: str) -> None:
        """Create or renew a record."""

    def remove(self, name: str) -> None:
        """Delete a record."""


class Registry:
    """Announces this replica and reads the others, while `run` is running."""

    def __init__(self, records: ReplicaRecords, members: Members, address: str) -> None:
        self.members = members
        self.on_change: Callable[[], None] = lambda: None
        """Called when the set of living replicas has changed."""
        self._records = records
        self._address = address
        self._reading = trio.CapacityLimiter(1)
        self._writing = trio.CapacityLimiter(1)
        """Serialises writes, so that an abandoned write never follows the removal of the record."""

    async def join(self, retry: Retry) -> None:
        """Write this replica's record, and read the others; `retry` repeats each request until it is answered."""
        announce = partial(self._records.write, self.members.identity, self._address)
        await retry(announce, limiter=self._writing)
        self.members.observe(await retry(self._records.all, limiter=self._reading))

    async def look(self) -> None:
        """Read which replicas are alive. If that fails, nothing changes."""
        try:
            found = await _do(self._reading, self._records.all)
        except StoreError as error:
            _log.debug("which controllers there are cannot be seen: %s", error)
            return
        if self.members.observe(found):
            _log.info("other controllers of this lab: %s", ", ".join(sorted(self.members.living)) or "none")
            self.on_change()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Renew the record and read the others, until cancelled. The record stays then: see `leave`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce)
            task_status.started()
            while True:
                await trio.sleep(LOOK_SECONDS)
                await self.look()

    async def _announce(self) -> NoReturn:
        """Renew the record in a task of its own: a late renewal would make this replica look dead."""
        pause = ANNOUNCE_SECONDS
        while True:
            await trio.sleep(pause)
            try:
                await _do(self._writing, partial(self._records.write, self.members.identity, self._address))
                for name in self.members.forgettable():
                    await _do(self._writing, partial(self._records.remove, name))
            except StoreError as error:
                _log.debug("that this controller lives cannot be said: %s", error)
                pause = RETRY_SECONDS
            else:
                pause = ANNOUNCE_SECONDS

    async def leave(self) -> None:
        """Delete this replica's record. Call it when `run` has ended."""
        with trio.CancelScope(shield=True), trio.move_on_after(LEAVE_SECONDS):
            try:
                await _do(self._writing, partial(self._records.remove, self.members.identity))
            except StoreError as error:
                _log.info("others learn some seconds later that this controller has ended: %s", error)


async def _do(limiter: trio.CapacityLimiter, ask: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)
