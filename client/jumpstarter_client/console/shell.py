"""A shell on a board's console: log in, run commands, get their output and exit code."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from jumpstarter_proto.errors import ExitCode

from jumpstarter_client.console.command import Command, CommandStage, Result, Suspicion, named
from jumpstarter_client.console.expect import ConsoleClosed, ConsoleError, Expect, quote
from jumpstarter_client.console.login import CTRL_C, LoginMachine, LoginState, Probe

__all__ = ["BoardRebooted", "CommandTimeout", "LoginTimeout", "OnOutput", "Shell", "ShellLost", "new_token"]

_ANSWER_SECONDS = 5.0
"""How long a shell may take to read a line."""
_RECOVERY_SECONDS = 3.0
"""How long a shell may take to return to its prompt if it did not read a line."""
_CTRL_C_REPEAT_SECONDS = 1.0
"""After so long without output, Ctrl-C is sent again."""
_CTRL_C_SETTLE_SECONDS = 0.3
"""After so long without output, Ctrl-C has had its effect."""
_SUSPICION_SECONDS = {Suspicion.LOGIN: 1.0, Suspicion.LOADER: 3.0}
"""After so long without output a suspicion counts as a fact; a command that prints a boot log continues."""


OnOutput = Callable[[str, str], Awaitable[None]]
"""Called with output and kernel messages of a command; either may be empty."""


class LoginTimeout(ConsoleError):  # noqa: N818 - says what happened
    """No shell answered in time."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


class CommandTimeout(ConsoleError):  # noqa: N818 - says what happened
    """A command did not end in time; it was interrupted with Ctrl-C."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


class ShellLost(ConsoleError):  # noqa: N818 - says what happened
    """There is no shell on the console, or it has ended."""

    status = "FAILED_PRECONDITION"


class BoardRebooted(ShellLost):
    """The board rebooted while a command ran."""


class Shell:
    """A POSIX shell on a console, such as dash, bash or busybox. One task at a time may use it.

    Kernel messages, echo, line ends and prompts with colours are handled. Commands run in the login shell itself, so
    `cd` and variables have a lasting effect.
    """

    def __init__(self, expect: Expect, *, loader_prompt: str | None = None) -> None:
        self._expect = expect
        self._loader_prompt = loader_prompt

    async def login(
        self,
        user: str = "root",
        password: str | None = None,
        *,
        new_password: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Get to a shell, on a board that boots, shows a login prompt, or has a shell already.

        An existing shell is used, whoever is logged in. If the board requires a new password, `new_password` is set; if
        it was set before, it is used to log in. Errors do not quote passwords.

        Raises:
            LoginRefused: the board rejected the user name or the password, requires a new password, or is at the prompt
                of its boot loader.
            LoginTimeout: no shell answered within `timeout` seconds.
            ConsoleClosed: the console ended.
        """
        self._expect.keep_secret(password, new_password)
        login = LoginMachine(
            user, password, new_token(), new_password=new_password, loader_prompt=self._loader_prompt
        )
        with trio.move_on_after(timeout):
            while login.state is not LoginState.LOGGED_IN:
                data = await self._receive(login.quiet_seconds)
                keys = login.feed(data) if data else login.silence()
                if keys:
                    await self._expect.send(keys)
            return
        raise LoginTimeout(f"no shell within {timeout:g} s, {login.state.value}{quote(self._expect.tail())}")

    async def run(self, command: str, *, timeout: float = 60.0, on_output: OnOutput | None = None) -> Result:
        """Run a command, of one or several lines, and wait until it ends.

        Its stdin is the console. If it is cancelled or exceeds `timeout` seconds, Ctrl-C is sent. A command that ends
        the shell (`exit`) has no result. `on_output` is awaited with its output and with kernel messages as they
        arrive. A long command is typed in pieces.

        Raises:
            CommandTooLong: it has more than 64 KiB; nothing was sent.
            CommandTimeout: it did not end in time.
            BoardRebooted: the board rebooted meanwhile.
            ShellLost: there is no shell, or it has ended: log in first. Or the shell did not read the line, and was
                brought back to its prompt.
            ConsoleClosed: the console ended.
        """
        return await self.execute(Command(command, new_token()), timeout=timeout, on_output=on_output)

    async def execute(self, running: Command, *, timeout: float, on_output: OnOutput | None = None) -> Result:
        """Run a prepared command; see `run`."""
        try:
            with trio.move_on_after(timeout):
                for piece in running.preparation:
                    (await self._finish(piece, None)).check()
                return await self._finish(running, on_output)
        except trio.Cancelled:
            # The cancellation has to be raised even if the console has ended.
            with trio.move_on_after(_ANSWER_SECONDS, shield=True), suppress(ConsoleClosed):
                await self._expect.send(CTRL_C)
            raise
        raise await self._timed_out(running, timeout)

    async def _finish(self, running: Command, on_output: OnOutput | None) -> Result:
        """Type the line of a command and read until it ends."""
        await self._expect.send_line(running.typed)
        while running.result is None:
            data = await self._receive(_quiet_limit(running))
            if not data:
                raise await self._lost(running)
            running.feed(data)
            if on_output is not None and any(new := running.take()):
                await on_output(*new)
        self._expect.unread(running.rest)
        if running.is_unknown_to_a_boot_loader:
            raise ShellLost(
                f"a boot loader read {named(running.command)}, not a shell; type `boot` and log in first"
                f"{quote(self._expect.tail())}"
            )
        return running.result

    async def _receive(self, seconds: float) -> bytes:
        """Return the next output, or b"" after `seconds` without output."""
        with trio.move_on_after(seconds):
            return await self._expect.receive()
        return b""

    async def _lost(self, running: Command) -> ShellLost:
        tail = quote(self._expect.tail())
        name = named(running.command)
        if running.restarted:
            return BoardRebooted(f"the board rebooted while {name} ran; log in again{tail}")
        if running.stage is not CommandStage.TYPED:
            return ShellLost(f"the shell ended while {name} ran; log in again{tail}")
        if running.suspicion is Suspicion.NONE and await self._interrupt(_RECOVERY_SECONDS):
            return ShellLost(f"the shell did not read {name} and is back at its prompt; try again{tail}")
        return ShellLost(f"no shell reads {name}; log in first{tail}")

    async def _timed_out(self, running: Command, timeout: float) -> ConsoleError:
        if running.restarted:
            return await self._lost(running)
        tail = quote(self._expect.tail())
        late = f"{named(running.command)} did not end within {timeout:g} s"
        if await self._interrupt(_ANSWER_SECONDS):
            return CommandTimeout(f"{late} and was interrupted{tail}")
        return CommandTimeout(f"{late}, and Ctrl-C had no effect; power-cycle the board{tail}")

    async def _interrupt(self, seconds: float) -> bool:
        """Send Ctrl-C until a shell answers. Returns whether it answered in time."""
        probe = Probe(new_token())
        seen = bytearray()
        with trio.move_on_after(seconds):
            while not probe.answered(seen):
                await self._expect.send(CTRL_C)
                while await self._receive(_CTRL_C_SETTLE_SECONDS):
                    pass  # shells discard input while they are interrupted
                await self._expect.send(probe.typed)
                while not probe.answered(seen) and (data := await self._receive(_CTRL_C_REPEAT_SECONDS)):
                    seen += data
            return True
        return False


def new_token() -> str:
    """Return a random word that no program prints by chance."""
    return secrets.token_hex(4)


def _quiet_limit(running: Command) -> float:
    if running.stage is CommandStage.TYPED:
        return _SUSPICION_SECONDS.get(running.suspicion, _ANSWER_SECONDS)
    return _SUSPICION_SECONDS.get(running.suspicion, float("inf"))
