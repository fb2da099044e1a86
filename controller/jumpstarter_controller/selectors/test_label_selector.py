"""Selectors as Kubernetes' objects have them."""

from __future__ import annotations

import pytest

from jumpstarter_controller.selectors import SelectorError
from jumpstarter_controller.selectors.label_selector import label_selector, selector_text
from jumpstarter_controller.selectors.test_selectors import CANONICAL


@pytest.mark.parametrize("text", [canonical for _, canonical in CANONICAL])
def test_a_canonical_text_comes_back(text: str) -> None:
    assert selector_text(label_selector(text)) == text


def test_one_label_and_one_expression() -> None:
    found = label_selector("board=rpi4,site in (a,b),!broken")
    assert found == {
        "matchLabels": {"board": "rpi4"},
        "matchExpressions": [
            {"key": "broken", "operator": "DoesNotExist"},
            {"key": "site", "operator": "In", "values": ["a", "b"]},
        ],
    }


def test_none_and_empty_are_everything() -> None:
    assert selector_text(None) == selector_text({}) == selector_text({"matchLabels": None}) == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], "object"),
        ({"matchLabels": {"a": 1}}, "str"),
        ({"matchLabels": {"a b": ""}}, "label key"),
        ({"matchExpressions": [{"key": "a", "operator": "Like"}]}, "'Like' is none of"),
        ({"matchExpressions": [{"key": "a", "operator": "="}]}, "'=' is none of"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "In needs values"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}, "takes no values"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}, "value 'b c'"),
        ({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["x"]}]}, "integer"),
    ],
)
def test_what_kubernetes_would_not_take_is_said(data: object, why: str) -> None:
    with pytest.raises(SelectorError, match=why):
        selector_text(data)
