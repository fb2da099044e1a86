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

HELP = """Usage: jumpstarter shell [--host HOST | --config FILE | -l SELECTOR] [-- COMMAND [ARGUMENT ...]]

A shell in which JUMPSTARTER_HOST names the exporter and `j` is its device tree. With a command, that instead of a
shell; its exit code is this command's. 126 and 127 mean that the command cannot be run, or is not there.

  jumpstarter shell
  jumpstarter shell -- j power on
  jumpstarter shell -l board=rpi4 --duration 2h      a board of a controller, leased until the shell ends
  jumpstarter shell --config rpi4.yaml -- pytest     an exporter of its own, from that file
"""


def shell(arguments: list[str], options: Options) -> int:
    """The command. 126 and 127 as in any shell: found but not runnable, and not found."""
    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0
    if arguments and arguments[0].startswith("-") and arguments[0] != "--":
        raise UsageError(
            f"`shell` has no option {arguments[0]}; `jumpstarter shell --help` shows what it has"
        )
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    from jumpstarter_client.blocking import Portal  # noqa: PLC0415 - not for --help
    from jumpstarter_client.connecting import connect_async, open_host  # noqa: PLC0415

    wanted = options.wanted()
    with (
        Portal() as portal,
        portal.context(open_host(options.host, config=options.config, wanted=wanted)) as host,
    ):
        environment = dict(os.environ, JUMPSTARTER_HOST=host, _JMP_SUPPRESS_DRIVER_WARNINGS="1")
        # Asked at once, so that a wrong passphrase or certificate is not found by every command inside.
        with portal.context(connect_async(host)) as client:
            if client.name:
                environment["JMP_EXPORTER"] = client.name
        if host.startswith("/"):
            # This machine's exporter names the classes; who runs it can run anything here anyway.
            environment.setdefault("JMP_DRIVERS_ALLOW", "UNSAFE")
        with tempfile.TemporaryDirectory(prefix="jumpstarter-shell-") as folder:
            return _run(command or _interactive(Path(folder), environment), environment)


def _run(command: list[str], environment: dict[str, str]) -> int:
    child: subprocess.Popen[bytes] | None = None
    told: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        if child is not None:
            child.send_signal(number)

    def ignore(_number: int, _frame: object) -> None:
        """Ctrl-C reaches the child by itself; we end when it does."""

    # Functions and not SIG_IGN, which a child would inherit; and before there is one, so that none is left behind.
    handlers = {signal.SIGINT: ignore, signal.SIGTERM: pass_on, signal.SIGHUP: pass_on}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    }
    try:
        child = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own command
        for number in told:
            child.send_signal(number)
        code = child.wait()
    except FileNotFoundError:
        sys.stderr.write(f"error: there is no command {command[0]!r}; check its name and PATH\n")
        return 127
    except PermissionError:
        sys.stderr.write(f"error: {command[0]!r} cannot be run; check its permissions\n")
        return 126
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
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
