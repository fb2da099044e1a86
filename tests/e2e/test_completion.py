"""Completion of the programs for hosts and labs, in real shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.interop.exporters import scripts
from tests.support.lab import LIMIT, Lab

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


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("power on -l board=la", "power on -l board=lamp"),
        ("power on -l jumpstarter.dev/board=la", "power on -l jumpstarter.dev/board=lantern"),
        ("exporters -l board=lamp,kin", "exporters -l board=lamp,kind=light"),
        ("exporters --selector=kin", "exporters --selector=kind=light"),
        ("exporters show la", "exporters show lamp-1"),
    ],
)
def test_bash_completes_the_labels_of_a_lab(warm_lab: Lab, typed: str, whole: str) -> None:
    with Lab.opened(host=warm_lab) as lab:
        labels = ("board=lamp", "kind=light", "jumpstarter.dev/board=lantern")
        words = [word for one in labels for word in ("--label", one)]
        lab.admin("exporter", "create", "lamp-1", *words, "--save", lab.home / "lamp.yaml")
        (lab.home / "script").write_text(lab.ok("completion", "bash"))
        environment = lab.environment | {"JMP_CLIENT_CONFIG": str(lab.client("ann")), "TERM": "vt100"}
        with pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "-i"],
            cwd=lab.home,
            env=environment,
            timeout=LIMIT,
            dimensions=(40, 500),
        ) as shell:
            shell.sendline("PS1=; source ./script; echo re''ady")
            shell.expect_exact("ready")
            found = ""
            # The controller gets a second to answer, which a busy machine may not have.
            for _ in range(10):
                shell.send(f"jumpstarter {typed}\t\x01printf '<%s>\\n' \"\x05\"\r")
                shell.expect(r"<jumpstarter ([^>\r]*)>")
                found = shell.match[1].decode().strip()
                if found != typed:
                    break
            assert found == whole


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
