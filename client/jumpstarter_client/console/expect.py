"""Waits for text on a console and types into it, over any trio byte stream."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.console.matcher import Match, Matcher, Pattern, plain, without_secrets

__all__ = ["ByteStream", "ConsoleClosed", "ConsoleError", "Expect", "ExpectTimeout", "quote"]

_LINES = 10
"""Lines of the console that an error quotes."""


class ByteStream(Protocol):
    """The two halves of a trio stream that a console needs."""

    async def receive_some(self) -> bytes | bytearray:
        """What has come; b"" at the end."""

    async def send_all(self, data: bytes) -> None:
        """Send all of it."""


class ConsoleError(JumpstarterError):
    """Root of what can go wrong on a console; the message ends with its last lines."""


class ExpectTimeout(ConsoleError):  # noqa: N818 - says what happened
    """What was waited for did not come in time."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


class ConsoleClosed(ConsoleError):  # noqa: N818 - says what happened
    """The console ended: the exporter closed it, or the connection broke."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


def quote(tail: bytes) -> str:
    """The last lines of a console, as the end of an error's message."""
    lines = [line.rstrip() for line in plain(tail).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return "; the console printed nothing: is the board switched on?"
    return "; the console's last lines:\n" + "\n".join(f"  | {line}" for line in lines[-_LINES:])


class Expect:
    """One user of a console. One task at a time may wait; another one may type meanwhile.

    The console is read only while somebody waits. `on_data` gets all that is read, as it comes, for a transcript. The
    stream stays its opener's to close.
    """

    def __init__(self, stream: ByteStream, *, on_data: Callable[[bytes], None] | None = None) -> None:
        self._stream = stream
        self._matcher = Matcher()
        self._secrets: set[str] = set()
        self.on_data = on_data

    def keep_secret(self, *secrets: str | None) -> None:
        """Leave these out of what errors quote, should the board have echoed them."""
        self._secrets.update(secret for secret in secrets if secret)

    async def expect(self, *patterns: Pattern, timeout: float) -> Match:
        """Wait until one of the patterns has come, at most `timeout` seconds.

        Patterns are literal text, bytes, or compiled regular expressions. The match uses what came up to its end; a
        cancelled or timed-out wait uses nothing, so the next one sees it again.

        Raises:
            ExpectTimeout: none came; the message names them and quotes the last lines.
            ConsoleClosed: the console ended.
        """
        with trio.move_on_after(timeout):
            while (match := self._matcher.match(patterns)) is None:
                await self._read()
            return match
        wanted = " or ".join(_name(pattern) for pattern in patterns)
        raise ExpectTimeout(f"{wanted} did not come within {timeout:g} s{quote(self.tail())}")

    async def receive(self) -> bytes:
        """What has come and no match has used, at least one byte, waiting for it if need be.

        Raises:
            ConsoleClosed: the console ended.
        """
        if not self._matcher:
            await self._read()
        return self._matcher.take()

    def unread(self, data: bytes) -> None:
        """Put back what `receive` gave, for the next who waits."""
        self._matcher.unread(data)

    async def send(self, data: str | bytes) -> None:
        """Type this, as it is.

        Raises:
            ConsoleClosed: the console ended.
        """
        try:
            await self._stream.send_all(data.encode() if isinstance(data, str) else data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._closed(error) from error

    async def send_line(self, text: str = "") -> None:
        """Type this and Enter (a carriage return, as the key sends)."""
        await self.send(text + "\r")

    def tail(self, size: int = 4096) -> bytes:
        """What was read last, for messages; at most 4 KiB, and without secrets."""
        return without_secrets(self._matcher.tail(), self._secrets)[-size:]

    async def _read(self) -> None:
        try:
            data = bytes(await self._stream.receive_some())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._closed(error) from error
        if not data:
            raise self._closed(None)
        self._matcher.feed(data)
        if self.on_data is not None:
            self.on_data(data)

    def _closed(self, error: Exception | None) -> ConsoleClosed:
        why = "the exporter closed it" if error is None else str(error.__cause__ or error)
        return ConsoleClosed(f"the console ended ({why}); open it again{quote(self.tail())}")


def _name(pattern: Pattern) -> str:
    source = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    text = source if isinstance(source, str) else source.decode("utf-8", "replace")
    return f"/{text}/" if isinstance(pattern, re.Pattern) else repr(text)
