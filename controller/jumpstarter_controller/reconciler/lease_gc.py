"""Deletes ended leases after a retention time, in which users can still ask for them."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable

import trio
from jumpstarter_proto.rpc import RpcError

from jumpstarter_controller.lab import Draft, Key, Lease
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.store import StoreError

__all__ = ["MAX_ENDED_LEASES", "RETENTION_SECONDS", "delete_ended_leases", "leases_to_delete"]

RETENTION_SECONDS = 30 * 86400.0
MAX_ENDED_LEASES = 5000
"""Above this number the oldest ended leases are deleted early."""
EVERY_SECONDS = 60.0
LEASES_PER_DELETION = 500
"""Leases that are deleted in one change, so that other changes need not wait."""

_log = logging.getLogger(__name__)


def leases_to_delete(leases: Iterable[Lease], now: float, keep: float, most: int) -> list[Key]:
    """Leases that ended more than `keep` seconds ago, and the oldest above the number `most`; oldest first."""
    ended = [(lease.ended, lease.key) for lease in leases if lease.ended is not None]
    excess = max(0, len(ended) - most)
    old = sum(end < now - keep for end, _ in ended)
    return [key for _, key in heapq.nsmallest(max(excess, old), ended)]


async def delete_ended_leases(
    reconciler: Reconciler,
    keep: float = RETENTION_SECONDS,
    most: int = MAX_ENDED_LEASES,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Delete old ended leases, until cancelled.

    A clock that is set forward does not make leases older: it may be wrong, and a deletion cannot be undone.
    """
    task_status.started()
    while True:
        now = reconciler.clock() - max(0.0, reconciler.clock.moved)
        keys = (
            leases_to_delete(reconciler.committed.all(Lease), now, keep, most) if reconciler.leads() else []
        )
        count = 0
        try:
            for start in range(0, len(keys), LEASES_PER_DELETION):
                count += await reconciler.change(_removal(keys[start : start + LEASES_PER_DELETION]))
        except (StoreError, RpcError) as error:  # a full disk, or the end
            _log.debug("ended leases stay for now: %s", error)
        else:
            if count:
                _log.info("%d ended leases forgotten", count)
        await trio.sleep(EVERY_SECONDS)


def _removal(keys: list[Key]) -> Callable[[Draft, float], int]:
    def apply(draft: Draft, _: float) -> int:
        found = (draft.get(Lease, key) for key in keys if (Lease, key) not in draft.damaged)
        ended = [lease for lease in found if lease is not None and lease.ended is not None]
        for lease in ended:
            draft.remove(lease)
        return len(ended)

    return apply
