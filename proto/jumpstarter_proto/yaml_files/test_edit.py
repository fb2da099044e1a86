from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_proto.yaml_files import set_values

CHANGES: dict[tuple[str, ...], str | bool] = {
    ("metadata", "namespace"): "default",
    ("metadata", "name"): "rpi4-1",
    ("endpoint",): "lab:8082",
    ("tls", "ca"): "QUJD",
    ("tls", "insecure"): False,
    ("token",): "a.b.c",
}
WRITTEN = """\
# The board in rack 3.
kind: ExporterConfig
metadata:
  name: old   # as on its label
endpoint: "elsewhere:1"   # the lab's

# What hangs here.
export:
  # its relay
  power: {type: power.GpioRelay, config: {pin: 17}}
"""


def test_comments_and_order_stay() -> None:
    assert set_values(WRITTEN, CHANGES) == WRITTEN.replace(
        "  name: old   # as on its label\n", "  name: rpi4-1   # as on its label\n  namespace: default\n"
    ).replace(
        'endpoint: "elsewhere:1"   # the lab\'s\n',
        "endpoint: 'lab:8082'   # the lab's\ntls:\n  ca: QUJD\n  insecure: false\ntoken: a.b.c\n",
    )
    assert set_values(set_values(WRITTEN, CHANGES), CHANGES) == set_values(WRITTEN, CHANGES)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "token: a.b.c\n"),
        ("# nothing yet", "# nothing yet\ntoken: a.b.c\n"),
        ("token:   # none\n", "token: a.b.c   # none\n"),
        ("export: {}", "export: {}\ntoken: a.b.c\n"),
        ("{export: {}}\n", "{export: {}, token: a.b.c}\n"),
        ("export:\n  a:\n    ref: b\n\n# end\n", "export:\n  a:\n    ref: b\ntoken: a.b.c\n\n# end\n"),
        ("token: >\n  folded\n# lost\n", "token: a.b.c\n"),
        ("---\nkind: x\n...\n", "---\nkind: x\ntoken: a.b.c\n...\n"),
    ],
)
def test_odd_files(before: str, after: str) -> None:
    assert set_values(before, {("token",): "a.b.c"}) == after


@pytest.mark.parametrize("text", ["[1]", "word", "a: b: c"])
def test_what_is_not_a_mapping(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        set_values(text, {("token",): "x"})


KEYS = st.sampled_from(["metadata", "name", "tls", "ca", "endpoint", "token", "export", "kind", "x y", "on"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)


@example({}, {("metadata",): "\x85"}, None)
@given(
    st.dictionaries(KEYS, VALUES, max_size=5),
    st.dictionaries(st.tuples(KEYS) | st.tuples(KEYS, KEYS), st.text(max_size=8) | st.booleans(), max_size=4),
    st.sampled_from([None, True, False]),
)
def test_only_what_was_asked_for_changes(
    data: dict[str, Any], changes: dict[tuple[str, ...], str | bool], style: bool | None
) -> None:
    text = yaml.safe_dump(data, default_flow_style=style, sort_keys=False)
    expected = data
    for path, value in changes.items():
        expected = with_value(expected, path, value)
    assert yaml.safe_load(set_values(text, changes)) == expected


def with_value(data: Any, path: tuple[str, ...], value: str | bool) -> Any:
    if not path:
        return value
    base = data if isinstance(data, dict) else {}
    return base | {path[0]: with_value(base.get(path[0]), path[1:], value)}
