from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.blocking import Portal
from jumpstarter_client.errors import ConnectError


async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


async def fail() -> None:
    raise LookupError("from the loop")


def test_portal_returns_results_and_raises_errors() -> None:
    with Portal() as portal:
        assert portal.call(double, 4) == 8
        with pytest.raises(LookupError, match="from the loop"):
            portal.call(fail)


def test_context_is_held_by_one_task_and_sees_the_blocks_exception() -> None:
    seen: list[BaseException | None] = []

    @asynccontextmanager
    async def manager() -> AsyncIterator[str]:
        task = trio.lowlevel.current_task()
        async with trio.open_nursery():
            try:
                yield "value"
            except LookupError as error:
                seen.append(error)
                raise
            finally:
                assert trio.lowlevel.current_task() is task

    with Portal() as portal:
        with portal.context(manager()) as value:
            assert value == "value"
        raised = LookupError("of the block")
        with pytest.raises(LookupError), portal.context(manager()):
            raise raised
        assert seen == [raised]


def test_iteration_computes_items_on_demand_and_closes_what_it_left() -> None:
    computed: list[int] = []

    async def count() -> AsyncGenerator[int, None]:
        try:
            for number in range(100):
                computed.append(number)
                yield number
        finally:
            computed.append(-1)

    with Portal() as portal:
        numbers = portal.iterate(count())
        assert [next(numbers), next(numbers)] == [0, 1]
        numbers.close()
        assert computed == [0, 1, -1]


def test_a_closed_portal_says_so() -> None:
    portal = Portal()
    assert portal.call(double, 1) == 2
    portal.close()
    portal.close()
    with pytest.raises(ConnectError, match="closed"):
        portal.call(double, 1)


async def test_waiting_inside_of_a_trio_task_is_the_developers_mistake() -> None:
    portal = Portal()
    bridge = await trio.to_thread.run_sync(lambda: portal.bridge)
    try:
        with pytest.raises(JumpstarterUsageError, match=r"\.aio"):
            bridge.call(double, 1)
    finally:
        await trio.to_thread.run_sync(portal.close)
