"""Arguments and results of driver calls as `google.protobuf.Value`.

The peer dumps Python objects as JSON and parses that into `Value`; this codec gives the same shapes without the
detour. What a receiver sees: numbers are always `float`, tuples and sets are lists, bytes are text, enums are
their values, dates are ISO 8601, dataclasses and structs are dicts with their null fields kept.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from google.protobuf import struct_pb2

from jumpstarter_proto.json_texts import JSON

__all__ = ["JSON", "from_value", "to_value"]

MAX_DEPTH = 32
"""Nested deeper than this is refused, in either direction; protobuf itself gives up at about 50."""
MAX_SIZE = 4 * 1024 * 1024
"""Bytes of the longest value that is encoded: what a peer takes in one message."""


def to_value(item: object) -> struct_pb2.Value:
    """Encode a Python object. Its size is bounded while it is read, so that one without end is refused as well.

    Raises:
        ValueError: it has no JSON form, is nested deeper than `MAX_DEPTH`, has more than `MAX_SIZE` bytes, or is
            bytes or text that are not UTF-8.
    """
    value = struct_pb2.Value()
    _Encoder().fill(value, item, MAX_DEPTH)
    return value


def from_value(value: struct_pb2.Value) -> JSON:
    """Decode to None, bool, float, str, list or dict; an unset value is None.

    Raises:
        ValueError: a number is not finite, or the nesting is deeper than `MAX_DEPTH`.
    """
    return _read(value, MAX_DEPTH)


_ITEM_SIZE = 16
"""Bytes on the wire around an item, about."""


class _Encoder:
    """Encodes one value, and counts about what it takes on the wire."""

    def __init__(self) -> None:
        self._left = MAX_SIZE

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(
                f"a value is larger than {MAX_SIZE // 1024**2} MiB; send it in parts, or as a stream or a file"
            )

    def _text(self, value: struct_pb2.Value, text: str) -> None:
        self._count(_size(text))
        value.string_value = text

    def fill(self, value: struct_pb2.Value, item: object, depth: int) -> None:
        if depth == 0:
            raise ValueError(f"a value is nested deeper than {MAX_DEPTH} levels; send flatter data")
        self._count(_ITEM_SIZE)
        if isinstance(item, enum.Enum):
            item = item.value
        match item:
            case None:
                value.null_value = struct_pb2.NULL_VALUE
            case bool():
                value.bool_value = item
            case int() | float():
                _fill_number(value, item)
            case str():
                self._text(value, item)
            case bytes() | bytearray():
                self._count(len(item))
                value.string_value = item.decode("utf-8")
            case Mapping():
                fields = value.struct_value.fields
                fields.clear()  # marks the struct as present when it is empty
                value.struct_value.SetInParent()
                for key, child in item.items():
                    name = _key(key)
                    self._count(_size(name))
                    self.fill(fields[name], child, depth - 1)
            case list() | tuple() | AbstractSet() | Iterator():
                value.list_value.SetInParent()
                for child in item:
                    self.fill(value.list_value.values.add(), child, depth - 1)
            case _:
                self._fill_object(value, item, depth)

    def _fill_object(self, value: struct_pb2.Value, item: object, depth: int) -> None:
        match item:
            case datetime.datetime():
                text = item.isoformat()
                value.string_value = text[:-6] + "Z" if text.endswith("+00:00") else text
            case datetime.date() | datetime.time():
                value.string_value = item.isoformat()
            case datetime.timedelta():
                value.string_value = _iso_duration(item)
            case uuid.UUID() | pathlib.PurePath() | decimal.Decimal():
                self._text(value, str(item))
            case _ if dataclasses.is_dataclass(item) and not isinstance(item, type):
                shallow = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
                self.fill(value, shallow, depth)
            case _ if hasattr(item, "__struct_fields__"):
                names: Sequence[str] = item.__struct_fields__
                self.fill(value, {name: getattr(item, name) for name in names}, depth)
            case _:
                kind = type(item).__name__
                raise ValueError(
                    f"a {kind} has no JSON form; return text, numbers, lists, dicts or a dataclass"
                )


def _size(text: str) -> int:
    """Bytes of a text. ValueError for one that UTF-8 cannot say."""
    return len(text) if text.isascii() else len(text.encode())


def _fill_number(value: struct_pb2.Value, number: float) -> None:
    try:
        as_float = float(number)
    except OverflowError:
        raise ValueError("a number is too large for the wire; send it as text") from None
    if math.isfinite(as_float):
        value.number_value = as_float
    else:
        value.null_value = struct_pb2.NULL_VALUE


def _key(key: object) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    return key if isinstance(key, str) else str(key)


def _iso_duration(delta: datetime.timedelta) -> str:
    sign = "-" if delta < datetime.timedelta() else ""
    delta = abs(delta)
    minutes, seconds = divmod(delta.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days = f"{delta.days}D" if delta.days else ""
    fraction = f".{delta.microseconds:06d}".rstrip("0") if delta.microseconds else ""
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if seconds or fraction:
        parts.append(f"{seconds}{fraction}S")
    time = "".join(parts)
    if not days and not time:
        time = "0S"
    return f"{sign}P{days}" + (f"T{time}" if time else "")


def _read(value: struct_pb2.Value, depth: int) -> JSON:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        if not math.isfinite(value.number_value):
            raise ValueError("a number on the wire is infinite or not a number; send null instead")
        return value.number_value
    if kind == "bool_value":
        return value.bool_value
    if kind is None or kind == "null_value":
        return None
    if depth == 0:
        raise ValueError(f"a value is nested deeper than {MAX_DEPTH} levels; send flatter data")
    if kind == "list_value":
        return [_read(child, depth - 1) for child in value.list_value.values]
    return {key: _read(child, depth - 1) for key, child in value.struct_value.fields.items()}
