"""Texts that fit a terminal: no line is too long, and no word is broken or lost."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_proto.page_width import fit_page, fit_table, terminal_width, wrap
from jumpstarter_proto.texts import cells

WORDS = st.text(st.sampled_from("abcü界,="), min_size=1, max_size=12)
TEXTS = st.lists(WORDS, min_size=1, max_size=15).map(" ".join)
WIDTHS = st.integers(30, 90)


@given(TEXTS, st.integers(24, 60))
@example("a=b,c=d,e=f" * 9, 24)
def test_wrapped_lines_fit_and_have_all_that_was_said(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cells(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


PAGE = st.lists(
    st.builds(
        lambda indent, left, gap, right: f"{indent}{left}{gap}{right}",
        st.sampled_from(["", "  ", "      "]),
        TEXTS,
        st.sampled_from([" ", "   "]),
        TEXTS,
    )
    | st.just(""),
    max_size=12,
).map("\n".join)


@given(PAGE, WIDTHS)
def test_a_page_fits_and_has_all_words(page: str, width: int) -> None:
    found = fit_page(page, width)
    assert all(cells(line) <= width for line in found.split("\n"))
    assert found.split() == page.split()
    assert fit_page(page, None) == page
    assert fit_page(page, 10_000) == page


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(TEXTS | st.just(""), min_size=n, max_size=n), min_size=1, max_size=5)
    ),
    WIDTHS,
)
def test_a_table_fits_and_has_all_words(rows: list[list[str]], width: int) -> None:
    titles = [f"T{number}" for number in range(len(rows[0]))]
    lines = ["".join(part.text for part in line) for line in fit_table(titles, rows, width)]
    assert all(cells(line) <= width for line in lines)
    assert all(line == line.rstrip() for line in lines)
    letters = sorted("".join(lines).replace(" ", ""))
    every = "".join(text for row in rows for text in row).replace(" ", "")
    if lines[0].split() == titles or len(rows[0]) == 1:
        every += "".join(titles)
    else:
        every += "".join(title for row in rows for title, text in zip(titles, row, strict=True) if text)
    assert letters == sorted(every)


def test_a_cell_has_its_style_in_each_of_its_lines() -> None:
    rows = [["one", "leased by somebody for long"]]
    lines = fit_table(["NAME", "STATE"], rows, 20, lambda title, text: "31" if title == "STATE" else "")
    styled = [part.text for line in lines for part in line if part.style]
    assert " ".join(styled) == "leased by somebody for long"
    assert all(line[-1].text == "" for line in lines)


def test_the_width_is_that_of_columns_or_of_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, (tmp_path / "file").open("w") as file:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 77, 0, 0))
        assert terminal_width(terminal) == 77
        assert terminal_width(file) is None, "nothing is changed in what scripts read"
        for columns, expected in (("60", 60), ("x", 77), ("5", None), ("", 77)):
            monkeypatch.setenv("COLUMNS", columns)
            assert terminal_width(terminal) == expected
    os.close(leader)
