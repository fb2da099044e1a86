"""Steps that do not belong to a driver."""

from __future__ import annotations

from typing import Any

import trio
from jumpstarter_proto.durations import parse_duration

from jumpstarter_client.yamltest.steps import StepContext, step

__all__ = ["call", "log", "set_variables", "wait"]


@step
async def log(context: StepContext, text: str) -> None:
    """Write a line into the report."""
    context.say(text)


@step(seconds=24 * 3600)
async def wait(context: StepContext, duration: float | str) -> None:
    """Wait; `serial.expect` is better where the board says that it is ready."""
    await trio.sleep(parse_duration(duration, allow_zero=True))


@step(name="set", whole=True)
async def set_variables(context: StepContext, variables: dict[str, Any]) -> None:
    """Set variables."""
    context.variables |= variables


@step
async def call(context: StepContext, device: str, method: str, arguments: list[Any] | None = None) -> object:
    """Call any method that a device exports, and take its answer as the result."""
    answer: object = await context.client(device).call_async(method, *(arguments or []))
    return answer
