from __future__ import annotations

import pytest

from jumpstarter_proto.durations import TimeFormatError, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("30m", 1800), ("1h30m", 5400), ("1d", 86400), ("01:30:00", 5400), ("pt1h30m", 5400)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "soon", "-5", "1.5h", "30x", "m30", "P", "9" * 400])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(TimeFormatError, match="30m"):
        seconds(text)
