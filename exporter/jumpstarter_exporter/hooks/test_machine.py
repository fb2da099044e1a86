from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.hooks.machine import (
    TABLE,
    Action,
    Event,
    HookPlan,
    Life,
    State,
    diagram,
)
from jumpstarter_exporter.status import Status, StatusMachine

DOCS = Path(__file__).parents[3] / "docs"
ENDS = st.sampled_from(["warn", "endLease", "exit", None])


def told(life: Life, *events: tuple[Event, str]) -> list[tuple[str, str] | Action]:
    return [
        what if isinstance(what, Action) else (what[0].name, what[1])
        for event, reason in events
        for what in (life.send(event, reason) if event is not Event.HOOK_FAILED else life.hook_ended(reason))
    ]


BEGIN, OK, END = (Event.BEGIN, ""), (Event.HOOK_OK, ""), (Event.END, "")
FAILED = (Event.HOOK_FAILED, "Hook failed with exit code 3")
BEFORE = ("BEFORE_LEASE_HOOK", "Running beforeLease hook")
AFTER = ("AFTER_LEASE_HOOK", "Running afterLease hooks")
READY = ("LEASE_READY", "Ready for commands")
AVAILABLE = ("AVAILABLE", "Available for new lease")


@pytest.mark.parametrize(
    ("plan", "events", "expected"),
    [
        (HookPlan(), [BEGIN, END], [READY, Action.SERVE, AVAILABLE, Action.RELEASE]),
        (
            HookPlan("warn", "warn"),
            [BEGIN, OK, END, OK],
            [
                BEFORE,
                Action.RUN_BEFORE,
                READY,
                Action.SERVE,
                AFTER,
                Action.RUN_AFTER,
                AVAILABLE,
                Action.RELEASE,
            ],
        ),
        (HookPlan(None, "warn"), [BEGIN], [READY, Action.SERVE]),
        (
            HookPlan("warn", None),
            [BEGIN, FAILED],
            [
                BEFORE,
                Action.RUN_BEFORE,
                ("LEASE_READY", "[HOOK_WARNING] beforeLease hook warning: Hook failed with exit code 3"),
                Action.SERVE,
            ],
        ),
        (
            HookPlan("endLease", "warn"),
            [BEGIN, FAILED, END],
            [
                BEFORE,
                Action.RUN_BEFORE,
                (
                    "BEFORE_LEASE_HOOK_FAILED",
                    "beforeLease hook failed (on_failure=endLease): Hook failed with exit code 3",
                ),
                Action.RELEASE,
            ],
        ),
        (
            HookPlan("exit", "warn"),
            [BEGIN, FAILED, END],
            [
                BEFORE,
                Action.RUN_BEFORE,
                (
                    "BEFORE_LEASE_HOOK_FAILED",
                    "beforeLease hook failed (on_failure=exit, shutting down): Hook failed with exit code 3",
                ),
                (
                    "OFFLINE",
                    "beforeLease hook failed (on_failure=exit, shutting down): Hook failed with exit code 3",
                ),
                Action.EXIT,
            ],
        ),
        (
            HookPlan(None, "warn"),
            [BEGIN, END, FAILED],
            [
                READY,
                Action.SERVE,
                AFTER,
                Action.RUN_AFTER,
                ("AVAILABLE", "[HOOK_WARNING] afterLease hook warning: Hook failed with exit code 3"),
                Action.RELEASE,
            ],
        ),
        (
            HookPlan(None, "endLease"),
            [BEGIN, END, FAILED],
            [
                READY,
                Action.SERVE,
                AFTER,
                Action.RUN_AFTER,
                (
                    "AFTER_LEASE_HOOK_FAILED",
                    "afterLease hook failed (on_failure=endLease): Hook failed with exit code 3",
                ),
                Action.RELEASE,
            ],
        ),
        # The lease ends while its first hook runs: the hook finishes, and what puts things in order runs.
        (
            HookPlan("warn", "warn"),
            [BEGIN, END, END, OK, OK],
            [BEFORE, Action.RUN_BEFORE, AFTER, Action.RUN_AFTER, AVAILABLE, Action.RELEASE],
        ),
    ],
)
def test_statuses_and_actions_of_a_life(
    plan: HookPlan, events: list[tuple[Event, str]], expected: list[object]
) -> None:
    assert told(Life(plan), *events) == expected


def test_exit_is_remembered() -> None:
    life = Life(HookPlan(None, "exit"))
    told(life, BEGIN, END, FAILED)
    assert life.exit
    assert life.is_over


@given(ENDS, ENDS, st.lists(st.sampled_from(["begin", "end", "ok", "fail"]), max_size=30))
def test_whatever_comes_it_comes_to_rest_and_no_hook_runs_twice(
    before: str | None, after: str | None, events: list[str]
) -> None:
    life = Life(HookPlan(before, after))  # type: ignore[arg-type]
    statuses = StatusMachine()
    run: list[Action] = []
    running = False

    def take(happened: list[Action | tuple[Status, str]]) -> None:
        nonlocal running
        for what in happened:
            if isinstance(what, tuple):
                statuses.become(*what)  # raises for a way that the status table has not
            elif what in (Action.RUN_BEFORE, Action.RUN_AFTER):
                assert not running
                running = True
                run.append(what)

    for event in events:
        if event == "begin" and life.state is State.NEW:
            take(list(life.send(Event.BEGIN)))
        elif event == "end":
            take(list(life.send(Event.END)))
        elif event in ("ok", "fail") and running:
            running = False
            take(list(life.hook_ended("" if event == "ok" else "broken")))
    # From anywhere: the hooks that run end, the lease ends, and then there is nothing more to come.
    for _ in range(3):
        take(list(life.send(Event.END)))
        if running:
            running = False
            take(list(life.hook_ended("")))
    assert life.is_over
    assert not running
    assert len(run) == len(set(run))
    assert (Action.RUN_AFTER in run) <= (after is not None)


def test_a_lease_that_ends_while_its_hook_runs_ends_when_the_hook_does() -> None:
    """Elsewhere the session stayed open and ready, and its lease for ever."""
    for before in ("warn", "endLease", "exit"):
        for result in (OK, FAILED):
            life = Life(HookPlan(before, None))
            happened = told(life, BEGIN, END, result)
            assert life.is_over
            assert Action.SERVE not in happened
            assert READY not in happened
            assert (Action.RELEASE in happened) != life.exit


def test_a_refused_board_is_released_without_its_users_help() -> None:
    """Elsewhere it stayed leased until somebody deleted the lease."""
    life = Life(HookPlan("endLease", "warn"))
    assert told(life, BEGIN, FAILED)[-1] is Action.RELEASE
    assert told(life, END) == []
    assert life.is_over


def test_an_exporter_that_is_to_exit_does_not_wait_for_the_lease() -> None:
    """Elsewhere it was offline, and ran on until the lease expired."""
    life = Life(HookPlan("exit", "warn"))
    assert told(life, BEGIN, FAILED)[-1] is Action.EXIT


def test_available_means_released() -> None:
    """Elsewhere a board was available, and leased still, once its user had left the shell."""
    for step in TABLE.values():
        if Status.AVAILABLE in step.statuses:
            assert Action.RELEASE in step.actions


def test_the_next_lease_begins_a_life_of_its_own() -> None:
    """Elsewhere a lease that had waited began while the hook of the one before still ran."""
    assert [state for state, event in TABLE if event is Event.BEGIN] == [State.NEW]


def test_every_state_can_end() -> None:
    for state in State:
        assert (state, Event.END) in TABLE


def test_the_docs_show_the_table() -> None:
    """`python -m jumpstarter_exporter.hooks.machine` prints it."""
    assert f"```mermaid\n{diagram()}```" in (DOCS / "hooks.md").read_text()
