"""Programs in Go are built once, and a build that fails is an error that says why."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import go
from tests.support.peers import PeerUnavailableError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler of our own that copies the source."""
    monkeypatch.setenv("JUMPSTARTER_TEST_CACHE", str(tmp_path / "cache"))
    tools = tmp_path / "tools"
    tools.mkdir()
    compiler = tools / "go"
    compiler.write_text(
        '#!/bin/sh\nif [ "$1" = version ]; then echo go1; exit; fi\n'
        'grep -q broken main.go && { echo "main.go: broken" >&2; exit 1; }\ncp main.go "$4"; chmod +x "$4"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "main.go").write_text("#!/bin/sh\necho hello\n")
    return folder


def test_a_program_is_built_once_and_again_when_its_source_changes(module: Path) -> None:
    built = go.program(module)
    assert subprocess.run([built], capture_output=True, text=True, check=True).stdout == "hello\n"
    built.write_text("kept")
    assert go.program(module) == built
    assert built.read_text() == "kept"
    (module / "main.go").write_text("#!/bin/sh\necho other\n")
    assert go.program(module) != built


def test_what_cannot_be_built_says_why(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (module / "main.go").write_text("broken")
    with pytest.raises(PeerUnavailableError) as error:
        go.program(module)
    assert "main.go: broken" in error.value.summary
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PeerUnavailableError, match="install golang"):
        go.program(module)
