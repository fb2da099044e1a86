from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.yaml_files import ConfigError, Document, Mistakes, check_keys, check_value, nearest


def read(folder: Path, text: str) -> Document:
    file = folder / "a.yaml"
    file.write_text(text)
    return Document(file, "steps")


def test_an_error_has_the_line_and_column_of_its_key_or_its_item(tmp_path: Path) -> None:
    document = read(tmp_path, "steps:\n  - power.on:\n  -   serial: {send: 5}\n")
    for path, line, column in [
        (("steps",), 1, 1),
        (("steps", 0), 2, 5),
        (("steps", 1, "serial", "send"), 3, 16),
        (("steps", 1, "serial", "nothing", 3), 3, 7),
        (("what is not there",), 1, 1),
    ]:
        error = document.error(path, "no")
        assert (error.line, error.column) == (line, column)
        assert str(error).startswith(f"{tmp_path / 'a.yaml'}:{line}:{column}: ")


@pytest.mark.parametrize("key", ["2", "1.5", "2020-01-01"])
def test_a_key_of_which_yaml_makes_no_text_is_an_unknown_one(tmp_path: Path, key: str) -> None:
    document = read(tmp_path, f"ports: 1-1\n{key}: x\n")
    with pytest.raises(ConfigError, match=r"unknown key .*; known are ports"):
        check_keys(document, document.data, frozenset({"ports"}), ())


def test_a_file_that_is_not_there_is_another_exit_code_than_a_file_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml: there is no such file; check the path") as caught:
        Document(tmp_path / "a.yaml", "steps")
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "a: 1\nb: c: d\n")
    assert caught.value.exit_code is ExitCode.USAGE


def test_yaml_that_is_none_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml:2:5: this is not YAML"):
        read(tmp_path, "a: 1\nb: c: d\n")
    with pytest.raises(ConfigError, match=r"needs at least `steps:`"):
        read(tmp_path, "")


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (Literal["leave", "on", "off"] | bool, "3", "this is 3; known are leave, off, on"),
        (Literal["leave", "on", "off"] | None, "[off]", r"this is \[False\]; known are leave, off, on"),
        (Literal["leave", "on", "off"], "of", "this is 'of'; did you mean 'off'"),
        (
            Literal["auto"] | int,
            "{}",
            "this is an empty mapping; it takes a whole number or text; of words, known are auto",
        ),
        (bool, "3", "this is 3; it takes true or false"),
    ],
)
def test_a_value_in_the_place_of_a_choice_says_what_there_is_to_choose(
    tmp_path: Path, hint: Any, value: str, words: str
) -> None:
    document = read(tmp_path, f"release: {value}\n")
    with pytest.raises(ConfigError, match=words):
        check_value(document, document.data["release"], hint, ("release",))


def test_a_value_of_another_type_says_which_and_where(tmp_path: Path) -> None:
    document = read(tmp_path, "steps: [1, two]\n")
    with pytest.raises(ConfigError, match=r":1:12: steps\[1\]: this is 'two'; it takes a whole number"):
        check_value(document, document.data["steps"], list[int], ("steps",))


def test_half_of_the_letters_in_common_suggest_nothing() -> None:
    assert nearest("kind", ("uuid", "board")) == "known are board, uuid"


def test_keys_that_are_there_twice_are_collected_and_the_first_one_counts(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: 1\nb: {c: 1, d: 2, c: {c: 1, c: 2}}\na: [{e: 1, e: 2}]\n")
    mistakes = Mistakes()
    document = Document(file, "a", mistakes=mistakes)
    assert document.data == {"a": 1, "b": {"c": 1, "d": 2}}
    assert [str(one).partition(":")[2] for one in mistakes.errors] == [
        "2:17: b.c: 'c' is there twice; keep one",
        "3:1: a: 'a' is there twice; keep one",
    ]
    assert document.error(("b", "c"), "x").column == 5
    with pytest.raises(ConfigError, match="'c' is there twice"):
        Document(file, "a")
