"""One try at a time, an end that stays, and a reason for everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.transport.connection_state import TABLE, Event, FinalError, Line, Stage

GONE = RpcError(StatusCode.UNAVAILABLE, "gone")
OVER = FinalError(StatusCode.UNKNOWN, "the lease has ended")


def test_only_who_is_first_starts_a_try() -> None:
    line = Line()
    assert [line.want() for _ in range(3)] == [True, False, False]
    line.answered()
    assert line.want() is False
    line.broke(GONE)
    assert (line.stage, line.reason, line.connections) == (Stage.APART, GONE, 1)
    assert line.want() is True
    line.failed(GONE)
    assert line.want() is True, "one that failed does not keep the next from trying"


def test_a_final_reason_ends_it_for_good() -> None:
    line = Line()
    line.want()
    line.failed(OVER)
    assert line.want() is False
    line.end(GONE)
    assert (line.stage, line.reason) == (Stage.OVER, OVER), "the first reason counts"


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("event", Event)
def test_what_cannot_happen_is_a_mistake_and_changes_nothing(stage: Stage, event: Event) -> None:
    line = Line()
    line.stage = stage
    do: Callable[[], object] = {
        Event.WANTED: line.want,
        Event.ANSWERED: line.answered,
        Event.FAILED: lambda: line.failed(GONE),
        Event.BROKE: lambda: line.broke(GONE),
        Event.ENDED: lambda: line.end(GONE),
    }[event]
    if (stage, event) in TABLE:
        do()
        assert line.stage is TABLE[stage, event]
    else:
        with pytest.raises(JumpstarterUsageError):
            do()
        assert line.stage is stage


@given(st.lists(st.sampled_from(["want", "answer", "fail", "final", "break", "end"]), max_size=40))
def test_whatever_happens_who_waits_is_woken_and_who_asks_gets_a_try_or_a_reason(events: list[str]) -> None:
    line = Line()
    tries = 0
    connected = 0
    for event in events:
        over = line.stage is Stage.OVER
        match event:
            case "want":
                tries += line.want()
            case "end":
                line.end(GONE)
            case "answer" if line.stage is Stage.DIALLING:
                line.answered()
                tries, connected = tries - 1, connected + 1
            case "fail" | "final" if line.stage is Stage.DIALLING:
                line.failed(OVER if event == "final" else GONE)
                tries -= 1
            case "break" if line.stage is Stage.CONNECTED:
                line.broke(GONE)
        assert line.connections == connected
        assert not (over and line.stage is not Stage.OVER), "over is over"
        if line.stage is Stage.DIALLING:
            assert tries == 1, "who waits is woken by exactly one try"
        if line.stage is Stage.OVER:
            assert line.reason is not None
            tries = 0
        if line.stage is Stage.APART:
            assert tries == 0
            assert line.reason is not None or not connected
