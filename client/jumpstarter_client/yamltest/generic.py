"""Steps that do not belong to a driver."""

from __future__ import annotations

import json
import re
from typing import Any

import trio
from jumpstarter_proto.durations import parse_duration
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_client.yamltest.variables import NAME_HINT, as_text, is_name, plain

__all__ = ["call", "compare", "log", "set_variables", "wait"]

UNSET = "\0"
"""In the place of a value that may be null."""


@step
async def log(context: StepContext, text: Any) -> None:
    """Write a line into the report; a value that is not a text is written as JSON."""
    context.say(as_text(text))


def _check_comparison(arguments: dict[str, Any]) -> None:
    numbers_and_patterns = (arguments.get(key) for key in ("matches", "above", "below"))
    if not arguments.keys() & {"equals", "contains"} and all(one is None for one in numbers_and_patterns):
        raise JumpstarterError("nothing to compare with; give equals, contains, matches, above or below")
    pattern = arguments.get("matches")
    if isinstance(pattern, str):
        try:
            re.compile(pattern)
        except re.error as error:
            raise JumpstarterError(
                f"matches is not a regular expression: {error}; correct it, or use contains for a plain text"
            ) from None


@step(check=_check_comparison)
async def compare(  # noqa: PLR0917 - the keys of the step
    context: StepContext,
    value: Any,
    equals: Any = UNSET,
    contains: Any = UNSET,
    matches: str | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Compare a value: all conditions that are given must hold. `matches` is a regular expression for its text."""
    found, said = plain(value), as_text(value)
    if equals is not UNSET and (
        found != plain(equals) or isinstance(found, bool) != isinstance(plain(equals), bool)
    ):
        wanted = as_text(equals)
        if wanted == said:  # a text and a number
            said, wanted = json.dumps(found), json.dumps(plain(equals))
        raise JumpstarterError(f"it is {said}, and not {wanted}")
    if contains is not UNSET:
        parts = found if isinstance(found, list | dict) else said
        wanted = plain(contains) if isinstance(found, list) else as_text(contains)
        if wanted not in parts:
            raise JumpstarterError(f"it is {said}, which does not contain {as_text(contains)}")
    if matches is not None and re.search(matches, said) is None:
        raise JumpstarterError(f"it is {said}, which does not match {matches}")
    if above is not None or below is not None:
        number = _number(value)
        if above is not None and not number > above:
            raise JumpstarterError(f"it is {said}, which is not above {as_text(above)}")
        if below is not None and not number < below:
            raise JumpstarterError(f"it is {said}, which is not below {as_text(below)}")


def _number(value: Any) -> float:
    """A number, also one in the output of a command."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise JumpstarterError(f"it is {as_text(value)}, which is not a number") from None


def _check_wait(arguments: dict[str, Any]) -> None:
    if isinstance(duration := arguments["duration"], int | float | str):
        parse_duration(duration, allow_zero=True)


@step(seconds=24 * 3600, check=_check_wait)
async def wait(context: StepContext, duration: float | str) -> None:
    """Wait; `serial.expect` is better where the board says that it is ready."""
    await trio.sleep(parse_duration(duration, allow_zero=True))


def _check_set(arguments: dict[str, Any]) -> None:
    variables = arguments["variables"]
    wrong = [name for name in variables if not is_name(name)] if isinstance(variables, dict) else []
    if wrong:
        raise JumpstarterError(f"{wrong[0]!r} is not a name of a variable; {NAME_HINT}")


@step(name="set", whole=True, check=_check_set)
async def set_variables(context: StepContext, variables: dict[str, Any]) -> None:
    """Set variables."""
    context.variables |= variables


@step
async def call(context: StepContext, device: str, method: str, arguments: list[Any] | None = None) -> object:
    """Call any method that a device exports, and take its answer as the result."""
    answer: object = await context.client(device).call_async(method, *(arguments or []))
    return answer
