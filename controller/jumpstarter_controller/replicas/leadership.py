"""The task that takes part in the leader election of a lab's controllers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import NoReturn, Protocol, TypeVar

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.notifications import Broadcast
from jumpstarter_proto.tasks import collapsed

from jumpstarter_controller.replicas.election import Election, LeaderRecord
from jumpstarter_controller.scheduling.clock import uptime
from jumpstarter_controller.store import StoreError

__all__ = ["Leadership", "Lock"]

RESIGN_SECONDS = 2.0
T = TypeVar("T")

_log = logging.getLogger(__name__)


class NotLeaderError(JumpstarterError):
    """Another controller leads the lab."""

    exit_code = ExitCode.FAILED


class Lock(Protocol):
    """The leader record, which all replicas share. Blocking."""

    def read(self) -> tuple[LeaderRecord | None, str]:
        """The record and its version; empty if there is none. StoreError: it cannot be read."""

    def write(self, claim: LeaderRecord, version: str) -> str | None:
        """Replace that version of the record. Returns the new version; None: it was changed by another replica.

        Raises:
            StoreError: it is unknown whether it was written.
        """


class Leadership:
    """One replica's part in the election. Works only while `run` is running."""

    def __init__(self, lock: Lock, identity: str, *, clock: Callable[[], float] = uptime) -> None:
        self.trouble = ""
        """Why the record cannot be read or written; empty: it can."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when this replica becomes the leader, and when it is no longer the leader."""
        self._lock = lock
        self._election = Election(identity, clock)
        self._limiter = trio.CapacityLimiter(1)
        self._changed = Broadcast()
        self._said = False

    def leads(self) -> bool:
        """Whether this replica is the leader at this moment."""
        return self._election.leads

    @property
    def holder(self) -> str:
        """The leader, as far as is known; empty: none."""
        return self._election.holder

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Take part in the election until cancelled. The record keeps its holder then: see `resign`."""
        task_status.started()
        while True:
            try:
                await self._turn()
            except StoreError as error:
                self._election.refused()
                if str(error) != self.trouble:
                    self.trouble = str(error)
                    _log.warning("the leader record cannot be read or written: %s", error)
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
        self._changed.notify()
        leads = self.leads()
        if leads != self._said:
            self._said = leads
            _log.info("this controller leads the lab" if leads else "this controller no longer leads the lab")
            self.on_change()

    async def until_leads(self, say: Callable[[str], None]) -> None:
        """Wait until this replica leads; `say` is called with the reason for waiting."""
        while not self.leads():
            if self.trouble:
                say(self.trouble)
            elif self.holder:
                say(f"controller {self.holder} leads this lab; this one takes over when it ends")
            await self._changed.wait()

    async def until_followed(self) -> NoReturn:
        """Wait until another replica leads, then raise NotLeaderError."""
        while not self.holder or self.holder == self._election.identity:
            await self._changed.wait()
        raise NotLeaderError(
            f"controller {self.holder} leads this lab now, because this one could not renew the leader record in time; "
            "it stops, and can be started again"
        )

    async def until_known(self, say: Callable[[str], None]) -> None:
        """Wait until the leader is known; `say` is called with the reason for waiting."""
        while not self.leads() and (self.trouble or self.holder in {"", self._election.identity}):
            if self.trouble:
                say(self.trouble)
            await self._changed.wait()

    async def until_open(
        self, controllers: Callable[[], Collection[str]], say: Callable[[str], None]
    ) -> None:
        """Wait until a controller leads, and not a command that moves the lab to or from the cluster."""
        while not self.leads() and self.holder not in controllers():
            if self.holder:
                say(
                    f"{self.holder}, which is not a running controller, holds this lab; this one serves after that"
                )
            await self._changed.wait()

    async def while_leads(
        self,
        tasks: Callable[[], Iterable[Callable[[], Awaitable[object]]]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Run new `tasks` whenever this replica becomes the leader, and cancel them when it no longer is."""
        task_status.started()
        while True:
            while not self.leads():
                await self._changed.wait()
            with collapsed():
                async with trio.open_nursery() as nursery:
                    for task in tasks():
                        nursery.start_soon(task)
                    while (left := self._election.left) > 0:
                        with trio.move_on_after(
                            left
                        ):  # bounded by the claim, even if the API server does not answer
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
