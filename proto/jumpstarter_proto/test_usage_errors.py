"""What our programs say of a command line that they cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest
from cyclopts import App, CycloptsError
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.usage_errors import run_app, usage_sentence

app = App(name="lab", help_format="plaintext", result_action="return_value")


@app.command
def run(*, config: str = "", data: Path | None = None) -> None:
    """Has two options that a folder or a file may be meant for."""


@app.command
def drain(name: str, /, *, data: Path | None = None) -> None:
    """Has one argument."""


@app.command
def serve(*, board: str = "") -> None:
    """Has an option that a board may be meant for."""


@app.command
def reload() -> None:
    """Takes nothing."""


def show(name: str = "") -> int:
    """Show what there is.

    Nothing is changed.

        lab show                              every thing that there is in this lab and in others
        lab show one

    Parameters
    ----------
    name
        Of one thing.
    """
    return 0


@pytest.mark.parametrize(
    ("width", "example"),
    [
        (60, "    lab show\n        every thing that there is in this lab and in others\n    lab show one\n"),
        (
            100,
            "    lab show                              every thing that there is in this lab and in others\n",
        ),
    ],
)
def test_examples_are_broken_like_lines_and_not_like_sentences(
    width: int, example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lab = App(name="lab", help_format="plaintext", result_action="return_value")
    lab.command(show)
    assert run_app(lab, ["show", "--help"]) == 0
    page = capsys.readouterr().out
    assert example in page
    assert "Of one thing." in page
    assert "Parameters\n---" not in page
    assert max(map(len, page.splitlines())) <= width


def sentence(*words: str) -> str:
    with pytest.raises(CycloptsError) as caught:
        app(list(words), exit_on_error=False, print_error=False)
    return usage_sentence(caught.value, "lab")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("run", "rpi4.yaml"),
            "`lab run` takes no 'rpi4.yaml'; did you mean --config rpi4.yaml? `lab run --help` shows how it is used",
        ),
        (
            ("run", "state"),
            "`lab run` takes no 'state'; did you mean --data state? `lab run --help` shows how it is used",
        ),
        (("drain", "one", "two"), "`lab drain` takes no 'two'; `lab drain --help` shows how it is used"),
        (
            ("serve", "my board"),
            "`lab serve` takes no 'my board'; did you mean --board 'my board'? `lab serve --help` shows how it is used",
        ),
        (("reload", "rpi4"), "`lab reload` takes no 'rpi4'; `lab reload --help` shows how it is used"),
        (
            ("drain",),
            "`lab drain` needs NAME; `lab drain --help` shows how it is used",
        ),
        (
            ("run", "--config"),
            'Command "run" parameter --config requires an argument; `lab run --help` shows how it is used',
        ),
        (("run", "--confg", "x"), "Unknown option: --confg. Did you mean --config?"),
    ],
)
def test_a_wrong_command_line_is_answered_with_what_to_write(words: tuple[str, ...], said: str) -> None:
    assert sentence(*words) == said


@given(st.lists(st.text("abc./-é", min_size=1).filter(lambda word: not word.startswith("-")), min_size=1))
def test_every_word_too_many_is_named_with_the_help_to_read(words: list[str]) -> None:
    said = sentence("reload", *words)
    assert repr(words[0]) in said
    assert said.endswith("`lab reload --help` shows how it is used")
