from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jumpstarter_proto.notifications import AutoResetEvent, Broadcast


async def test_broadcast_wakes_all_that_wait_and_is_not_remembered() -> None:
    broadcast, woken = Broadcast(), []

    async def wait(name: str) -> None:
        await broadcast.wait()
        woken.append(name)

    broadcast.notify()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await wait_all_tasks_blocked()
        assert woken == []
        broadcast.notify()
    assert sorted(woken) == ["a", "b"]


async def test_next_event_of_broadcast_does_not_miss_a_change_before_the_wait() -> None:
    broadcast = Broadcast()
    event = broadcast.next
    broadcast.notify()
    with trio.fail_after(1):
        await event.wait()
    assert broadcast.next is not event
    assert not broadcast.next.is_set()


async def test_auto_reset_event_remembers_one_notification() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    assert event.is_set()
    with trio.fail_after(1):
        await event.wait()
    assert not event.is_set()
    with pytest.raises(trio.TooSlowError), trio.fail_after(0):
        await event.wait()


async def test_cancelled_wait_leaves_auto_reset_event_set() -> None:
    event = AutoResetEvent()
    event.set()
    with trio.CancelScope() as scope:
        scope.cancel()
        await event.wait()
    assert scope.cancelled_caught
    assert event.is_set()
