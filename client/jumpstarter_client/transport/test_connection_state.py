"""One try at a time, an end that stays, and a reason for everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.transport.connection_state import (
    TABLE,
    ConnectionEvent,
    ConnectionState,
    ConnectionStateMachine,
    FinalError,
)

GONE = RpcError(StatusCode.UNAVAILABLE, "gone")
SHUTDOWN = FinalError(StatusCode.UNKNOWN, "the lease has ended")


def test_only_who_is_first_starts_a_try() -> None:
    line = ConnectionStateMachine()
    assert [line.request() for _ in range(3)] == [True, False, False]
    line.mark_connected()
    assert line.request() is False
    line.mark_lost(GONE)
    assert (line.state, line.reason, line.connections) == (ConnectionState.IDLE, GONE, 1)
    assert line.request() is True
    line.mark_failed(GONE)
    assert line.request() is True, "one that failed does not keep the next from trying"


def test_a_final_reason_ends_it_for_good() -> None:
    line = ConnectionStateMachine()
    line.request()
    line.mark_failed(SHUTDOWN)
    assert line.request() is False
    line.shut_down(GONE)
    assert (line.state, line.reason) == (ConnectionState.SHUTDOWN, SHUTDOWN), "the first reason counts"


@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize("event", ConnectionEvent)
def test_what_cannot_happen_is_a_mistake_and_changes_nothing(
    state: ConnectionState, event: ConnectionEvent
) -> None:
    line = ConnectionStateMachine()
    line.state = state
    do: Callable[[], object] = {
        ConnectionEvent.REQUESTED: line.request,
        ConnectionEvent.CONNECTED: line.mark_connected,
        ConnectionEvent.FAILED: lambda: line.mark_failed(GONE),
        ConnectionEvent.LOST: lambda: line.mark_lost(GONE),
        ConnectionEvent.SHUT_DOWN: lambda: line.shut_down(GONE),
    }[event]
    if (state, event) in TABLE:
        do()
        assert line.state is TABLE[state, event]
    else:
        with pytest.raises(JumpstarterUsageError):
            do()
        assert line.state is state


@given(st.lists(st.sampled_from(["request", "answer", "fail", "final", "break", "end"]), max_size=40))
def test_whatever_happens_who_waits_is_woken_and_who_asks_gets_a_try_or_a_reason(events: list[str]) -> None:
    line = ConnectionStateMachine()
    tries = 0
    connected = 0
    for event in events:
        over = line.state is ConnectionState.SHUTDOWN
        match event:
            case "request":
                tries += line.request()
            case "end":
                line.shut_down(GONE)
            case "answer" if line.state is ConnectionState.CONNECTING:
                line.mark_connected()
                tries, connected = tries - 1, connected + 1
            case "fail" | "final" if line.state is ConnectionState.CONNECTING:
                line.mark_failed(SHUTDOWN if event == "final" else GONE)
                tries -= 1
            case "break" if line.state is ConnectionState.READY:
                line.mark_lost(GONE)
        assert line.connections == connected
        assert not (over and line.state is not ConnectionState.SHUTDOWN), "over is over"
        if line.state is ConnectionState.CONNECTING:
            assert tries == 1, "who waits is woken by exactly one try"
        if line.state is ConnectionState.SHUTDOWN:
            assert line.reason is not None
            tries = 0
        if line.state is ConnectionState.IDLE:
            assert tries == 0
            assert line.reason is not None or not connected
