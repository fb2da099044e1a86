"""`jumpstarter shell`: a shell, or one command, that finds the exporter in its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from jumpstarter_client.cli.options import Options, UsageError

__all__ = ["shell"]

HELP = """Usage: jumpstarter shell [--config FILE] [-- COMMAND [ARGUMENT ...]]

A shell in which JUMPSTARTER_HOST names the exporter and `j` is its device tree. With a command, that instead of a
shell; its exit code is this command's.

  jumpstarter shell
  jumpstarter shell -- j power on
  jumpstarter shell --config rpi4.yaml -- pytest     an exporter of its own, from that file
"""


def shell(arguments: list[str], options: Options) -> int:
    """The command. 126 and 127 as in any shell: found but not runnable, and not found."""
    words, command = _split(arguments)
    config: str | None = None
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in ("--config", "--exporter-config"):
            config = value if equals else (words.pop(0) if words else "")
            if not config:
                raise UsageError(f"{name} needs a file, for example {name} rpi4.yaml")
        elif name == "--exporter":
            config = value if equals else (words.pop(0) if words else "")
        elif name in ("-h", "--help"):
            sys.stdout.write(HELP)
            return 0
        elif name.startswith("-"):
            raise UsageError(f"`shell` has no option {name}; `jumpstarter shell --help` shows what it has")
        else:
            command = [word, *words, *(["--", *command] if command else [])]
            break
    from jumpstarter_client.blocking import Portal  # noqa: PLC0415 - not for --help
    from jumpstarter_client.connect import open_host  # noqa: PLC0415

    with Portal() as portal, portal.context(open_host(options.host, config=config)) as host:
        environment = dict(os.environ, JUMPSTARTER_HOST=host)
        # What this exporter names, its own users may load; they could run anything on it anyway.
        environment.setdefault("JMP_DRIVERS_ALLOW", "UNSAFE")
        environment["_JMP_SUPPRESS_DRIVER_WARNINGS"] = "1"
        with tempfile.TemporaryDirectory(prefix="jumpstarter-shell-") as folder:
            return _run(command or _interactive(Path(folder), environment), environment)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return list(arguments), []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _run(command: list[str], environment: dict[str, str]) -> int:
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own command
    except FileNotFoundError:
        sys.stderr.write(f"error: there is no command {command[0]!r}; check its name and PATH\n")
        return 127
    except PermissionError:
        sys.stderr.write(f"error: {command[0]!r} cannot be run; check its permissions\n")
        return 126
    with process:
        # Ctrl-C is for the child; we end when it does.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


PROMPT = "⚡jumpstarter"


def _interactive(folder: Path, environment: dict[str, str]) -> list[str]:
    """The user's shell, with its own settings and a prompt that says where it is."""
    program = os.environ.get("SHELL") or "/bin/sh"
    kind = os.path.basename(program)
    if kind == "bash":
        settings = folder / "bashrc"
        settings.write_text(f'[ -f ~/.bashrc ] && . ~/.bashrc\nPS1="{PROMPT} ${{PS1}}"\n')
        return [program, "--rcfile", str(settings), "-i"]
    if kind == "zsh":
        home = os.environ.get("ZDOTDIR", os.path.expanduser("~"))
        (folder / ".zshrc").write_text(
            f'[ -f "{home}/.zshrc" ] && . "{home}/.zshrc"\nPROMPT="{PROMPT} ${{PROMPT}}"\n'
        )
        environment["ZDOTDIR"] = str(folder)
        return [program, "-i"]
    if kind == "fish":
        setting = f'functions -c fish_prompt _old; function fish_prompt; echo -n "{PROMPT} "; _old; end'
        return [program, "--init-command", setting]
    environment["PS1"] = f"{PROMPT} $ "
    return [program]
