from __future__ import annotations

import math
import re

import pytest

from jumpstarter_proto.durations import DURATION_PATTERN, TimeFormatError, parse_duration, parse_go_duration


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
        (" 1h 30m ", 5400),
        ("1.5 h", 5400),
        ("500ms", 0.5),
        (5, 5),
        (0.5, 0.5),
        (math.inf, math.inf),
    ],
)
def test_durations(text: float | str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5",
        "30x",
        "m30",
        "5 days",
        "1.h",
        "1:2:3",
        "P",
        "PT",
        "9" * 400,
        -5,
        True,
        math.nan,
        10**400,
    ],
)
def test_what_is_not_a_duration(text: float | str) -> None:
    for allow_zero in (False, True):
        with pytest.raises(TimeFormatError, match="30m"):
            parse_duration(text, allow_zero=allow_zero)


@pytest.mark.parametrize("text", ["0", "0s", "00:00:00", "PT0S", 0])
def test_zero_is_a_duration_where_that_is_allowed(text: float | str) -> None:
    assert parse_duration(text, allow_zero=True) == 0
    with pytest.raises(TimeFormatError, match="30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["90", "1h30m", "1.5 h", "01:30:00", "PT1H", "P1D", "soon", "P", "1:2:3", "5 days"]
)
def test_the_pattern_for_editors_accepts_the_same_texts(text: str) -> None:
    try:
        parse_duration(text)
    except TimeFormatError:
        assert not re.search(DURATION_PATTERN, text)
    else:
        assert re.search(DURATION_PATTERN, text)


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
    assert parse_go_duration(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "90", "1d", "1h-2m", "0s", "h", "1 h", "1h" * 40])
def test_what_is_not_a_duration_of_go(text: str) -> None:
    with pytest.raises(TimeFormatError, match="1h30m"):
        parse_go_duration(text)
