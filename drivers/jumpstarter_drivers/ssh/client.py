"""SSH for the user: `jumpstarter ssh run rpi4 -- uname -a`, `j ssh uname -a`, or `client.ssh.run(...)`."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import trio
from jumpstarter_client.adapters import tcp_portforward, unix_portforward
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError
from jumpstarter_client.twin import twin
from jumpstarter_client.verb import verb
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.run_folders import RunFolder
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.ssh.agent import running_agent
from jumpstarter_drivers.ssh.options import (
    allowed_options,
    check_host_key,
    check_username,
    is_host,
    split_arguments,
)

__all__ = ["SSHCommandRunOptions", "SSHCommandRunResult", "SSHWrapperClient"]

KEPT_IDENTITY = "jumpstarter.dev/ssh-agent"
MAX_IDENTITY_LENGTH = 64 * 1024


class SshMissingError(JumpstarterError):
    """There is no ssh on the user's machine."""

    exit_code = ExitCode.NOT_FOUND


@dataclass
class SSHCommandRunResult:
    """What a command on the board did. The return code 255 is ssh's own: it has no connection."""

    return_code: int
    stdout: str | bytes
    stderr: str | bytes


@dataclass
class SSHCommandRunOptions:
    """How a command is run."""

    direct: bool = False
    """Connect to the board's address, without the exporter, if it tells that."""
    capture_output: bool = True
    """Otherwise the output is that of this process."""
    capture_as_text: bool = True
    """Otherwise the captured output is bytes."""


class SSHWrapperClient(DriverClient):
    """Runs the ssh of this machine, with a connection through the exporter."""

    interface: ClassVar[str] = "ssh"

    @property
    def command(self) -> str:
        """The command line of ssh as the exporter has it. Only its options for the connection are used."""
        return str(self.call("get_ssh_command"))

    @property
    def identity(self) -> str | None:
        """The private key; None if there is none, or if it stays on the exporter."""
        key = self.call("get_ssh_identity")
        return None if key is None else str(key)

    @property
    def username(self) -> str:
        """The user on the board; empty if none is configured."""
        return str(self.call("get_default_username"))

    @twin
    async def run(
        self, options: SSHCommandRunOptions | None = None, args: Sequence[str] = ()
    ) -> SSHCommandRunResult:
        """Run ssh with these arguments: its options, then the command, which the board's shell reads.

        Without arguments it is a shell. A cancellation ends ssh, and with it the connection.

        Raises:
            JumpstarterError: there is no ssh, or the exporter's settings cannot be used.
        """
        options = options or SSHCommandRunOptions()
        async with self._command_line(options.direct, list(args)) as command:
            try:
                ended = await trio.run_process(
                    command,
                    stdin=subprocess.DEVNULL if options.capture_output else None,
                    capture_stdout=options.capture_output,
                    capture_stderr=options.capture_output,
                    check=False,
                )
            except FileNotFoundError:
                raise _no_ssh() from None
        output, errors = ended.stdout or b"", ended.stderr or b""
        code = _shell_code(ended.returncode)
        if options.capture_as_text:
            return SSHCommandRunResult(
                code, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
            )
        return SSHCommandRunResult(code, output, errors)

    @verb(name="run", takes_all_words=True)
    def run_verb(self, *words: str) -> None:
        """Run a command on the board, or a shell without one: `run rpi4 -- uname -a`, and `j ssh uname -a`.

        What follows the device are arguments of ssh, without a host: options such as -L, then the command. With
        --direct first, ssh connects to the board without the exporter. The exit code is that of the command, or 255 if
        there is no connection.
        """
        direct = words[:1] == ("--direct",)
        with self.portal.context(self._command_line(direct, list(words[direct:]))) as command:
            code = _in_terminal(command)
        if code:
            raise SystemExit(code)

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncIterator[RouterStream]:
        """A stream of the device; `connect` is that of its child, for forwards and adapters."""
        owner = self.children["tcp"].stream_async if method == "connect" else super().stream_async
        async with owner(method) as stream:
            yield stream

    @asynccontextmanager
    async def _command_line(self, direct: bool, words: list[str]) -> AsyncIterator[list[str]]:
        """The words to run, with all that they need during the block."""
        given, remote = split_arguments(words)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", self.path) or "board"
        settings = await self._settings()
        user = check_username(str(await self.call_async("get_default_username")))
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(RunFolder("jumpstarter-ssh-"))
            host, port = await self._address() if direct else ("", 0)
            if not host:
                host, port = await stack.enter_async_context(tcp_portforward(self.children["tcp"]))
            # ssh takes the first value of each option, so the user's own come first.
            command = ["ssh", *given, *settings, "-p", str(port), *(["-l", user] if user else [])]
            command += await self._known_hosts(folder, name)
            if (agent := await self._agent(stack)) is not None:
                command += [f"-oIdentityAgent={_quoted(agent)}", "-oIdentitiesOnly=no"]
            yield [*command, "--", host, *remote]

    async def _settings(self) -> list[str]:
        used, unused = allowed_options(str(await self.call_async("get_ssh_command")))
        for option in unused:
            self.logger.warning(
                "%s: the option %s of the exporter's ssh_command is not used; add it to your command",
                self.path,
                shown(option),
            )
        return used

    async def _address(self) -> tuple[str, int]:
        try:
            parts = urlsplit(str(await self.children["tcp"].call_async("address")))
            if parts.hostname and parts.port and is_host(parts.hostname):
                return parts.hostname, parts.port
            reason = f"it is {shown(parts.netloc)}" if parts.hostname else "it has none"
        except (DriverError, ValueError) as error:
            reason = str(error)
        self.logger.warning("%s: no address for --direct (%s); using the exporter", self.path, reason)
        return "", 0

    async def _known_hosts(self, folder: Path, name: str) -> list[str]:
        """The options for host keys, for this connection only.

        Without pinned keys any key is accepted: the board has a new one after each flash. Nothing is added to the
        user's files, and checks of other hosts, such as a jump host's, stay as they are.
        """
        try:
            pinned = await self.call_async("get_host_keys")
        except DriverError as error:
            if error.code not in (StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED):
                raise
            pinned = []  # an exporter of Jumpstarter 0.9
        keys = [check_host_key(str(key)) for key in pinned] if isinstance(pinned, list) else []
        file = folder / "known_hosts"
        file.write_text("".join(f"{name} {key}\n" for key in keys))
        return [
            f"-oHostKeyAlias={name}",
            f"-oUserKnownHostsFile={_quoted(file)}",
            "-oGlobalKnownHostsFile=/dev/null",
            f"-oStrictHostKeyChecking={'yes' if keys else 'accept-new'}",
            "-oCheckHostIP=no",
            "-oUpdateHostKeys=no",
            "-oVerifyHostKeyDNS=no",
            # A shared connection to the same local port could be one to another board.
            "-oControlMaster=no",
            "-oControlPath=none",
            "-oLogLevel=ERROR",
        ]

    async def _agent(self, stack: AsyncExitStack) -> Path | None:
        if self.labels.get(KEPT_IDENTITY):
            return await stack.enter_async_context(unix_portforward(self, "agent"))
        key = await self.call_async("get_ssh_identity")
        if not isinstance(key, str) or not key.strip():
            return None
        return await stack.enter_async_context(running_agent(key[:MAX_IDENTITY_LENGTH]))


def _in_terminal(command: list[str]) -> int:
    """Run it with the terminal of this process, which then gets Ctrl-C, and return its exit code."""

    def ignore(_number: int, _frame: object) -> None:
        """Do nothing: the terminal sends Ctrl-C to ssh, too."""

    # Not SIG_IGN, which ssh would inherit.
    before = signal.signal(signal.SIGINT, ignore)
    try:
        with subprocess.Popen(command) as process:  # noqa: S603 - the user's own ssh
            try:
                return _shell_code(process.wait())
            except BaseException:  # SIGTERM or SIGHUP, which end this process
                process.terminate()
                raise
    except FileNotFoundError:
        raise _no_ssh() from None
    finally:
        signal.signal(signal.SIGINT, before)


def _no_ssh() -> SshMissingError:
    return SshMissingError(
        "there is no ssh on this machine; install OpenSSH's client (Debian: openssh-client)"
    )


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _quoted(path: Path) -> str:
    """A path as the value of an option, in which ssh expands % and ${…}."""
    return '"' + str(path).replace("%", "%%") + '"'
