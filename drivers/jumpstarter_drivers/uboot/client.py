"""U-Boot for the user: `with client.uboot.reboot_to_console(): client.uboot.get_env("ethaddr")`."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.console import (
    CommandFailed,
    CommandTooLong,
    ConsoleSession,
    Expect,
    ExpectTimeout,
    Result,
)
from jumpstarter_client.console.attach import attach
from jumpstarter_client.console.command import Command, named
from jumpstarter_client.console.expect import quote
from jumpstarter_client.console.login import Probe
from jumpstarter_client.console.shell import new_token
from jumpstarter_client.twin import twin, twin_context
from jumpstarter_proto.errors import JumpstarterError

__all__ = ["DhcpInfo", "NotAtConsoleError", "UbootCommandError", "UbootConsoleClient"]

_KEY = "\x03"
"""Ctrl-C: any key stops the countdown, and this one leaves nothing on a prompt that is there already."""
_KEY_INTERVAL_SECONDS = 0.1
"""Seconds between two keys."""
_PROMPT_SECONDS = 5.0
"""Seconds in which a prompt comes back."""
_PROBE_SECONDS = 1.0
LINE_LIMIT = "jumpstarter.dev/line-limit"
"""The device's label that has its `line_limit`."""
_DEFAULT_LINE_LENGTH = 1024
_RETRY_SECONDS = 2.0


class NotAtConsoleError(JumpstarterError, RuntimeError):
    """U-Boot was not stopped, so it does not read commands."""

    status = "FAILED_PRECONDITION"


class UbootCommandError(CommandFailed, RuntimeError):
    """A command of U-Boot failed."""


@dataclass(frozen=True)
class DhcpInfo:
    """What a DHCP server gave to U-Boot."""

    ip_address: str
    gateway: str
    netmask: str

    @property
    def cidr(self) -> str:
        """Length of the network prefix, such as "24"; also "24" for an invalid netmask."""
        try:
            return str(ipaddress.IPv4Network(f"0.0.0.0/{self.netmask}").prefixlen)
        except ValueError:
            return "24"


class _LoaderCommand(Command):
    """A command for U-Boot's hush shell, which has no `eval`, and no way to take a line in pieces."""

    def __init__(self, command: str, token: str, line_limit: int) -> None:
        super().__init__(command, token)
        # CONFIG_SYS_CBSIZE counts the end of the string, too.
        if (size := len(self.typed.encode())) >= line_limit:
            raise _too_long(command, size, line_limit)

    @property
    def typed(self) -> str:
        """The line to type, without Enter."""
        return self._between_words(self.command).lstrip()

    @property
    def preparation(self) -> list[Command]:
        """None."""
        return []


class _Stopped(NamedTuple):
    """A board that stands at its prompt."""

    session: ConsoleSession
    prompt: re.Pattern[str]


class UbootConsoleClient(DriverClient):
    """Stops U-Boot and works at its prompt.

    Everything but `prompt` works inside `reboot_to_console` only. It needs U-Boot's hush shell (CONFIG_HUSH_PARSER),
    which boards with a shell-like prompt have. One user at a time.
    """

    interface: ClassVar[str] = "uboot"
    _stopped: _Stopped | None = None

    @property
    def prompt(self) -> str:
        """The prompt as it is configured."""
        return str(self.call("get_prompt"))

    @twin_context
    async def reboot_to_console(
        self, *, debug: bool = False, retries: int = 100
    ) -> AsyncIterator[UbootConsoleClient]:
        """Power-cycle the board and stop U-Boot before it boots; the board stays at the prompt after the block.

        A key is pressed `retries` times, 0.1 s apart. `debug` copies the console to stdout.

        Raises:
            ExpectTimeout: the prompt did not come.
        """
        if self._stopped is not None:
            raise NotAtConsoleError("reboot_to_console is in use already; leave it first")
        prompt = str(await self.call_async("get_prompt")).strip()
        pattern = re.compile(rf"(?:^|[\r\n])\s*{re.escape(prompt)} ?")
        # Attached before the power comes, so that a fast board's first line is not missed.
        async with attach(self.children["serial"]) as stream:
            session = ConsoleSession(stream, self.portal, on_data=_show if debug else None)
            await self._cycle()
            if not await _stop(session.expecting, pattern, retries):
                raise ExpectTimeout(
                    f"U-Boot's prompt {prompt!r} did not come; check `prompt`, and whether a key stops the board"
                    f"{quote(session.expecting.tail())}"
                )
            self._stopped = _Stopped(session, pattern)
            try:
                yield self
            finally:
                self._stopped = None

    @twin
    async def run_command(self, cmd: str, timeout: float = 60) -> bytes:
        """Type a command and return what comes up to the next prompt, its echo included.

        Raises:
            ExpectTimeout: the prompt did not come back.
            CommandTooLong: the line is longer than U-Boot's; nothing was sent.
        """
        session, prompt = self._at_prompt()
        if (size := len(cmd.encode())) >= self._line_limit:
            raise _too_long(cmd, size, self._line_limit)
        await session.expecting.send_line(cmd)
        match = await session.expecting.expect(prompt, timeout=timeout)
        return match.before.lstrip(" ").encode()

    @twin
    async def run_command_checked(
        self, cmd: str, timeout: float = 60, check: bool = True, tries: int = 1
    ) -> list[str]:
        """Run a command and return the lines it printed.

        A command that fails is tried `tries` times, 2 s apart.

        Raises:
            UbootCommandError: its exit code was not 0 in the end; not if `check` is false.
            CommandTooLong: the line would be longer than U-Boot's; nothing was sent.
            CommandTimeout: it did not end.
        """
        result = await self._run(cmd, timeout)
        for _ in range(tries - 1):
            if result.exit_code == 0:
                break
            await trio.sleep(_RETRY_SECONDS)
            result = await self._run(cmd, timeout)
        if check:
            try:
                result.check()
            except CommandFailed as failed:
                raise UbootCommandError(str(failed), result) from None
        return result.output.splitlines()

    @twin
    async def get_env(self, key: str, timeout: float = 5) -> str | None:
        """A variable of the environment; None when it is not set."""
        result = await self._run(f"printenv {_name(key)}", timeout)
        found = re.search(rf"^{re.escape(key)}=(.*)", result.output, re.MULTILINE | re.DOTALL)
        if result.exit_code == 0 and found:
            return found[1].removesuffix("\n")
        if "not defined" in result.output:
            return None
        raise UbootCommandError(f"U-Boot does not tell {key}; it printed {result.output!r}", result)

    @twin
    async def set_env(self, key: str, value: str | None, timeout: float = 5) -> None:
        """Set a variable until the board starts anew; None deletes it. `saveenv` keeps them."""
        # Two words would become one value as well, but lose blanks between them.
        text = "" if value is None else f" {_quoted(value)}"
        await self.run_command_checked.aio(f"setenv {_name(key)}{text}", timeout)

    @twin
    async def set_env_dict(self, env: Mapping[str, str | None]) -> None:
        """Set several variables, in order."""
        for key, value in env.items():
            await self.set_env.aio(key, value)

    @twin
    async def setup_dhcp(self, timeout: float = 60) -> DhcpInfo:
        """Get an address for U-Boot's network commands, loading nothing; tried three times.

        Raises:
            UbootCommandError: no server answered.
            JumpstarterError: the server gave no address or no gateway.
        """
        autoload = await self.get_env.aio("autoload")
        await self.set_env.aio("autoload", "no")
        try:
            await self.run_command_checked.aio("dhcp", timeout, tries=3)
        finally:
            with trio.move_on_after(_PROMPT_SECONDS, shield=True):
                await self.set_env.aio("autoload", autoload)
        address, gateway = await self.get_env.aio("ipaddr"), await self.get_env.aio("gatewayip")
        netmask = await self.get_env.aio("netmask") or "255.255.255.0"
        if not address or not gateway:
            raise JumpstarterError(
                f"the DHCP server gave address {address or 'none'} and gateway {gateway or 'none'}; "
                "look at its settings"
            )
        return DhcpInfo(ip_address=address, gateway=gateway, netmask=netmask)

    @property
    def _line_limit(self) -> int:
        # An exporter of Jumpstarter 0.9 does not say.
        label = self.node.labels.get(LINE_LIMIT, "")
        return int(label) if label.isascii() and label.isdigit() else _DEFAULT_LINE_LENGTH

    def _at_prompt(self) -> _Stopped:
        if self._stopped is None:
            raise NotAtConsoleError(
                "U-Boot is not at its prompt; use this inside `with reboot_to_console():`"
            )
        return self._stopped

    async def _cycle(self) -> None:
        # Any power switch will do, whichever class its client has.
        await self.children["power"].cycle.aio()

    async def _run(self, command: str, timeout: float) -> Result:
        session, prompt = self._at_prompt()
        running = _LoaderCommand(command, new_token(), self._line_limit)
        result = await session.shell.execute(running, timeout=timeout)
        await session.expecting.expect(prompt, timeout=_PROMPT_SECONDS)
        return result


async def _stop(console: Expect, prompt: re.Pattern[str], retries: int) -> bool:
    """Press the key until a prompt answers, one that stays."""
    for _ in range(retries):
        await console.send(_KEY)
        try:
            await console.expect(prompt, timeout=_KEY_INTERVAL_SECONDS)
            # It may be one from before the power went. And each key too many makes another: the one behind the
            # probe's answer is the last.
            probe = Probe(new_token())
            await console.send(probe.typed)
            await console.expect(probe.answer, timeout=_PROBE_SECONDS)
            await console.expect(prompt, timeout=_PROMPT_SECONDS)
        except ExpectTimeout:
            continue
        return True
    return False


def _too_long(command: str, size: int, limit: int) -> CommandTooLong:
    return CommandTooLong(
        f"{named(command)} makes a line of {size} bytes, U-Boot takes {limit - 1}; make it shorter, or set "
        "`line_limit` in the exporter's configuration to the board's CONFIG_SYS_CBSIZE"
    )


def _name(key: str) -> str:
    if not re.fullmatch(r"[^\s='\"$;&|\\]+", key):
        raise ValueError(f"{key!r} is not a valid variable name; it must not contain blanks, quotes or =")
    return key


def _quoted(value: str) -> str:
    if any(ord(char) < 0x20 for char in value):
        raise ValueError("U-Boot's command line takes no control characters; leave them out of the value")
    # hush knows no way to put a quote between quotes but to end them.
    return "'" + value.replace("'", "'\\''") + "'"


def _show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
