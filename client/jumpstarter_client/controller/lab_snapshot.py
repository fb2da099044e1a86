"""What one who watches knows of a lab, from what a controller tells: a snapshot, then changes. No I/O.

A message may be a part. What is known changes when all of one moment has been told, so that nobody sees half of it; a
call that breaks in the middle has told nothing. A controller need not be trusted: what it tells has bounds.
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
"""Of all that is known, and of what is told until one moment is complete."""


@dataclass
class _Moment:
    """A lab as it was at one moment, as far as it has been told."""

    exporters: dict[str, Exporter] = field(default_factory=dict)
    leases: dict[str, LeaseNews] = field(default_factory=dict)
    sizes: dict[tuple[bool, str], int] = field(default_factory=dict)
    size: int = 0

    def copy(self) -> _Moment:
        return _Moment(dict(self.exporters), dict(self.leases), dict(self.sizes), self.size)

    def put(self, *, is_lease: bool, name: str, size: int) -> None:
        self.size += size - self.sizes.get((is_lease, name), 0)
        self.sizes[is_lease, name] = size

    def drop(self, *, is_lease: bool, name: str) -> None:
        (self.leases if is_lease else self.exporters).pop(name, None)
        self.size -= self.sizes.pop((is_lease, name), 0)


class LabSnapshot:
    """By bare name; leases that have ended are in `ended`, once."""

    def __init__(self, most: int = MAX_SNAPSHOT_BYTES) -> None:
        self.revision = ""
        """From where to go on; empty: nothing is known."""
        self.ended: dict[str, LeaseNews] = {}
        """Leases that ended with what was told last."""
        self._most = most
        self._moment = _Moment()
        self._next: _Moment | None = None
        self._told = 0

    @property
    def exporters(self) -> dict[str, Exporter]:
        """As they are."""
        return self._moment.exporters

    @property
    def leases(self) -> dict[str, LeaseNews]:
        """Those that go on."""
        return self._moment.leases

    def begin(self) -> None:
        """Another call begins: what the one before has told in part is not known."""
        self._next, self._told = None, 0

    def take(self, news: LabNews) -> bool:
        """Whether all of one moment is known now.

        Raises:
            RpcError: INTERNAL, the controller tells of more than anybody can know.
        """
        if news.snapshot:
            self._next = _Moment()
        moment = self._next = self._next or self._moment.copy()
        self._told += news.ByteSize()
        for exporter in news.exporters:
            name = _bare(exporter.name)
            moment.exporters[name] = exporter
            moment.put(is_lease=False, name=name, size=exporter.ByteSize())
        for lease in news.leases:
            name = _bare(lease.lease.name)
            moment.leases[name] = lease
            moment.put(is_lease=True, name=name, size=lease.ByteSize())
        for name in news.gone_exporters:
            moment.drop(is_lease=False, name=name)
        for name in news.gone_leases:
            moment.drop(is_lease=True, name=name)
        if max(self._told, moment.size) > self._most:
            self.begin()
            raise RpcError(
                StatusCode.INTERNAL,
                f"the controller tells of more than {self._most >> 20} MiB of exporters and leases; ask who runs it",
            )
        if not news.revision:
            return False
        self.ended = {
            name: one for name, one in moment.leases.items() if one.lease.HasField("effective_end_time")
        }
        for name in self.ended:
            moment.drop(is_lease=True, name=name)
        self._moment, self.revision = moment, news.revision
        self.begin()
        return True


def _bare(resource: str) -> str:
    return resource.rpartition("/")[2]
