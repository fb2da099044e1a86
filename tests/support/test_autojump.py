"""The clock that jumps waits for threads."""

from __future__ import annotations

import time

import trio
import trio.testing


async def test_a_clock_does_not_jump_while_a_thread_works(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1000)
        for _ in range(2):
            await trio.to_thread.run_sync(time.sleep, 0.05)
            assert trio.current_time() == began
        await trio.sleep(10)
        assert trio.current_time() == began + 10
        nursery.cancel_scope.cancel()


async def test_a_thread_that_may_be_left_behind_holds_nothing_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.move_on_after(1000) as scope:
        await trio.to_thread.run_sync(time.sleep, 0.2, abandon_on_cancel=True)
    assert scope.cancelled_caught
