"""A console for plain code and trio tasks: wait for text, type, log in, and run commands."""

from __future__ import annotations

from collections.abc import Callable

from jumpstarter_client.blocking import BlockingPortal
from jumpstarter_client.console.command import Result
from jumpstarter_client.console.expect import ByteStream, Expect
from jumpstarter_client.console.matcher import Match, Pattern
from jumpstarter_client.console.shell import Shell
from jumpstarter_client.twin import twin

__all__ = ["ConsoleSession"]


class ConsoleSession:
    """`Expect` and `Shell` of one stream, as twins: `session.run("ls")`, or `await session.run.aio("ls")`.

    The owner of the stream closes it.
    """

    def __init__(
        self,
        stream: ByteStream,
        portal: BlockingPortal,
        *,
        on_data: Callable[[bytes], None] | None = None,
        loader_prompt: str | None = None,
    ) -> None:
        self.expecting = Expect(stream, on_data=on_data)
        """The `Expect` of this session, for trio tasks."""
        self.shell = Shell(self.expecting, loader_prompt=loader_prompt)
        self._portal = portal

    @property
    def portal(self) -> BlockingPortal:
        """The portal to the loop of the stream."""
        return self._portal

    @twin
    async def expect(self, *patterns: Pattern, timeout: float = 60.0) -> Match:
        """Wait for one of the patterns; see `Expect.expect`."""
        return await self.expecting.expect(*patterns, timeout=timeout)

    @twin
    async def send(self, data: str | bytes) -> None:
        """Type this text unchanged."""
        await self.expecting.send(data)

    @twin
    async def send_line(self, text: str = "") -> None:
        """Type this text and Enter."""
        await self.expecting.send_line(text)

    @twin
    async def login(
        self,
        user: str = "root",
        password: str | None = None,
        *,
        new_password: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Get to a shell; see `Shell.login`."""
        await self.shell.login(user, password, new_password=new_password, timeout=timeout)

    @twin
    async def run(self, command: str, *, timeout: float = 60.0) -> Result:
        """Run a command on the shell; see `Shell.run`."""
        return await self.shell.run(command, timeout=timeout)
