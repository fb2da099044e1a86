"""Tells a controller of ours how this exporter's host is: at the start, when that changes, and now and then."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.lab.v1 import exporter_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.tasks import first_of

from jumpstarter_exporter.host_health.findings import HealthFinding
from jumpstarter_exporter.host_health.watch import HealthWatch, HostReport
from jumpstarter_exporter.registration.controller import Calls, Controller

__all__ = ["REFRESH_SECONDS", "HealthReporter"]

REFRESH_SECONDS = 300.0
"""After which numbers alone are told anew."""
MAX_FINDINGS = 64
MAX_TEXT = 1000
"""Characters of a sentence and of a cure; no controller keeps more."""
CALL_SECONDS = 10.0

_log = logging.getLogger(__name__)


class HealthReporter:
    """One exporter's reports to its controller."""

    def __init__(self, controller: Controller, watch: HealthWatch) -> None:
        self._controller = controller
        self._watch = watch
        self._heard = trio.Event()
        """The controller is one of ours, and there."""
        self._lost = trio.Event()
        """It is not any more."""
        self._is_refused = False
        """It is an older one, which has no such call."""
        self._told: HostReport | None = None
        self._told_at = 0.0

    def connected(self) -> None:
        """A controller of ours has been heard."""
        if not self._is_refused:
            self._heard.set()

    def disconnected(self) -> None:
        """It may be another when it is back, or have forgotten everything."""
        if self._heard.is_set():
            self._heard = trio.Event()
        self._is_refused = False
        self._told = None
        self._lost.set()

    async def run(self) -> None:
        """Until cancelled. Another controller than ours is told nothing, and hears nothing of it."""
        while True:
            heard = self._heard
            self._lost = trio.Event()
            await heard.wait()
            try:
                report = await self._watch.newest()
                is_due = trio.current_time() - self._told_at >= REFRESH_SECONDS
                if heard is self._heard and (is_due or report.is_news(self._told)):
                    await self._tell(report, heard)
            except Exception:  # a fault of ours in this must not end the board
                _log.exception("nobody is told how this host is")
            await first_of(self._watch.wait, self._lost.wait)

    async def _tell(self, report: HostReport, heard: trio.Event) -> None:
        request = exporter_pb2.ReportHealthRequest(
            findings=_sent(report.findings[:MAX_FINDINGS]), measures=report.measures
        )
        try:
            async with self._controller.at_hand() as calls:
                is_known = await _is_told(calls, request)
        except JumpstarterError as error:
            _log.info("the controller does not know how this host is: %s", error)
            return
        if heard is not self._heard:
            return
        if is_known:
            self._told, self._told_at = report, trio.current_time()
        else:
            self._is_refused = True
            self._heard = trio.Event()


async def _is_told(calls: Calls, request: exporter_pb2.ReportHealthRequest) -> bool:
    """False if the controller has no such call. RpcError."""
    try:
        await calls.lab.ReportHealth(request, timeout=CALL_SECONDS)
    except RpcError as error:
        if error.code is not StatusCode.UNIMPLEMENTED:
            raise
        return False
    return True


def _sent(findings: Sequence[HealthFinding]) -> list[exporter_pb2.HealthFinding]:
    return [
        exporter_pb2.HealthFinding(
            key=one.key,
            severity=one.severity.value,
            subject=one.subject[:MAX_TEXT],
            sentence=one.sentence[:MAX_TEXT],
            cure=one.cure[:MAX_TEXT],
        )
        for one in findings
    ]
