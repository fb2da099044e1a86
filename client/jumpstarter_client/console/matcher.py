"""Finds patterns in the output of a console, which arrives in pieces of any size. No I/O or clock.

The output may contain split UTF-8 characters, invalid bytes and escape sequences. None of that raises an error, and
memory is bounded. Escape sequences are removed from the searched text and from matches.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.console.escapes import EscapeFilter, raw_offset, strip_escapes

__all__ = ["MIN_KEPT_BYTES", "Match", "Matcher", "Pattern", "plain", "without_secrets"]

Pattern = str | bytes | re.Pattern[str] | re.Pattern[bytes]
"""Literal str or bytes, or a compiled regular expression."""

MIN_KEPT_BYTES = 1 << 20
"""How many bytes are kept for a match at least; from twice as many, the oldest are dropped."""
_MAX_MATCH_LENGTH = 1 << 16
"""The longest match of a regular expression, in bytes or characters."""
_TAIL_BYTES = 4096

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]+")
_LINE_END = re.compile(r"\r*\n\r*|\r+")
_NAMES_ESCAPE = re.compile(r"\x1b|\\x1[bB]|\\033")


def plain(data: bytes) -> str:
    """Convert output to text without escape sequences and control characters; lines end with a line feed.

    A carriage return ends a line, too, so that each state of a progress bar is a line.
    """
    text = EscapeFilter().feed(data).decode("utf-8", "replace")
    return _CONTROLS.sub("", _LINE_END.sub("\n", text))


def without_secrets(data: bytes, secrets: Iterable[str]) -> bytes:
    """Replace secrets by stars where they are whole words: the password `root` does not change `rootfs`."""
    for secret in secrets:
        if secret:
            data = re.sub(rb"(?<!\w)" + re.escape(secret.encode()) + rb"(?!\w)", b"***", data)
    return data


@dataclass(frozen=True)
class Match:
    """A match. Invalid UTF-8 is shown as U+FFFD; escape sequences are removed."""

    index: int
    """The index of the pattern, from 0."""
    text: str
    """The matched text."""
    before: str
    """The output between the last match and `text`."""
    groups: tuple[str | None, ...] = ()
    """The groups of a regular expression; None for a group that did not take part."""
    named: dict[str, str | None] = field(default_factory=dict)
    """Its named groups."""
    dropped: int = 0
    """How many bytes are missing at the start of `before`, because more was printed than is kept."""


@dataclass(frozen=True)
class _Found:
    """A place in the text that was searched, in bytes."""

    start: int
    end: int
    groups: tuple[str | None, ...] = ()
    named: dict[str, str | None] = field(default_factory=dict)


class Matcher:
    r"""The output that no match has consumed yet.

    A match consumes everything up to its end. The pattern that is found first in the output wins; at the same position,
    the one that was named first. A regular expression sees the output so far: one that could continue (`\d+`) matches
    a part, unless it includes what follows. A match has at most 64 KiB.

    Escape sequences are ignored. A pattern that contains ESC is searched in the raw output.
    """

    def __init__(self, keep: int = MIN_KEPT_BYTES) -> None:
        self._keep = keep
        self._wire = _Searched()
        """The raw output."""
        self._bare = _Searched()
        """The output without escape sequences."""
        self._filter = EscapeFilter()
        self._recent = bytearray()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._wire.data)

    def feed(self, data: bytes) -> None:
        """Handle output of the console."""
        self._recent += data
        del self._recent[:-_TAIL_BYTES]
        self._add(data)
        if len(self) > 2 * self._keep:
            excess = len(self) - self._keep
            self._use(excess)
            self._dropped += excess

    def unread(self, data: bytes) -> None:
        """Put back output of `take`: the next match sees it first."""
        rest = bytes(self._wire.data)
        self._use(len(rest))
        self._add(data + rest)

    def take(self) -> bytes:
        """Return and consume all raw output."""
        data = bytes(self._wire.data)
        self._use(len(data))
        self._dropped = 0
        return data

    def tail(self, size: int = _TAIL_BYTES) -> bytes:
        """Return the last output, consumed or not: at most `size` bytes, and at most 4 KiB."""
        return bytes(self._recent[-size:]) if size > 0 else b""

    def match(self, patterns: Sequence[Pattern]) -> Match | None:
        """Return the first match, or None if more output is needed.

        Raises:
            JumpstarterUsageError: there is no pattern, or one is empty.
        """
        if not patterns:
            raise JumpstarterUsageError("expect needs a pattern to wait for")
        best: tuple[int, int, int, _Found, _Searched] | None = None
        for index, pattern in enumerate(patterns):
            searched = self._wire if _names_escape(pattern) else self._bare
            found = searched.find(pattern)
            if found is None:
                continue
            start, end = self._on_the_wire(searched, found)
            if best is None or start < best[0]:
                best = (start, end, index, found, searched)
        if best is None:
            return None
        start, end, index, found, searched = best
        match = Match(
            index=index,
            text=_readable(searched.data[found.start : found.end]),
            before=_readable(strip_escapes(self._wire.data[:start])),
            groups=found.groups,
            named=found.named,
            dropped=self._dropped,
        )
        self._use(end)
        self._dropped = 0
        return match

    def _on_the_wire(self, searched: _Searched, found: _Found) -> tuple[int, int]:
        """Return the position in the raw output; sequences before the match are skipped, those after it stay."""
        if searched is self._wire:
            return found.start, found.end
        end = raw_offset(self._wire.data, found.end, after=True)
        return (end if found.start == found.end else raw_offset(self._wire.data, found.start)), end

    def _add(self, data: bytes) -> None:
        self._wire.data += data
        self._bare.data += self._filter.feed(data)

    def _use(self, size: int) -> None:
        rest = bytes(self._wire.data[size:])
        self._wire, self._bare, self._filter = _Searched(), _Searched(), EscapeFilter()
        self._add(rest)


class _Searched:
    """Output in which patterns are searched, again whenever there is more."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._text = ""
        self._decoded = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._looked: dict[re.Pattern[str] | re.Pattern[bytes], int] = {}

    def find(self, pattern: Pattern) -> _Found | None:
        """Find the first match of a pattern. Raises JumpstarterUsageError if it is empty."""
        if isinstance(pattern, str | bytes):
            literal = pattern.encode() if isinstance(pattern, str) else pattern
            if not literal:
                raise JumpstarterUsageError("an empty pattern matches nothing and everything; name some text")
            start = self.data.find(literal)
            return None if start < 0 else _Found(start, start + len(literal))
        # In searched output, only a match that reaches into the new output can start.
        start = max(0, self._looked.get(pattern, 0) - _MAX_MATCH_LENGTH)
        if isinstance(pattern.pattern, bytes):
            raw = re.compile(pattern).search(self.data, start)
            self._looked[pattern] = len(self.data)
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
        self._looked[pattern] = len(text)
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
        """Decode the data so that it can be encoded back to the same bytes; an incomplete character is left out."""
        if self._decoded < len(self.data):
            self._text += self._decoder.decode(bytes(self.data[self._decoded :]))
            self._decoded = len(self.data)
        return self._text


def _names_escape(pattern: Pattern) -> bool:
    if isinstance(pattern, str):
        return "\x1b" in pattern
    if isinstance(pattern, bytes):
        return b"\x1b" in pattern
    source = pattern.pattern
    return _NAMES_ESCAPE.search(source if isinstance(source, str) else source.decode("latin-1")) is not None


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _readable(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")
