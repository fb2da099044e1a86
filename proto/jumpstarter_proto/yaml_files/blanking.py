"""Takes one key out of a YAML file that a person wrote by blanks in its place: no other character moves or changes.

So the file can be changed in place, where a new file beside it is not safe: FAT has no journal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from jumpstarter_proto.yaml_files.bounds import load_text

__all__ = ["BlankingError", "blanked"]


class BlankingError(ValueError):
    """Without the key, the text would say something else than before in another place."""


def blanked(text: str, path: Sequence[str]) -> str:
    """The text with blanks in place of the key at this path and of what it says; as it was if there is no such key.

    Line ends, and a comment behind the value, stay. Between braces one comma goes as well.

    Raises:
        BlankingError: an alias, or a text of several lines before the key, needs what is there.
        yaml.YAMLError: it is no YAML.
    """
    before = load_text(text)
    if not _has(before, path):
        return text
    # The composer in Python: its marks count characters, whatever is before them.
    node: Any = yaml.compose(text, yaml.SafeLoader)
    parent, index = node, 0
    for key in path:
        parent = node
        pairs = ((number, value) for number, (name, value) in enumerate(parent.value) if name.value == key)
        found = next(pairs, None)
        if found is None:  # a merge key (`<<`) brings it from another place
            raise BlankingError(f"{'.'.join(path)} cannot be removed; write it without `<<`")
        index, node = found
    begin, end = parent.value[index][0].start_mark.index, _end(text, parent.value[index])
    if parent.flow_style:
        begin, end = _with_comma(text, parent, index, begin, end)
    result = text[:begin] + re.sub(r"[^\r\n]", " ", text[begin:end]) + text[end:]
    try:
        after = load_text(result)
    except yaml.YAMLError:
        after = BlankingError
    if not _is_same(after, _without(before, path)):
        raise BlankingError(f"{'.'.join(path)} cannot be removed; write it on a separate line")
    return result


def _has(data: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def _without(data: Any, path: Sequence[str]) -> Any:
    key, *rest = path
    if rest:
        return {**data, key: _without(data[key], rest)}
    return {name: value for name, value in data.items() if name != key}


def _is_same(one: Any, other: Any) -> bool:
    """Whether it is the same data, where a mapping that has lost its only key is nothing at all."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    return (one or None) == (other or None) if {} in (one, other) else bool(one == other)


def _end(text: str, pair: tuple[yaml.Node, yaml.Node]) -> int:
    key, value = pair
    if isinstance(value, yaml.ScalarNode) and not value.value and value.style is None:
        return text.index(":", key.end_mark.index) + 1
    if isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]  # its mark is where the next thing begins, behind comments
        return _end(text, last if isinstance(last, tuple) else (last, last))
    end: int = value.end_mark.index
    return end


def _with_comma(text: str, parent: Any, index: int, begin: int, end: int) -> tuple[int, int]:
    """With the comma behind, or before the last key."""
    is_last = index + 1 == len(parent.value)
    stop = parent.end_mark.index - 1 if is_last else parent.value[index + 1][0].start_mark.index
    comma = _comma(text, end, stop)
    if comma is not None:
        return begin, comma + 1
    if index:
        comma = _comma(text, _end(text, parent.value[index - 1]), begin)
        if comma is not None and not text[comma + 1 : begin].strip():
            return comma, end
    return begin, end


def _comma(text: str, begin: int, end: int) -> int | None:
    """Where the comma is between two values, if it is there and nothing but blanks before it."""
    at = begin
    while at < end and text[at] in " \t\r\n":
        at += 1
    return at if at < end and text[at] == "," else None
