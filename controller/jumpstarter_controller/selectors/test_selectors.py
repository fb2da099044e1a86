"""Selectors mean what Kubernetes documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_controller.selectors import Operator, Requirement, Selector, SelectorError, parse

CANONICAL = [
    ("", ""),
    ("board=rpi4", "board=rpi4"),
    ("board == rpi4", "board=rpi4"),
    ("b=1,a=2", "a=2,b=1"),
    ("a!=x", "a notin (x)"),
    ("a!=y,a!=x", "a notin (x,y)"),
    ("c in (d,e),a=b,f notin (g)", "a=b,c in (d,e),f notin (g)"),
    ("e in (d, c ,d)", "e in (c,d)"),
    ("k in (a)", "k in (a)"),
    ("key", "key"),
    ("! key", "!key"),
    ("a=", "a="),
    ("a in (,b)", "a in (,b)"),
    ("a in ()", "a in ()"),
    ("x in (in)", "x in (in)"),
    ("jumpstarter.dev/name=one", "jumpstarter.dev/name=one"),
    ("ram>2,ram<9", "ram>2,ram<9"),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert parse(canonical) == parse(text)


NONSENSE = [
    *("=", "a=b=c", "a in", "a in (b", "a in b", "a notin", "(a)", "a,,b", ",", "a b", "in (a)", "a=_x"),
    *("a/b/c=1", "!", "!a=b", "a>", "a>b", "-a", "a=" + "x" * 64, "A/b=1", "a in (b c)", "x" * 9000),
]


@pytest.mark.parametrize("text", NONSENSE)
def test_invalid_input_is_rejected(text: str) -> None:
    with pytest.raises(SelectorError):
        parse(text)


def test_two_values_for_one_label() -> None:
    with pytest.raises(SelectorError, match=r"a in \(1,2\)"):
        parse("a=1,a=2")


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a!=x", {}, True),
        ("a notin (x,y)", {"a": "y"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a in (x,y)", {"a": "x"}, True),
        ("a in (x,y)", {}, False),
        ("a=", {"a": ""}, True),
        ("a=", {}, False),
        ("n>2", {"n": "3"}, True),
        ("n>2", {"n": "2"}, False),
        ("n<2", {"n": "x"}, False),
        ("n<2", {}, False),
        ("", {}, True),
    ],
)
def test_matching(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse(text).matches(labels) is matches


names = st.from_regex(r"[a-z]{1,3}", fullmatch=True).filter(lambda name: name not in {"in"})
operators = st.sampled_from(
    [Operator.EQUALS, Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST]
)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(operators)
    values: set[str] = set()
    if operator is Operator.EQUALS:
        values = {draw(names)}
    elif operator in {Operator.IN, Operator.NOT_IN}:
        values = draw(st.sets(names, min_size=1, max_size=3))
    return Requirement(draw(names), operator, tuple(sorted(values)))


@given(st.lists(requirements(), max_size=5), st.dictionaries(names, names, max_size=4))
def test_text_and_meaning_survive_each_other(given: list[Requirement], labels: dict[str, str]) -> None:
    try:
        selector = Selector.of(given)
    except SelectorError:
        return
    again = parse(str(selector))
    assert again == selector
    assert selector.matches(labels) == all(one.matches(labels) for one in given)


@given(st.text(alphabet="ab=!(),<> in", max_size=20))
def test_any_text_is_a_selector_or_an_error(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError:
        return
    assert str(parse(str(selector))) == str(selector)
