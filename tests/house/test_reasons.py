"""A sentence of our controller that looks like one of 0.9's has a code beside it, so that nobody has to look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

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


def test_nobody_reads_reasons_out_of_sentences() -> None:
    """`jumpstarter_proto.remote.reasons` has the one table."""
    found = []
    for path, tree in _sources(*READERS):
        for node in ast.walk(tree):
            compared = isinstance(node, ast.Compare) and any(
                isinstance(operator, ast.In) for operator in node.ops
            )
            asked = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("startswith", "endswith")
            )
            if not compared and not asked:
                continue
            read = node.comparators if isinstance(node, ast.Compare) else [node.func]  # type: ignore[attr-defined]
            if any(
                isinstance(one, ast.Attribute) and one.attr == "details"
                for part in read
                for one in ast.walk(part)
            ):
                found.append(f"{path}:{node.lineno}")  # type: ignore[attr-defined]
    assert not found
