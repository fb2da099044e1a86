"""A sentence of our controller that looks like one of 0.9's has a code beside it, so that nobody has to look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from jumpstarter_proto.remote import ReasonCode, means
from jumpstarter_proto.rpc import RpcError, StatusCode

ROOT = Path(__file__).parents[2]
READERS = ("client/jumpstarter_client", "exporter/jumpstarter_exporter", "drivers/jumpstarter_drivers")


def _sources(*folders: str) -> Iterator[tuple[Path, ast.AST]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.name.startswith("test_") and path.name != "conftest.py":
                yield path.relative_to(ROOT), ast.parse(path.read_text())


def _errors(tree: ast.AST) -> Iterator[tuple[int, RpcError]]:
    """Each RpcError that is made of a status and a text, with what is put into the text left out."""
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RpcError"
        ):
            continue
        if len(node.args) != 2 or not isinstance(node.args[0], ast.Attribute):
            continue
        code = StatusCode.__members__.get(node.args[0].attr)
        texts = [one.value for one in ast.walk(node.args[1]) if isinstance(one, ast.Constant)]
        if code is not None:
            yield node.lineno, RpcError(code, "".join(map(str, texts)))


def test_what_looks_like_a_reason_has_its_code() -> None:
    found = [
        f"{path}:{line}: {error.details}"
        for path, tree in _sources("controller/jumpstarter_controller")
        for line, error in _errors(tree)
        if means(error, *ReasonCode)
    ]
    assert not found, "use jumpstarter_proto.remote.refused"


READING = frozenset(
    [
        "startswith",
        "endswith",
        "find",
        "index",
        "count",
        "match",
        "fullmatch",
        "search",
        "findall",
        "finditer",
        "split",
        "rsplit",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
    ]
)
"""Methods of texts and of regular expressions that tell one sentence from another."""
FOR_PEOPLE = {
    # The sentence is shown with another next step.
    "client/jumpstarter_client/connections/refusals.py": 1,
    "client/jumpstarter_client/identity/rejected_token.py": 1,
    # The sentences of our own connections, which no peer has said.
    "client/jumpstarter_client/cli/login.py": 2,
    "client/jumpstarter_client/transport/reconnect.py": 1,
}
"""How often a file takes a sentence apart to show it. What is done depends on codes."""


def readings(tree: ast.AST) -> Iterator[int]:
    """The lines that read in the sentence of an error, or in a variable of the same function that has it."""
    functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {line for scope in (tree, *functions) for line in _readings(scope, _holders(scope, tree))}
    yield from sorted(lines)


def _readings(scope: ast.AST, names: set[str]) -> Iterator[int]:
    def has_sentence(node: ast.AST) -> bool:
        return _names_details(node) or (isinstance(node, ast.Name) and node.id in names)

    for node in ast.walk(scope):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            if any(isinstance(one, ast.In | ast.NotIn | ast.Eq | ast.NotEq) for one in node.ops) and any(
                map(has_sentence, operands)
            ):
                yield node.lineno
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READING
        ):
            if any(map(has_sentence, (node.func.value, *node.args))):
                yield node.lineno
        elif isinstance(node, ast.Match) and has_sentence(node.subject):
            yield node.lineno


def _holders(scope: ast.AST, module: ast.AST) -> set[str]:
    """The variables that are given a sentence, or a part of one. Those of functions are not the module's."""
    if scope is module and any(
        isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in ast.walk(scope)
    ):
        return set()
    names: set[str] = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(map(_names_details, ast.walk(value))):
            names.update(
                one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
            )
    return names


def _names_details(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "details"


def test_nobody_reads_reasons_out_of_sentences() -> None:
    """`jumpstarter_proto.remote.reasons` has the one table."""
    found: dict[str, list[int]] = {}
    for path, tree in _sources(*READERS):
        if lines := list(readings(tree)):
            found[str(path)] = lines
    assert {path: len(lines) for path, lines in found.items()} == FOR_PEOPLE, found


@pytest.mark.parametrize(
    "code",
    [
        *('"x" in error.details', '"x" not in error.details', 'error.details == "x"', '"x" != error.details'),
        *('error.details.startswith("x")', 'error.details.partition("; ")', 're.search("x", error.details)'),
        *("X.fullmatch(error.details)", 'error.details.split(":")', "error.details.removeprefix(X)"),
        "match error.details:\n  case 'x': pass",
    ],
)
def test_reading_is_found_in_each_form(code: str) -> None:
    assert list(readings(ast.parse(code))) == [1]
    elsewhere = code.replace("error.details", "said")
    assert list(readings(ast.parse(f"def f():\n said = error.details\n {elsewhere}"))) == [3]
    assert not list(readings(ast.parse(f"def f():\n said = error.details\ndef g():\n {elsewhere}")))


def test_reading_is_found_in_a_part_of_a_sentence() -> None:
    code = 'def f():\n _, _, step = error.details.partition("; ")\n return step in ("", "x")'
    assert list(readings(ast.parse(code))) == [2, 3]
