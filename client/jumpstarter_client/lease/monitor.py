"""Watches a lease while it is used, or looks at it now and then, and says what its user has to know."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import Backoff
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.tasks import collapsed

from jumpstarter_client.controller.controller_client import Controller, is_missing
from jumpstarter_client.controller.watch import has_to_be_asked, watch_lease
from jumpstarter_client.lease.lease import AWAY
from jumpstarter_client.lease.lease_watch import Look, Phase, Term
from jumpstarter_client.status_line import Notify
from jumpstarter_client.transport import FinalError

__all__ = ["LeaseEndedError", "Monitor"]

ANSWER_SECONDS = 10.0
HOLD_SECONDS = 2.0
"""A lease that is held longer is watched; most commands are done by then."""

RESTART_SECONDS = 5.0
"""A controller that is back so soon was not away."""


class LeaseEndedError(FinalError):
    """A lease is over: its time, or somebody released it or gave it away."""

    def __init__(self, verdict: str) -> None:
        super().__init__(StatusCode.UNAVAILABLE, verdict)
        self.exit_code = ExitCode.LEASE_ENDED


class Monitor:
    """One lease's. What it says goes to `notify`, but for the verdict, which is for who acts on it."""

    def __init__(
        self,
        controller: Controller,
        lease: pb.Lease,
        name: str,
        notify: Notify,
        *,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """`told` is called when the controller tells of it, and so has heard that it is ours."""
        self._controller = controller
        self._name = name
        self._notify = notify
        self._over = trio.Event()
        self._began = trio.current_time()
        self._on_told = told
        self._term = Term(name, controller.config.identity.name)
        self._tell(self._term.seen(Look.of(lease, time.time()), trio.current_time()))

    @property
    def verdict(self) -> str:
        """Why the lease is over; empty as long as it is not."""
        return self._term.verdict

    async def run(self) -> str:
        """Until the lease is over; the verdict."""
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow)
                await self._keep_time()
                nursery.cancel_scope.cancel()
        return self._term.verdict

    async def _keep_time(self) -> None:
        while self._term.phase is not Phase.OVER:
            with trio.move_on_at(self._term.wake):
                await self._over.wait()
            looks, said = self._term.due(trio.current_time())
            self._tell(said)
            if looks:
                await self.look()

    async def _follow(self) -> None:
        """Be told of it, if the controller does that; who is done by then has opened nothing."""
        await trio.sleep_until(self._began + HOLD_SECONDS)
        pace = Backoff(0.5, 10.0)
        lost = math.inf

        def see(lease: pb.Lease, _: str | None) -> bool:
            nonlocal lost
            lost = math.inf
            pace.reset()
            self._on_told()
            self._term.is_told = True
            self._tell(self._term.seen(Look.of(lease, time.time()), trio.current_time()))
            return self._term.phase is Phase.OVER

        while self._controller.tells and self._term.phase is not Phase.OVER:
            try:
                await watch_lease(self._controller, self._name, see, knows=True)
                continue
            except RpcError as error:
                if has_to_be_asked(error):
                    self._controller.tells = self._term.is_told = False
                    return
                failure: JumpstarterError = error
            except JumpstarterError as error:
                failure = error
            now = trio.current_time()
            lost = min(lost, now)
            if not (isinstance(failure, RpcError) and failure.code in AWAY) or now >= lost + RESTART_SECONDS:
                self._note(failure)
            await trio.sleep(pace.next())

    def _note(self, error: JumpstarterError) -> None:
        """The lease could not be seen."""
        now = trio.current_time()
        if isinstance(error, RpcError) and is_missing(error):
            self._tell(self._term.missing(now))
        else:  # no way to the controller, or no new token for now; what runs on the board goes on
            self._tell(self._term.away(error.details if isinstance(error, RpcError) else str(error), now))

    async def look(self) -> None:
        """See how it is now."""
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                async with self._controller.open() as calls:
                    lease = await calls.get_lease(self._name)
                self._tell(self._term.seen(Look.of(lease, time.time()), trio.current_time()))
            except JumpstarterError as error:
                self._note(error)
            return
        self._tell(self._term.away(f"no answer within {ANSWER_SECONDS:.0f} s", trio.current_time()))

    def _tell(self, said: list[str]) -> None:
        for sentence in said:
            if sentence != self._term.verdict:
                self._notify(sentence)
        if self._term.phase is Phase.OVER:
            self._over.set()
