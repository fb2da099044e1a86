"""Leads a lab, or waits to: the task that reads and writes the record of who leads."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import NoReturn, Protocol, TypeVar

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.tasks import collapsed

from jumpstarter_controller.replicas.election import Election, LeaderRecord
from jumpstarter_controller.scheduling.clock import uptime
from jumpstarter_controller.store import StoreError

__all__ = ["Leadership", "Lock"]

RESIGN_SECONDS = 2.0
T = TypeVar("T")

_log = logging.getLogger(__name__)


class NotLeaderError(JumpstarterError):
    """Another leads."""

    exit_code = ExitCode.FAILED


class Lock(Protocol):
    """The record, in a place that all replicas see. Blocking."""

    def read(self) -> tuple[LeaderRecord | None, str]:
        """What it says, and its version, empty when there is none. StoreError: it cannot be read."""

    def write(self, claim: LeaderRecord, version: str) -> str | None:
        """Write it over that version; its new one, None if another was first. StoreError: who knows."""


class Leadership:
    """One replica's. `run` has to run."""

    def __init__(self, lock: Lock, identity: str, *, clock: Callable[[], float] = uptime) -> None:
        self.trouble = ""
        """Why the record cannot be read or written; empty when it can."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when it begins to lead, and when another does."""
        self._lock = lock
        self._election = Election(identity, clock)
        self._limiter = trio.CapacityLimiter(1)
        self._changed = trio.Event()
        self._said = False

    def leads(self) -> bool:
        """Whether this replica leads in this moment."""
        return self._election.leads

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; empty for nobody."""
        return self._election.holder

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Lead, or wait to, until cancelled. The record still says so then: see `resign`."""
        task_status.started()
        while True:
            try:
                await self._turn()
            except StoreError as error:
                self._election.refused()
                if str(error) != self.trouble:
                    self.trouble = str(error)
                    _log.warning("which controller leads cannot be seen or said: %s", error)
            else:
                self.trouble = ""
            self._tell()
            await trio.sleep(self._election.pause())

    async def _turn(self) -> None:
        election = self._election
        if election.is_to_look:
            election.observe(*await self._do(self._lock.read))
        while (claim := election.proposal()) is not None:
            election.begin()
            version = await self._do(partial(self._lock.write, claim, election.version))
            if version is not None:
                election.granted(claim, version)
                return
            election.observe(*await self._do(self._lock.read))

    async def _do(self, ask: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._limiter)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        leads = self.leads()
        if leads != self._said:
            self._said = leads
            _log.info("this controller leads the lab" if leads else "this controller leads the lab no more")
            self.on_change()

    async def until_leads(self, say: Callable[[str], None]) -> None:
        """Until this replica leads; what it waits for is said."""
        while not self.leads():
            if self.trouble:
                say(self.trouble)
            elif self.holder:
                say(f"controller {self.holder} leads this lab; this one takes over when that ends")
            await self._changed.wait()

    async def until_followed(self) -> NoReturn:
        """Until another leads. FollowedError: it does."""
        while not self.holder or self.holder == self._election.identity:
            await self._changed.wait()
        raise NotLeaderError(
            f"controller {self.holder} leads this lab now, as this one could not say in time that it is there; "
            "it ends, and can be started again"
        )

    async def until_known(self, say: Callable[[str], None]) -> None:
        """Until it is known who leads; what stands against that is said."""
        while not self.leads() and (self.trouble or self.holder in {"", self._election.identity}):
            if self.trouble:
                say(self.trouble)
            await self._changed.wait()

    async def until_open(
        self, controllers: Callable[[], Collection[str]], say: Callable[[str], None]
    ) -> None:
        """Until this replica leads, or one of the `controllers` does: a command that moves the lab wants it alone."""
        while not self.leads() and self.holder not in controllers():
            if self.holder:
                say(
                    f"{self.holder}, which is no controller that lives, has this lab; this one serves after that"
                )
            await self._changed.wait()

    async def while_leads(
        self,
        tasks: Callable[[], Iterable[Callable[[], Awaitable[object]]]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run new `tasks` whenever this replica begins to lead, and end them when it does not any more."""
        task_status.started()
        while True:
            while not self.leads():
                await self._changed.wait()
            with collapsed():
                async with trio.open_nursery() as nursery:
                    for task in tasks():
                        nursery.start_soon(task)
                    while (left := self._election.left) > 0:
                        with trio.move_on_after(left):  # whoever does not answer keeps nothing running
                            await self._changed.wait()
                    nursery.cancel_scope.cancel()

    async def resign(self) -> None:
        """Let another lead at once. Call it when `run` has ended, and nothing is decided any more."""
        election = self._election
        with trio.CancelScope(shield=True), trio.move_on_after(RESIGN_SECONDS):
            try:
                while (claim := election.resign()) is not None:
                    version = await self._do(partial(self._lock.write, claim, election.version))
                    if version is not None:
                        election.granted(claim, version)
                    else:  # the last write of `run` came before
                        election.observe(*await self._do(self._lock.read))
            except StoreError as error:
                _log.info("another controller can lead some seconds later: %s", error)
