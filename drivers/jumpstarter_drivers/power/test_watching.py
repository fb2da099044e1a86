"""What `power read --watch` shows."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jumpstarter_drivers.power.reading import PowerReading
from jumpstarter_drivers.power.watching import MAX_POINTS, line_of, plot, watch_readings


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([1.0], "▁"),
        ([3.0, 3.0], "▁▁"),
        ([0.0, 7.0], "▁█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([5, -5, 0], "█▁▅"),
    ],
)
def test_a_plot_goes_from_the_lowest_to_the_highest_value(points: list[float], expected: str) -> None:
    assert plot(points) == expected


def test_a_line_has_the_reading_the_plot_and_its_bounds_as_far_as_there_is_room() -> None:
    reading, points = PowerReading(5.04, 0.61, 3.07), [2.5, 3.07]
    assert line_of(reading, points, "W", "_#", 60) == "5.04 V  0.61 A  3.07 W  _#  2.5 to 3.07 W"
    assert line_of(reading, points, "W", "_#", 41) == "5.04 V  0.61 A  3.07 W  _#  2.5 to 3.07 W"
    assert line_of(reading, points, "W", "_#", 40) == "5.04 V  0.61 A  3.07 W  #  2.5 to 3.07 W"
    assert line_of(reading, points, "W", "_#", 30) == "5.04 V  0.61 A  3.07 W"


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (PowerReading(5.0, 2.0), "5 V  2 A  10 VA  ▁  10 to 10 VA"),
        (PowerReading(power=3.0, measured=()), "3 W  ▁  3 to 3 W"),
        (PowerReading(current=0.5, measured=("current",)), "0.5 A  ▁  0.5 to 0.5 A"),
    ],
)
def test_what_is_not_measured_is_not_drawn(reading: PowerReading, expected: str) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    watch_readings([reading], output)
    output.seek(0)
    assert output.read() == f"\r{expected}\x1b[K\n"


def test_a_terminal_without_blocks_gets_letters_and_old_readings_go() -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    watch_readings((PowerReading(1.0, float(n)) for n in range(MAX_POINTS + 5)), output)
    output.seek(0)
    last = output.read().rpartition("\r")[2]
    assert " 5 to 64 VA" in last


def test_a_watch_that_saw_nothing_leaves_no_line() -> None:
    output = io.StringIO()
    watch_readings([], output)
    assert output.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_command_draws_on_a_terminal_and_writes_lines_elsewhere(
    is_terminal: bool, tmp_path: Path
) -> None:
    config = tmp_path / "exporter.yaml"
    config.write_text(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: x}\n"
        "export:\n  power:\n    type: power.MockPower\n"
    )
    command = [str(Path(sys.executable).with_name("jumpstarter")), "--config", str(config), "power", "read"]
    ours, theirs = pty.openpty()
    try:
        run = subprocess.run(
            [*command, "--watch", "-n", "2", "-i", "0.01"],
            stdout=theirs if is_terminal else subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LANG": "C.UTF-8"},
            check=True,
            timeout=60,
        )
        said = os.read(ours, 65536).decode() if is_terminal else run.stdout.decode()
    finally:
        os.close(ours)
        os.close(theirs)
    if is_terminal:
        assert re.findall(r"\r([^\r]*)\x1b\[K", said)[-1] == "5 V  2 A  10 VA  ▁█▁█  0 to 10 VA"
    else:
        assert said.splitlines()[1] == "voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA"
        assert len(said.splitlines()) == 4
