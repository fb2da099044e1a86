"""The prompt of `jumpstarter shell`: which board its commands use, and until when."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from jumpstarter_client.cli.completion import SCRIPTS
from jumpstarter_client.times import format_time

__all__ = ["ShellPrompt", "prompt_text"]

PROMPT = "⚡jumpstarter"
MAX_NAME_LENGTH = 40
VARIABLE = "_JMP_PROMPT"
"""The file with the text, which changes when the lease is extended."""
READ = f'$(cat "${VARIABLE}" 2>/dev/null)'

ZSH = f"""[ -f "$_JMP_ZDOTDIR/.zshrc" ] && . "$_JMP_ZDOTDIR/.zshrc"
_jmp_prompt() {{ psvar[9]="{READ}" }}
precmd_functions+=(_jmp_prompt)
PROMPT="%9v $PROMPT"
"""
"""As an element of `psvar`, the text is shown as it is, whatever the user's prompt expands."""


def prompt_text(board: str, ends_at: float | None, now: float) -> str:
    """Return the beginning of the prompt. `ends_at` and `now` are in seconds since the epoch.

    Peers choose names: only letters, digits, `.`, `_` and `-` of them are shown.
    """
    words = [PROMPT]
    if name := re.sub(r"[^A-Za-z0-9._-]", "_", board[:MAX_NAME_LENGTH]):
        words.append(name)
    if ends_at is not None:
        day, clock = format_time(ends_at).split()
        today, _ = format_time(now).split()
        words += ["until", *([] if day == today else [day]), clock[:5]]
    return " ".join(words)


class ShellPrompt:
    """Makes the command of an interactive shell whose prompt names the board."""

    def __init__(self, folder: Path, board: str) -> None:
        """`folder` is for the shell's settings and for the prompt's text; it must outlive the shell."""
        self._folder = folder
        self._file = folder / "prompt"
        self._board = board
        self.show(None)

    def show(self, seconds_left: float | None) -> None:
        """Show when the lease ends, from the next prompt on."""
        now = time.time()
        ends_at = None if seconds_left is None else now + seconds_left
        new = self._file.with_suffix(".new")
        with suppress(OSError):  # the disk is full, or the shell has ended and its folder is gone
            new.write_text(prompt_text(self._board, ends_at, now))
            new.replace(self._file)

    def command(self, environment: dict[str, str]) -> list[str]:
        """Return the command line of the user's shell with the user's usual settings; extends its environment."""
        environment[VARIABLE] = str(self._file)
        program = os.environ.get("SHELL") or "/bin/sh"
        kind = os.path.basename(program)
        if kind == "bash":
            settings = self._folder / "bashrc"
            settings.write_text(
                f"[ -f ~/.bashrc ] && . ~/.bashrc\nPS1='{READ} '\"$PS1\"\n{SCRIPTS['bash']}", encoding="utf-8"
            )
            return [program, "--rcfile", str(settings), "-i"]
        if kind == "zsh":
            environment["_JMP_ZDOTDIR"] = os.environ.get("ZDOTDIR", os.path.expanduser("~"))
            (self._folder / ".zshrc").write_text(ZSH)
            environment["ZDOTDIR"] = str(self._folder)
            return [program, "-i"]
        if kind == "fish":
            # By one `echo`: fish may show what a program in the prompt writes after what its own commands write later.
            setting = (
                "functions -c fish_prompt _old; function fish_prompt; "
                f'echo -n (cat "${VARIABLE}" 2>/dev/null)" "; _old; end'
            )
            return [program, "--init-command", f"{setting}\n{SCRIPTS['fish']}"]
        is_posix = kind in ("sh", "dash", "ash", "ksh", "mksh", "busybox")
        environment["PS1"] = f"{READ} $ " if is_posix else f"{self._file.read_text()} $ "
        return [program]
