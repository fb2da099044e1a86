"""Watches a lease while it is used, or polls where the controller has no Watch, and reports what the user must know."""

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

from jumpstarter_client.controller.controller_client import ControllerClient, is_not_found
from jumpstarter_client.controller.watch import is_watch_unsupported, watch_lease
from jumpstarter_client.lease.lease import UNREACHABLE_CODES
from jumpstarter_client.lease.lease_watch import LeaseObservation, LeaseWatch, WatchState
from jumpstarter_client.status_line import MessageHandler
from jumpstarter_client.transport import FinalError

__all__ = ["LeaseEndedError", "LeaseMonitor"]

ANSWER_SECONDS = 10.0
RETRY_SECONDS = 0.5, 10.0
"""The first and the longest pause between two attempts to watch."""
WATCH_AFTER_SECONDS = 2.0
"""A lease that is held longer is watched; most commands end earlier."""

RESTART_GRACE_SECONDS = 5.0
"""Shorter interruptions of the controller are not reported."""


class LeaseEndedError(FinalError):
    """The lease has ended: it expired, or somebody released or transferred it."""

    def __init__(self, end_reason: str) -> None:
        super().__init__(StatusCode.UNAVAILABLE, end_reason)
        self.exit_code = ExitCode.LEASE_ENDED


class LeaseMonitor:
    """Watches one lease. Messages go to `on_message`, except the end reason, which `run` returns."""

    def __init__(
        self,
        controller: ControllerClient,
        lease: pb.Lease,
        name: str,
        on_message: MessageHandler,
        *,
        on_update: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_update` is called with each update of the watch, which also acknowledges the lease to the controller."""
        self._controller = controller
        self._name = name
        self._on_message = on_message
        self._ended = trio.Event()
        self._began = trio.current_time()
        self._on_update = on_update
        self._watch = LeaseWatch(name, controller.config.identity.name)
        self._ends: float | None = None
        self.on_end_changed: Callable[[float | None], None] = lambda _: None
        """Called with `seconds_left` when the lease was extended or shortened."""
        self._report(self._watch.observe(LeaseObservation.of(lease, time.time()), trio.current_time()))

    @property
    def end_reason(self) -> str:
        """Why the lease has ended; empty while it is active."""
        return self._watch.end_reason

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the lease ends; None if that is not known."""
        ends = self._watch.ends
        return None if ends is None else ends - trio.current_time()

    async def run(self) -> str:
        """Watch until the lease has ended, and return the reason. Cancelling it leaves the lease as it is."""
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow)
                await self._keep_time()
                nursery.cancel_scope.cancel()
        return self._watch.end_reason

    async def _keep_time(self) -> None:
        while self._watch.state is not WatchState.ENDED:
            with trio.move_on_at(self._watch.next_wake):
                await self._ended.wait()
            is_poll_due, messages = self._watch.advance(trio.current_time())
            self._report(messages)
            if is_poll_due:
                await self.poll()

    async def _follow(self) -> None:
        """Watch the lease if the controller supports that. Starts late, so that short commands open no watch."""
        await trio.sleep_until(self._began + WATCH_AFTER_SECONDS)
        pace = Backoff(*RETRY_SECONDS)
        lost_since = math.inf

        def handle(lease: pb.Lease, _: str | None) -> bool:
            nonlocal lost_since
            lost_since = math.inf
            pace.reset()
            self._on_update()
            self._watch.is_watched = True
            self._report(self._watch.observe(LeaseObservation.of(lease, time.time()), trio.current_time()))
            return self._watch.state is WatchState.ENDED

        while self._controller.supports_watch and self._watch.state is not WatchState.ENDED:
            try:
                await watch_lease(self._controller, self._name, handle, knows=True)
                continue
            except RpcError as error:
                if is_watch_unsupported(error):
                    self._controller.supports_watch = self._watch.is_watched = False
                    return
                failure: JumpstarterError = error
            except JumpstarterError as error:
                failure = error
            now = trio.current_time()
            lost_since = min(lost_since, now)
            if (
                not (isinstance(failure, RpcError) and failure.code in UNREACHABLE_CODES)
                or now >= lost_since + RESTART_GRACE_SECONDS
            ):
                self._report_failure(failure)
            await trio.sleep(pace.next())

    def _report_failure(self, error: JumpstarterError) -> None:
        """Report that the state of the lease could not be read."""
        now = trio.current_time()
        if isinstance(error, RpcError) and is_not_found(error):
            self._report(self._watch.not_found(now))
        else:  # the controller is unreachable, or the token was not renewed; the session on the board continues
            self._report(
                self._watch.unreachable(error.details if isinstance(error, RpcError) else str(error), now)
            )

    async def poll(self) -> None:
        """Ask the controller for the lease once."""
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                async with self._controller.open() as calls:
                    lease = await calls.get_lease(self._name)
                self._report(
                    self._watch.observe(LeaseObservation.of(lease, time.time()), trio.current_time())
                )
            except JumpstarterError as error:
                self._report_failure(error)
            return
        self._report(self._watch.unreachable(f"no answer within {ANSWER_SECONDS:.0f} s", trio.current_time()))

    def _report(self, messages: list[str]) -> None:
        if self._watch.ends != self._ends:
            self._ends = self._watch.ends
            self.on_end_changed(self.seconds_left)
        for message in messages:
            if message != self._watch.end_reason:
                self._on_message(message)
        if self._watch.state is WatchState.ENDED:
            self._ended.set()
