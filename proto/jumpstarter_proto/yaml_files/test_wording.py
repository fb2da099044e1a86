"""A value that does not fit is said in words of YAML, whatever the type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.yaml_files import ConfigError, Document, check_value
from jumpstarter_proto.yaml_files.values import convert
from jumpstarter_proto.yaml_files.wording import UNKNOWN_VALUE, reworded

QUOTES = "to make it text, put it in quotes"


@pytest.mark.parametrize(
    ("hint", "text", "sentence"),
    [
        (str, "on", f":1:1: value: YAML reads this as true; {QUOTES}"),
        (Path, "5", f":1:1: value: YAML reads this as 5; {QUOTES}"),
        (str, "", ":1:1: value: this is empty; it takes text"),
        (dict[str, str], "{a: b, c: 1}", f":1:15: value.c: YAML reads this as 1; {QUOTES}"),
        (
            dict[str, list[int]],
            "{a: [1], b: [2, x]}",
            ":1:24: value.b[1]: this is 'x'; it takes a whole number",
        ),
        (
            dict[str, dict[str, int]],
            "{a: {b: c}}",
            ":1:9: value.a: this is a mapping; it takes a whole number",
        ),
        (dict[int, str], "{x: a}", ":1:9: value.x: as a key, this is 'x'; it takes a whole number"),
        (dict[str, str], "{1: a}", f":1:1: value[1]: as a key, YAML reads this as 1; {QUOTES}"),
        (dict[str, dict[str, int]], "{x: {1: 2}}", "value.x: as a key, it takes text; put it in quotes"),
        (int | None, "[]", ":1:1: value: this is an empty list; it takes a whole number"),
        (list[int] | bool, "3", ":1:1: value: this is 3; it takes true or false or a list"),
        (Annotated[int, msgspec.Meta(gt=0)], "0", "this is 0; it takes a whole number, at least 1"),
        (
            Annotated[str, msgspec.Meta(min_length=1)],
            "''",
            "this is ''; it takes text of at least 1 character",
        ),
        (Annotated[list[int], msgspec.Meta(max_length=2)], "[1, 2, 3]", "takes a list of at most 2 items"),
        (tuple[int, int], "[1]", "this is a list; it takes a list of 2 items"),
        (Annotated[str, msgspec.Meta(pattern="^a")], "b", "this is 'b'; it takes text that matches '^a'"),
    ],
)
def test_what_stands_there_and_what_it_takes(tmp_path: Path, hint: Any, text: str, sentence: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"value: {text}\n")
    document = Document(file, "value")
    with pytest.raises(ConfigError) as caught:
        check_value(document, document.data["value"], hint, ("value",))
    assert str(caught.value).endswith(sentence)


def test_a_secret_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("passphrase: 12345678\n")
    document = Document(file, "passphrase")
    with pytest.raises(ConfigError, match=r"passphrase: it takes text; put it in quotes$"):
        check_value(document, 12345678, str, ("passphrase",))
    for name in ("X-Token", "Authorization", "api-key"):  # also below another name, as that of an HTTP header
        with pytest.raises(ConfigError, match=rf"headers\.{name}: it takes text; put it in quotes$"):
            check_value(document, {"Accept": "text/plain", name: 12345678}, dict[str, str], ("headers",))
    with pytest.raises(ConfigError, match=r"tokens\[1\]: it takes text; put it in quotes$"):
        check_value(document, ["x", 12345678], list[str], ("tokens",))
    assert reworded("Expected `int`, got `str`", UNKNOWN_VALUE) == "it takes a whole number"


HINTS = st.recursive(
    st.sampled_from([int, float, bool, str, str | None, Annotated[int, msgspec.Meta(ge=3)]]),
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),  # type: ignore[valid-type]
        inner.map(lambda hint: dict[str, hint]),  # type: ignore[valid-type]
    ),
    max_leaves=3,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(HINTS, VALUES)
def test_no_word_of_python_is_left(hint: Any, value: object) -> None:
    try:
        convert(value, hint)
    except ValueError as error:
        said = reworded(str(error).partition(" - at ")[0], value)
        assert "`" not in said
        assert "Expected" not in said
