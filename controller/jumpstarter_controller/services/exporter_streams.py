"""An exporter's open status stream: it is online while the stream is open, and hears of each change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.engine import Engine
from jumpstarter_controller.lab import NOT_ANSWERING, Exporter, ExporterStatus, Key, Lab
from jumpstarter_controller.logs import about
from jumpstarter_controller.services.guard import Guard
from jumpstarter_controller.services.instances import Instances

__all__ = ["ExporterStreams"]

TICK_SECONDS = 30.0
"""An open status stream looks again so often, if nothing wakes it; each costs a lab of many exporters something."""

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)


class ExporterStreams:
    """The status streams of all exporters, and which process of each is served."""

    def __init__(self, engine: Engine, guard: Guard) -> None:
        self._engine = engine
        self._guard = guard
        self.instances = Instances()

    async def caller(self, call: ServerCall[Any, Any]) -> Exporter:
        """The calling exporter, if this process of it is served. RpcError says why not."""
        exporter = await self._guard.exporter(call)
        self.admit(exporter.key, call)
        return exporter

    def admit(self, exporter: Key, call: ServerCall[Any, Any]) -> None:
        """RpcError ALREADY_EXISTS, if another process of that exporter is served."""
        try:
            self.instances.admit(exporter, call)
        except RpcError:
            self._engine.wake(Exporter, exporter)  # the one that is served is told
            raise

    async def report(
        self,
        call: ServerCall[Any, Any],
        number: int,
        apply: Callable[[Lab, Key, ExporterStatus], None],
    ) -> None:
        """Write down what the calling exporter says of itself, unless it has said something newer.

        RpcError INVALID_ARGUMENT when `number` is no status.
        """
        exporter = await self.caller(call)
        try:
            status = ExporterStatus(number)
        except ValueError:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{number} is no status of an exporter") from None
        if not self.instances.is_news(exporter.key, call):
            return
        self._engine.presence.saw(exporter.key, self._engine.clock())
        await self._engine.change(lambda lab, _: apply(lab, exporter.key, status))

    async def serve(
        self, call: ServerCall[Any, M], current: Callable[[Key], M], between: Callable[[M, M], M | None]
    ) -> None:
        """Send what is `current` and each change of it, until cancelled or refused.

        `between` is what has to be said between two of them, if anything.
        """
        session = await self._guard.exporter_session(call)
        exporter = session.record
        key, engine = exporter.key, self._engine
        self.admit(key, call)
        disputed = self.instances.opened(key, call)
        engine.presence.connected(key, engine.clock())
        _log.info("exporter connected", extra=about(exporter, peer=call.peer))
        try:
            await engine.change(_back_online(key))
            sent: M | None = None
            while True:
                session.check()
                self._check_answers(key)
                now = current(key)
                if sent is not None and (first := between(sent, now)) is not None:
                    await call.send(first)
                if sent != now:
                    await call.send(now)
                    sent = now
                elif disputed.is_set():
                    raise self.instances.dispute(key)
                else:
                    await engine.wait(Exporter, key, session.pause(TICK_SECONDS))
        finally:
            self.instances.closed(key, call)
            _log.info("exporter's connection has ended", extra=about(exporter, peer=call.peer))
            engine.presence.disconnected(key, engine.clock())

    def _check_answers(self, key: Key) -> None:
        """Whoever did not answer an offer has to introduce itself again."""
        record = self._engine.view.get(Exporter, key)
        for reason in record.reasons if record is not None else ():
            if reason.code == NOT_ANSWERING:
                raise RpcError(StatusCode.ABORTED, f"{reason.sentence}; connect again")


def _back_online(key: Key) -> Callable[[Lab, float], None]:
    """Exporters before 0.8 report nothing: one that comes back is not offline any more."""

    def apply(lab: Lab, _: float) -> None:
        record = lab.get(Exporter, key)
        if record is not None and record.status is ExporterStatus.OFFLINE:
            lab.put(replace(record, status=ExporterStatus.UNSPECIFIED, status_message="", reasons=()))

    return apply
