"""Each promise of docs/reliability.md names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| .*\| `(?P<path>[^`:]+)::(?P<name>\w+)` \|$", re.MULTILINE)


def test_promises_are_held_by_tests() -> None:
    text = (ROOT / "docs/reliability.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    named = [(match["path"], match["name"]) for match in ROW.finditer(text)]
    headings = text.count("| promise | test |")
    assert len(named) == len(rows) - headings > 20
    absent = [f"{path}::{name}" for path, name in named if not _has(ROOT / path, name)]
    assert absent == []


def _has(file: Path, name: str) -> bool:
    pattern = rf"^(async )?(def {name}\(|{name} = )"
    return file.exists() and re.search(pattern, file.read_text(), re.MULTILINE) is not None
