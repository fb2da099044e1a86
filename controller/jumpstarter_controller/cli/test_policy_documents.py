"""Policies as people write them, and the sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_controller.cli.policy_documents import read_policies, written
from jumpstarter_controller.selectors import parse

FILE = Path("policies.yaml")
TEXT = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata:
  name: boards
spec:
  exporterSelector:
    matchLabels:
      board: rpi4
    matchExpressions:
      - {key: rack, operator: In, values: [b, a]}
      - {key: broken, operator: DoesNotExist}
  policies:
    - description: CI first
      priority: 20
      from:
        - clientSelector: {matchLabels: {team: ci}}
        - clientSelector: {matchLabels: {team: release}}
      maximumDuration: 1h30m
    - from:
        - clientSelector: {}
      maximumDuration: 10m0s
---
# Nothing here.
---
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: rest, namespace: other}
spec: {}
"""


def read(text: str) -> list[pb.Policy]:
    return read_policies(FILE, text, "default")


def test_a_file_of_several() -> None:
    boards, rest = read(TEXT)
    assert boards == pb.Policy(
        namespace="default",
        name="boards",
        exporters="board=rpi4,!broken,rack in (a,b)",
        rules=[
            pb.PolicyRule(
                clients=["team=ci", "team=release"],
                priority=20,
                maximum_duration=5400,
                description="CI first",
            ),
            pb.PolicyRule(clients=[""], maximum_duration=600),
        ],
    )
    assert rest == pb.Policy(namespace="other", name="rest")
    assert read(written([boards, rest])) == [boards, rest]


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("kind: ExporterAccessPolicy", "kind: Exporter", 2, "has to be ExporterAccessPolicy"),
        ("apiVersion: jumpstarter.dev/v1alpha1", "apiVersion: v1", 1, "has to be jumpstarter.dev/v1alpha1"),
        ("  name: boards", "  nam: boards", 4, "did you mean 'name'?"),
        ("  name: boards", "  name: 7", 4, "YAML reads this as 7; to make it text, put it in quotes"),
        ("exporterSelector:", "exporterselector:", 6, "did you mean 'exporterSelector'?"),
        ("      board: rpi4", "      board: on", 8, "YAML reads this as true"),
        ("      board: rpi4", "      board: 'a b'", 6, "a b"),
        ("operator: In,", "operator: Is,", 10, "'Is' is none of In, NotIn, Exists, DoesNotExist"),
        ("values: [b, a]", "values: []", 10, "needs values"),
        ("operator: DoesNotExist", "operator: Exists, values: [x]", 11, "takes no values"),
        ("priority: 20", "priority: high", 14, "this is 'high'; it takes a whole number"),
        ("priority: 20", f"priority: {2**31}", 14, "smaller"),
        ("priority: 20", "spotAccess: true", 14, "lower priority"),
        ("maximumDuration: 1h30m", "maximumDuration: 90", 18, "YAML reads this as 90"),
        ("maximumDuration: 1h30m", "maximumDuration: soon", 18, "1h30m"),
        ("maximumDuration: 1h30m", "maximumDuration: 0s", 18, "is zero"),
        ("      maximumDuration: 1h30m", "      maximumduration: 1h", 18, "did you mean 'maximumDuration'?"),
        ("name: rest, namespace: other", "name: boards", 27, "is there twice"),
        ("spec: {}", "spec: []", 28, "this is an empty list; it takes keys with values"),
        ("  exporterSelector:", "  exporterSelector: {", 8, "this is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, sentence: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(ConfigError) as caught:
        read(TEXT.replace(old, new, 1))
    assert sentence in str(caught.value)
    assert caught.value.line == line, str(caught.value)


def test_no_spot_access_is_fine() -> None:
    assert read(TEXT.replace("priority: 20", "spotAccess: false"))[0].rules[0].priority == 0


SELECTORS = st.sampled_from(["", "a=b", "a in (b,c),d", "!e,f notin (g)", "a=b,c=d"])


@given(
    st.lists(
        st.tuples(
            st.lists(SELECTORS, max_size=3),
            st.integers(-(2**31), 2**31 - 1),
            st.one_of(st.none(), st.integers(1, 10**9).map(lambda ms: ms / 1000)),
            st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20),
        ),
        max_size=3,
    ),
    SELECTORS,
)
def test_what_is_written_reads_the_same(
    rules: list[tuple[list[str], int, float | None, str]], exporters: str
) -> None:
    policy = pb.Policy(namespace="default", name="p", exporters=str(parse(exporters)))
    for clients, priority, limit, description in rules:
        rule = policy.rules.add(
            clients=[str(parse(one)) for one in clients], priority=priority, description=description
        )
        if limit is not None:
            rule.maximum_duration = limit
    assert read(written([policy])) == [policy]
