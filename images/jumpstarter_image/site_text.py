"""Decode and encode the file: UTF-8 or UTF-16, with or without byte order mark. Line ends do not change."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

__all__ = ["MAX_BYTES", "NotTextError", "SiteText"]

MAX_BYTES = 64 * 1024
"""A hundred times the size of a usual file."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class NotTextError(ValueError):
    """The bytes are not text. `place` is line and column (from 1) of the fault, if there is one place."""

    def __init__(self, message: str, place: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class SiteText:
    """A text and its encoding."""

    text: str
    encoding: str = "utf-8"
    mark: bytes = b""
    """The byte order mark before it."""

    @classmethod
    def decoded(cls, raw: bytes) -> SiteText:
        """Decode the bytes. Raises NotTextError, which says how to save the file."""
        if len(raw) > MAX_BYTES:
            raise NotTextError(
                f"the file is larger than {MAX_BYTES // 1024} KiB; it takes a few lines of text"
            )
        mark, encoding = next(
            ((mark, encoding) for mark, encoding in _MARKS.items() if raw.startswith(mark)), (b"", "utf-8")
        )
        content = raw[len(mark) :]
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(encoding, "replace")
            place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise NotTextError("the file is not UTF-8 text; save it with the encoding UTF-8", place) from None
        if "\0" in text:
            raise NotTextError(
                "the file is not UTF-8 text, or was damaged; save it again with the encoding UTF-8"
            )
        return cls(text, encoding, mark)

    def encoded(self, text: str) -> bytes:
        """Encode another text in the same way."""
        return self.mark + text.encode(self.encoding)
