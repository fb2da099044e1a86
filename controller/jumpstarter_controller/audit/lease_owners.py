"""Who had a lease at which time. Calls are reported a moment after they were made, and leases can be transferred."""

from __future__ import annotations

from jumpstarter_controller.lab import Key, Lease, Record

__all__ = ["LeaseOwners"]

MAX_OWNERS = 32
"""Previous owners that are kept of a lease, the newest."""


class LeaseOwners:
    """The previous owners of the leases that this controller has seen change hands."""

    def __init__(self) -> None:
        self._until: dict[Key, list[tuple[float, str]]] = {}
        """Of each lease: when an owner gave it away, and who that was; in this order."""

    def note(self, before: Record | None, after: Record | None, now: float) -> None:
        """A record was changed."""
        if not isinstance(before, Lease):
            return
        if after is None:
            self._until.pop(before.key, None)
        elif isinstance(after, Lease) and after.client != before.client:
            owners = self._until.setdefault(before.key, [])
            owners.append((now, before.client))
            del owners[:-MAX_OWNERS]

    def at(self, lease: Lease, time: float) -> str:
        """The name of the client who had the lease at that time."""
        owners = self._until.get(lease.key, ())
        return next((client for until, client in owners if time < until), lease.client)
