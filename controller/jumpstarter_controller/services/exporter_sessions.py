"""Serves one process of each exporter: two with the same identity would overwrite each other's leases and statuses.

The process with the open status stream is served. Another one is rejected until that stream ends, and the served
process is notified of the attempt. Exporters that send no instance id, such as Jumpstarter's, are not told apart. This
is in memory only: after a restart the first process is served.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import trio
from jumpstarter_proto.call_metadata import INSTANCE, SEQUENCE
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_controller.lab import Key

__all__ = ["INSTANCE", "SEQUENCE", "ExporterSessions"]

RETURN_SECONDS = 5.0
"""How long a process that was notified of another one has to open its status stream again."""

_log = logging.getLogger(__name__)


@dataclass
class _Served:
    instance: str
    peer: str
    streams: int = 0
    sequence: int = 0
    """Sequence number of the last accepted status."""
    disputed: trio.Event = field(default_factory=trio.Event)
    by: str = ""
    """Address of the other process."""
    reserved: float = -math.inf
    """Until this time it stays the served process, even without a stream."""

    @property
    def is_held(self) -> bool:
        return self.streams > 0 or trio.current_time() < self.reserved


class ExporterSessions:
    """The process that is served, for each exporter."""

    def __init__(self) -> None:
        self._served: dict[Key, _Served] = {}

    def admit(self, exporter: Key, call: ServerCall[Any, Any]) -> None:
        """Check that this call's process may be served. Raises as `admit_process`."""
        self.admit_process(exporter, call.header(INSTANCE) or "", call.peer)

    def admit_process(self, exporter: Key, instance: str, peer: str) -> None:
        """Check that a process that calls from `peer` may be served.

        Raises:
            RpcError: ALREADY_EXISTS, another process is served.
        """
        served = self._served.get(exporter)
        if not instance or served is None or served.instance == instance or not served.is_held:
            return
        served.by = peer or "elsewhere"
        served.disputed.set()
        _log.warning(
            "two processes use the identity of exporter %s: the one at %s is served, the one at %s is rejected",
            exporter.name,
            served.peer or "elsewhere",
            served.by,
            extra={"exporter": exporter.name},
        )
        raise RpcError(
            StatusCode.ALREADY_EXISTS,
            f"exporter {exporter.name} is served by another process already, at {served.peer or 'elsewhere'}; "
            "stop one of them, or give this one another identity",
        )

    def opened(self, exporter: Key, call: ServerCall[Any, Any]) -> trio.Event:
        """A status stream was opened by an admitted process. The event is set when another process tries."""
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
        """The error that ends the status stream of the served process. It reconnects at once."""
        served = self._served.get(exporter)
        if served is not None:
            served.reserved = trio.current_time() + RETURN_SECONDS
        return RpcError(
            StatusCode.ABORTED,
            f"another process, at {served.by if served else 'elsewhere'}, uses the identity of {exporter.name}; "
            "this process is served, stop the other",
        )

    def is_news(self, exporter: Key, call: ServerCall[Any, Any]) -> bool:
        """Whether a status is newer than the last accepted one of this process. A late retry of a call is not."""
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
