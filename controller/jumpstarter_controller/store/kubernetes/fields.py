"""Where a field of a record stands in an object, and how it is written there. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec
from jumpstarter_proto.json_texts import decode_json

from jumpstarter_controller.selectors.label_selector import label_selector, selector_text
from jumpstarter_controller.store.kubernetes.texts import (
    duration_text,
    read_duration,
    read_time,
    time_text,
)

__all__ = [
    "PREFIX",
    "Field",
    "Object",
    "at",
    "dig",
    "duration_at",
    "note",
    "reference_at",
    "selector_at",
    "time_at",
]

Object: TypeAlias = dict[str, Any]
"""As JSON has it."""
PREFIX = "lab.jumpstarter.dev/"
"""Of annotations and conditions that are ours."""


def _same(value: Any) -> Any:
    return value


class Field(NamedTuple):
    """One place in an object. What is as it always is, is not there."""

    path: tuple[str, ...]
    decode: Callable[[Any], Any] = _same
    """Raises ValueError for what it cannot be."""
    encode: Callable[[Any], Any] = _same
    depth: int = 1
    """So many parts of the path go with it when it goes."""

    def read(self, item: Object) -> Any:
        """What is there, None if nothing is. ValueError: it cannot be read; says which field."""
        value = dig(item, *self.path)
        if value is None:
            return None
        try:
            return self.decode(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"its {self.path[-1]}: {error}") from None

    def write(self, item: Object, value: Any) -> None:
        """Put it there; None takes it away."""
        if value is None:
            parent = dig(item, *self.path[: -self.depth])
            if isinstance(parent, dict):
                parent.pop(self.path[-self.depth], None)
            return
        for part in self.path[:-1]:
            if not isinstance(item.get(part), dict):
                item[part] = {}
            item = item[part]
        item[self.path[-1]] = self.encode(value)


def dig(item: object, *path: str) -> Any:
    """Return the value at a path, or None."""
    for part in path:
        if not isinstance(item, dict):
            return None
        item = item.get(part)
    return item


def at(path: str) -> Field:
    """A value as it is, such as `spec.username`."""
    return Field(tuple(path.split(".")), encode=msgspec.to_builtins)


def time_at(path: str) -> Field:
    """A time."""
    return Field(tuple(path.split(".")), read_time, time_text)


def duration_at(path: str) -> Field:
    """A duration."""
    return Field(tuple(path.split(".")), read_duration, duration_text)


def selector_at(path: str) -> Field:
    """A selector, which is text in a record."""
    return Field(tuple(path.split(".")), selector_text, label_selector)


def reference_at(path: str) -> Field:
    """The name of another object."""
    return Field((*path.split("."), "name"), depth=2)


def note(name: str, kind: Any = str, prefix: str = PREFIX) -> Field:
    """An annotation: text as it is, and else as JSON."""
    path = ("metadata", "annotations", prefix + name.replace("_", "-"))
    if kind is str:
        return Field(path)
    return Field(
        path, lambda text: decode_json(text, kind), lambda value: msgspec.json.encode(value).decode()
    )
