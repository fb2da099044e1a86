"""The state of a lab from the messages of a Watch call: a snapshot, then changes. No I/O.

One state may come in several messages. It becomes visible when it is complete, so readers never see a part of it, and a
call that fails in between changes nothing. The size is limited, because the controller is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jumpstarter_proto.rpc import RpcError, StatusCode

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1.client_pb2 import Exporter
    from jumpstarter_proto.lab.v1.exporters_pb2 import LabNews, LeaseNews

__all__ = ["MAX_SNAPSHOT_BYTES", "LabSnapshot"]

MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024
"""The limit for one state, and for the messages until the next state is complete."""


@dataclass
class _Snapshot:
    """The state of a lab at one revision, as far as it was received."""

    exporters: dict[str, Exporter] = field(default_factory=dict)
    leases: dict[str, LeaseNews] = field(default_factory=dict)
    sizes: dict[tuple[bool, str], int] = field(default_factory=dict)
    size: int = 0

    def copy(self) -> _Snapshot:
        return _Snapshot(dict(self.exporters), dict(self.leases), dict(self.sizes), self.size)

    def put(self, *, is_lease: bool, name: str, size: int) -> None:
        self.size += size - self.sizes.get((is_lease, name), 0)
        self.sizes[is_lease, name] = size

    def drop(self, *, is_lease: bool, name: str) -> None:
        (self.leases if is_lease else self.exporters).pop(name, None)
        self.size -= self.sizes.pop((is_lease, name), 0)


class LabSnapshot:
    """Exporters and leases by name. Leases that ended with the last revision are in `ended`."""

    def __init__(self, max_bytes: int = MAX_SNAPSHOT_BYTES) -> None:
        self.revision = ""
        """The revision to continue from; empty before the first state."""
        self.ended: dict[str, LeaseNews] = {}
        """The leases that ended with the last revision."""
        self._max_bytes = max_bytes
        self._current = _Snapshot()
        self._next: _Snapshot | None = None
        self._received = 0

    @property
    def exporters(self) -> dict[str, Exporter]:
        """All exporters."""
        return self._current.exporters

    @property
    def leases(self) -> dict[str, LeaseNews]:
        """The leases that have not ended."""
        return self._current.leases

    def start_call(self) -> None:
        """Start a new call: drop the incomplete state of the previous one."""
        self._next, self._received = None, 0

    def apply(self, news: LabNews) -> bool:
        """Apply a message. Returns whether a state is complete now.

        Raises:
            RpcError: INTERNAL, the state exceeds the size limit.
        """
        if news.snapshot:
            self._next = _Snapshot()
        snapshot = self._next = self._next or self._current.copy()
        self._received += news.ByteSize()
        for exporter in news.exporters:
            name = _bare(exporter.name)
            snapshot.exporters[name] = exporter
            snapshot.put(is_lease=False, name=name, size=exporter.ByteSize())
        for lease in news.leases:
            name = _bare(lease.lease.name)
            snapshot.leases[name] = lease
            snapshot.put(is_lease=True, name=name, size=lease.ByteSize())
        for name in news.gone_exporters:
            snapshot.drop(is_lease=False, name=name)
        for name in news.gone_leases:
            snapshot.drop(is_lease=True, name=name)
        if max(self._received, snapshot.size) > self._max_bytes:
            self.start_call()
            raise RpcError(
                StatusCode.INTERNAL,
                f"the controller sends more than {self._max_bytes >> 20} MiB of exporters and leases; "
                "ask its administrator",
            )
        if not news.revision:
            return False
        self.ended = {
            name: one for name, one in snapshot.leases.items() if one.lease.HasField("effective_end_time")
        }
        for name in self.ended:
            snapshot.drop(is_lease=True, name=name)
        self._current, self.revision = snapshot, news.revision
        self.start_call()
        return True


def _bare(resource: str) -> str:
    return resource.rpartition("/")[2]
