"""Leases that have ended are kept for a while, for who asks what became of them; then they go."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable

import trio
from jumpstarter_proto.rpc import RpcError

from jumpstarter_controller.lab import Key, Lab, Lease
from jumpstarter_controller.reconciler.reconciler import Engine
from jumpstarter_controller.store import StoreError

__all__ = ["KEEP_SECONDS", "MOST_ENDED", "forget_ended", "forgettable"]

KEEP_SECONDS = 30 * 86400.0
MOST_ENDED = 5000
"""More are not kept, however young."""
EVERY_SECONDS = 60.0
AT_ONCE = 500
"""In one change, so that others do not wait for it."""

_log = logging.getLogger(__name__)


def forgettable(leases: Iterable[Lease], now: float, keep: float, most: int) -> list[Key]:
    """Those that ended more than `keep` seconds ago, and the oldest of what is more than `most`; oldest first."""
    ended = [(lease.ended, lease.key) for lease in leases if lease.ended is not None]
    surplus = max(0, len(ended) - most)
    old = sum(end < now - keep for end, _ in ended)
    return [key for _, key in heapq.nsmallest(max(surplus, old), ended)]


async def forget_ended(
    engine: Engine,
    keep: float = KEEP_SECONDS,
    most: int = MOST_ENDED,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Delete what is not kept any more, a part at a time, until cancelled.

    A clock that is set forward makes nothing older: it may be wrong, and what is deleted does not come back.
    """
    task_status.started()
    while True:
        now = engine.clock() - max(0.0, engine.clock.moved)
        keys = forgettable(engine.view.all(Lease), now, keep, most) if engine.leads() else []
        count = 0
        try:
            for start in range(0, len(keys), AT_ONCE):
                count += await engine.change(_removal(keys[start : start + AT_ONCE]))
        except (StoreError, RpcError) as error:  # a full disk, or the end
            _log.debug("ended leases stay for now: %s", error)
        else:
            if count:
                _log.info("%d ended leases forgotten", count)
        await trio.sleep(EVERY_SECONDS)


def _removal(keys: list[Key]) -> Callable[[Lab, float], int]:
    def apply(lab: Lab, _: float) -> int:
        found = (lab.get(Lease, key) for key in keys if (Lease, key) not in lab.damaged)
        ended = [lease for lease in found if lease is not None and lease.ended is not None]
        for lease in ended:
            lab.remove(lease)
        return len(ended)

    return apply
