"""Tells a controller of ours what was done with the board: every second, and within bounds.

What cannot be told is kept, up to a bound, and then counted. Another controller than ours is told nothing.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import exporter_pb2
from jumpstarter_proto.remote import Backoff
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_exporter.call_notes import CallNote
from jumpstarter_exporter.registration.controller import Controller

__all__ = ["CallReporter"]

BATCH_SECONDS = 1.0
MAX_BATCH = 256
"""Calls in one message."""
MAX_WAITING = 1000
"""Calls in memory; of more only the number is known."""
CALL_SECONDS = 10.0
LAST_SECONDS = 2.0
"""For what is not told yet, when the exporter ends."""

_log = logging.getLogger(__name__)


class CallReporter:
    """One exporter's calls. `note` never waits; `run` has to run."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._id = uuid.uuid4().hex
        self._waiting: deque[CallNote] = deque()
        self._omitted = 0
        self._first = 0
        """How many were told."""
        self._batch: tuple[list[CallNote], int] | None = None
        """What is being told, the same until it is known to have arrived."""
        self._news = trio.Event()
        self._heard = trio.Event()
        """The controller is one of ours, and there."""
        self._is_refused = False
        """It is an older one, which has no such call."""
        self._lock = trio.Lock()

    def note(self, call: CallNote) -> None:
        """One more."""
        if self._is_refused:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(call)
        else:
            self._omitted += 1
        self._news.set()

    def connected(self) -> None:
        """A controller of ours has been heard."""
        if not self._is_refused:
            self._heard.set()

    def disconnected(self) -> None:
        """It may be another when it is back."""
        if self._heard.is_set():
            self._heard = trio.Event()
        self._is_refused = False

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(BATCH_SECONDS, 30.0)
        while True:
            await self._news.wait()
            await self._heard.wait()
            await trio.sleep(BATCH_SECONDS)
            try:
                await self._tell()
            except JumpstarterError as error:
                _log.info("the controller does not know yet what was done with the board: %s", error)
                await trio.sleep(backoff.next())
            except Exception:  # a fault of ours in this must not end the board
                _log.exception("the controller does not know what was done with the board")
                await trio.sleep(backoff.next())
            else:
                backoff.reset()

    async def flush(self) -> None:
        """Tell what is left, if there is somebody who hears it now."""
        with trio.move_on_after(LAST_SECONDS):
            try:
                while self._heard.is_set() and (self._batch or self._waiting or self._omitted):
                    await self._tell()
            except JumpstarterError as error:
                _log.info("the controller does not know what was done last with the board: %s", error)

    async def _tell(self) -> None:
        """RpcError when it may not have arrived."""
        async with self._lock:
            if not self._heard.is_set():
                return
            if self._batch is None:
                count = min(MAX_BATCH, len(self._waiting))
                self._batch = [self._waiting.popleft() for _ in range(count)], self._omitted
                self._omitted = 0
            calls, omitted = self._batch
            if calls or omitted:
                heard = self._heard
                async with self._controller.at_hand() as connection:
                    try:
                        await connection.lab.ReportCalls(self._request(calls, omitted), timeout=CALL_SECONDS)
                    except RpcError as error:
                        if error.code is not StatusCode.UNIMPLEMENTED:
                            raise
                        self._refuse(heard)
                        return
            self._first += len(calls) + omitted
            self._batch = None
            if not self._waiting and not self._omitted:
                self._news = trio.Event()

    def _refuse(self, heard: trio.Event) -> None:
        """Nobody wants to know, until there is another controller."""
        if heard is not self._heard:
            return  # there is: it is told what this one did not take
        self._batch, self._omitted = None, 0
        self._waiting.clear()
        self._news = trio.Event()
        self._is_refused = True
        self._heard = trio.Event()

    def _request(self, calls: list[CallNote], omitted: int) -> exporter_pb2.ReportCallsRequest:
        now = trio.current_time()
        return exporter_pb2.ReportCallsRequest(
            reporter=self._id,
            first=self._first,
            calls=[_sent(call, now) for call in calls],
            omitted=omitted,
        )


def _sent(call: CallNote, now: float) -> exporter_pb2.DeviceCall:
    return exporter_pb2.DeviceCall(
        device=call.device,
        method=call.method,
        lease=call.lease,
        user=call.caller.user,
        by_hook=call.caller.is_hook,
        session=call.session,
        status=call.status,
        age_seconds=now - call.at,
        seconds=call.seconds,
        received_bytes=call.received,
        sent_bytes=call.sent,
    )
