"""Label selectors with Kubernetes' grammar: parsing, matching, and the one canonical text of each."""

from jumpstarter_controller.selectors.grammar import parse
from jumpstarter_controller.selectors.labels import check_labels
from jumpstarter_controller.selectors.selector import (
    EVERYTHING,
    Operator,
    Requirement,
    Selector,
    SelectorError,
)

__all__ = ["EVERYTHING", "Operator", "Requirement", "Selector", "SelectorError", "check_labels", "parse"]
