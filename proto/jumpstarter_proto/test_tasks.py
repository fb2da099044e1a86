"""Whichever comes first ends the wait, and leaves nothing behind."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jumpstarter_proto.tasks import collapsed, first_of


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


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt(), SystemExit(3)])
async def test_what_ends_a_block_comes_out_as_it_is_also_when_it_is_cancelled_at_that_moment(
    error: BaseException,
) -> None:
    async def cancelled_late() -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as scope, pytest.raises(type(error)) as raised, collapsed():  # noqa: PT012
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancelled_late)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            raise error
    assert raised.value is error


async def test_a_cancellation_alone_goes_on_to_its_scope_and_several_errors_stay_together() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
    assert scope.cancelled_caught
    both = ExceptionGroup("two", [OSError(), ValueError()])
    with pytest.raises(ExceptionGroup) as raised, collapsed():
        raise both
    assert raised.value is both
