"""Reports the calls on a board to our controller, every second and within limits.

Calls that cannot be reported are kept up to a limit, and then only counted. Nothing is sent to other controllers.
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

from jumpstarter_exporter.registration.controller import ControllerConnection
from jumpstarter_exporter.session.call_notes import CallNote

__all__ = ["CallReporter"]

BATCH_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
"""The longest pause between two attempts to report."""
MAX_BATCH = 256
"""Calls in one message."""
MAX_WAITING = 1000
"""Calls kept in memory; beyond that only their number is kept."""
CALL_SECONDS = 10.0
LAST_SECONDS = 2.0
"""Limit for the last report when the exporter ends."""

_log = logging.getLogger(__name__)


class CallReporter:
    """One exporter's calls. `note` never waits; `run` must be running."""

    def __init__(self, controller: ControllerConnection) -> None:
        self._controller = controller
        self._id = uuid.uuid4().hex
        self._waiting: deque[CallNote] = deque()
        self._omitted = 0
        self._first = 0
        """The number of calls that were reported."""
        self._batch: tuple[list[CallNote], int] | None = None
        """The batch that is being sent; it stays the same until it is known to have arrived."""
        self._news = trio.Event()
        self._heard = trio.Event()
        """One of our controllers is connected."""
        self._is_refused = False
        """The controller is older and has no such method."""
        self._lock = trio.Lock()

    def note(self, call: CallNote) -> None:
        """Add a call."""
        if self._is_refused:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(call)
        else:
            self._omitted += 1
        self._news.set()

    def connected(self) -> None:
        """One of our controllers is connected."""
        if not self._is_refused:
            self._heard.set()

    def disconnected(self) -> None:
        """The connection is lost; the next controller may be another."""
        if self._heard.is_set():
            self._heard = trio.Event()
        self._is_refused = False

    async def run(self) -> None:
        """Send reports until cancelled."""
        backoff = Backoff(BATCH_SECONDS, MAX_RETRY_SECONDS)
        while True:
            await self._news.wait()
            await self._heard.wait()
            await trio.sleep(BATCH_SECONDS)
            try:
                await self._tell()
            except JumpstarterError as error:
                _log.info("the calls on the board could not be reported yet: %s", error)
                await trio.sleep(backoff.next())
            except Exception:  # a fault of ours must not end the board
                _log.exception("reporting the calls on the board failed")
                await trio.sleep(backoff.next())
            else:
                backoff.reset()

    async def flush(self) -> None:
        """Send what is left if the controller is connected."""
        with trio.move_on_after(LAST_SECONDS):
            try:
                while self._heard.is_set() and (self._batch or self._waiting or self._omitted):
                    await self._tell()
            except JumpstarterError as error:
                _log.info("the last calls on the board could not be reported: %s", error)

    async def _tell(self) -> None:
        """Send one batch. RpcError if it may not have arrived."""
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
                async with self._controller.reuse_or_open() as connection:
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
        """Stop reporting until another controller is connected."""
        if heard is not self._heard:
            return  # another one is connected: it gets this batch
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
