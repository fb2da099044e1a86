"""`jumpstarter shell`: a shell, or one command, that finds the exporter in its environment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.terminal import print_error_line, print_text

from jumpstarter_client.cli.options import Options, UsageError, take_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jumpstarter_proto.rpc import Caller

    from jumpstarter_client.lease.board import Board

__all__ = ["shell"]

GREETING_SECONDS = 5.0
MAX_GREETING = 16 * 1024
HELP = """Usage: jumpstarter shell [--host HOST | --board NAME | --config FILE | -l SELECTOR | -n NAME] [-- COMMAND ...]

A shell in which JUMPSTARTER_HOST names the exporter and `j` is its device tree. With a command, that instead of a
shell; its exit code is this command's. 126 and 127 mean that the command cannot be run, or is not there; 8 that the
lease of the board ended first.

  jumpstarter shell
  jumpstarter shell -- j power on
  jumpstarter shell --board rpi4                     that one of the boards of a host
  jumpstarter shell -l board=rpi4 --duration 2h      a board of a controller, leased until the shell ends
  jumpstarter shell -n rpi4-1                        that one, by the name of its exporter
  jumpstarter shell --exporter rpi4                  this machine's configuration of that name, else as -n
  jumpstarter shell --lease NAME                     a lease that there is; it stays when the shell ends
  jumpstarter shell --config rpi4.yaml -- pytest     an exporter of its own, from that file

On a host that serves several boards, --board or JUMPSTARTER_BOARD says which; `jumpstarter devices` names them. All
commands inside use that one.

Of a leased board it says five minutes before when the lease ends; inside, `jumpstarter lease extend 30m` goes on.

  --acquisition-timeout TIME   how long to wait for a board (2h)
  --retry-timeout TIME         how long to lease others when one cannot be reached (5m); 0: not at all
  --dial-timeout TIME          how long to try for one connection (60)
  --exporter-logs              show all that the exporter logs, and not only what its hooks print
"""


def shell(arguments: list[str], options: Options) -> int:
    """The command. 126 and 127 as in any shell: found but not runnable, and not found."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if own and own[0] in ("-h", "--help"):
        print_text(HELP)
        return 0
    own = take_name(own, options)
    command = own + (arguments[arguments.index("--") + 1 :] if "--" in arguments else [])
    if own and own[0].startswith("-"):
        raise UsageError(f"`shell` has no option {own[0]}; `jumpstarter shell --help` shows what it has")
    from jumpstarter_proto.run_folders import RunFolder  # noqa: PLC0415

    from jumpstarter_client.blocking import Portal  # noqa: PLC0415 - not for --help
    from jumpstarter_client.connections.connect import open_host  # noqa: PLC0415
    from jumpstarter_client.connections.local_use import hold_board  # noqa: PLC0415
    from jumpstarter_client.status_line import print_message  # noqa: PLC0415

    request = options.lease_request()
    boards: list[Board] = []
    child = _Child()
    place = open_host(
        options.host,
        config=options.config,
        board=options.board,
        request=request,
        on_leased=boards.append,
        on_lease_end=child.lease_ended,
    )
    with Portal() as portal, portal.context(place) as host, ExitStack() as stack:
        environment = dict(_with_j(os.environ), JUMPSTARTER_HOST=host, _JMP_SUPPRESS_DRIVER_WARNINGS="1")
        if options.board:
            environment["JUMPSTARTER_BOARD"] = options.board
        greeting = ""
        if boards:
            environment |= _of_lease(boards[0], portal.call(boards[0].labels))
            greeting = "" if command else portal.call(_greeting, boards[0].channel)
        else:
            # Asked at once, so that a wrong passphrase or certificate is not found by every command inside.
            client = stack.enter_context(portal.context(hold_board(host, options.board, print_message)))
            if client.name:
                environment["JMP_EXPORTER"] = client.name
            greeting = "" if command else portal.call(_greeting, client.connection.channel)
            if host.startswith("/"):
                # This machine's exporter names the classes; who runs it can run anything here anyway.
                environment.setdefault("JMP_DRIVERS_ALLOW", "UNSAFE")
        if greeting:
            print_text(f"{greeting}\n")
            sys.stdout.flush()
        with RunFolder("jumpstarter-shell-") as folder:
            code = child.run(command or _interactive(folder, environment), environment)
    return ExitCode.LEASE_ENDED if child.outlived_its_lease else code


async def _greeting(channel: Caller) -> str:
    """What the exporter tells its users; empty if it has nothing to say, or does not say it within a moment."""
    from google.protobuf import empty_pb2  # noqa: PLC0415 - for people only
    from jumpstarter_proto.rpc import RpcError  # noqa: PLC0415
    from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub  # noqa: PLC0415

    try:
        report = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty(), timeout=GREETING_SECONDS)
    except RpcError:
        return ""
    return report.motd[:MAX_GREETING]


def _of_lease(board: Board, labels: dict[str, str]) -> dict[str, str]:
    """What the commands inside find in their environment."""
    config = board.lease.config
    return {
        "JMP_LEASE": board.lease.name,
        "JMP_EXPORTER": board.lease.exporter,
        "JMP_EXPORTER_LABELS": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "JMP_DRIVERS_ALLOW": "UNSAFE" if config.unsafe else ",".join(config.allow),
        # So that `jumpstarter lease extend 30m` needs no --client there.
        **({"JMP_CLIENT_CONFIG": str(config.path)} if config.path else {}),
    }


def _with_j(environment: Mapping[str, str]) -> dict[str, str]:
    """With a PATH that has `j`, which is beside the `jumpstarter` that runs.

    As in a virtual environment that is not active. The folder comes last, so that it hides nothing of the user's.
    """
    folder, program = os.path.split(sys.argv[0])
    path = environment.get("PATH", os.defpath)
    if not folder or not program or shutil.which("j", path=path):
        return dict(environment)
    folder = os.path.abspath(folder)
    if not os.access(os.path.join(folder, "j"), os.X_OK):
        return dict(environment)
    return {**environment, "PATH": f"{path}{os.pathsep}{folder}"}


class _Child:
    """The shell, or the command, as a process."""

    def __init__(self) -> None:
        self.outlived_its_lease = False
        self._process: subprocess.Popen[bytes] | None = None
        self._told: list[int] = []

    def lease_ended(self, end_reason: str) -> None:
        """Called by another thread: say why, and hang up, as a terminal does that is gone.

        Under nohup the child ignores that, and is terminated instead: its board is gone.
        """
        process = self._process
        if process is not None and process.poll() is not None:
            return
        from jumpstarter_client.status_line import print_message  # noqa: PLC0415

        print_message(end_reason)
        self.outlived_its_lease = True
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._pass_on(signal.SIGTERM if is_ignored else signal.SIGHUP, None)

    def _pass_on(self, number: int, _frame: object) -> None:
        self._told.append(number)
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        """Its exit code."""

        def ignore(_number: int, _frame: object) -> None:
            """Ctrl-C reaches the child by itself; we end when it does."""

        # Functions and not SIG_IGN, which a child would inherit; and before there is one, so that none is left behind.
        handlers = {signal.SIGINT: ignore, signal.SIGTERM: self._pass_on, signal.SIGHUP: self._pass_on}
        before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
        }
        try:
            self._process = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own command
            for number in self._told:
                self._process.send_signal(number)
            code = self._process.wait()
        except FileNotFoundError:
            print_error_line(f"error: there is no command {command[0]!r}; check its name and PATH")
            return 127
        except PermissionError:
            print_error_line(f"error: {command[0]!r} cannot be run; check its permissions")
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
