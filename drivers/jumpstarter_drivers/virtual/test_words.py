"""Lines in words, as shells read them; compared with a real one."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.virtual.words import UnterminatedError, Word, commands, expanded, split


def words(line: str) -> list[str]:
    return [
        word.expand(lambda name: f"<{name}>", lambda inner: f"({inner})\n")
        if isinstance(word, Word)
        else word
        for word in split(line)
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("echo 'a  b' \"c d\" e\\ f", ["echo", "a  b", "c d", "e f"]),
        ("a;b&&c||d", ["a", ";", "b", "&&", "c", "||", "d"]),
        ("a 'b;c' \"d&&e\"", ["a", "b;c", "d&&e"]),
        ("$? \"$name\" '${name}' ${name}x", ["<?>", "<name>", "${name}", "<name>x"]),
        ("a\"$(b ')' c)\"d", ["a(b ')' c)d"]),
        ("a #b", ["a"]),
        ("a#b '' \"\"", ["a#b", "", ""]),
        ("a\nb", ["a", "\n", "b"]),
        ("$ $( )", ["$", "( )"]),
    ],
)
def test_lines(line: str, expected: list[str]) -> None:
    assert words(line) == expected


def test_words_that_expand_to_nothing_vanish_unless_they_are_quoted() -> None:
    found = [word for word in split("$a \"$a\" '' $(b) ${a-x} ${a} a$a") if isinstance(word, Word)]
    values = {"a-x": "x"}
    assert expanded(found, lambda name: values.get(name, ""), lambda _line: "\n") == ["", "", "x", "a"]


@pytest.mark.parametrize("line", ["'", 'a"b', "$(", "$(')"])
def test_open_quote(line: str) -> None:
    with pytest.raises(UnterminatedError):
        split(line)


def test_commands_know_what_joins_them() -> None:
    assert [(joint, len(command)) for joint, command in commands("; a b && c ||\nd; # e")] == [
        (";", 2),
        ("&&", 1),
        (";", 1),
    ]


@given(st.lists(st.text(alphabet="ab '\"\\#", max_size=6), min_size=1, max_size=4))
def test_words_are_those_of_a_real_shell(texts: list[str]) -> None:
    line = " ".join(texts)
    with contextlib.suppress(UnterminatedError):
        found = words(line)
        if "\\" in line:
            return  # in double quotes and at the line's end it has rules that no test needs
        shell = subprocess.run(
            ["dash", "-c", f"printf '%s|' x {line}\n"], capture_output=True, text=True, check=True
        )
        assert shell.stdout == "".join(f"{word}|" for word in ["x", *found])


@given(st.text(max_size=40))
def test_no_line_raises_anything_else(line: str) -> None:
    with contextlib.suppress(UnterminatedError):
        words(line)
