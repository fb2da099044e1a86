"""From JSON to what a method's hints ask for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.value import JSON
from jumpstarter_proto.yaml_files import convert

from jumpstarter_exporter.arguments import plan


class Edge(enum.Enum):
    RISING = "rising"
    FALLING = "falling"


@dataclass
class Options:
    size: int | None = None
    verify: bool = True


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (5.0, int, 5),
        (5.0, float, 5.0),
        (5.0, int | str, 5),
        ("5", int | str, "5"),
        (None, int | None, None),
        ([1.0, 2.0], list[int], [1, 2]),
        ({"size": 3.0}, Options, Options(size=3)),
        (None, Options | None, None),
        ("rising", Edge, Edge.RISING),
        ("on", Literal["on", "off"], "on"),
        ("/dev/null", Path, Path("/dev/null")),
        ("00000000-0000-0000-0000-000000000001", UUID, UUID(int=1)),
        ({"a": [1.5, "x"]}, dict[str, JSON], {"a": [1.5, "x"]}),
        ({"a": ["x"]}, dict[str, object], {"a": ["x"]}),
        ({"a": 1.5}, dict[str, object] | None, {"a": 1.5}),
        (5.0, JSON, 5.0),
        (5.0, Any, 5.0),
    ],
)
def test_converts(value: object, hint: object, expected: object) -> None:
    result = convert(value, hint)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (5.5, int),
        (float("nan"), float),
        (float("nan"), float | None),
        ("5", int),
        (1.0, bool),
        ("yes", bool),
        (None, str),
        ("both", Edge),
        ("left", Literal["on", "off"]),
        ({"verify": 3.0}, Options),
        (3.0, Path),
        ([], dict[str, JSON]),
    ],
)
def test_refuses(value: object, hint: object) -> None:
    with pytest.raises(ValueError, match=r"[Ee]xpected|Invalid"):
        convert(value, hint)


class Methods:
    def two(self, first: int, second: str | None = None) -> None: ...
    def many(self, first: int, *rest: float) -> None: ...
    def none(self) -> None: ...
    def unknown(self, first: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_binds_by_position() -> None:
    assert plan(Methods.two, "two").bind([5.0]) == [5]
    assert plan(Methods.two, "two").bind([5.0, "x"]) == [5, "x"]
    assert plan(Methods.many, "many").bind([5.0, 1.0, 2.5]) == [5, 1.0, 2.5]


@pytest.mark.parametrize(
    ("method", "arguments", "complaint"),
    [
        ("two", [], r"two takes 2 arguments \(first, \[second\]\), not 0"),
        ("two", [1.0, "x", "y"], "not 3"),
        ("none", [1.0], "none takes no arguments, not 1"),
        ("many", [], r"\(first, \[rest\.\.\.\]\), not 0"),
        ("two", ["x"], "two: argument first: Expected `int`"),
        ("two", [1.0, 2.0], "argument second"),
        ("many", [1.0, "x"], "argument rest"),
    ],
)
def test_wrong_arguments_are_named(method: str, arguments: list[JSON], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plan(getattr(Methods, method), method).bind(arguments)


def test_a_hint_that_is_not_there_at_run_time_is_the_authors_error() -> None:
    with pytest.raises(JumpstarterUsageError, match=r"Methods\.unknown"):
        plan(Methods.unknown, "unknown")
