"""The one line that driver tests are made of."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from jumpstarter_client.base import DriverClient

from jumpstarter_drivers.power.driver import MockPower
from jumpstarter_drivers.testing import serve, serve_async


@dataclass(kw_only=True, eq=False)
class Watched(MockPower):
    """Remembers what happens to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: list[str] = []

    async def open(self) -> None:
        self.seen.append("open")

    async def close(self) -> None:
        self.seen.append("close")


def use_and_fail(client: DriverClient) -> None:
    client.on()
    raise AssertionError("wrong")


async def use_and_fail_async(client: DriverClient) -> None:
    await client.on.aio()
    raise AssertionError("wrong")


def test_driver_is_opened_by_its_first_use_and_closed_with_the_block() -> None:
    driver = Watched()
    with serve(driver) as client:
        assert driver.seen == []
        client.on()
        client.off()
        assert driver.seen == ["open"]
    assert driver.seen == ["open", "close"]


def test_failing_test_fails_as_itself_and_closes_the_driver() -> None:
    driver = Watched()
    with pytest.raises(AssertionError, match="wrong"), serve(driver) as client:
        use_and_fail(client)
    assert driver.seen == ["open", "close"]


async def test_failing_async_test_fails_as_itself_and_closes_the_driver() -> None:
    driver = Watched()
    with pytest.raises(AssertionError, match="wrong"):
        async with serve_async(driver) as client:
            await use_and_fail_async(client)
    assert driver.seen == ["open", "close"]


async def test_several_drivers_can_be_served_at_once() -> None:
    async with serve_async(MockPower()) as one, serve_async(MockPower()) as two:
        await one.on.aio()
        await two.on.aio()
