"""A line that changes while a user waits; where nobody sees a line change, a line for each change."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO, TypeAlias

from jumpstarter_proto.terminal import erase_line, print_error_text, print_line, redraw_line
from jumpstarter_proto.texts import shown

from jumpstarter_client.progress import is_live

__all__ = ["MessageHandler", "StatusLine", "print_message"]

MOST = 400
"""Characters of a sentence, which is a controller's."""
QUIET = 0.3
"""Seconds that pass before a terminal shows anything: who gets what they want by then has not waited."""


class StatusLine:
    """Call it with the sentence each time that it was looked at, and `finish` it."""

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
        self._clock = clock
        self._begun = clock()
        self._said = ""
        self._drawn = False

    def __call__(self, sentence: str) -> None:
        """Say how it stands."""
        sentence = shown(sentence, MOST)
        if not self._live:
            if sentence != self._said:
                self._said = sentence
                print_line(f"{self._label}: {sentence}", to=self._output, flush=True)
            return
        waited = self._clock() - self._begun
        if waited < QUIET:
            return
        minutes, seconds = divmod(int(waited), 60)
        # What changes most is said last; where there is no room for all of it, that is what has to stay.
        said = "; ".join(reversed(sentence.split("; ")))
        text = f"{self._label} ({minutes}:{seconds:02d}): {said}"
        width = shutil.get_terminal_size().columns - 1
        redraw_line(text, self._output, width=width)
        self._drawn = True

    def finish(self) -> None:
        """Take a line that was drawn away; what comes next says the rest."""
        if self._drawn:
            erase_line(self._output)
            self._drawn = False


MessageHandler: TypeAlias = Callable[[str], None]
"""Gets one sentence."""


def print_message(sentence: str) -> None:
    """On standard error. A terminal may be anybody's for the moment, such as a console's that does not end lines."""
    if sys.stderr.isatty():
        erase_line(sys.stderr)
    print_error_text(f"{sentence}\n", raw=sys.stderr.isatty())
