"""Steps of tests: `power.on`, `power.off`, `power.cycle`, `power.read`."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_proto.durations import parse_duration

from jumpstarter_drivers.power.client import PowerClient

__all__ = ["cycle", "off", "on", "read"]


@step
async def on(client: PowerClient, context: StepContext) -> None:
    """Switch the board on."""
    await client.on.aio()


@step
async def off(client: PowerClient, context: StepContext) -> None:
    """Switch the board off."""
    await client.off.aio()


@step
async def cycle(client: PowerClient, context: StepContext, wait: float | str = 2.0) -> None:
    """Switch the board off, wait, and switch it on."""
    await client.cycle.aio(parse_duration(wait, allow_zero=True))


@step
async def read(client: PowerClient, context: StepContext) -> dict[str, Any]:
    """Measure once; the result has voltage and current."""
    async with aclosing(client.read.aio(1)) as readings:
        async for reading in readings:
            measured: dict[str, Any] = msgspec.to_builtins(reading)
            context.say(str(reading))
            return measured
    raise ValueError("the supply measured nothing; ask its maker whether it can")
