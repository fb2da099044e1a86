from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import uuid
from dataclasses import dataclass

import msgspec
import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.value import MAX_DEPTH, MAX_SIZE, from_value, to_value


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Reading:
    voltage: float
    current: float | None


class Pair(msgspec.Struct):
    a: int
    b: str | None = None


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (None, None),
        (True, True),
        (5, 5.0),
        (1.5, 1.5),
        (math.inf, None),
        (math.nan, None),
        ("text", "text"),
        (b"text", "text"),
        (bytearray(b"\xc3\xa9"), "é"),
        (Colour.RED, "red"),
        (Level.HIGH, 3.0),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/dev/sda"), "/dev/sda"),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.timedelta(hours=1, seconds=1.5), "PT1H1.5S"),
        (datetime.timedelta(), "PT0S"),
        (datetime.timedelta(days=2), "P2D"),
        ((1, 2), [1.0, 2.0]),
        ({"x"}, ["x"]),
        (iter([1]), [1.0]),
        ([], []),
        ({}, {}),
        ({1: {"a": []}}, {"1": {"a": []}}),
        (Reading(1.0, None), {"voltage": 1.0, "current": None}),
        (Pair(1), {"a": 1.0, "b": None}),
    ],
)
def test_each_python_type_arrives_as_the_wire_reference_says(sent: object, received: object) -> None:
    wire = struct_pb2.Value.FromString(to_value(sent).SerializeToString())
    assert from_value(wire) == received


def test_unset_value_is_none() -> None:
    assert from_value(struct_pb2.Value()) is None


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_foreign_number_that_is_not_finite_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="infinite or not a number"):
        from_value(struct_pb2.Value(number_value=number))


@pytest.mark.parametrize("item", [object(), b"\xff", 10**400])
def test_what_has_no_json_form_is_a_value_error(item: object) -> None:
    with pytest.raises(ValueError):
        to_value(item)


def test_nesting_is_bounded_both_ways() -> None:
    deep: object = "x"
    wire = struct_pb2.Value(string_value="x")
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
        wire = struct_pb2.Value(list_value=struct_pb2.ListValue(values=[wire]))
    with pytest.raises(ValueError, match="nested deeper"):
        to_value(deep)
    with pytest.raises(ValueError, match="nested deeper"):
        from_value(wire)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(json_values)
def test_json_survives_the_round_trip(item: object) -> None:
    assert from_value(to_value(item)) == item


def test_bound_is_in_bytes_whatever_the_letters() -> None:
    half = "é" * (MAX_SIZE // 4)
    assert to_value(half).string_value == half
    for item in (half * 2, {half * 2: None}, [half, half]):
        with pytest.raises(ValueError, match="larger than"):
            to_value(item)
