from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.exporter_status import ExporterStatus

from jumpstarter_exporter.hooks.machine import (
    TABLE,
    HookPlan,
    SessionAction,
    SessionEvent,
    SessionMachine,
    SessionState,
    diagram,
)
from jumpstarter_exporter.status import StatusMachine

DOCS = Path(__file__).parents[3] / "docs"
ENDS = st.sampled_from(["warn", "endLease", "exit", None])


def told(life: SessionMachine, *events: tuple[SessionEvent, str]) -> list[tuple[str, str] | SessionAction]:
    return [
        what if isinstance(what, SessionAction) else (what[0].name, what[1])
        for event, reason in events
        for what in (
            life.send(event, reason) if event is not SessionEvent.HOOK_FAILED else life.hook_ended(reason)
        )
    ]


BEGIN, OK, END = (SessionEvent.BEGIN, ""), (SessionEvent.HOOK_OK, ""), (SessionEvent.END, "")
FAILED = (SessionEvent.HOOK_FAILED, "Hook failed with exit code 3")
BEFORE = ("BEFORE_LEASE_HOOK", "Running beforeLease hook")
AFTER = ("AFTER_LEASE_HOOK", "Running afterLease hooks")
READY = ("LEASE_READY", "Ready for commands")
AVAILABLE = ("AVAILABLE", "Available for new lease")


@pytest.mark.parametrize(
    ("plan", "events", "expected"),
    [
        (HookPlan(), [BEGIN, END], [READY, SessionAction.SERVE, AVAILABLE, SessionAction.RELEASE]),
        (
            HookPlan("warn", "warn"),
            [BEGIN, OK, END, OK],
            [
                BEFORE,
                SessionAction.RUN_BEFORE,
                READY,
                SessionAction.SERVE,
                AFTER,
                SessionAction.RUN_AFTER,
                AVAILABLE,
                SessionAction.RELEASE,
            ],
        ),
        (HookPlan(None, "warn"), [BEGIN], [READY, SessionAction.SERVE]),
        (
            HookPlan("warn", None),
            [BEGIN, FAILED],
            [
                BEFORE,
                SessionAction.RUN_BEFORE,
                ("LEASE_READY", "[HOOK_WARNING] beforeLease hook warning: Hook failed with exit code 3"),
                SessionAction.SERVE,
            ],
        ),
        (
            HookPlan("endLease", "warn"),
            [BEGIN, FAILED, END],
            [
                BEFORE,
                SessionAction.RUN_BEFORE,
                (
                    "BEFORE_LEASE_HOOK_FAILED",
                    "beforeLease hook failed (on_failure=endLease): Hook failed with exit code 3",
                ),
                SessionAction.RELEASE,
            ],
        ),
        (
            HookPlan("exit", "warn"),
            [BEGIN, FAILED, END],
            [
                BEFORE,
                SessionAction.RUN_BEFORE,
                (
                    "BEFORE_LEASE_HOOK_FAILED",
                    "beforeLease hook failed (on_failure=exit, shutting down): Hook failed with exit code 3",
                ),
                (
                    "OFFLINE",
                    "beforeLease hook failed (on_failure=exit, shutting down): Hook failed with exit code 3",
                ),
                SessionAction.EXIT,
            ],
        ),
        (
            HookPlan(None, "warn"),
            [BEGIN, END, FAILED],
            [
                READY,
                SessionAction.SERVE,
                AFTER,
                SessionAction.RUN_AFTER,
                ("AVAILABLE", "[HOOK_WARNING] afterLease hook warning: Hook failed with exit code 3"),
                SessionAction.RELEASE,
            ],
        ),
        (
            HookPlan(None, "endLease"),
            [BEGIN, END, FAILED],
            [
                READY,
                SessionAction.SERVE,
                AFTER,
                SessionAction.RUN_AFTER,
                (
                    "AFTER_LEASE_HOOK_FAILED",
                    "afterLease hook failed (on_failure=endLease): Hook failed with exit code 3",
                ),
                SessionAction.RELEASE,
            ],
        ),
        # The lease ends while its first hook runs: the hook finishes, and what puts things in order runs.
        (
            HookPlan("warn", "warn"),
            [BEGIN, END, END, OK, OK],
            [
                BEFORE,
                SessionAction.RUN_BEFORE,
                AFTER,
                SessionAction.RUN_AFTER,
                AVAILABLE,
                SessionAction.RELEASE,
            ],
        ),
    ],
)
def test_statuses_and_actions_of_a_life(
    plan: HookPlan, events: list[tuple[SessionEvent, str]], expected: list[object]
) -> None:
    assert told(SessionMachine(plan), *events) == expected


def test_exit_is_remembered() -> None:
    life = SessionMachine(HookPlan(None, "exit"))
    told(life, BEGIN, END, FAILED)
    assert life.exit
    assert life.is_over


@given(ENDS, ENDS, st.lists(st.sampled_from(["begin", "end", "ok", "fail"]), max_size=30))
def test_whatever_comes_it_comes_to_rest_and_no_hook_runs_twice(
    before: str | None, after: str | None, events: list[str]
) -> None:
    life = SessionMachine(HookPlan(before, after))  # type: ignore[arg-type]
    statuses = StatusMachine()
    run: list[SessionAction] = []
    running = False

    def take(happened: list[SessionAction | tuple[ExporterStatus, str]]) -> None:
        nonlocal running
        for what in happened:
            if isinstance(what, tuple):
                statuses.change(*what)  # raises for a way that the status table has not
            elif what in (SessionAction.RUN_BEFORE, SessionAction.RUN_AFTER):
                assert not running
                running = True
                run.append(what)

    for event in events:
        if event == "begin" and life.state is SessionState.NEW:
            take(list(life.send(SessionEvent.BEGIN)))
        elif event == "end":
            take(list(life.send(SessionEvent.END)))
        elif event in ("ok", "fail") and running:
            running = False
            take(list(life.hook_ended("" if event == "ok" else "broken")))
    # From anywhere: the hooks that run end, the lease ends, and then there is nothing more to come.
    for _ in range(3):
        take(list(life.send(SessionEvent.END)))
        if running:
            running = False
            take(list(life.hook_ended("")))
    assert life.is_over
    assert not running
    assert len(run) == len(set(run))
    assert (SessionAction.RUN_AFTER in run) <= (after is not None)


def test_a_lease_that_ends_while_its_hook_runs_ends_when_the_hook_does() -> None:
    """Elsewhere the session stayed open and ready, and its lease for ever."""
    for before in ("warn", "endLease", "exit"):
        for result in (OK, FAILED):
            life = SessionMachine(HookPlan(before, None))
            happened = told(life, BEGIN, END, result)
            assert life.is_over
            assert SessionAction.SERVE not in happened
            assert READY not in happened
            assert (SessionAction.RELEASE in happened) != life.exit


def test_a_refused_board_is_released_without_its_users_help() -> None:
    """Elsewhere it stayed leased until somebody deleted the lease."""
    life = SessionMachine(HookPlan("endLease", "warn"))
    assert told(life, BEGIN, FAILED)[-1] is SessionAction.RELEASE
    assert told(life, END) == []
    assert life.is_over


def test_an_exporter_that_is_to_exit_does_not_wait_for_the_lease() -> None:
    """Elsewhere it was offline, and ran on until the lease expired."""
    life = SessionMachine(HookPlan("exit", "warn"))
    assert told(life, BEGIN, FAILED)[-1] is SessionAction.EXIT


def test_available_means_released() -> None:
    """Elsewhere a board was available, and leased still, once its user had left the shell."""
    for step in TABLE.values():
        if ExporterStatus.AVAILABLE in step.statuses:
            assert SessionAction.RELEASE in step.actions


def test_the_next_lease_begins_a_life_of_its_own() -> None:
    """Elsewhere a lease that had waited began while the hook of the one before still ran."""
    assert [state for state, event in TABLE if event is SessionEvent.BEGIN] == [SessionState.NEW]


def test_every_state_can_end() -> None:
    for state in SessionState:
        assert (state, SessionEvent.END) in TABLE


def test_the_docs_show_the_table() -> None:
    """`python -m jumpstarter_exporter.hooks.machine` prints it."""
    assert f"```mermaid\n{diagram()}```" in (DOCS / "hooks.md").read_text()
