"""Finds patterns in what a console prints, however it is cut into pieces. No input, output or clock.

Consoles send what they like: half a UTF-8 character now and the rest later, invalid bytes, escape sequences. Nothing
of that raises here, and memory stays bounded.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jumpstarter_proto.errors import JumpstarterUsageError

__all__ = ["KEEP", "Match", "Matcher", "Pattern", "plain"]

Pattern = str | bytes | re.Pattern[str] | re.Pattern[bytes]
"""A str or bytes is searched for as it is; compiled ones are regular expressions."""

KEEP = 1 << 20
"""Bytes that at least wait for a match; of more than twice as many, the oldest are dropped."""
_SPAN = 1 << 16
"""Length of what a regular expression can match, in bytes or characters."""
_RECENT = 4096

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]+")


def plain(data: bytes) -> str:
    """As text for people: no escape sequences or control characters, lines end with a line feed."""
    text = _ESCAPES.sub("", data.decode("utf-8", "replace"))
    return _CONTROLS.sub("", text.replace("\r\n", "\n"))


@dataclass(frozen=True)
class Match:
    """Where a pattern was found. Invalid UTF-8 shows as U+FFFD."""

    index: int
    """Which of the patterns, from 0."""
    text: str
    """What it matched."""
    before: str
    """What came since the last match, without `text`."""
    groups: tuple[str | None, ...] = ()
    """The groups of a regular expression; None for one that took no part."""
    named: dict[str, str | None] = field(default_factory=dict)
    """Its named groups."""
    dropped: int = 0
    """Bytes that are missing at the start of `before`, because more came than is kept."""


@dataclass(frozen=True)
class _Found:
    """A place in the buffer, in bytes."""

    start: int
    end: int
    groups: tuple[str | None, ...] = ()
    named: dict[str, str | None] = field(default_factory=dict)


class Matcher:
    r"""The bytes that no match has used yet.

    A match uses everything up to its end. Of several patterns the one found furthest to the front wins, at the same
    place the one that was named first. A regular expression sees what has come so far: one that could go on (`\d+`)
    matches a part, unless it names what follows. It matches 64 KiB at most.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._buffer = bytearray()
        self._recent = bytearray()
        self._dropped = 0
        self._text = ""
        self._decoded = 0
        self._decoder = _decoder()
        self._searched: dict[re.Pattern[str] | re.Pattern[bytes], int] = {}

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """The console printed this."""
        self._recent += data
        del self._recent[:-_RECENT]
        self._buffer += data
        if len(self._buffer) > 2 * self._keep:
            excess = len(self._buffer) - self._keep
            self._use(excess)
            self._dropped += excess

    def unread(self, data: bytes) -> None:
        """Put back what `take` gave: the next match sees it first."""
        rest = bytes(self._buffer)
        self._use(len(rest))
        self._buffer += data + rest

    def take(self) -> bytes:
        """All that no match has used; it is used now."""
        data = bytes(self._buffer)
        self._use(len(data))
        self._dropped = 0
        return data

    def tail(self, size: int = _RECENT) -> bytes:
        """What was seen last, used or not: at most `size` bytes, and at most 4 KiB."""
        return bytes(self._recent[-size:]) if size > 0 else b""

    def match(self, patterns: Sequence[Pattern]) -> Match | None:
        """The first match, or None until more is fed.

        Raises:
            JumpstarterUsageError: there is no pattern, or one is empty.
        """
        if not patterns:
            raise JumpstarterUsageError("expect needs a pattern to wait for")
        best: tuple[int, int, _Found] | None = None
        for index, pattern in enumerate(patterns):
            found = self._find(pattern)
            if found is not None and (best is None or found.start < best[0]):
                best = (found.start, index, found)
        if best is None:
            return None
        _, index, found = best
        match = Match(
            index=index,
            text=_readable(self._buffer[found.start : found.end]),
            before=_readable(self._buffer[: found.start]),
            groups=found.groups,
            named=found.named,
            dropped=self._dropped,
        )
        self._use(found.end)
        self._dropped = 0
        return match

    def _find(self, pattern: Pattern) -> _Found | None:
        if isinstance(pattern, str | bytes):
            literal = pattern.encode() if isinstance(pattern, str) else pattern
            if not literal:
                raise JumpstarterUsageError("an empty pattern matches nothing and everything; name some text")
            start = self._buffer.find(literal)
            return None if start < 0 else _Found(start, start + len(literal))
        # Where it has been searched for already, only a match that reaches into what is new can begin.
        start = max(0, self._searched.get(pattern, 0) - _SPAN)
        if isinstance(pattern.pattern, bytes):
            raw = re.compile(pattern).search(self._buffer, start)
            self._searched[pattern] = len(self._buffer)
            if raw is None:
                return None
            return _Found(
                raw.start(),
                raw.end(),
                tuple(None if group is None else _readable(group) for group in raw.groups()),
                {
                    name: None if group is None else _readable(group)
                    for name, group in raw.groupdict().items()
                },
            )
        text = self._as_text()
        found = re.compile(pattern).search(text, start)
        self._searched[pattern] = len(text)
        if found is None:
            return None
        first = len(_raw(text[: found.start()]))
        return _Found(
            first,
            first + len(_raw(found[0])),
            tuple(None if group is None else _readable(_raw(group)) for group in found.groups()),
            {
                name: None if group is None else _readable(_raw(group))
                for name, group in found.groupdict().items()
            },
        )

    def _as_text(self) -> str:
        """The buffer as text of which each part leads back to its bytes; without a character that is not whole."""
        if self._decoded < len(self._buffer):
            self._text += self._decoder.decode(bytes(self._buffer[self._decoded :]))
            self._decoded = len(self._buffer)
        return self._text

    def _use(self, size: int) -> None:
        del self._buffer[:size]
        self._text, self._decoded, self._decoder = "", 0, _decoder()
        self._searched.clear()


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _readable(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
