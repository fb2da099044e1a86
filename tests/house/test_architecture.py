"""The files and folders that docs/architecture.md names exist, so a rename is not forgotten there."""

from __future__ import annotations

import re
import subprocess

from tests.support.peers import ROOT

PAGE = ROOT / "docs" / "architecture.md"
NAME = re.compile(r"`([\w/.-]+(?:\.py|\.md|\.proto|/))`")
"""A file of Python, Markdown or protobuf, or a folder, which ends with a slash. Other words are not looked for."""


def test_the_map_names_what_is_there() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [f"/{name}" for name in listed.splitlines()]
    named = set(NAME.findall(PAGE.read_text()))
    assert len(named) > 100
    absent = [name for name in sorted(named) if not any(_leads_to(file, name) for file in files)]
    assert absent == []


def _leads_to(file: str, name: str) -> bool:
    return f"/{name}" in file if name.endswith("/") else file.endswith(f"/{name}")
