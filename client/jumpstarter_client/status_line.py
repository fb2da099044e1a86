"""The line of a terminal that shows progress, and messages beside the output of a command.

A line is drawn here and not by a library, because a terminal library costs a command more start-up time than this.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO, TypeAlias

from jumpstarter_proto.terminal import erase_line, print_error_text, print_line, redraw_line
from jumpstarter_proto.texts import shown

__all__ = ["MessageHandler", "StatusLine", "TerminalLine", "is_live", "print_message"]

MAX_MESSAGE_LENGTH = 400
"""In characters; the messages come from a controller."""
QUIET_SECONDS = 0.3
"""A terminal shows nothing before: most waits are over by then."""

MessageHandler: TypeAlias = Callable[[str], None]
"""Called with one message for the user."""


def is_live(output: TextIO) -> bool:
    """Whether a line can be redrawn on `output`, and the user has not disabled that."""
    if os.environ.get("NONINTERACTIVE", "").lower() in ("1", "true") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return output.isatty()
    except ValueError:  # closed
        return False


class TerminalLine:
    """The last line of a terminal, redrawn in place. Without an output nothing is drawn."""

    def __init__(self, output: TextIO | None) -> None:
        self._output = output
        self._is_drawn = False

    def draw(self, text: str, *, width: int | None = None) -> None:
        """Replace the line by `text`, cut to `width`."""
        if self._output is not None:
            redraw_line(text, self._output, width=width)
            self._is_drawn = True

    def erase(self) -> None:
        """Erase the line if it is drawn."""
        if self._output is not None and self._is_drawn:
            erase_line(self._output)
            self._is_drawn = False


class StatusLine:
    """Shows the state of a wait: one line that changes on a terminal, or one line per change elsewhere.

    Call it with a sentence after each poll, and `finish` it at the end.
    """

    def __init__(
        self,
        label: str,
        output: TextIO | None = None,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._output = output or sys.stderr
        self._live = is_live(self._output) if live is None else live
        self._line = TerminalLine(self._output)
        self._clock = clock
        self._started = clock()
        self._last = ""

    def __call__(self, sentence: str) -> None:
        """Show the current state."""
        sentence = shown(sentence, MAX_MESSAGE_LENGTH)
        if not self._live:
            if sentence != self._last:
                self._last = sentence
                print_line(f"{self._label}: {sentence}", to=self._output, flush=True)
            return
        waited = self._clock() - self._started
        if waited < QUIET_SECONDS:
            return
        minutes, seconds = divmod(int(waited), 60)
        # The last part of the sentence changes most. It comes first, so that a narrow terminal does not cut it.
        text = "; ".join(reversed(sentence.split("; ")))
        width = shutil.get_terminal_size().columns - 1
        self._line.draw(f"{self._label} ({minutes}:{seconds:02d}): {text}", width=width)

    def finish(self) -> None:
        """Erase the line."""
        self._line.erase()


def print_message(message: str) -> None:
    """Print a message on standard error. The terminal may be in raw mode, or hold an unfinished line of a console."""
    if sys.stderr.isatty():
        erase_line(sys.stderr)
    print_error_text(f"{message}\n", raw=sys.stderr.isatty())
