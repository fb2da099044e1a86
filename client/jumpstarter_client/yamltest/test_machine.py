from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_client.yamltest.machine import (
    CleanUp,
    Do,
    EndTest,
    RetryPause,
    RunMachine,
    RunOutcome,
    RunPhase,
)
from jumpstarter_client.yamltest.model import Group, Item, StepCall
from jumpstarter_client.yamltest.steps import StepType


async def nothing(context: object) -> None:
    """Do nothing."""


STEP = StepType("log", "", nothing, 1.0)


def call(title: str, retries: int = 0, delay: float = 0.0) -> StepCall:
    return StepCall((), title, retries, delay, STEP, None, None, 1.0, None)


def group(*steps: Item, retries: int = 0) -> Group:
    return Group((), "group", retries, 0.0, steps)


def walk(machine: RunMachine, failing: dict[str, int]) -> list[str]:
    """What is done, when each step fails so often first."""
    left = dict(failing)
    done = []
    while not isinstance(action := machine.next(), EndTest):
        match action:
            case Do(found, attempt):
                done.append(f"{found.title}{attempt}")
                if left.get(found.title, 0) > 0:
                    left[found.title] -= 1
                    machine.failed(f"{found.title} failed")
                else:
                    machine.succeeded()
            case RetryPause(seconds):
                done.append(f"wait {seconds:g}")
            case CleanUp():
                done.append("always")
    return done


def test_steps_then_always() -> None:
    machine = RunMachine((call("a"), group(call("b"), group(), call("c"))), (call("x"),))
    assert walk(machine, {}) == ["a1", "b1", "c1", "always", "x1"]
    assert machine.next() == EndTest(RunOutcome.PASSED, "")


def test_a_failure_goes_to_always_and_each_of_its_steps_is_done() -> None:
    machine = RunMachine((call("a"), call("b")), (call("x"), call("y")))
    assert walk(machine, {"a": 1, "x": 1}) == ["a1", "always", "x1", "y1"]
    assert machine.next() == EndTest(RunOutcome.FAILED, "a failed; then: x failed")


def test_a_step_is_tried_again_and_waits_before() -> None:
    machine = RunMachine((call("a", retries=2, delay=1.5), call("b")), ())
    assert walk(machine, {"a": 2}) == ["a1", "wait 1.5", "a2", "wait 1.5", "a3", "b1", "always"]
    assert machine.outcome is RunOutcome.PASSED


def test_a_group_is_tried_again_from_its_first_step() -> None:
    machine = RunMachine((group(call("a"), call("b", retries=1), retries=1), call("c")), ())
    assert walk(machine, {"b": 2}) == ["a1", "b1", "b2", "a1", "b1", "c1", "always"]


def test_what_went_wrong_first_is_the_outcome_but_an_interruption_is_always_said() -> None:
    machine = RunMachine((call("a"),), (call("x"),))
    machine.next()
    machine.failed("a is broken", RunOutcome.ERROR)
    machine.next()
    machine.next()
    machine.stopped(RunOutcome.INTERRUPTED, "Ctrl-C")
    assert machine.next() == EndTest(RunOutcome.INTERRUPTED, "Ctrl-C; before: a is broken")


def test_answers_without_questions_are_mistakes() -> None:
    machine = RunMachine((call("a"),), ())
    with pytest.raises(JumpstarterUsageError):
        machine.succeeded()
    machine.next()
    with pytest.raises(JumpstarterUsageError):
        machine.next()


items = st.recursive(
    st.builds(call, st.sampled_from("abc"), st.integers(0, 2), st.sampled_from([0.0, 1.0])),
    lambda inner: st.builds(
        lambda steps, retries: group(*steps, retries=retries), st.lists(inner, max_size=3), st.integers(0, 2)
    ),
    max_leaves=6,
)


@given(st.lists(items, max_size=4), st.integers(0, 4), st.data())
def test_whatever_happens_it_ends_and_always_is_done_once_in_order(
    steps: list[Item], cleanups: int, data: Any
) -> None:
    always = tuple(call(f"x{index}") for index in range(cleanups))
    machine = RunMachine(tuple(steps), always)
    cleaned, cleaning, stops = [], 0, 0
    for _ in range(2000):
        action = machine.next()
        match action:
            case CleanUp():
                cleaning += 1
            case Do(found):
                answer = data.draw(st.sampled_from(["ok", "ok", "fail", "stop"]))
                if machine.phase is RunPhase.ALWAYS:
                    cleaned.append(found.title)
                if answer == "ok":
                    machine.succeeded()
                elif answer == "fail":
                    machine.failed("no")
                else:
                    stops += machine.phase is RunPhase.ALWAYS
                    machine.stopped(RunOutcome.INTERRUPTED, "enough")
            case EndTest(outcome, reason):
                assert cleaning == 1 or stops
                assert bool(reason) == (outcome is not RunOutcome.PASSED)
                break
    else:
        raise AssertionError("it does not end")
    assert cleaned == [one.title for one in always][: len(cleaned)]
    assert stops or len(cleaned) == cleanups
    assert machine.next() == action
