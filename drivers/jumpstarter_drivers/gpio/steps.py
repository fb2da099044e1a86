"""Steps of tests: `gpio.on`, `gpio.off`, `gpio.read`, `gpio.wait-for`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.gpio.client import GpioClient

__all__ = ["off", "on", "read", "wait_for"]


@step
async def on(client: GpioClient, context: StepContext) -> None:
    """Drive an output to its active level."""
    await _method(client, "on")()


@step
async def off(client: GpioClient, context: StepContext) -> None:
    """Drive an output to its inactive level."""
    await _method(client, "off")()


@step
async def read(
    client: GpioClient, context: StepContext, expect: Literal["active", "inactive"] | None = None
) -> str:
    """Read a line; the result is active or inactive. Fails if it is not as expected."""
    state = str(await client.read.aio())
    context.say(state)
    if expect not in (None, state):
        raise JumpstarterError(f"{client.path} is {state}, not {expect}")
    return state


@step
async def wait_for(
    client: GpioClient, context: StepContext, state: Literal["active", "inactive", "rising", "falling"]
) -> None:
    """Wait until an input is active or inactive, or for its next rising or falling edge."""
    if state == "active":
        await _method(client, "wait_for_active")(context.seconds)
    elif state == "inactive":
        await _method(client, "wait_for_inactive")(context.seconds)
    else:
        await _method(client, "wait_for_edge")(state, context.seconds)


def _method(client: GpioClient, name: str) -> Callable[..., Awaitable[Any]]:
    found = getattr(client, name)
    if found is None:
        raise JumpstarterError(
            f"{client.path} is a line of the other direction; use another device for this step"
        )
    method: Callable[..., Awaitable[Any]] = found.aio
    return method
