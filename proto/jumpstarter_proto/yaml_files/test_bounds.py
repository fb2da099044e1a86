"""A YAML file cannot make its reader hang, grow or fail with anything but a sentence."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.yaml_files import ConfigError, Document, load_text, set_values
from jumpstarter_proto.yaml_files.bounds import MAX_DEPTH, MAX_NODES, check_bounds

LAUGHS = "\n".join(
    [f"a0: &a0 [{'x, ' * 9}x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 31))]
)
MERGES = "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 31))])


def refused(file: Path, text: str) -> ConfigError:
    file.write_text(text)
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        Document(file, "steps")
    assert time.monotonic() - begun < 5, (
        "well above what a busy machine needs, well below what the text would cost"
    )
    with pytest.raises(ConfigError):
        Document.load_all(file, "steps")
    with pytest.raises(yaml.YAMLError):
        load_text(text)
    with pytest.raises(yaml.YAMLError):
        set_values(text, {("token",): "x"})
    return caught.value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LAUGHS, f"a.yaml:13:.*more than {MAX_NODES} values"),
        (MERGES, "more than .* values"),
        ("a: 1\nb: &b {c: [*b]}\n", "a.yaml:2:.*'b' contains itself"),
        ("a: &a [*a]\n", "contains itself"),
        ("a:\n" + "- x\n" * (MAX_NODES + 1), "more than .* values"),
        ("x: {a: b}\n" * 100_000, "more than .* values"),
        ("a: " + "[" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels"),
        ("a: " + "[" * 500_000, "levels|flow level"),
        ("a: " + "9" * 900_000, "number of more than"),
        ("a: 1" + ":59" * 300_000, "number of more than"),
        ("a: !!int " + "9" * 900_000, "number of more than"),
    ],
    ids=range(11),
)
def test_what_would_grow_is_refused_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        raise refused(tmp_path / "a.yaml", text)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("2001-13-45", "'2001-13-45' is not a valid timestamp; change it, or put it in quotes without a tag"),
        ("!!timestamp x", "'x' is not a valid timestamp; change it"),
        ("!!int x", "'x' is not a valid int; change it"),
        ("!!int ''", "'' is not a valid int; change it"),
        ("!!float x", "'x' is not a valid float; change it"),
        ("!!float " + "x" * 90, "'" + "x" * 37 + "...' is not a valid float; change it"),
        ("!!bool x", "'x' is not a valid bool; change it"),
        ("!!binary ü", "'ü' is not a valid binary; change it"),
        ("!board x", "the tag '!board' is not known; leave it out"),
        ("!!python/name:os.system x", "the tag '!!python/name:os.system' is not known; leave it out"),
        ("!!python/object/apply:os.system [x]", "the tag '!!python/object/apply:os.system' is not known"),
    ],
)
@pytest.mark.parametrize("before", ["a: 1\nb: ", "a: 1\nb: {c: [1, "])
def test_a_value_that_is_not_of_its_type_is_a_sentence_with_its_place(
    tmp_path: Path, before: str, value: str, sentence: str
) -> None:
    last = before.rpartition("\n")[2]
    after = "]}" if "[" in last else ""
    error = refused(tmp_path / "a.yaml", f"{before}{value}{after}\n")
    assert sentence in error.message
    assert (error.line, error.column) == (2, len(last) + 1)
    assert "<" not in error.message
    assert "not YAML" not in error.message


def test_a_key_that_is_not_of_its_type_is_a_sentence_with_its_place(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.yaml", "a: 1\n2001-13-45: 1\n")
    assert "'2001-13-45' is not a valid timestamp" in error.message
    assert (error.line, error.column) == (2, 1)


def test_what_people_write_with_anchors_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("base: &base {a: 1, b: [x, y]}\none: {<<: *base, a: 2}\ntwo: *base\n")
    document = Document(file, "base")
    assert document.data["one"] == {"a": 2, "b": ["x", "y"]}
    assert document.data["two"] == document.data["base"]


TREES = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=4)
    ),
    max_leaves=30,
)


def size(data: Any) -> int:
    match data:
        case dict():
            return 1 + sum(1 + size(value) for value in data.values())
        case list():
            return 1 + sum(map(size, data))
    return 1


@given(TREES, st.integers(2, 5))
def test_an_alias_counts_as_all_that_it_stands_for(tree: Any, times: int) -> None:
    text = yaml.safe_dump({"all": [tree] * times})  # a list or mapping that is there again becomes an alias
    whole = size({"all": [tree] * times})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jumpstarter_proto.yaml_files.bounds.MAX_NODES", whole)
        check_bounds(text)
        patch.setattr("jumpstarter_proto.yaml_files.bounds.MAX_NODES", whole - 1)
        with pytest.raises(yaml.YAMLError, match="values"):
            check_bounds(text)


@given(st.text(st.sampled_from("ab:-?[]{},&*!|>'\"#%\n\t 019.<=~é\x85\u2028")))
def test_any_text_is_data_or_an_error_of_yaml(text: str) -> None:
    with suppress(yaml.YAMLError):
        load_text(text)
