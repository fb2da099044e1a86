from __future__ import annotations

import pytest

from jumpstarter_proto.durations import TimeFormatError, go_seconds, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1d", 86400),
        ("01:30:00", 5400),
        ("pt1h30m", 5400),
        ("P1DT2M3S", 86523),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1.5h", "30x", "m30", "P", "9" * 400])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(TimeFormatError, match="30m"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h30m0s", 5400),
        ("1.5h", 5400),
        (".5m", 30),
        ("250ms", 0.25),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("7ns", 7e-9),
    ],
)
def test_durations_of_go(text: str, expected: float) -> None:
    assert go_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "90", "1d", "1h-2m", "0s", "h", "1 h", "1h" * 40])
def test_what_is_no_duration_of_go(text: str) -> None:
    with pytest.raises(TimeFormatError, match="1h30m"):
        go_seconds(text)
