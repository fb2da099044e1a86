"""Reads JSON from peers. Every error is a ValueError, also for deep nesting, where parsers raise RecursionError."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

__all__ = ["JSON", "decode_json", "parse_json"]

JSON: TypeAlias = bool | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What JSON can say: what a driver call takes and gives, on the wire side of it."""

T = TypeVar("T")


def parse_json(text: bytes | str) -> Any:
    """Return the parsed value. ValueError: the text is not JSON, not UTF-8, or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def decode_json(text: bytes | str, kind: type[T]) -> T:
    """What is of that type of msgspec's. ValueError: the same, or it is another."""
    import msgspec  # noqa: PLC0415 - commands that a user waits for need none of it

    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


_TOO_DEEP = "it is nested too deeply"
