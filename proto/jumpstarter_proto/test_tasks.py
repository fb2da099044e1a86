"""Whichever comes first ends the wait, and leaves nothing behind."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jumpstarter_proto.tasks import first_of


async def test_the_first_one_ends_it_and_the_others_have_ended_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("slow")

    async def quick() -> None:
        await trio.sleep(3)

    await first_of(slow, quick, slow)
    assert (trio.current_time(), ended) == (3, ["slow", "slow"])


async def test_what_one_raises_is_raised_as_it_is() -> None:
    async def fails() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await first_of(trio.sleep_forever, fails)


async def test_of_events_that_are_set_it_returns_at_once_and_a_cancellation_ends_all() -> None:
    is_set, other = trio.Event(), trio.Event()
    is_set.set()
    await first_of(is_set.wait, other.wait)
    with trio.CancelScope() as scope:
        scope.cancel()
        await first_of(other.wait, trio.sleep_forever)
    assert scope.cancelled_caught
