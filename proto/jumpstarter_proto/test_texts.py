"""What peers write does nothing to a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.texts import printable, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, with spaces and ü", "plain, with spaces and ü"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 300, "x" * 200 + "…"),
        ("\ud800", "\\ud800"),
    ],
)
def test_controls_are_shown_as_escapes(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(st.text())
def test_all_of_it_is_printable_and_on_one_line(text: str) -> None:
    assert shown(text).isprintable()


def test_lines_stay_lines() -> None:
    assert printable("one\n  two\x1b[2J\r\n\ttab") == "one\n  two\\x1b[2J\\r\n\\ttab"
    assert printable("plain ü") == "plain ü"
