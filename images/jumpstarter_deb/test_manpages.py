"""A help text as a manual page."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from jumpstarter_deb.manpages import page, subcommands

HELP = {
    (): """Usage: lab COMMAND

Do things.

    lab run --fast
.TH is no request…

╭─ Commands ───────────────────────────────────────────────╮
│ check           Say whether it is right, and show it in  │
│                 words.                                   │
│ enrol (enroll)  Join.                                    │
│ --help (-h)     Display this message and exit.           │
╰──────────────────────────────────────────────────────────╯
""",
    ("check",): "Usage: lab check\n\nCommands:\n  deep  look closely\n\nOptions:\n  quick  no command\n",
    ("check", "deep"): "Usage: lab check deep\n",
    ("enrol",): "Usage: lab enrol\n",
}


def text_of(words: tuple[str, ...]) -> str:
    return HELP[words]


def test_commands_are_those_that_the_help_lists() -> None:
    assert subcommands(HELP[()]) == ["check", "enrol"]
    assert subcommands(HELP["check",]) == ["deep"]


def test_each_command_has_a_section() -> None:
    lines = page("lab", "do - things", "2026-01-02", "1.0", text_of).splitlines()
    sections = [line for line in lines if line.startswith(".SH")]
    assert sections == [
        *(".SH NAME", ".SH DESCRIPTION", ".SH LAB CHECK", ".SH LAB CHECK DEEP", ".SH LAB ENROL"),
    ]
    assert lines[2] == "lab \\- do \\- things"
    assert "\\&.TH is no request\\[u2026]" in lines
    assert lines[lines.index("\\fBcheck\\fR") + 1] == "Say whether it is right, and show it in"


@pytest.mark.parametrize("make", [text_of], ids=["help"])
def test_groff_has_nothing_to_say(make: Callable[[tuple[str, ...]], str]) -> None:
    if shutil.which("groff") is None:
        pytest.skip("missing: groff; apt install groff-base")
    text = page("lab", "do things", "2026-01-02", "1.0", make)
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"], input=text, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
