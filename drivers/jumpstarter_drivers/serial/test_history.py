from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jumpstarter_client.errors import NotFoundError
from jumpstarter_proto.console_lines import LINE_BYTES

from jumpstarter_drivers.serial.console_session import power_of
from jumpstarter_drivers.serial.history import ConsoleLine, HistoryRecord, Lines, parse_since, show

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=timezone(timedelta(hours=1)))


@given(
    st.lists(st.one_of(st.binary(max_size=10), st.sampled_from([b"\r", b"\n", b"\r\n", b" 10%\r", b"\n\r"])))
)
def test_lines_are_the_same_however_they_come(pieces: list[bytes]) -> None:
    split, whole = Lines(), Lines()
    found = [
        line for index, piece in enumerate(pieces) for line in split.feed(HistoryRecord(index, "data", piece))
    ]
    found += split.rest()
    expected = [*whole.feed(HistoryRecord(0, "data", b"".join(pieces))), *whole.rest()]
    assert [line.data for line in found] == [line.data for line in expected]
    assert b"".join(line.data for line in found) == b"".join(pieces)
    for line in found:
        assert not re.search(rb"[^\r\n]\r+[^\r\n]|\n.", line.data)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\r\ntwo\nthree", [b"one\r\n", b"two\n", b"three"]),
        (b" 10%\r 20%\rdone\r\n", [b" 10%\r", b" 20%\r", b"done\r\n"]),
        (b"\r 10%\r 20%", [b"\r 10%\r", b" 20%"]),
        (b"one\n\rtwo\n\r", [b"one\n", b"\rtwo\n", b"\r"]),
        (b"one\r\r\n\r\n", [b"one\r\r\n", b"\r\n"]),
    ],
)
def test_what_ends_a_line(data: bytes, lines: list[bytes]) -> None:
    split = Lines()
    assert [line.data for line in [*split.feed(HistoryRecord(0, "data", data)), *split.rest()]] == lines


@given(st.lists(st.integers(1, 3 * LINE_BYTES), max_size=4), st.sampled_from([b"", b"\r", b"\n"]))
@example([LINE_BYTES, 1], b"\r")
@settings(max_examples=20, deadline=None)
def test_a_line_that_grows_without_end_is_cut_and_says_so(sizes: list[int], end: bytes) -> None:
    split = Lines()
    found = [line for size in sizes for line in split.feed(HistoryRecord(0, "data", b"#" * size))]
    assert len(split._begun) <= LINE_BYTES
    found += [*split.feed(HistoryRecord(0, "data", end + b"x")), *split.rest()]
    assert b"".join(line.data for line in found) == b"#" * sum(sizes) + end + b"x"
    for line in found:
        assert len(line.data) <= LINE_BYTES
        assert line.cut == (len(line.data) == LINE_BYTES and not line.data.endswith((b"\r", b"\n", b"x")))
        shown = show(line, wanted=None, timestamps=False, harmless=True)
        assert shown.endswith(b"[jumpstarter: the line goes on]\n") == line.cut


def test_a_line_has_the_time_of_its_first_byte() -> None:
    split = Lines()
    found = [
        line
        for time, piece in ((1.0, b"on"), (2.0, b"e\ntwo\nth"), (3.0, b"ree\n"))
        for line in split.feed(HistoryRecord(time, "data", piece))
    ]
    assert [(line.time, line.data) for line in found] == [(1.0, b"one\n"), (2.0, b"two\n"), (2.0, b"three\n")]


def test_a_bookmark_ends_the_line_before_it() -> None:
    split = Lines()
    assert list(split.feed(HistoryRecord(1.0, "data", b"lo"))) == []
    assert list(split.feed(HistoryRecord(2.0, "mark", b"here"))) == [
        ConsoleLine(1.0, "data", b"lo"),
        ConsoleLine(2.0, "mark", b"here"),
    ]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(hours=1.5)),
        ("1h30m", timedelta(hours=1.5)),
        ("PT5M", timedelta(minutes=5)),
        ("2d", timedelta(days=2)),
        ("11:30", timedelta(minutes=30)),
        ("12:30", timedelta(hours=23.5)),
        ("2026-11-24T11:00:00+01:00", timedelta(hours=1)),
    ],
)
def test_times(text: str, before: timedelta) -> None:
    assert parse_since(text, NOW) == (NOW - before).timestamp()


@pytest.mark.parametrize("text", ["", "soon", "10 weeks", "25:00", "2026-13-01"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid time; write 10m"):
        parse_since(text, NOW)


def test_what_is_shown() -> None:
    line = ConsoleLine(0.0, "data", b"\x1b[31mred\x1b[0m alert\x07\r\n")
    options: dict[str, Any] = {"wanted": None, "timestamps": False, "harmless": False}
    assert show(line, **options) == line.data
    assert show(line, **options | {"harmless": True}) == b"red alert\n"
    assert show(line, **options | {"wanted": re.compile("^red a")}) == line.data
    assert show(line, **options | {"wanted": re.compile("blue")}) == b""
    assert re.fullmatch(
        rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.000 .*\n", show(line, **options | {"timestamps": True}), re.S
    )
    bar = ConsoleLine(0.0, "data", b"\r 10%\r")
    assert show(bar, **options) == show(bar, **options | {"wanted": re.compile("^ 10%$", re.M)}) == b" 10%\n"
    assert show(bar, **options | {"harmless": True}) == b" 10%\n"
    assert show(bar, **options | {"timestamps": True}).endswith(b"  10%\n")
    assert show(ConsoleLine(0.0, "mark", b"here"), **options) == b"[jumpstarter: bookmark here]\n"


class Tree:
    """As much of a node as finding the power needs."""

    def __init__(self, name: str, interface: str = "", *children: Tree) -> None:
        self.uuid = self.path = name
        self.interface = interface
        self.parent: Tree | None = None
        self.children = children
        for child in children:
            child.parent = self

    def walk(self) -> Any:
        yield self
        for child in self.children:
            yield from child.walk()


def test_the_nearest_power_switch_is_the_boards() -> None:
    console = Tree("a.serial", "serial")
    lonely = Tree("lonely", "serial")
    board = Tree("a", "", console, Tree("a.power", "power"))
    Tree("", "", board, Tree("b", "", Tree("b.power", "power")), lonely)
    assert power_of(cast("Any", console)).path == "a.power"
    with pytest.raises(NotFoundError, match=r"any of a\.power, b\.power"):
        power_of(cast("Any", lonely))
    with pytest.raises(NotFoundError, match="no device beside this console"):
        power_of(cast("Any", SimpleNamespace(parent=None)))
