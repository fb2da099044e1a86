"""Completion of the programs for hosts and labs, in real shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.exporters import scripts

TAB = """
source "$1"
COMP_WORDS=("$2" "${@:3}"); COMP_CWORD=$#; COMP_CWORD=$((COMP_CWORD - 2))
function=$(complete -p "$2"); function=${function#*-F }; "${function%% *}" "$2" "${@: -1}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        ("jumpstarter-exporter", [""], {"run", "check", "boards", "completion"}),
        ("jumpstarter-exporter", ["boards", "-o", ""], {"text", "json", "yaml", "name"}),
        ("jumpstarter-controller", ["ad"], {"admin"}),
        ("jumpstarter-controller", ["run", "--with-"], {"--with-router"}),
        ("jumpstarter-exporter", ["check", "la"], {"lab.yaml"}),
        ("jumpstarter-exporter", ["run", "--config", "la"], {"lab.yaml"}),
        ("jumpstarter-exporter", ["boards", "la"], set()),
    ],
)
def test_bash_completes_commands_options_and_their_values(
    tmp_path: Path, program: str, words: list[str], expected: set[str]
) -> None:
    file = tmp_path / "completion"
    (tmp_path / "lab.yaml").touch()
    file.write_bytes(subprocess.check_output([scripts() / program, "completion", "bash"]))
    command = ["bash", "--norc", "-c", TAB, "tab", file, program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == ""
    assert expected <= set(done.stdout.split())
    assert expected or not done.stdout.split()


@pytest.mark.skipif(shutil.which("fish") is None, reason="missing: fish; apt install fish")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("jumpstarter-exporter check lab.y", "lab.yaml"),
        ("jumpstarter-exporter run --config lab.y", "lab.yaml"),
        ("jumpstarter-exporter boards lab.y", ""),
        ("jumpstarter-exporter lab.y", ""),
        ("jumpstarter-controller admin restore lab.y", "lab.yaml"),
        ("jumpstarter-controller admin lab.y", ""),
    ],
)
def test_fish_offers_names_of_files_only_where_they_fit(tmp_path: Path, words: str, expected: str) -> None:
    file = tmp_path / "completion"
    (tmp_path / "lab.yaml").touch()
    file.write_bytes(subprocess.check_output([scripts() / words.split(maxsplit=1)[0], "completion", "fish"]))
    command = ["fish", "--no-config", "-c", f"source {file}; complete -C '{words}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.parametrize("program", ["jumpstarter-exporter", "jumpstarter-controller"])
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_it(tmp_path: Path, program: str, shell: str) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"missing: {shell}; apt install {shell}")
    file = tmp_path / "completion"
    file.write_bytes(subprocess.check_output([scripts() / program, "completion", shell]))
    assert program in file.read_text()
    subprocess.run([found, "-n", file], check=True, capture_output=True)
