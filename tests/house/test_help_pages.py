"""Help pages of daemons: what cyclopts would print differently from what stands in the docstring."""

from __future__ import annotations

import ast
from itertools import chain

import pytest

from tests.house.rooms import Module, modules

CLI = [
    module
    for module in chain(modules("jumpstarter_exporter"), modules("jumpstarter_controller"))
    if ".cli." in module.name and not module.is_test
]


@pytest.mark.parametrize("module", CLI, ids=lambda module: module.name)
def test_a_sentence_stands_between_a_summary_and_its_examples(module: Module) -> None:
    """Without one, the first example loses its indentation."""
    found = [
        f"{module.path}:{node.lineno}: {node.name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node))
        and [*text.split("\n\n"), ""][1].lstrip().startswith("jumpstarter-")
    ]
    assert not found, "write a sentence before the examples"
