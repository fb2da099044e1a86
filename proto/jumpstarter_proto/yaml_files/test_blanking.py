from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.yaml_files import BlankingError, blanked, load_text

WRITTEN = """\
# The host at the window.
hostname: lab-pi
wifi:
  country: DE      # Germany
  ssid: "Lab: upstairs"
  # as on the router
  passphrase: 'it''s # a secret'   # from Ann
pairingCode: HOST-1234

# done
labels: {rack: "3"}
"""


def test_blanks_are_in_the_place_of_a_key_and_its_comment_stays() -> None:
    assert blanked(WRITTEN, ["pairingCode"]) == WRITTEN.replace("pairingCode: HOST-1234", " " * 22)
    secret = "passphrase: 'it''s # a secret'"
    assert blanked(WRITTEN, ["wifi", "passphrase"]) == WRITTEN.replace(secret, " " * len(secret))


def test_what_is_not_there_changes_nothing() -> None:
    assert blanked(WRITTEN, ["wifi", "password"]) == WRITTEN
    assert blanked(WRITTEN, ["hostname", "passphrase"]) == WRITTEN
    assert blanked("# nothing\n", ["wifi"]) == "# nothing\n"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("w: {a: 1, b: 2, c: 3}\n", "w: {a: 1,       c: 3}\n"),
        ("w: {b: 2, c: 3}\n", "w: {      c: 3}\n"),
        ("w: {a: 1, b: 2}\n", "w: {a: 1      }\n"),
        ("w: {b: 2, # it\r\n c: 3}\r\n", "w: {      # it\r\n c: 3}\r\n"),
        ("w: {b: 2}", "w: {    }"),
        (
            "w:\n  b:\n    - 1 # one\n    - 2\n  # c is\n  c: 3\n",
            "w:\n    \n             \n       \n  # c is\n  c: 3\n",
        ),
        ("w:\n  b: |\n    one\n    two\n  c: 3\n", "w:\n      \n       \n       \n  c: 3\n"),
        ("w:\n  b: 2", "w:\n      "),
        ("w:\n  b:\n  c: 3", "w:\n    \n  c: 3"),
        ("w:\r\n  b: one\r\n    two\r\n  c: 3\r\n", "w:\r\n        \r\n       \r\n  c: 3\r\n"),
        ("\ufeffw:\n  b: é\n  c: 3\n", "\ufeffw:\n      \n  c: 3\n"),
    ],
)
def test_the_key_is_found_in_whatever_way_it_is_written(text: str, left: str) -> None:
    assert blanked(text, ["w", "b"]) == left


@pytest.mark.parametrize(
    "text",
    ["w: {b: &one 1, c: *one}\n", "w:\n  a: |+\n    text\n\n  b: 1\n", "w:\n  a: |\n    x\n  b: 'long'\n"],
)
def test_what_another_value_needs_is_not_taken_out(text: str) -> None:
    with pytest.raises(BlankingError, match=r"w\.b"):
        blanked(text, ["w", "b"])


plain = st.text(st.sampled_from("abcXYZ09 :#'\"{},-é[]&*\t"), min_size=1, max_size=12)


@st.composite
def scalars(draw: st.DrawFn) -> str:
    """A value as somebody may write it."""
    value = draw(plain)
    style = draw(st.sampled_from(["'", '"', None]))
    if style is None:
        return draw(st.sampled_from(["DE", "12345678", "a b c", "x#y", "true", "~", "2026-01-01"]))
    return str(yaml.safe_dump(value, default_style=style, allow_unicode=True, width=1000)).strip()


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A file of a person's, and a key in it."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines: list[str] = []
    paths: list[list[str]] = []

    def add(indent: str, key: str, value: str) -> None:
        comment = draw(st.sampled_from(["", "  # why, and how: {so}", "   "]))
        lines.extend(draw(st.lists(st.sampled_from(["", "# a comment", f"{indent}# here: x"]), max_size=2)))
        lines.append(f"{indent}{key}:{value and ' '}{value}{comment}")

    for key in draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)):
        inner = draw(st.lists(st.sampled_from("uvwxyz"), max_size=3, unique=True))
        paths.append([key])
        paths += [[key, name] for name in inner]
        if not inner:
            add("", key, draw(scalars()))
        elif draw(st.booleans()):
            add("", key, "{" + ", ".join(f"{name}: {draw(scalars())}" for name in inner) + "}")
        else:
            add("", key, "")
            indent = " " * draw(st.integers(1, 4))
            for name in inner:
                add(indent, name, draw(scalars()))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return text, draw(st.sampled_from(paths))


@given(files())
def test_the_rest_of_the_file_is_where_and_as_it_was(written: tuple[str, list[str]]) -> None:
    text, path = written
    before = load_text(text)
    is_section = isinstance(before[path[0]], dict) and len(path) == 1
    left = blanked(text, path)
    after = load_text(left) or {}
    at: dict[str, object] = before
    for key in path[:-1]:
        at = at[key]  # type: ignore[assignment]
    del at[path[-1]]
    if len(path) > 1 and not at:
        assert after.pop(path[0]) in (None, {})
        del before[path[0]]
    assert after == before
    changed = [at for at, (one, other) in enumerate(zip(text, left, strict=True)) if one != other]
    assert {left[at] for at in changed} == {" "}
    if not is_section:
        gone = text[changed[0] : changed[-1] + 1]
        assert not set(gone) & {"\r", "\n"}
        for comment in ("# why", "# a comment", "# here"):
            assert left.count(comment) == text.count(comment)
    assert blanked(left, path) == left


def test_a_key_that_a_merge_key_brings_stays() -> None:
    with pytest.raises(BlankingError, match="write it without `<<`"):
        blanked("a: {<<: {b: 1}, c: 2}", ["a", "b"])
