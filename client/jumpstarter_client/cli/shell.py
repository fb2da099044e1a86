"""`jumpstarter shell`: run a shell or a command with the exporter in its environment."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import termios
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.run_folders import RunFolder
from jumpstarter_proto.terminal import print_error_line, print_text
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_client.blocking import PortalThread
from jumpstarter_client.cli.options import GlobalOptions, take_name
from jumpstarter_client.cli.shell_prompt import ShellPrompt
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.connections.connect import open_host
from jumpstarter_client.connections.local_use import hold_board
from jumpstarter_client.status_line import print_message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jumpstarter_proto.rpc import Caller

    from jumpstarter_client.lease.board import ReadyBoard
    from jumpstarter_client.lease.monitor import LeaseMonitor

__all__ = ["shell"]

_log = logging.getLogger(__name__)

GREETING_SECONDS = 5.0
MAX_GREETING = 16 * 1024


def shell(arguments: list[str], options: GlobalOptions) -> int:
    """Run the command. As in any shell, exit code 126 means not executable, and 127 not found."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    own = take_name(own, options)
    command = own + (arguments[arguments.index("--") + 1 :] if "--" in arguments else [])
    if own and own[0].startswith("-"):
        if own[0].startswith("--tls-grpc"):
            raise UsageError(
                "a direct connection is --host HOST:PORT here; the passphrase is in JMP_GRPC_PASSPHRASE"
            )
        raise UsageError(f"`shell` has no option {own[0]}; `jumpstarter shell --help` lists the options")

    request = options.lease_request()
    boards: list[ReadyBoard] = []
    child = _Child()
    host_context = open_host(
        options.host,
        config=options.config,
        board=options.board,
        request=request,
        on_leased=boards.append,
        on_lease_end=child.lease_ended,
    )
    with PortalThread() as portal, portal.context(host_context) as host, ExitStack() as stack:
        environment = dict(_with_j(os.environ), JUMPSTARTER_HOST=host, _JMP_SUPPRESS_DRIVER_WARNINGS="1")
        if options.board:
            environment["JUMPSTARTER_BOARD"] = options.board
        name, greeting = options.board or "", ""
        if boards:
            name = boards[0].lease.exporter
            environment |= _lease_environment(boards[0], portal.call(boards[0].labels))
            greeting = "" if command else portal.call(_greeting, boards[0].channel)
        else:
            # Connect now, so that a wrong passphrase or certificate is an error of the shell.
            client = stack.enter_context(portal.context(hold_board(host, options.board, print_message)))
            if client.name:
                environment["JMP_EXPORTER"] = client.name
                name = name or client.name
            greeting = "" if command else portal.call(_greeting, client.connection.channel)
            if host.startswith("/"):
                # The exporter of this machine is trusted: its owner can run any code here.
                environment.setdefault("JMP_DRIVERS_ALLOW", "UNSAFE")
        if greeting:
            print_text(f"{greeting}\n")
            sys.stdout.flush()
        with RunFolder("jumpstarter-shell-") as folder:
            if not command:
                prompt = ShellPrompt(folder, name)
                if boards:
                    portal.call(_follow_end, boards[0].monitor, prompt.show)
                command = prompt.command(environment)
            code = child.run(command, environment)
    return ExitCode.LEASE_ENDED if child.lease_has_ended else code


async def _greeting(channel: Caller) -> str:
    """Return the exporter's message of the day; empty if there is none, or no reply within `GREETING_SECONDS`."""
    try:
        report = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty(), timeout=GREETING_SECONDS)
    except RpcError:
        return ""
    return report.motd[:MAX_GREETING]


async def _follow_end(monitor: LeaseMonitor, show: Callable[[float | None], None]) -> None:
    """Show the time until the lease ends now, and whenever its end changes."""
    monitor.on_end_changed = show
    show(monitor.seconds_left)


def _lease_environment(board: ReadyBoard, labels: dict[str, str]) -> dict[str, str]:
    """Return the environment variables of a leased board."""
    config = board.lease.config
    return {
        "JMP_LEASE": board.lease.name,
        "JMP_EXPORTER": board.lease.exporter,
        "JMP_EXPORTER_LABELS": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "JMP_DRIVERS_ALLOW": "UNSAFE" if config.unsafe else ",".join(config.allow),
        # `jumpstarter lease extend 30m` inside then needs no --client.
        **({"JMP_CLIENT_CONFIG": str(config.path)} if config.path else {}),
    }


def _with_j(environment: Mapping[str, str]) -> dict[str, str]:
    """Append the folder of this `jumpstarter` to PATH if PATH has no `j`, as in an inactive virtual environment.

    The folder comes last, so that it hides no programs of the user.
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
    """The process of the shell or the command."""

    def __init__(self) -> None:
        self.lease_has_ended = False
        self._terminal_groups: set[int] = set()
        """The process groups of the child that may still have the terminal after it was ended."""
        self._process: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []

    def lease_ended(self, end_reason: str) -> None:
        """Print the reason and send SIGHUP to the child, or SIGTERM if it ignores SIGHUP. Called in another thread."""
        process = self._process
        if process is not None and process.poll() is not None:
            return

        print_message(end_reason)
        self.lease_has_ended = True
        if process is not None:
            self._terminal_groups = _groups_with_terminal(process.pid)
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._forward_signal(signal.SIGTERM if is_ignored else signal.SIGHUP, None)

    def _forward_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        """Run the command and return its exit code."""

        def ignore(_number: int, _frame: object) -> None:
            """Ignore Ctrl-C: the terminal sends it to the child, too."""

        # Not SIG_IGN, which the child would inherit. Set before the child starts, so that no signal leaves it behind.
        handlers = {
            signal.SIGINT: ignore,
            signal.SIGTERM: self._forward_signal,
            signal.SIGHUP: self._forward_signal,
        }
        before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
        }
        terminal = _terminal_settings()
        try:
            self._process = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own command
            for number in self._signals:
                self._process.send_signal(number)
            code = self._process.wait()
        except FileNotFoundError:
            print_error_line(f"error: command {command[0]!r} not found; check its name and PATH")
            return 127
        except PermissionError:
            print_error_line(f"error: {command[0]!r} cannot be run; check its permissions")
            return 126
        finally:
            if self.lease_has_ended and terminal is not None:
                _put_back(terminal, self._terminal_groups)
            for number, handler in before.items():
                signal.signal(number, handler)
        return code if code >= 0 else 128 - code


def _terminal_settings() -> list[Any] | None:
    """Return the settings of the terminal; None if stdin is none, or this command is in the background of one."""
    try:
        descriptor = sys.stdin.fileno()
        return termios.tcgetattr(descriptor) if os.tcgetpgrp(descriptor) == os.getpgrp() else None
    except (OSError, ValueError, termios.error):
        return None


def _groups_with_terminal(child: int) -> set[int]:
    """Return the process group that has the terminal, and the child's own, if the terminal is below the child now."""
    try:
        owner = process = os.tcgetpgrp(sys.stdin.fileno())
        while process > 1:
            if process == child:
                return {owner, child}
            # proc(5): the parent is the second field behind the name, which is in parentheses
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass  # no terminal, or the process has ended
    return set()


def _put_back(settings: list[Any], groups: set[int]) -> None:
    """Put the terminal back: the shell was ended, and a command of it may have had it, such as a console.

    That command is in one of the `groups`, so the terminal is ours again only if we say so. One that another program
    of the user has is left alone.
    """
    # who says so in the background is stopped by the kernel otherwise
    stops = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        descriptor = sys.stdin.fileno()
        own, owner = os.getpgrp(), os.tcgetpgrp(descriptor)
        if owner in groups:
            os.tcsetpgrp(descriptor, own)
        elif owner != own:
            return
        termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
    except (OSError, termios.error) as error:
        _log.debug("the terminal cannot be put back: %s", error)
    finally:
        signal.signal(signal.SIGTTOU, stops)
