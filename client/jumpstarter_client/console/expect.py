"""Waits for text on a console and types into it, over any trio byte stream."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.console.matcher import Match, Matcher, Pattern, plain, without_secrets

__all__ = ["LAST_LINES", "ByteStream", "ConsoleClosed", "ConsoleError", "Expect", "ExpectTimeout", "quote"]

LAST_LINES = "; the console's last lines:"
"""The end of the first line of an error that quotes the console."""
_MAX_QUOTED_LINES = 10
"""How many lines of the console an error quotes."""


class ByteStream(Protocol):
    """The two halves of a trio stream that a console needs."""

    async def receive_some(self) -> bytes | bytearray:
        """Return received data; b"" at the end."""

    async def send_all(self, data: bytes) -> None:
        """Send all data."""


class ConsoleError(JumpstarterError):
    """The base class of console errors; the message ends with the last lines of the console."""


class ExpectTimeout(ConsoleError):  # noqa: N818 - says what happened
    """The expected text was not printed in time."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


class ConsoleClosed(ConsoleError):  # noqa: N818 - says what happened
    """The console ended: the exporter closed it, or the connection was lost."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


def quote(tail: bytes) -> str:
    """Quote the last lines of a console, for the end of an error message."""
    lines = [line.rstrip() for line in plain(tail).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return "; the console printed nothing: is the board switched on?"
    return f"{LAST_LINES}\n" + "\n".join(f"  | {line}" for line in lines[-_MAX_QUOTED_LINES:])


class Expect:
    """One user of a console. One task at a time may wait, and another one may type meanwhile.

    The console is read only during waits. `on_data` is called with all data, for a transcript. The owner of the stream
    closes it.
    """

    def __init__(self, stream: ByteStream, *, on_data: Callable[[bytes], None] | None = None) -> None:
        self._stream = stream
        self._matcher = Matcher()
        self._secrets: set[str] = set()
        self.on_data = on_data

    def keep_secret(self, *secrets: str | None) -> None:
        """Remove these texts from quoted output, in case the board echoes them."""
        self._secrets.update(secret for secret in secrets if secret)

    async def expect(self, *patterns: Pattern, timeout: float) -> Match:
        """Wait until one of the patterns is printed, at most `timeout` seconds.

        Patterns are literal text, bytes, or compiled regular expressions. A match consumes all output up to its end. A
        cancelled or timed-out wait consumes nothing, so the next wait sees the output again.

        Raises:
            ExpectTimeout: no pattern was printed; the message names the patterns and quotes the last lines.
            ConsoleClosed: the console ended.
        """
        with trio.move_on_after(timeout):
            while (match := self._matcher.match(patterns)) is None:
                await self._read()
            return match
        wanted = " or ".join(_name(pattern) for pattern in patterns)
        raise ExpectTimeout(f"{wanted} did not come within {timeout:g} s{quote(self.tail())}")

    async def receive(self) -> bytes:
        """Return output that no match has consumed; waits for at least one byte.

        Raises:
            ConsoleClosed: the console ended.
        """
        if not self._matcher:
            await self._read()
        return self._matcher.take()

    def unread(self, data: bytes) -> None:
        """Put back output of `receive`, for the next wait."""
        self._matcher.unread(data)

    async def send(self, data: str | bytes) -> None:
        """Type this text unchanged.

        Raises:
            ConsoleClosed: the console ended.
        """
        try:
            await self._stream.send_all(data.encode() if isinstance(data, str) else data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise self._closed(error) from error

    async def send_line(self, text: str = "") -> None:
        """Type this text and Enter (a carriage return)."""
        await self.send(text + "\r")

    def tail(self, size: int = 4096) -> bytes:
        """Return the last output, at most 4 KiB and without secrets, for messages."""
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
