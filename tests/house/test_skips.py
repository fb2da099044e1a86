"""Tests that skip say why: pytest-trio loses the reason of a skip inside an async test, so a fixture does it."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _texts() -> dict[str, str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return {name: (ROOT / name).read_text() for name in listed.stdout.split("\0")[:-1]}


def _skips(tree: ast.Module) -> set[str]:
    """Names of the functions in a file that skip the test in which they are called."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and "pytest.skip(" in ast.unparse(node)
        and not any("fixture" in ast.unparse(one) for one in node.decorator_list)
    }


def test_no_async_function_skips_a_test() -> None:
    texts = _texts()
    trees = {file: ast.parse(text) for file, text in texts.items() if "pytest.skip(" in text}
    skips = {(Path(file).stem, name) for file, tree in trees.items() for name in _skips(tree)}
    assert ("umockdev", "require_umockdev") in skips
    words = {"pytest.skip(", *(name for _, name in skips)}
    found = []
    for file, text in texts.items():
        if "async def" not in text or not any(word in text for word in words):
            continue  # parsing all files takes seconds of a processor
        tree = trees.get(file) or ast.parse(text)
        names = _skips(tree) | {"pytest.skip"}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module.rpartition(".")[2]
                names |= {one.asname or one.name for one in node.names if (module, one.name) in skips}
        found += [
            f"{file}:{call.lineno}: {function.name}"
            for function in ast.walk(tree)
            if isinstance(function, ast.AsyncFunctionDef)
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and ast.unparse(call.func) in names
        ]
    assert not found, "skip in a fixture that is not async"
