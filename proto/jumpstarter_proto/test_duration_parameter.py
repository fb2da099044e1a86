"""A parameter that takes a time."""

from __future__ import annotations

from typing import Annotated

import pytest
from cyclopts import App, CoercionError, Parameter
from cyclopts.validators import Number

from jumpstarter_proto.duration_parameter import Seconds

app = App(result_action="return_value")


@app.default
def cycle(
    wait: Annotated[Seconds, Parameter(name=["--wait", "-w"])] = 2.0,
    timeout: Annotated[Seconds | None, Parameter(validator=Number(gt=0))] = None,
) -> tuple[float, float | None]:
    return wait, timeout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", (2.0, None)),
        ("--wait 1.5", (1.5, None)),
        ("--wait=1s --timeout 5m", (1.0, 300.0)),
        ("-w 0 --timeout 1h30m", (0.0, 5400.0)),
    ],
)
def test_any_duration_is_seconds(words: str, found: tuple[float, float | None]) -> None:
    assert app(words.split(), exit_on_error=False) == found


@pytest.mark.parametrize("text", ["x", "-1", "nan", "1 week", "inf"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(CoercionError, match="is not a duration; write for example 30m"):
        app([f"--wait={text}"], exit_on_error=False)
