"""Formats log records as lines. Text from peers cannot begin a new line or control a terminal."""

from __future__ import annotations

import logging
from typing import Any

from jumpstarter_proto.texts import printable, shown

__all__ = ["MAX_MESSAGE_LENGTH", "NOTICE", "LineFormatter", "RecordFormatter"]

NOTICE = "jumpstarter.dev/notice"
"""A structured field of a record in a session's log: its users read that, also those who do not follow the log."""
MAX_MESSAGE_LENGTH = 8192
"""Characters of a message."""


class RecordFormatter(logging.Formatter):
    """What all formatters of logs do: an error is in the log, too, where its traceback cannot be made."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        """The traceback. Python's module for it is loaded for the first one, when no descriptor may be left."""
        try:
            return super().formatException(ei)
        except (ImportError, MemoryError, OSError) as missing:
            return f"{type(ei[1]).__name__}: {ei[1]} (without a traceback: {missing})"


class LineFormatter(RecordFormatter):
    """`LEVEL logger: what happened`, and a traceback below it if there is one.

    A record with a `board` is about that: `LEVEL logger: board: what happened`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for tracebacks."""
        board = getattr(record, "board", "")
        message = f"{board}: {record.getMessage()}" if board else record.getMessage()
        line = f"{record.levelname} {record.name}: {shown(message, MAX_MESSAGE_LENGTH)}"
        if record.exc_info:
            line += "\n" + printable(self.formatException(record.exc_info))
        return line
