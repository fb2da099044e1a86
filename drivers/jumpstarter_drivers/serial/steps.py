"""Steps of tests: `serial.expect`, `serial.send`."""

from __future__ import annotations

import re

from jumpstarter_client.yamltest.steps import StepContext, step

from jumpstarter_drivers.serial.client import PySerialClient

__all__ = ["expect", "send"]


@step
async def expect(
    client: PySerialClient, context: StepContext, text: str | list[str] = "", *, regex: str | None = None
) -> str:
    """Wait for a text, for one of several, or for a regular expression; its first group is the result."""
    patterns: list[str | re.Pattern[str]] = [text] if isinstance(text, str) else list(text)
    if regex is not None:
        patterns = [re.compile(regex)]
    found = await context.console(client).expect(*patterns, timeout=context.seconds)
    return found.groups[0] or "" if found.groups else found.text


@step
async def send(client: PySerialClient, context: StepContext, text: str, *, enter: bool = True) -> None:
    """Type a text, and Enter after it."""
    console = context.console(client)
    await (console.send_line(text) if enter else console.send(text))
