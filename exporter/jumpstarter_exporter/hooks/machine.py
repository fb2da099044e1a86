"""A session's life: hooks, use, the end of the lease, a shutdown, as one table without I/O.

Whatever comes, in whatever order, it comes to rest, and no hook runs twice. docs/hooks.md has the table as a diagram,
made by `diagram`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jumpstarter_proto.hook_times import running_hook

from jumpstarter_exporter.status import Status

__all__ = ["TABLE", "Action", "Event", "HookPlan", "Life", "State", "diagram"]

OnFailure = Literal["warn", "endLease", "exit"]
WARNING = "[HOOK_WARNING] "
"""Clients take it off and show the rest as a warning."""


class State(enum.Enum):
    """Where a session is."""

    NEW = "new"
    BEFORE = "before"
    """The beforeLease hook runs."""
    LEAVING = "leaving"
    """It runs, and the lease has ended meanwhile: it finishes first."""
    READY = "ready"
    REFUSED = "refused"
    """The beforeLease hook failed, and the board is not to be used: waits for the lease's end."""
    AFTER = "after"
    """The afterLease hook runs."""
    OVER = "over"
    """At rest."""


class Event(enum.Enum):
    """What happens to a session."""

    BEGIN = "begin"
    HOOK_OK = "hook ok"
    HOOK_FAILED = "hook failed"
    HOOK_FAILED_END = "hook failed, endLease"
    HOOK_FAILED_EXIT = "hook failed, exit"
    END = "end"
    """The user is done, the lease has ended, or the exporter shuts down."""


class Action(enum.Enum):
    """What is to be done."""

    RUN_BEFORE = "run beforeLease"
    RUN_AFTER = "run afterLease"
    SERVE = "let users in"
    RELEASE = "release"
    EXIT = "exit with 1"


@dataclass(frozen=True)
class Step:
    """A row of the table: the state that follows, the statuses that users see on the way, and what is to be done."""

    state: State
    statuses: tuple[Status, ...] = ()
    actions: tuple[Action, ...] = ()


_S, _E, _A = State, Event, Action

TABLE: dict[tuple[State, Event], Step] = {
    (_S.NEW, _E.BEGIN): Step(_S.BEFORE, (Status.BEFORE_LEASE_HOOK,), (_A.RUN_BEFORE,)),
    (_S.NEW, _E.END): Step(_S.OVER, (Status.AVAILABLE,), (_A.RELEASE,)),
    (_S.BEFORE, _E.HOOK_OK): Step(_S.READY, (Status.LEASE_READY,), (_A.SERVE,)),
    (_S.BEFORE, _E.HOOK_FAILED): Step(_S.READY, (Status.LEASE_READY,), (_A.SERVE,)),
    (_S.BEFORE, _E.HOOK_FAILED_END): Step(_S.REFUSED, (Status.BEFORE_LEASE_HOOK_FAILED,), (_A.RELEASE,)),
    (_S.BEFORE, _E.HOOK_FAILED_EXIT): Step(
        _S.REFUSED, (Status.BEFORE_LEASE_HOOK_FAILED, Status.OFFLINE), (_A.EXIT,)
    ),
    (_S.BEFORE, _E.END): Step(_S.LEAVING),
    # The hook has prepared the board, so what puts it in order again runs, too; nobody is told that it is ready.
    (_S.LEAVING, _E.HOOK_OK): Step(_S.AFTER, (Status.AFTER_LEASE_HOOK,), (_A.RUN_AFTER,)),
    (_S.LEAVING, _E.HOOK_FAILED): Step(_S.AFTER, (Status.AFTER_LEASE_HOOK,), (_A.RUN_AFTER,)),
    (_S.LEAVING, _E.HOOK_FAILED_END): Step(_S.OVER, (Status.BEFORE_LEASE_HOOK_FAILED,), (_A.RELEASE,)),
    (_S.LEAVING, _E.HOOK_FAILED_EXIT): Step(
        _S.OVER, (Status.BEFORE_LEASE_HOOK_FAILED, Status.OFFLINE), (_A.EXIT,)
    ),
    (_S.READY, _E.END): Step(_S.AFTER, (Status.AFTER_LEASE_HOOK,), (_A.RUN_AFTER,)),
    (_S.REFUSED, _E.END): Step(_S.OVER),
    (_S.AFTER, _E.HOOK_OK): Step(_S.OVER, (Status.AVAILABLE,), (_A.RELEASE,)),
    (_S.AFTER, _E.HOOK_FAILED): Step(_S.OVER, (Status.AVAILABLE,), (_A.RELEASE,)),
    (_S.AFTER, _E.HOOK_FAILED_END): Step(_S.OVER, (Status.AFTER_LEASE_HOOK_FAILED,), (_A.RELEASE,)),
    (_S.AFTER, _E.HOOK_FAILED_EXIT): Step(
        _S.OVER, (Status.AFTER_LEASE_HOOK_FAILED, Status.OFFLINE), (_A.EXIT,)
    ),
    (_S.AFTER, _E.END): Step(_S.AFTER),
    (_S.LEAVING, _E.END): Step(_S.LEAVING),
    (_S.OVER, _E.END): Step(_S.OVER),
}
"""Every way that there is. An event that is not in a state's rows is a mistake of whoever sends it."""

_RESULTS: dict[OnFailure, Event] = {
    "warn": Event.HOOK_FAILED,
    "endLease": Event.HOOK_FAILED_END,
    "exit": Event.HOOK_FAILED_EXIT,
}


@dataclass(frozen=True)
class HookPlan:
    """As much of a hook as decides what its failure means; None stands for a hook that is not configured."""

    before: OnFailure | None = None
    after: OnFailure | None = None


class Life:
    """One session's life. `send` says what is to be done and what users are told."""

    def __init__(self, plan: HookPlan) -> None:
        self.state = State.NEW
        self.exit = False
        """The exporter is to end with exit code 1."""
        self._plan = plan

    @property
    def is_over(self) -> bool:
        """At rest: nothing more will be done."""
        return self.state is State.OVER

    def send(self, event: Event, reason: str = "") -> list[Action | tuple[Status, str]]:
        """Move on. What is to be told (statuses with their messages) and done, in order.

        A hook that is not configured is not run, and counts as one that went well without a word.

        Raises:
            KeyError: nothing of that kind can happen now.
        """
        return list(self._send(event, reason))

    def _send(self, event: Event, reason: str) -> Iterator[Action | tuple[Status, str]]:
        before = self.state
        step = TABLE[before, event]
        self.state = step.state
        skipped = self._skipped(step)
        for status in step.statuses:
            if not skipped or status not in (Status.BEFORE_LEASE_HOOK, Status.AFTER_LEASE_HOOK):
                yield status, self._message(status, before, event, reason)
        for action in step.actions:
            if action is Action.EXIT:
                self.exit = True
            if not skipped:
                yield action
        if skipped:
            yield from self._send(Event.HOOK_OK, "")

    def go_on(self) -> list[Action | tuple[Status, str]]:
        """Begin in the place of a process that had come to `READY`."""
        self.state = State.READY
        return [(Status.LEASE_READY, self._message(Status.LEASE_READY, State.READY, Event.BEGIN, ""))]

    def hook_ended(self, failure: str) -> list[Action | tuple[Status, str]]:
        """The running hook is done; `failure` is empty when it went well."""
        if not failure:
            return self.send(Event.HOOK_OK)
        on_failure = self._plan.after if self.state is State.AFTER else self._plan.before
        return self.send(_RESULTS[on_failure or "warn"], failure)

    def is_ready_after(self, failure: str) -> bool:
        """Whether users are let in when the running hook is done in that way, and nothing happens before."""
        return self.state is State.BEFORE and (not failure or self._plan.before == "warn")

    def _skipped(self, step: Step) -> bool:
        return (Action.RUN_BEFORE in step.actions and self._plan.before is None) or (
            Action.RUN_AFTER in step.actions and self._plan.after is None
        )

    def _message(self, status: Status, before: State, event: Event, reason: str) -> str:
        kind = "afterLease" if before is State.AFTER else "beforeLease"
        match status:
            case Status.BEFORE_LEASE_HOOK:
                return running_hook(None)
            case Status.AFTER_LEASE_HOOK:
                return "Running afterLease hooks"
            case Status.LEASE_READY | Status.AVAILABLE if event is Event.HOOK_FAILED:
                return f"{WARNING}{kind} hook warning: {reason}"
            case Status.LEASE_READY:
                return "Ready for commands"
            case Status.AVAILABLE:
                return "Available for new lease"
        how = "endLease" if event is Event.HOOK_FAILED_END else "exit, shutting down"
        return f"{kind} hook failed (on_failure={how}): {reason}"


def diagram() -> str:
    """The table for people, in Mermaid's notation."""
    lines = ["stateDiagram-v2", "    [*] --> new"]
    for (state, event), step in TABLE.items():
        if step.state is state:
            continue
        notes = [status.name for status in step.statuses] + [action.value for action in step.actions]
        lines.append(
            f"    {state.value} --> {step.state.value}: {event.value}"
            + (f" / {', '.join(notes)}" if notes else "")
        )
    return "\n".join([*lines, "    over --> [*]"]) + "\n"


if __name__ == "__main__":
    print(diagram(), end="")  # noqa: T201 - for the docs
