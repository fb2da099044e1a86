"""Which of a lab's changes a call of Watch gets: those of its namespace that match its request. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.lab import Exporter, LabState, Lease, Record
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.selectors import Selector
from jumpstarter_controller.services.lease_filters import labels_of, selector_of_filter, selector_of_tags

__all__ = ["WatchChanges", "WatchFilter"]


@dataclass
class WatchChanges:
    """Changes to send: current records, and references of records that are gone."""

    records: list[Exporter | Lease] = field(default_factory=list)
    gone: list[RecordRef] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.records or self.gone)


class WatchFilter:
    """Selects the exporters and leases of a namespace that a Watch request asks for."""

    def __init__(self, namespace: str, client: str, wish: pb.WatchRequest) -> None:
        """RpcError: INVALID_ARGUMENT, the request is invalid."""
        self._namespace = namespace
        self._client = client
        self._exporters = wish.exporters
        self._scope = wish.leases
        if wish.leases not in pb.LeaseScope.values():
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{wish.leases} is not a lease scope")
        if not wish.exporters and not wish.leases:
            raise RpcError(
                StatusCode.INVALID_ARGUMENT, "nothing to watch; ask for exporters, leases or one lease"
            )
        self._exporter_filter = selector_of_filter(wish.exporter_filter)
        self._lease_filter = selector_of_filter(wish.lease_filter)
        self._tag_filter = selector_of_tags(wish.tag_filter)

    @property
    def sees_places(self) -> bool:
        """Whether it includes waiting leases, whose queue position may change without a change of their record."""
        return self._scope in (pb.LEASE_SCOPE_OWN, pb.LEASE_SCOPE_ALL)

    def all(self, state: LabState) -> WatchChanges:
        """All matching records."""
        exporters = state.all(Exporter) if self._exporters else ()
        leases = state.open_leases() if self._scope else ()
        return WatchChanges([one for one in (*exporters, *leases) if self.shows(one)])

    def news(self, before: Mapping[RecordRef, Record | None], state: LabState) -> WatchChanges:
        """Changes of records that match now, or matched in their earlier version `before`."""
        told = WatchChanges()
        for ref, was in before.items():
            now = state.get(*ref)
            if now is was:
                continue
            if isinstance(now, Exporter | Lease) and (self.shows(now) or self._is_last_word(was, now)):
                told.records.append(now)
            elif self.shows(was):
                told.gone.append(ref)
        return told

    def shows(self, record: Record | None) -> bool:
        """Whether the record matches."""
        if record is None or record.namespace != self._namespace:
            return False
        if isinstance(record, Exporter):
            return self._exporters and self._exporter_filter.matches(record.labels)
        return isinstance(record, Lease) and record.ended is None and self._means(record)

    def _is_last_word(self, was: Record | None, now: Record) -> bool:
        """Whether this is the end of a matching lease, which is sent once."""
        if not isinstance(now, Lease) or now.ended is None or now.namespace != self._namespace:
            return False
        if was is None:
            return self._means(now)
        return self.shows(was)

    def _means(self, lease: Lease) -> bool:
        if self._scope == pb.LEASE_SCOPE_NONE:
            return False
        if self._scope == pb.LEASE_SCOPE_OWN and lease.client != self._client:
            return False
        if self._scope == pb.LEASE_SCOPE_HELD and not lease.accepted:
            return False
        return _fits(self._lease_filter, lease) and _fits(self._tag_filter, lease)


def _fits(selector: Selector, lease: Lease) -> bool:
    return not selector or selector.matches(labels_of(lease))
