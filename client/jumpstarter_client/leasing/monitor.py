"""Looks at a lease now and then while it is used, and says what its user has to know."""

from __future__ import annotations

import time

import trio
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.lasting import FinalError
from jumpstarter_client.leasing.controller import Controller, is_missing
from jumpstarter_client.leasing.notices import Notify
from jumpstarter_client.leasing.term import Look, Phase, Term

__all__ = ["LeaseEndedError", "Monitor"]

ANSWER_SECONDS = 10.0


class LeaseEndedError(FinalError):
    """A lease is over: its time, or somebody released it or gave it away."""

    def __init__(self, verdict: str) -> None:
        super().__init__(StatusCode.UNAVAILABLE, verdict)
        self.exit_code = ExitCode.LEASE_ENDED


class Monitor:
    """One lease's. What it says goes to `notify`, but for the verdict, which is for who acts on it."""

    def __init__(self, controller: Controller, lease: pb.Lease, name: str, notify: Notify) -> None:
        self._controller = controller
        self._name = name
        self._notify = notify
        self._over = trio.Event()
        self._term = Term(name, controller.config.identity.name)
        self._tell(self._term.seen(Look.of(lease, time.time()), trio.current_time()))

    @property
    def verdict(self) -> str:
        """Why the lease is over; empty as long as it is not."""
        return self._term.verdict

    async def run(self) -> str:
        """Until the lease is over; the verdict."""
        while self._term.phase is not Phase.OVER:
            with trio.move_on_at(self._term.wake):
                await self._over.wait()
            looks, said = self._term.due(trio.current_time())
            self._tell(said)
            if looks:
                await self.look()
        return self._term.verdict

    async def look(self) -> None:
        """See how it is now."""
        reason = f"no answer within {ANSWER_SECONDS:.0f} s"
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                async with self._controller.open() as calls:
                    lease = await calls.get_lease(self._name)
                self._tell(self._term.seen(Look.of(lease, time.time()), trio.current_time()))
            except RpcError as error:
                if is_missing(error):
                    self._tell(self._term.missing(trio.current_time()))
                    return
                reason = error.details
            except JumpstarterError as error:  # no new token for now; what runs on the board goes on
                reason = str(error)
            else:
                return
        self._tell(self._term.away(reason, trio.current_time()))

    def _tell(self, said: list[str]) -> None:
        for sentence in said:
            if sentence != self._term.verdict:
                self._notify(sentence)
        if self._term.phase is Phase.OVER:
            self._over.set()
