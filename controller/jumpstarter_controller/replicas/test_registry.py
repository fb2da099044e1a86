"""A replica's own record: there from when it joins until it leaves, and not again behind that."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial

import trio
import trio.testing

from jumpstarter_controller.replicas.members import Members, ReplicaRecord
from jumpstarter_controller.replicas.registry import Registry
from jumpstarter_controller.store.retry import retried

WAIT = 30.0


class SlowRecords:
    """Its server takes a write, and has it done when it `goes_on`."""

    def __init__(self) -> None:
        self.writes, self.goes_on, self.written = (threading.Event() for _ in range(3))
        self.found: dict[str, ReplicaRecord] = {}

    def all(self) -> Mapping[str, ReplicaRecord]:
        return self.found.copy()

    def write(self, name: str, address: str) -> None:
        self.writes.set()
        assert self.goes_on.wait(WAIT)
        self.found[name] = ReplicaRecord(address, "1")
        self.written.set()

    def remove(self, name: str) -> None:
        self.found.pop(name, None)


async def test_a_replica_whose_start_is_cut_short_leaves_no_record_behind() -> None:
    records = SlowRecords()
    registry = Registry(records, Members("me", trio.current_time), "here:1")
    with trio.fail_after(WAIT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.join, partial(retried, say=lambda _: None))
            await trio.to_thread.run_sync(records.writes.wait)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.leave)
            await trio.testing.wait_all_tasks_blocked(0.1)
            records.goes_on.set()
        await trio.to_thread.run_sync(records.written.wait)
    assert records.all() == {}


async def test_who_joins_is_seen_and_sees_the_others() -> None:
    records = SlowRecords()
    records.goes_on.set()
    records.found["other"] = ReplicaRecord("there:1", "1")
    registry = Registry(records, Members("me", trio.current_time), "here:1")
    await registry.join(partial(retried, say=lambda _: None))
    assert records.all()["me"].address == "here:1"
    assert registry.members.living == {"other": "there:1"}
