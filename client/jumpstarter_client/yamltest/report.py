"""Reports the progress of a test: live on a terminal, in plain lines elsewhere."""

from __future__ import annotations

from typing import TextIO

from jumpstarter_proto.terminal import Styled, print_line

from jumpstarter_client.console.expect import LAST_LINES
from jumpstarter_client.status_line import TerminalLine
from jumpstarter_client.yamltest.machine import RunOutcome, RunPhase
from jumpstarter_client.yamltest.run_events import (
    Event,
    RunEnded,
    RunStarted,
    StepEnded,
    StepSaid,
    StepStarted,
)

__all__ = ["MARKS", "ConsoleReporter", "duration", "first_line", "totals"]

MARKS = {
    RunOutcome.PASSED: ("✓", "ok", "32"),
    RunOutcome.FAILED: ("✗", "FAILED", "31"),
    RunOutcome.ERROR: ("✗", "ERROR", "31"),
    RunOutcome.SKIPPED: ("-", "skipped", "33"),
    RunOutcome.INTERRUPTED: ("!", "interrupted", "33"),
}


class ConsoleReporter:
    """Prints events. On a terminal, the running step has a line of its own until it ends."""

    def __init__(self, output: TextIO, *, live: bool, colour: bool) -> None:
        self._output = output
        self._live = live
        self._line = TerminalLine(output if live else None)
        self._colour = colour
        self._cleaning = False
        self._depth = 0

    def report(self, event: Event) -> None:
        """Print an event."""
        match event:
            case RunStarted():
                self._cleaning = False
                self._write(self._styled(event.test.name, "1"), f"  ({event.test.document.file})")
            case StepStarted():
                self._begin(event)
            case StepSaid():
                self._line.erase()
                for line in event.text.split("\n"):
                    self._write(f"      {'  ' * self._depth}{line}")
            case StepEnded():
                self._line.erase()
                self._end(event)
            case RunEnded():
                _, word, style = MARKS[event.outcome]
                text = self._styled(word, style)
                why = f": {first_line(event.reason)}" if event.reason else ""
                self._write(text, f"  {event.test.name} in {duration(event.seconds)}{why}")
                self._write("")

    def _begin(self, event: StepStarted) -> None:
        self._depth = event.depth
        if event.phase is RunPhase.ALWAYS and not self._cleaning:
            self._cleaning = True
            self._write("  always:")
        if self._live:
            again = f" (try {event.attempt})" if event.attempt > 1 else ""
            self._line.draw(f"  {'  ' * event.depth}… {event.title}{again}")

    def _end(self, event: StepEnded) -> None:
        mark, word, style = MARKS[event.outcome]
        shown = self._styled(mark if self._live else f"{word:<6}", style)
        where = f"  [{event.device}]" if event.device else ""
        lead = f"  {'  ' * self._depth}"
        is_wrong = event.outcome in (RunOutcome.FAILED, RunOutcome.ERROR)
        line = f"  line {event.line}" if is_wrong and event.line is not None else ""
        self._write(lead, shown, f" {event.title}{where}  {duration(event.seconds)}{line}")
        if event.reason:
            for line in event.reason.splitlines():
                self._write(f"      {'  ' * self._depth}{line}")

    def _write(self, *parts: str | Styled) -> None:
        print_line(*parts, to=self._output, flush=True)

    def _styled(self, text: str, style: str) -> Styled:
        return Styled(text, style if self._colour else "")


def duration(seconds: float) -> str:
    """Format seconds as 0.4 s, 12 s or 3 min 20 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def first_line(reason: str) -> str:
    """Return the first line of a reason; further lines are the end of a console."""
    return reason.partition("\n")[0].removesuffix(LAST_LINES)


def totals(ended: list[RunEnded]) -> str:
    """Count the outcomes, in one line."""
    counts = {outcome: sum(one.outcome is outcome for one in ended) for outcome in RunOutcome}
    return ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count) or "no tests"
