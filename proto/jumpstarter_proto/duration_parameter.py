"""The type of a command's parameter that takes a time: `90`, `1.5s` or `2m`, as every other duration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from jumpstarter_proto.durations import TimeFormatError, parse_duration

__all__ = ["Seconds"]


def _seconds(_: Any, tokens: Sequence[Token]) -> float:
    try:
        return parse_duration(tokens[0].value, allow_zero=True)
    except TimeFormatError as error:
        raise ValueError(str(error)) from None  # to which cyclopts adds the option's name


Seconds = Annotated[float, Parameter(converter=_seconds)]
"""Seconds; on a command line any duration."""
