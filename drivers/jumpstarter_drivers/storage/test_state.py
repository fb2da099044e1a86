"""The rule about incomplete images, for every order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.storage.state import (
    ContentState,
    IncompleteImage,
    Position,
    StorageState,
    WrittenImage,
    WrongPosition,
)

IMAGE = WrittenImage(10, "", 1.0, verified=False)


@given(st.lists(st.sampled_from(["write", "error"]), max_size=10))
def test_board_gets_the_storage_only_after_the_last_write_ended_well(outcomes: list[str]) -> None:
    state = StorageState()
    for outcome in outcomes:
        state.begin_write()
        with pytest.raises(IncompleteImage):
            state.check_dut(force=False)
        if outcome == "write":
            state.written(IMAGE)
        else:
            state.mark_incomplete("disk full")
    if outcomes and outcomes[-1] == "error":
        with pytest.raises(IncompleteImage, match="disk full"):
            state.check_dut(force=False)
        assert state.image is None
    else:
        state.check_dut(force=False)
    state.check_dut(force=True)


def test_write_needs_the_storage_at_the_host() -> None:
    state = StorageState(Position.DUT)
    with pytest.raises(WrongPosition, match="connected to dut"):
        state.check_host()
    state.position = Position.HOST
    state.check_host()


def test_report_is_plain_json_values() -> None:
    state = StorageState()
    assert state.report()["content"] == ContentState.UNCHANGED.value
    state.begin_write()
    state.written(IMAGE)
    assert state.report()["image"] == {
        "bytes": 10,
        "seconds": 1.0,
        "verified": False,
        "remarks": [],
    }
