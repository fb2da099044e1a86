"""Which process of an exporter is served: two with one identity would take each other's leases and statuses away.

The one whose status stream is open has it. Another is refused until that stream has ended; the one that is served is
told that somebody tried. Exporters that do not say which process they are, as Jumpstarter's, are not kept apart. In
memory only: after a restart, whoever comes first.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import trio
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.lab import Key

__all__ = ["INSTANCE", "SEQUENCE", "ExporterSessions"]

INSTANCE = "jumpstarter-exporter-instance"
SEQUENCE = "jumpstarter-status-sequence"

RETURN_SECONDS = 5.0
"""A process that was told of another has so long to open its status stream again."""

_log = logging.getLogger(__name__)


@dataclass
class _Served:
    instance: str
    peer: str
    streams: int = 0
    sequence: int = 0
    """Of the last status that was taken."""
    disputed: trio.Event = field(default_factory=trio.Event)
    by: str = ""
    """Where another process tried."""
    reserved: float = -math.inf
    """Until then it has it without a stream."""

    @property
    def is_held(self) -> bool:
        return self.streams > 0 or trio.current_time() < self.reserved


class ExporterSessions:
    """The processes that are served, by exporter."""

    def __init__(self) -> None:
        self._served: dict[Key, _Served] = {}

    def admit(self, exporter: Key, call: ServerCall[Any, Any]) -> None:
        """Let this process's call in. RpcError as `admit_process`."""
        self.admit_process(exporter, call.header(INSTANCE) or "", call.peer)

    def admit_process(self, exporter: Key, instance: str, peer: str) -> None:
        """Let a process in that calls from `peer`.

        Raises:
            RpcError: ALREADY_EXISTS, another process is served.
        """
        served = self._served.get(exporter)
        if not instance or served is None or served.instance == instance or not served.is_held:
            return
        served.by = peer or "elsewhere"
        served.disputed.set()
        _log.warning(
            "two processes are exporter %s: one at %s is served, one at %s is refused",
            exporter.name,
            served.peer or "elsewhere",
            served.by,
            extra={"exporter": exporter.name},
        )
        raise RpcError(
            StatusCode.ALREADY_EXISTS,
            f"exporter {exporter.name} is served by another process already, at {served.peer or 'elsewhere'}; "
            "stop one of the two, or give this one an identity of its own",
        )

    def opened(self, exporter: Key, call: ServerCall[Any, Any]) -> trio.Event:
        """A status stream of a process that was let in. The event is set when another process tries."""
        instance = call.header(INSTANCE) or ""
        served = self._served.get(exporter)
        if served is None or served.instance != instance:
            served = self._served[exporter] = _Served(instance, call.peer)
        served.peer = call.peer
        served.streams += 1
        served.disputed = trio.Event()
        return served.disputed

    def closed(self, exporter: Key, call: ServerCall[Any, Any]) -> None:
        """One of its status streams has ended."""
        served = self._served.get(exporter)
        if served is not None and served.instance == (call.header(INSTANCE) or ""):
            served.streams -= 1

    def dispute(self, exporter: Key) -> RpcError:
        """What the process that is served is told, at the end of its status stream: it comes back at once."""
        served = self._served.get(exporter)
        if served is not None:
            served.reserved = trio.current_time() + RETURN_SECONDS
        return RpcError(
            StatusCode.ABORTED,
            f"another process, at {served.by if served else 'elsewhere'}, says that it is exporter {exporter.name}; "
            "this one is served, stop the other",
        )

    def is_news(self, exporter: Key, call: ServerCall[Any, Any]) -> bool:
        """Whether a status is newer than the last one of this process, which may have been thought lost on the way."""
        number = call.header(SEQUENCE) or ""
        instance = call.header(INSTANCE)
        if not instance or not number.isdecimal() or len(number) > 18:
            return True
        served = self._served.get(exporter)
        if served is None or served.instance != instance:
            served = self._served[exporter] = _Served(instance, call.peer)
        if int(number) < served.sequence:
            return False
        served.sequence = int(number)
        return True
