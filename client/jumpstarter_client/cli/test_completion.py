"""TAB in real shells: what a peer named is a word, whatever it looks like, and never a command."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_client.cli.completion import SCRIPTS, complete
from jumpstarter_client.cli.help_texts import SHELL
from jumpstarter_client.cli.jmp import _SCRIPT, _write
from jumpstarter_client.cli.options import GlobalOptions

NAMES = [
    "a$(touch made)",
    "b`touch made`",
    "c d;touch made",
    "d'\"e",
    "e*?[f]{g,h}",
    "f!!ls!$",
    "g$IFS${HOME}",
    "h\\n\\",
    "i#x&touch made|tee made>made<made",
    "j(touch made)=~k",
    "kü",
]
"""What each begins with is its own, so that TAB has one answer."""
HIDDEN = ["-x", "y\x1b]0;title\x07", "z\u202ex", "y\ny"]
"""What nobody can type or read is not offered."""

SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], 'jumpstarter() { "$TELL" "$@"; }'),
    "zsh": (["-f", "-i"], 'jumpstarter() { "$TELL" "$@"; }'),
    "fish": (["--no-config", "-i"], "function jumpstarter; $TELL $argv; end"),
}
TELL = """#!/bin/sh
[ "$1" = __complete ] && {{ printf '%s\\n' "$@" "$_JMP_WORD" > asked; cat {words}; exit $(cat {words}.code); }}
printf '%s\\n' "$#" "$@" > told.new && mv told.new told
"""


@pytest.fixture
def offered(
    tmp_path: Path, empty_home: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What is offered to a user who has configurations of exporters of all these names."""
    folder = tmp_path / "config" / "jumpstarter" / "exporters"
    folder.mkdir(parents=True)
    for name in [*NAMES, *HIDDEN]:
        (folder / f"{name}.yaml").write_text("")
    monkeypatch.setattr("jumpstarter_client.cli.completion_values.exporters", lambda _options: [])
    complete(["--exporter"], GlobalOptions())
    return capsys.readouterr().out


@pytest.fixture
def home(tmp_path: Path, offered: str) -> Path:
    """An empty folder, beside a program that completes with those names, and else writes down what it is given."""
    (tmp_path / "words").write_text(offered)
    (tmp_path / "words.code").write_text("0")
    tell = tmp_path / "tell"
    tell.write_text(TELL.format(words=tmp_path / "words"))
    tell.chmod(0o700)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, home: Path) -> Iterator[pexpect.spawn[Any]]:
    """A shell on a terminal, which has read its script."""
    kind: str = request.param
    program = shutil.which(kind)
    if program is None:
        pytest.skip(f"missing: {kind}; apt install {kind}")
    arguments, function = SHELLS[kind]
    (home / "script").write_text(SCRIPTS[kind])
    environment = dict(
        os.environ, HOME=str(home), TELL=str(home.parent / "tell"), LC_ALL="C.UTF-8", TERM="vt100"
    )
    environment["PATH"] += f":{home}"  # the last folder has no programs: who keeps only that has none
    child = pexpect.spawn(
        program, arguments, cwd=home, env=environment, timeout=30, dimensions=(40, 500), encoding=None
    )
    child.delaybeforesend = None
    start = "autoload -Uz compinit; compinit -u; " if kind == "zsh" else ""
    child.sendline(f"{function}; {start}source ./script; touch ready")
    until(child, home / "ready")
    yield child
    child.close(force=True)


def until(child: pexpect.spawn[Any], file: Path) -> None:
    """Read what the shell says until the file is there."""
    seen = b""
    for _ in range(600):
        with suppress(pexpect.TIMEOUT):
            seen += child.read_nonblocking(65536, timeout=0.05)
        if file.exists():
            return
    raise AssertionError(f"{file.name} is not there; the shell said {seen!r}")


def test_a_name_is_one_word_and_no_command(shell: pexpect.spawn[Any], home: Path) -> None:
    for name in NAMES:
        (home / "told").unlink(missing_ok=True)
        shell.send(f"jumpstarter --exporter {name[0]}\t\r")
        until(shell, home / "told")
        assert (home / "told").read_text() == f"2\n--exporter\n{name}\n"
    shell.send("jumpstarter --exporter \t\t")
    shell.send("\x15touch listed\r")
    until(shell, home / "listed")
    assert not (home / "made").exists()


@pytest.mark.parametrize(
    ("before", "word", "whole"),
    [
        ("power on -l", "board=l", "board=lamp"),
        ("shell -l", "example.com/board=r", "example.com/board=rpi4"),
        ("lease list --tag-filter", "a=b:", "a=b:c"),
        ("login", "lab:8", "lab:8082"),
    ],
)
def test_a_value_is_a_part_of_its_word(
    shell: pexpect.spawn[Any], home: Path, before: str, word: str, whole: str
) -> None:
    """bash takes words apart at `=` and `:`."""
    (home.parent / "words").write_text(
        "board=lamp\nboard=rpi4\nexample.com/board=rpi4\na=b:c\nlab:8082\nlamp\nc\n"
    )
    shell.send(f"jumpstarter  {before} {word}\t\r")
    until(shell, home / "told")
    assert (home / "told").read_text().splitlines()[1:] == [*before.split(), whole]
    assert (home / "asked").read_text().splitlines() == ["__complete", *before.split(), word]


@pytest.mark.parametrize("is_ours", [True, False])
def test_jmp_is_completed_if_it_runs_this_program(
    shell: pexpect.spawn[Any], home: Path, is_ours: bool
) -> None:
    """Jumpstarter's own `jmp` has a completion of its own; without it, the shell offers names of files."""
    (home.parent / "words").write_text("power\n")
    (home / "bin").mkdir()
    (home / "powder").touch()
    script = home / "bin" / "jmp"
    if is_ours:
        _write(script, _SCRIPT.replace("@PROGRAM@", str(home.parent / "tell")))
    else:
        script.write_text(f'#!/bin/sh\n[ "$1" = __complete ] && exit 2\nexec {home.parent}/tell "$@"\n')
        script.chmod(0o700)
    shell.sendline('export PATH="$PWD/bin:$PATH"; source ./script; touch again')  # as it is, fish has a list
    until(shell, home / "again")
    shell.send("jmp pow\t\r")
    until(shell, home / "told")
    assert (home / "told").read_text().splitlines()[1:] == ["power" if is_ours else "powder"]


def test_names_of_files_are_offered_only_where_the_program_says_so(
    shell: pexpect.spawn[Any], home: Path
) -> None:
    (home / "qfile").touch()
    for code, expected in (("0", "q"), ("99", "qfile")):
        (home.parent / "words.code").write_text(code)
        (home / "told").unlink(missing_ok=True)
        shell.send("jumpstarter power q\t\r")
        until(shell, home / "told")
        assert (home / "told").read_text() == f"2\npower\n{expected}\n"


def test_what_cannot_be_read_is_not_offered(offered: str) -> None:
    assert offered.splitlines() == sorted(NAMES)


WORDS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=30).filter(
    lambda word: word.isprintable() and not word.startswith("-")
)


@pytest.mark.skipif(shutil.which("bash") is None, reason="missing: bash; apt install bash")
@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=20))
def test_bash_reads_each_word_again_as_it_was(words: list[str]) -> None:
    script = (
        SCRIPTS["bash"]
        + 'jumpstarter() { printf "%s" "$WORDS"; }; COMP_WORDS=(jumpstarter ""); COMP_CWORD=1\n'
        + '_jumpstarter jumpstarter "" jumpstarter\n'
        + 'for one in "${COMPREPLY[@]}"; do eval "printf \'%s\\n\' $one"; done\n'
    )
    listed = "".join(f"{word}\n" for word in words)
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", script],
        env={"WORDS": listed, "LC_ALL": "C.UTF-8", "PATH": os.defpath},
        stdout=subprocess.PIPE,
        check=True,
        timeout=30,
    )
    assert done.stdout.decode() == listed


def test_after_shell_each_option_of_its_help_is_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_JMP_WORD", "--")
    for words, is_offered in ((["shell"], True), (["power", "on"], False)):
        complete(words, GlobalOptions())
        found = set(capsys.readouterr().out.split())
        of_shell = {line.split()[0] for line in SHELL.splitlines() if line.startswith("  --")}
        assert "--acquisition-timeout" in of_shell
        assert ({*of_shell} <= found) is is_offered
