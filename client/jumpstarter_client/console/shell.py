"""A shell on a board's console: log in, run commands, get their output and exit code."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from jumpstarter_proto.errors import ExitCode

from jumpstarter_client.console.command import Command, Result, Stage, Suspicion, named
from jumpstarter_client.console.expect import ConsoleClosed, ConsoleError, Expect, quote
from jumpstarter_client.console.login import CTRL_C, Login, LoginState, Probe

__all__ = ["BoardRebooted", "CommandTimeout", "LoginTimeout", "OnOutput", "Shell", "ShellLost", "new_token"]

_ANSWER = 5.0
"""Seconds in which a shell takes a line."""
_RECOVERY = 3.0
"""Seconds in which a shell comes back that did not take a line."""
_AGAIN = 1.0
"""Seconds without output after which Ctrl-C is pressed once more."""
_SETTLED = 0.3
"""Seconds without output after which Ctrl-C has had its effect."""
_PATIENCE = {Suspicion.LOGIN: 1.0, Suspicion.LOADER: 3.0}
"""Seconds without output that turn a suspicion into a fact: a command that prints a boot log goes on."""


OnOutput = Callable[[str, str], Awaitable[None]]
"""Gets a command's output and kernel messages; either may be empty."""


class LoginTimeout(ConsoleError):  # noqa: N818 - says what happened
    """No shell was reached in time."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


class CommandTimeout(ConsoleError):  # noqa: N818 - says what happened
    """A command did not end in time; it was interrupted with Ctrl-C."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


class ShellLost(ConsoleError):  # noqa: N818 - says what happened
    """There is no shell on the console, or not any more."""

    status = "FAILED_PRECONDITION"


class BoardRebooted(ShellLost):
    """The board started anew while a command ran."""


class Shell:
    """A POSIX shell on a console, such as dash, bash or busybox. One task at a time may use it.

    Kernel messages, echo, line ends, prompts and colours of prompts disturb nothing. Commands run in the login shell
    itself: `cd` and variables last.
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
        """Get to a shell, from a board that boots, asks for a login, or has a shell already.

        A shell that is there is taken as it is, whoever is logged in. A board that wants another password gets
        `new_password`; one that has it already is logged in with it. Passwords are left out of what errors quote.

        Raises:
            LoginRefused: the board does not take the name or the password, wants a new one, or stands at its boot
                loader's prompt.
            LoginTimeout: no shell answered within `timeout` seconds.
            ConsoleClosed: the console ended.
        """
        self._expect.keep_secret(password, new_password)
        login = Login(
            user, password, new_token(), new_password=new_password, loader_prompt=self._loader_prompt
        )
        with trio.move_on_after(timeout):
            while login.state is not LoginState.LOGGED_IN:
                data = await self._receive(login.patience)
                keys = login.feed(data) if data else login.silence()
                if keys:
                    await self._expect.send(keys)
            return
        raise LoginTimeout(f"no shell within {timeout:g} s, {login.state.value}{quote(self._expect.tail())}")

    async def run(self, command: str, *, timeout: float = 60.0, on_output: OnOutput | None = None) -> Result:
        """Run a command, of one line or several, and wait for its end.

        Its stdin is the console. A command that is cancelled or not done in `timeout` seconds gets Ctrl-C. One that
        ends the shell (`exit`) has no result. `on_output` is awaited with each
        piece of its output, and of kernel messages, as they come. A long one is typed in pieces.

        Raises:
            CommandTooLong: it has more than 64 KiB; nothing was sent.
            CommandTimeout: it did not end in time.
            BoardRebooted: the board started anew meanwhile.
            ShellLost: no shell is there, or it is gone: log in first. Or it did not take the line, and was brought back
                to its prompt.
            ConsoleClosed: the console ended.
        """
        return await self.execute(Command(command, new_token()), timeout=timeout, on_output=on_output)

    async def execute(self, running: Command, *, timeout: float, on_output: OnOutput | None = None) -> Result:
        """The same for a command that is typed in a way of its own."""
        try:
            with trio.move_on_after(timeout):
                for piece in running.preparation:
                    (await self._finish(piece, None)).check()
                return await self._finish(running, on_output)
        except trio.Cancelled:
            # A console that has ended must not hide that somebody cancels.
            with trio.move_on_after(_ANSWER, shield=True), suppress(ConsoleClosed):
                await self._expect.send(CTRL_C)
            raise
        raise await self._timed_out(running, timeout)

    async def _finish(self, running: Command, on_output: OnOutput | None) -> Result:
        """Type its line and read to its end."""
        await self._expect.send_line(running.typed)
        while running.result is None:
            data = await self._receive(_patience(running))
            if not data:
                raise await self._lost(running)
            running.feed(data)
            if on_output is not None and any(new := running.take()):
                await on_output(*new)
        self._expect.unread(running.rest)
        if running.is_unknown_to_a_boot_loader:
            raise ShellLost(
                f"no shell takes {named(running.command)}, a boot loader does; let it `boot` and log in first"
                f"{quote(self._expect.tail())}"
            )
        return running.result

    async def _receive(self, seconds: float) -> bytes:
        """What comes, or b"" when nothing does."""
        with trio.move_on_after(seconds):
            return await self._expect.receive()
        return b""

    async def _lost(self, running: Command) -> ShellLost:
        tail = quote(self._expect.tail())
        name = named(running.command)
        if running.restarted:
            return BoardRebooted(f"the board rebooted while {name} ran; log in again{tail}")
        if running.stage is not Stage.TYPED:
            return ShellLost(f"the shell ended while {name} ran; log in again{tail}")
        if running.suspicion is Suspicion.NONE and await self._interrupt(_RECOVERY):
            return ShellLost(f"the shell did not take {name}, and is back at its prompt; try again{tail}")
        return ShellLost(f"no shell takes {name}; log in first{tail}")

    async def _timed_out(self, running: Command, timeout: float) -> ConsoleError:
        if running.restarted:
            return await self._lost(running)
        tail = quote(self._expect.tail())
        late = f"{named(running.command)} did not end within {timeout:g} s"
        if await self._interrupt(_ANSWER):
            return CommandTimeout(f"{late} and was interrupted{tail}")
        return CommandTimeout(f"{late}, and not after Ctrl-C either; power-cycle the board{tail}")

    async def _interrupt(self, seconds: float) -> bool:
        """Press Ctrl-C until a shell answers; whether one did in time."""
        probe = Probe(new_token())
        seen = bytearray()
        with trio.move_on_after(seconds):
            while not probe.answered(seen):
                await self._expect.send(CTRL_C)
                while await self._receive(_SETTLED):
                    pass  # shells throw away what is typed while they are interrupted
                await self._expect.send(probe.typed)
                while not probe.answered(seen) and (data := await self._receive(_AGAIN)):
                    seen += data
            return True
        return False


def new_token() -> str:
    """A word that nothing prints by chance."""
    return secrets.token_hex(4)


def _patience(running: Command) -> float:
    if running.stage is Stage.TYPED:
        return _PATIENCE.get(running.suspicion, _ANSWER)
    return _PATIENCE.get(running.suspicion, float("inf"))
