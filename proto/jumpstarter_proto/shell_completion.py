"""The command `completion` of the exporter's and the controller's programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import App

from jumpstarter_proto.terminal import print_text

__all__ = ["add_completion"]


def add_completion(app: App) -> None:
    """Add `completion bash|zsh|fish` to a program."""
    program = app.name[0]

    def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
        script = app.generate_completion(prog_name=program, shell=shell)
        print_text(script + "".join(_fish_lines(app, program)) if shell == "fish" else script)

    completion.__doc__ = f"""Print completion for bash, zsh or fish.

        {program} completion bash > ~/.local/share/bash-completion/completions/{program}
        {program} completion zsh > "${{fpath[1]}}/_{program}"
        {program} completion fish > ~/.config/fish/completions/{program}.fish

    For bash, install the package bash-completion, too; make a folder that is missing first (mkdir -p).

    Parameters
    ----------
    shell
        Your shell.
    """
    app.command(completion)


def _fish_lines(app: App, program: str) -> Iterator[str]:
    """Yield what cyclopts leaves out: names of files only after commands that take one, as in the other shells."""
    yield f"complete -c {program} -f\n"
    for words in _commands_with_files(app, ()):
        yield f"complete -c {program} -n '__fish_{program}_using_command {' '.join(words)}' -F\n"


def _commands_with_files(app: App, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name in app:
        if name.startswith("-"):
            continue
        command = app[name]
        words = (*above, name)
        arguments = command.assemble_argument_collection() if command.default_command else ()
        if any(one.index is not None and _may_be_file(one.hint) for one in arguments):
            yield words
        yield from _commands_with_files(command, words)


def _may_be_file(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _may_be_file(get_args(hint)[0])
    return hint is Path or any(_may_be_file(part) for part in get_args(hint))
