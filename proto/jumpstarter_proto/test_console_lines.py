"""Lines of a console, whatever a board sends."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.console_lines import LINE_BYTES, begin_of_last, ends_in, lines_of


@pytest.mark.parametrize("kind", [b"\r", b"x", b"\r\n\r", b"x\r\r"])
def test_hundred_kilobytes_of_anything_are_a_matter_of_milliseconds(kind: bytes) -> None:
    data = kind * (100_000 // len(kind))
    start = time.process_time()
    list(lines_of(data))
    begin_of_last(data, 10)
    ends_in(data)
    assert time.process_time() - start < 2  # tried again at each byte, it would be 30


@given(st.lists(st.sampled_from([b"\r", b"\n", b"ab", b"c" * LINE_BYTES]), max_size=12).map(b"".join))
def test_lines_are_the_data_and_each_has_one_end(data: bytes) -> None:
    lines = list(lines_of(data))
    assert data.startswith(b"".join(lines))
    for line in lines:
        assert len(line) <= LINE_BYTES
        assert line.endswith((b"\r", b"\n")) or len(line) == LINE_BYTES
        text = line.lstrip(b"\r").rstrip(b"\r\n")
        assert b"\n" not in text
        assert b"\r" not in text


def test_line_of_the_greatest_length_is_not_cut() -> None:
    text = b"x" * (LINE_BYTES - 2)
    assert list(lines_of(text + b"\r\nab\n")) == [text + b"\r\n", b"ab\n"]
    assert list(lines_of(text + b"\r\rab\n")) == [text + b"\r\r", b"ab\n"]
    assert list(lines_of(text + b"x\r\n")) == [text + b"x\r", b"\n"]
