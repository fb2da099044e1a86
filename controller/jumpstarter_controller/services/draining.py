"""Drains a lab: active leases continue, and no lease begins until the lab is resumed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import trio
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode
from msgspec.structs import replace

from jumpstarter_controller.lab import Draft, Drain, Lease
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services.messages import timestamp

__all__ = ["begin_drain", "checked_reason", "drain_state", "drain_states", "end_drain"]

MAX_REASON_LENGTH = 200
LOOK_SECONDS = 60.0


def checked_reason(text: str) -> str:
    """A reason that can be shown to users. RpcError: INVALID_ARGUMENT, it is too long or not printable."""
    text = text.strip()
    if len(text) > MAX_REASON_LENGTH or not text.isprintable():
        raise RpcError(
            StatusCode.INVALID_ARGUMENT,
            f"a reason is one line of at most {MAX_REASON_LENGTH} characters; make it shorter",
        )
    return text


def begin_drain(draft: Draft, now: float, reason: str) -> None:
    """Drain the lab. If it is drained already, only the reason is changed."""
    before = draft.get(Drain, Drain.KEY)
    if before is None:
        draft.put(Drain(namespace=Drain.KEY.namespace, name=Drain.KEY.name, created=now, reason=reason))
    elif reason and reason != before.reason:
        draft.put(replace(before, reason=reason))


def end_drain(draft: Draft) -> None:
    """Resume the lab: leases begin again."""
    drain = draft.get(Drain, Drain.KEY)
    if drain is not None:
        draft.remove(drain)


def drain_state(reconciler: Reconciler) -> pb.DrainState:
    """The current drain state."""
    leases = reconciler.committed.open_leases()
    active = len(_active(leases))
    now = reconciler.clock()
    waiting = sum(not one.accepted and (one.begin_time or now) <= now for one in leases)
    drain = reconciler.committed.get(Drain, Drain.KEY)
    if drain is None:
        return pb.DrainState(active=active, waiting=waiting)
    return pb.DrainState(
        drained=True, since=timestamp(drain.created), reason=drain.reason, active=active, waiting=waiting
    )


async def drain_states(reconciler: Reconciler) -> AsyncIterator[pb.DrainState]:
    """The drain state, now and after each change, until no lease is active or the lab is resumed."""
    last = None
    while True:
        refs: list[RecordRef] = [(Drain, Drain.KEY)]
        refs += [(Lease, lease.key) for lease in _active(reconciler.committed.open_leases())]
        state = drain_state(reconciler)
        if state != last:
            yield state
            last = state
        if not state.drained or not state.active:
            return
        await _any_change(reconciler, refs)


async def _any_change(reconciler: Reconciler, refs: Iterable[RecordRef]) -> None:
    """Wait until one of these records changes, at most one minute."""
    async with trio.open_nursery() as nursery:

        async def wait(ref: RecordRef) -> None:
            await reconciler.wait(*ref, LOOK_SECONDS)
            nursery.cancel_scope.cancel()

        for ref in refs:
            nursery.start_soon(wait, ref)


def _active(leases: Iterable[Lease]) -> list[Lease]:
    return [one for one in leases if one.accepted]
