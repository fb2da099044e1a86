"""Reports the host's health to a controller of ours: at the start, when findings change, and at an interval."""

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
from jumpstarter_exporter.registration.controller import ControllerConnection, RegistrationCalls

__all__ = ["REFRESH_SECONDS", "HealthReporter"]

REFRESH_SECONDS = 300.0
"""Interval of reports when only numbers have changed."""
MAX_FINDINGS = 64
MAX_TEXT = 1000
"""Characters of a sentence and of a cure; controllers keep no more."""
CALL_SECONDS = 10.0

_log = logging.getLogger(__name__)


class HealthReporter:
    """Sends one exporter's health reports to its controller."""

    def __init__(self, controller: ControllerConnection, watch: HealthWatch) -> None:
        self._controller = controller
        self._watch = watch
        self._heard = trio.Event()
        """One of our controllers is connected."""
        self._lost = trio.Event()
        """The connection is lost."""
        self._is_refused = False
        """The controller is older and has no such method."""
        self._told: HostReport | None = None
        self._told_at = 0.0

    def connected(self) -> None:
        """One of our controllers is connected."""
        if not self._is_refused:
            self._heard.set()

    def disconnected(self) -> None:
        """The next controller may be another, or may have lost its memory."""
        if self._heard.is_set():
            self._heard = trio.Event()
        self._is_refused = False
        self._told = None
        self._lost.set()

    async def run(self) -> None:
        """Send reports until cancelled, to controllers of ours only."""
        while True:
            heard = self._heard
            self._lost = trio.Event()
            await heard.wait()
            try:
                report = await self._watch.newest()
                is_due = trio.current_time() - self._told_at >= REFRESH_SECONDS
                if heard is self._heard and (is_due or report.is_news(self._told)):
                    await self._tell(report, heard)
            except Exception:  # a fault of ours must not end the board
                _log.exception("reporting the host's health failed")
            await first_of(self._watch.wait, self._lost.wait)

    async def _tell(self, report: HostReport, heard: trio.Event) -> None:
        request = exporter_pb2.ReportHealthRequest(
            findings=_sent(report.findings[:MAX_FINDINGS]), measures=report.measures
        )
        try:
            async with self._controller.reuse_or_open() as calls:
                is_known = await _is_told(calls, request)
        except JumpstarterError as error:
            _log.info("the host's health could not be reported: %s", error)
            return
        if heard is not self._heard:
            return
        if is_known:
            self._told, self._told_at = report, trio.current_time()
        else:
            self._is_refused = True
            self._heard = trio.Event()


async def _is_told(calls: RegistrationCalls, request: exporter_pb2.ReportHealthRequest) -> bool:
    """Send one report; False if the controller has no such method. RpcError if it may not have arrived."""
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
