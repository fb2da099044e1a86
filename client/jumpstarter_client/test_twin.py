"""One definition, two worlds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.blocking import BlockingPortal, PortalThread
from jumpstarter_client.twin import twin, twin_context, twin_iter


class Counter:
    """A thing with twins."""

    def __init__(self, portal: BlockingPortal) -> None:
        self.portal = portal

    @twin
    async def add(self, one: int, *, other: int = 1) -> int:
        """Add."""
        await trio.lowlevel.checkpoint()
        return one + other

    @twin_iter
    async def up_to(self, stop: int) -> AsyncIterator[int]:
        """Count."""
        for number in range(stop):
            yield number

    @twin_context
    async def held(self, what: str) -> AsyncIterator[str]:
        """Hold."""
        yield f"{what} in hand"


class Louder(Counter):
    """A thing that changes a twin."""

    @twin
    async def add(self, one: int, *, other: int = 1) -> int:
        """Add, and ten."""
        return 10 + await super().add.aio(one, other=other)


def test_twins_in_plain_code() -> None:
    with PortalThread() as portal:
        counter = Counter(portal.portal)
        assert counter.add(1, other=2) == 3
        assert list(counter.up_to(3)) == [0, 1, 2]
        with counter.held("a stone") as value:
            assert value == "a stone in hand"


async def test_twins_in_a_trio_task() -> None:
    async with BlockingPortal.open() as portal:
        counter = Counter(portal)
        assert await counter.add.aio(1, other=2) == 3
        assert [number async for number in counter.up_to.aio(3)] == [0, 1, 2]
        async with counter.held.aio("a stone") as value:
            assert value == "a stone in hand"


async def test_the_blocking_form_in_a_trio_task_is_refused() -> None:
    async with BlockingPortal.open() as portal:
        counter = Counter(portal)
        with pytest.raises(JumpstarterUsageError):
            counter.add(1)
        with pytest.raises(JumpstarterUsageError), counter.held("x"):
            pass


def test_an_override_can_call_the_original() -> None:
    with PortalThread() as portal:
        assert Louder(portal.portal).add(1) == 12


def test_the_docstring_stays() -> None:
    assert Counter.add.__doc__ == "Add."
    assert Counter.up_to.__doc__ == "Count."
    assert Counter.held.__doc__ == "Hold."
