"""The life of a child, by whatever events and in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.hosting.child_messages import Ready
from jumpstarter_exporter.hosting.lifecycle import MAX_FAULTY_LINES, ChildLifecycle, ChildState, ChildStep

EVENTS = {
    "ready": lambda life: life.is_ready(Ready()),
    "faulty": lambda life: life.faulty_line(),
    "slow": lambda life: life.start_expired(30),
    "fail": lambda life: life.fail("it is broken"),
    "released": lambda life: life.released(),
    "end expired": lambda life: life.end_expired(),
    "exited": lambda life: life.exited(1),
}
ORDER = list(ChildState)


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=60))
def test_any_events_lead_forward_and_end_it_once(events: list[str]) -> None:
    life = ChildLifecycle("the child")
    steps: list[ChildStep] = []
    for event in events:
        before, reason = life.state, life.reason
        steps.append(EVENTS[event](life))
        assert ORDER.index(life.state) >= ORDER.index(before)
        assert reason in ("", life.reason), "a reason is never replaced"
        if before is ChildState.ENDED:
            assert steps[-1] is ChildStep.NONE
    assert steps.count(ChildStep.TERMINATE) <= 1
    assert steps.count(ChildStep.SERVE) <= 1
    if life.is_over:
        assert life.was_expected or life.reason
    life.exited(0)
    assert life.state is ChildState.ENDED


def test_a_child_is_served_when_it_is_ready_and_terminated_when_nobody_uses_it() -> None:
    life = ChildLifecycle("the child")
    assert life.is_ready(Ready()) is ChildStep.SERVE
    assert life.start_expired(30) is ChildStep.NONE
    assert life.released() is ChildStep.TERMINATE
    assert life.end_expired() is ChildStep.KILL
    assert life.exited(-9) is ChildStep.KILL, "what it has started may still run"
    assert life.was_expected


@pytest.mark.parametrize(
    ("code", "how"),
    [(7, "ended with the exit code 7"), (-11, "was ended by SIGSEGV"), (-99, "was ended by the signal 99")],
)
def test_a_crash_is_named(code: int, how: str) -> None:
    life = ChildLifecycle("the child")
    life.is_ready(Ready())
    life.exited(code, "segmentation fault")
    assert life.reason == f"the child {how}: segmentation fault; it starts again at the next use"


def test_a_child_may_print_a_little_on_the_wrong_stream() -> None:
    life = ChildLifecycle("the child")
    assert {life.faulty_line() for _ in range(MAX_FAULTY_LINES)} == {ChildStep.NONE}
    assert life.faulty_line() is ChildStep.TERMINATE
    assert "cannot be read" in life.reason


def test_a_child_whose_report_could_not_be_read_is_not_said_to_have_sent_none() -> None:
    life = ChildLifecycle("the child")
    life.faulty_line()
    life.exited(0)
    assert life.reason == (
        "the child ended with the exit code 0 before it was ready, and what it sent cannot be read; "
        "it starts again at the next use"
    )


def test_a_child_that_was_not_asked_to_end_is_killed_too_when_its_time_is_over() -> None:
    life = ChildLifecycle("the child")
    assert life.end_expired() is ChildStep.KILL
    life.is_ready(Ready())
    assert life.end_expired() is ChildStep.KILL


def test_a_slow_child_is_terminated() -> None:
    life = ChildLifecycle("the child")
    assert life.start_expired(30) is ChildStep.TERMINATE
    assert life.is_ready(Ready()) is ChildStep.NONE, "too late"
    assert "was not ready within 30 s" in life.reason
