"""The committed generated code is what proto/generate.py writes today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.peers import ROOT


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    for proto in (ROOT / "proto").glob("jumpstarter_proto/**/*.proto"):
        (tmp_path / proto.relative_to(ROOT / "proto")).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(ROOT / "proto" / "generate.py"), str(tmp_path)], check=True)
    fresh = contents(tmp_path)
    committed = contents(ROOT / "proto")
    assert sorted(fresh) == sorted(committed), "run `make proto` and commit what it writes"
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert stale == [], "run `make proto` and commit what it writes"


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for pattern in ("*_pb2.py", "*_pb2.pyi", "*_grpc.py")
        for path in root.glob(f"jumpstarter_proto/**/{pattern}")
    }
