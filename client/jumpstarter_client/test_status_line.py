"""What is drawn while a user waits."""

from __future__ import annotations

import io

import pytest

from jumpstarter_client.status_line import StatusLine


def test_without_a_terminal_each_change_is_a_line() -> None:
    output = io.StringIO()
    line = StatusLine("Waiting for a board", output, live=False)
    for sentence in ("leased; number 2", "leased; number 2", "leased; next", "leased; number 2"):
        line(sentence)
    line.finish()
    assert output.getvalue().splitlines() == [
        "Waiting for a board: leased; number 2",
        "Waiting for a board: leased; next",
        "Waiting for a board: leased; number 2",
    ]


def test_on_a_terminal_one_line_counts_the_time_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    now = 100.0
    output = io.StringIO()
    line = StatusLine("Waiting for a board", output, live=True, clock=lambda: now)
    line("all exporters that it may have are leased; next in the queue")
    assert output.getvalue() == "", "nobody has waited yet"
    now = 165.0
    line("all exporters that it may have are leased; next in the queue")
    (drawn,) = output.getvalue().split("\r")[1:]
    assert drawn == "Waiting for a board (1:05): next in the queue; all exporte…\x1b[K"
    assert len(drawn) == 59 + len("\x1b[K")
    line.finish()
    line.finish()
    assert output.getvalue().endswith("…\x1b[K\r\x1b[K")
