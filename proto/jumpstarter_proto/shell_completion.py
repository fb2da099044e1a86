"""The command `completion` of the exporter's and the controller's programs."""

from __future__ import annotations

from typing import Literal

from cyclopts import App

from jumpstarter_proto.terminal import print_text

__all__ = ["add_completion"]


def add_completion(app: App) -> None:
    """Add `completion bash|zsh|fish` to a program."""
    program = app.name[0]

    def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
        print_text(app.generate_completion(prog_name=program, shell=shell))

    completion.__doc__ = f"""Print completion for bash, zsh or fish.

        {program} completion bash > ~/.local/share/bash-completion/completions/{program}
        {program} completion zsh > "${{fpath[1]}}/_{program}"
        {program} completion fish > ~/.config/fish/completions/{program}.fish

    Parameters
    ----------
    shell
        Your shell.
    """
    app.command(completion)
