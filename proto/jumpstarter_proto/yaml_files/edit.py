"""Changes to a few values in a YAML file that a person wrote: everything else stays as it is, comments too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import yaml

from jumpstarter_proto.yaml_files.bounds import load_text

__all__ = ["set_values"]

Value: TypeAlias = "str | bool | list[str]"


class _NotByTextError(Exception):
    """This place cannot be changed without writing the file anew."""


def set_values(text: str, changes: Mapping[tuple[str, ...], Value]) -> str:
    """YAML in which the values at these paths are set; mappings on the way are made where there are none.

    A file that is written too cleverly for that (anchors, block scalars, a value where a mapping has to be) is
    written anew, and its comments are lost; its data never is.

    Raises:
        yaml.YAMLError: it is no YAML, or no mapping.
    """
    before = load_text(text)
    if before is None:
        before = {}
    if not isinstance(before, dict):
        raise yaml.YAMLError("it has to have keys with values")
    wanted = _merged(before, changes)
    try:
        result = text
        for path, value in changes.items():
            result = _set(result, path, value)
        if load_text(result) == wanted:
            return result
    except (_NotByTextError, yaml.YAMLError):
        pass
    return yaml.safe_dump(wanted, sort_keys=False)


def _merged(data: dict[Any, Any], changes: Mapping[tuple[str, ...], Value]) -> dict[Any, Any]:
    result = dict(data)
    for path, value in changes.items():
        key, *rest = path
        inner = result.get(key)
        result[key] = (
            _merged(inner if isinstance(inner, dict) else {}, {tuple(rest): value}) if rest else value
        )
    return result


def _set(text: str, path: tuple[str, ...], value: Value) -> str:
    node = yaml.compose(text, yaml.SafeLoader)
    if node is None:
        return text + ("" if not text or text.endswith("\n") else "\n") + _block(path, value, 0)
    for depth, key in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            raise _NotByTextError
        found = next((pair for pair in node.value if pair[0].value == key), None)
        if found is None:
            return _added(text, node, path[depth:], value)
        key_node, node = found
        if isinstance(node, yaml.ScalarNode) and not node.value and node.style is None:
            # `tls:` with nothing behind it
            at = text.index(":", key_node.end_mark.index) + 1
            return text[:at] + " " + _flow(path[depth + 1 :], value) + text[at:]
    if isinstance(node, yaml.SequenceNode):
        return text[: node.start_mark.index] + _scalar(value) + text[_end(node, node) :]
    if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
        raise _NotByTextError
    return text[: node.start_mark.index] + _scalar(value) + text[node.end_mark.index :]


def _added(text: str, mapping: yaml.MappingNode, path: tuple[str, ...], value: Value) -> str:
    if mapping.flow_style:
        at = mapping.end_mark.index - 1  # the brace
        comma = ", " if mapping.value else ""
        return text[:at] + comma + f"{path[0]}: {_flow(path[1:], value)}" + text[at:]
    known = [pair for pair in mapping.value if pair[0].value in _HEADER] or mapping.value
    end = _end(known[-1][1], known[-1][0])
    if not text[:end].endswith("\n"):
        end = text.find("\n", end) + 1
        if not end:
            text, end = text + "\n", len(text) + 1
    column = mapping.value[0][0].start_mark.column
    return text[:end] + _block(path, value, column) + text[end:]


_HEADER = ("apiVersion", "kind", "metadata", "endpoint", "tls", "token")
"""What is added goes behind the last of these, if there is one: people expect it at the top."""


def _end(node: yaml.Node, fallback: yaml.Node) -> int:
    """Where a node's text ends; for a block its mark is where the next thing begins, behind comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1], last[0]) if isinstance(last, tuple) else _end(last, fallback)
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and not node.value and node.style is None:
        end = fallback.end_mark.index
    return end


def _block(path: tuple[str, ...], value: Value, column: int) -> str:
    lines = [f"{' ' * (column + 2 * depth)}{key}:" for depth, key in enumerate(path)]
    return "\n".join(lines) + f" {_scalar(value)}\n"


def _flow(path: tuple[str, ...], value: Value) -> str:
    return f"{{{path[0]}: {_flow(path[1:], value)}}}" if path else _scalar(value)


def _scalar(value: Value) -> str:
    """As it may stand anywhere, also inside of braces; escaped, for PyYAML does not read all that it writes."""
    return yaml.safe_dump([value], default_flow_style=True, width=2**31).strip()[1:-1]
