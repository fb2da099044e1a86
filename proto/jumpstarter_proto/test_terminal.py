"""Whatever is printed takes the lines that it should, and does nothing to a terminal."""

from __future__ import annotations

import io
import logging

from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_proto.log_lines import LineFormatter
from jumpstarter_proto.terminal import Styled, erase_line, print_line, print_text, redraw_line, redraw_lines
from jumpstarter_proto.texts import cells, fitted, padded, shown

EVIL = st.text() | st.text(
    st.sampled_from("\x1b[]0;2J\x07\r\n\t\x9b\u202e\u2066\u200b\u0300ab語\ud800"), max_size=40
)


@example("\x1b]0;title\x07", "\u202eevil\n\x1b[2J")
@given(EVIL, EVIL)
def test_a_line_is_one_line(first: str, second: str) -> None:
    out = io.StringIO()
    print_line(first, Styled(second, "31"), to=out)
    line = out.getvalue().removesuffix("\n").replace("\x1b[31m", "", 1)
    assert line.endswith("\x1b[0m")
    assert line.removesuffix("\x1b[0m").isprintable()


@given(EVIL)
def test_a_text_keeps_its_lines_and_nothing_else(text: str) -> None:
    out = io.StringIO()
    print_text(text, out)
    assert out.getvalue().count("\n") == text.count("\n")
    assert all(line.isprintable() for line in out.getvalue().split("\n"))


@given(EVIL, st.integers(1, 30))
def test_what_is_drawn_again_is_no_wider_than_the_terminal(text: str, width: int) -> None:
    out = io.StringIO()
    redraw_line(text, out, width=width)
    drawn = out.getvalue().removeprefix("\r").removesuffix("\x1b[K")
    assert drawn.isprintable()
    assert cells(drawn) <= width
    out = io.StringIO()
    redraw_lines([text, text], out, above=2, width=width)
    drawn = out.getvalue().removeprefix("\r\x1b[2A\x1b[J")
    assert [line.isprintable() and cells(line) <= width for line in drawn.split("\n")] == [True] * 3
    erase_line(out)
    assert out.getvalue().endswith("\r\x1b[K")


@given(EVIL, st.integers(0, 30))
def test_columns_line_up(text: str, width: int) -> None:
    clean = shown(text)
    assert cells(padded(clean, width)) == max(width, cells(clean))
    assert cells(fitted(clean, width)) <= max(width, 0)


def test_wide_letters_take_two_columns_and_marks_none() -> None:
    assert cells("語") == 2
    assert cells("e\u0301") == 1
    assert fitted("語語語", 5) == "語語…"
    assert shown("e" + "\u0301" * 5) == "e" + "\u0301" * 3 + "\\u0301" * 2


@given(EVIL, EVIL)
def test_a_log_record_is_one_line_and_its_traceback_does_nothing(text: str, cause: str) -> None:
    record = logging.LogRecord("a", logging.INFO, "", 1, "%s", (text,), None)
    assert LineFormatter().format(record).isprintable()
    record.exc_info = (ValueError, ValueError(cause), None)
    assert all(line.isprintable() for line in LineFormatter().format(record).split("\n"))


@given(EVIL)
def test_a_terminal_without_the_letters_gets_escapes(text: str) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    print_line(text, to=out, flush=True)
    print_text(text, out)
    redraw_line(text, out)
    out.flush()
    assert raw.getvalue().isascii()
