"""Finds patterns in what a console prints, however it is cut into pieces. No input, output or clock.

Consoles send what they like: half a UTF-8 character now and the rest later, invalid bytes, escape sequences. Nothing
of that raises here, and memory stays bounded. Escape sequences are no text: what is searched, and what a match
reports, is without them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.console.escapes import EscapeFilter, bare_text, wire_offset

__all__ = ["KEEP", "Match", "Matcher", "Pattern", "plain", "without_secrets"]

Pattern = str | bytes | re.Pattern[str] | re.Pattern[bytes]
"""A str or bytes is searched for as it is; compiled ones are regular expressions."""

KEEP = 1 << 20
"""Bytes that at least wait for a match; of more than twice as many, the oldest are dropped."""
_SPAN = 1 << 16
"""Length of what a regular expression can match, in bytes or characters."""
_RECENT = 4096

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]+")
_LINE_END = re.compile(r"\r*\n\r*|\r+")
_NAMES_ESCAPE = re.compile(r"\x1b|\\x1[bB]|\\033")


def plain(data: bytes) -> str:
    """As text for people: no escape sequences or control characters, lines end with a line feed.

    A carriage return ends a line as well: what a progress bar draws over is a line of its own.
    """
    text = EscapeFilter().feed(data).decode("utf-8", "replace")
    return _CONTROLS.sub("", _LINE_END.sub("\n", text))


def without_secrets(data: bytes, secrets: Iterable[str]) -> bytes:
    """With stars where a secret stands as a word of its own: `root` as a password leaves `rootfs` as it is."""
    for secret in secrets:
        if secret:
            data = re.sub(rb"(?<!\w)" + re.escape(secret.encode()) + rb"(?!\w)", b"***", data)
    return data


@dataclass(frozen=True)
class Match:
    """Where a pattern was found. Invalid UTF-8 shows as U+FFFD; escape sequences are left out."""

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
    """A place in the text that was searched, in bytes."""

    start: int
    end: int
    groups: tuple[str | None, ...] = ()
    named: dict[str, str | None] = field(default_factory=dict)


class Matcher:
    r"""The bytes that no match has used yet.

    A match uses everything up to its end. Of several patterns the one found furthest to the front wins, at the same
    place the one that was named first. A regular expression sees what has come so far: one that could go on (`\d+`)
    matches a part, unless it names what follows. It matches 64 KiB at most.

    Escape sequences are no text, wherever they stand. A pattern that names ESC itself is searched for in the bytes as
    they came.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._wire = _Searched()
        """What has come."""
        self._bare = _Searched()
        """The same without escape sequences."""
        self._filter = EscapeFilter()
        self._recent = bytearray()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._wire.data)

    def feed(self, data: bytes) -> None:
        """The console printed this."""
        self._recent += data
        del self._recent[:-_RECENT]
        self._add(data)
        if len(self) > 2 * self._keep:
            excess = len(self) - self._keep
            self._use(excess)
            self._dropped += excess

    def unread(self, data: bytes) -> None:
        """Put back what `take` gave: the next match sees it first."""
        rest = bytes(self._wire.data)
        self._use(len(rest))
        self._add(data + rest)

    def take(self) -> bytes:
        """All that no match has used, as it came; it is used now."""
        data = bytes(self._wire.data)
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
            before=_readable(bare_text(self._wire.data[:start])),
            groups=found.groups,
            named=found.named,
            dropped=self._dropped,
        )
        self._use(end)
        self._dropped = 0
        return match

    def _on_the_wire(self, searched: _Searched, found: _Found) -> tuple[int, int]:
        """The place in the bytes as they came; sequences in front of it are before it, those behind it stay."""
        if searched is self._wire:
            return found.start, found.end
        end = wire_offset(self._wire.data, found.end, after=True)
        return (end if found.start == found.end else wire_offset(self._wire.data, found.start)), end

    def _add(self, data: bytes) -> None:
        self._wire.data += data
        self._bare.data += self._filter.feed(data)

    def _use(self, size: int) -> None:
        rest = bytes(self._wire.data[size:])
        self._wire, self._bare, self._filter = _Searched(), _Searched(), EscapeFilter()
        self._add(rest)


class _Searched:
    """Bytes that patterns are searched in, again each time that there are more of them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._text = ""
        self._decoded = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._looked: dict[re.Pattern[str] | re.Pattern[bytes], int] = {}

    def find(self, pattern: Pattern) -> _Found | None:
        """Where it is first. Raises JumpstarterUsageError for an empty one."""
        if isinstance(pattern, str | bytes):
            literal = pattern.encode() if isinstance(pattern, str) else pattern
            if not literal:
                raise JumpstarterUsageError("an empty pattern matches nothing and everything; name some text")
            start = self.data.find(literal)
            return None if start < 0 else _Found(start, start + len(literal))
        # Where it has been searched for already, only a match that reaches into what is new can begin.
        start = max(0, self._looked.get(pattern, 0) - _SPAN)
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
        """The data as text of which each part leads back to its bytes; without a character that is not whole."""
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
