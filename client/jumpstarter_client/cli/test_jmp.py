"""What users of Jumpstarter's own client type: a script `jmp`, and pointers to commands that are elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jumpstarter_client.cli import jmp
from jumpstarter_client.cli.conftest import SCRIPTS, Command

WORDS = ("get", "create", "update", "delete", "run", "admin", "mcp")


def install(folder: Path, *words: str, path: str = os.defpath) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "jumpstarter"), "jmp", "install", "--dir", str(folder), *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )


def test_the_script_runs_the_commands_of_jumpstarter(tmp_path: Path) -> None:
    for _ in range(2):  # our own is replaced
        done = install(tmp_path, path=f"{tmp_path}:{os.defpath}")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/jmp\n", "")
    assert [one.name for one in tmp_path.iterdir()] == ["jmp"]
    said = subprocess.run([tmp_path / "jmp", "version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("jumpstarter-sbc ")


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_another_program_stays(tmp_path: Path, kind: str) -> None:
    jmp, other = tmp_path / "jmp", tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    match kind:
        case "file":
            jmp.write_text("#!/bin/sh\n")
        case "link":
            jmp.symlink_to(other)
        case _:
            jmp.mkdir()
    done = install(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {jmp} is another program")
    assert (jmp.is_dir(), jmp.is_symlink(), other.read_text()) == (
        kind == "folder",
        kind == "link",
        "#!/bin/sh\n",
    )


def test_a_script_that_is_not_found_first_is_told(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second dir"
    for folder in (first, second):
        folder.mkdir()
    (first / "jmp").write_text("#!/bin/sh\n")
    (first / "jmp").chmod(0o755)
    done = install(second, path=f"{first}:{second}")
    assert done.stderr == (
        f"warning: {first}/jmp comes first in PATH; put {second} in front: export PATH='{second}':\"$PATH\"\n"
    )
    assert subprocess.run([second / "jmp", "version"], capture_output=True, check=False).returncode == 0
    assert "is not in PATH" in install(second, path=os.defpath).stderr


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    done = install(tmp_path / "new" / "bin")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/new/bin/jmp\n")
    (tmp_path / "file").touch()
    done = install(tmp_path / "file")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr == f"error: {tmp_path}/file is not a folder; choose one with --dir\n"


def test_a_folder_of_another_form_is_named_as_path_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    done = install(Path("bin"))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/bin/jmp\n")
    assert f'export PATH={tmp_path}/bin:"$PATH"' in done.stderr
    unknown = install(Path("~nobody-has-this-name/bin"))
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "there is no user of the name in ~nobody-has-this-name/bin" in unknown.stderr


@pytest.mark.parametrize("word", WORDS)
def test_a_command_that_is_elsewhere_says_where(command: Command, word: str) -> None:
    done = command("jumpstarter", word)
    assert done.code == 2
    assert "jumpstarter" in done.err
    assert "unknown" not in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("config", "exporter", "list"), "jumpstarter-exporter boards"),
        (("shell", "--tls-grpc", "lab:1"), "--host HOST:PORT"),
        (("jmp", "instal"), "did you mean 'install'"),
        (("driver", "lst"), "did you mean 'list'"),
    ],
)
def test_an_option_or_a_noun_that_is_elsewhere_says_where(
    command: Command, words: tuple[str, ...], sentence: str
) -> None:
    done = command("jumpstarter", *words)
    assert done.code == 2
    assert sentence in done.err


def test_drivers_are_listed_as_configurations_name_them(command: Command) -> None:
    assert "power.GpioRelay" in command("jumpstarter", "driver", "list", "-o", "name").out.split()
    listed = command("jumpstarter", "driver", "list", "-o", "json").out
    assert '"class": "jumpstarter_drivers.power.driver.GpioRelay"' in listed
    assert command("jumpstarter", "driver", "list").out.startswith("TYPE ")


def test_ctrl_c_leaves_no_part_of_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.replace", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        jmp._write(tmp_path / "jmp", "#!/bin/sh\n")
    assert list(tmp_path.iterdir()) == []


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
