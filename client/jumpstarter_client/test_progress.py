from __future__ import annotations

import io

import pytest

from jumpstarter_client.progress import Bar, line


@pytest.mark.parametrize(
    ("done", "total", "elapsed", "expected"),
    [
        (5e6, 1e7, 1.0, "flash [##########..........]  50%  5.0 MB of 10.0 MB  5.0 MB/s  1 s left"),
        (0, 1e7, 1.0, "flash [....................]   0%  0 B of 10.0 MB  0 B/s  waiting"),
        (1e6, 1e9, 1.0, "flash [....................]   0%  1.0 MB of 1.0 GB  1.0 MB/s  16:39 min left"),
        (2e7, 1e7, 1.0, "flash [####################] 100%  20.0 MB of 10.0 MB  20.0 MB/s  0 s left"),
        (1234, None, 2.0, "flash 1.2 kB  617 B/s"),
    ],
)
def test_line_tells_share_rate_and_time_left(
    done: float, total: float | None, elapsed: float, expected: str
) -> None:
    assert line("flash", done, total, elapsed) == expected


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_bar_is_quiet_at_first_drawn_at_intervals_and_taken_away() -> None:
    clock, output = Clock(), io.StringIO()
    bar = Bar(100, "flash", output, clock)
    bar.update(1)
    assert output.getvalue() == ""
    clock.now = 1.0
    bar.update(50)
    drawn = output.getvalue()
    assert "50%" in drawn
    bar.update(51)
    assert output.getvalue() == drawn
    clock.now = 2.0
    bar.update(52)
    assert "52%" in output.getvalue()
    bar.finish()
    assert output.getvalue().endswith("\r\x1b[K")


def test_rate_of_a_new_phase_counts_from_its_beginning() -> None:
    clock, output = Clock(), io.StringIO()
    bar = Bar(None, "writing", output, clock)
    clock.now = 100.0
    bar.show("verifying", 0, 100)
    clock.now = 101.0
    bar.show("verifying", 50, 100)
    assert "50 B/s" in output.getvalue()


def test_nothing_is_written_where_nobody_looks() -> None:
    bar = Bar(100, "flash", None, Clock())
    bar.update(50)
    bar.finish()
