"""The states of a session: hooks, use, the end of the lease and a shutdown, as one table without I/O.

Whatever events happen, in whatever order, it reaches its final state, and no hook runs twice. docs/hooks.md has the
table as a diagram, made by `diagram`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.hook_times import running_hook

__all__ = ["TABLE", "HookPlan", "SessionAction", "SessionEvent", "SessionMachine", "SessionState", "diagram"]

OnFailure = Literal["warn", "endLease", "exit"]
WARNING = "[HOOK_WARNING] "
"""Clients remove this prefix and show the rest as a warning."""


class SessionState(enum.Enum):
    """The state of a session."""

    NEW = "new"
    BEFORE = "before"
    """The beforeLease hook runs."""
    LEAVING = "leaving"
    """It runs, and the lease has ended meanwhile: it finishes first."""
    READY = "ready"
    REFUSED = "refused"
    """The beforeLease hook failed, and the board must not be used until the lease ends."""
    AFTER = "after"
    """The afterLease hook runs."""
    OVER = "over"
    """The final state."""


class SessionEvent(enum.Enum):
    """What happens to a session."""

    BEGIN = "begin"
    HOOK_OK = "hook ok"
    HOOK_FAILED = "hook failed"
    HOOK_FAILED_END = "hook failed, endLease"
    HOOK_FAILED_EXIT = "hook failed, exit"
    END = "end"
    """The user ends the session, the lease has ended, or the exporter shuts down."""


class SessionAction(enum.Enum):
    """What to do."""

    RUN_BEFORE = "run beforeLease"
    RUN_AFTER = "run afterLease"
    SERVE = "admit users"
    RELEASE = "release"
    EXIT = "exit with 1"


@dataclass(frozen=True)
class SessionStep:
    """A row of the table: the next state, the statuses that users see on the way, and the actions."""

    state: SessionState
    statuses: tuple[ExporterStatus, ...] = ()
    actions: tuple[SessionAction, ...] = ()


_S, _E, _A = SessionState, SessionEvent, SessionAction

TABLE: dict[tuple[SessionState, SessionEvent], SessionStep] = {
    (_S.NEW, _E.BEGIN): SessionStep(_S.BEFORE, (ExporterStatus.BEFORE_LEASE_HOOK,), (_A.RUN_BEFORE,)),
    (_S.NEW, _E.END): SessionStep(_S.OVER, (ExporterStatus.AVAILABLE,), (_A.RELEASE,)),
    (_S.BEFORE, _E.HOOK_OK): SessionStep(_S.READY, (ExporterStatus.LEASE_READY,), (_A.SERVE,)),
    (_S.BEFORE, _E.HOOK_FAILED): SessionStep(_S.READY, (ExporterStatus.LEASE_READY,), (_A.SERVE,)),
    (_S.BEFORE, _E.HOOK_FAILED_END): SessionStep(
        _S.REFUSED, (ExporterStatus.BEFORE_LEASE_HOOK_FAILED,), (_A.RELEASE,)
    ),
    (_S.BEFORE, _E.HOOK_FAILED_EXIT): SessionStep(
        _S.REFUSED, (ExporterStatus.BEFORE_LEASE_HOOK_FAILED, ExporterStatus.OFFLINE), (_A.EXIT,)
    ),
    (_S.BEFORE, _E.END): SessionStep(_S.LEAVING),
    # The hook has prepared the board, so the afterLease hook must run, too; the board is never reported as ready.
    (_S.LEAVING, _E.HOOK_OK): SessionStep(_S.AFTER, (ExporterStatus.AFTER_LEASE_HOOK,), (_A.RUN_AFTER,)),
    (_S.LEAVING, _E.HOOK_FAILED): SessionStep(_S.AFTER, (ExporterStatus.AFTER_LEASE_HOOK,), (_A.RUN_AFTER,)),
    (_S.LEAVING, _E.HOOK_FAILED_END): SessionStep(
        _S.OVER, (ExporterStatus.BEFORE_LEASE_HOOK_FAILED,), (_A.RELEASE,)
    ),
    (_S.LEAVING, _E.HOOK_FAILED_EXIT): SessionStep(
        _S.OVER, (ExporterStatus.BEFORE_LEASE_HOOK_FAILED, ExporterStatus.OFFLINE), (_A.EXIT,)
    ),
    (_S.READY, _E.END): SessionStep(_S.AFTER, (ExporterStatus.AFTER_LEASE_HOOK,), (_A.RUN_AFTER,)),
    (_S.REFUSED, _E.END): SessionStep(_S.OVER),
    (_S.AFTER, _E.HOOK_OK): SessionStep(_S.OVER, (ExporterStatus.AVAILABLE,), (_A.RELEASE,)),
    (_S.AFTER, _E.HOOK_FAILED): SessionStep(_S.OVER, (ExporterStatus.AVAILABLE,), (_A.RELEASE,)),
    (_S.AFTER, _E.HOOK_FAILED_END): SessionStep(
        _S.OVER, (ExporterStatus.AFTER_LEASE_HOOK_FAILED,), (_A.RELEASE,)
    ),
    (_S.AFTER, _E.HOOK_FAILED_EXIT): SessionStep(
        _S.OVER, (ExporterStatus.AFTER_LEASE_HOOK_FAILED, ExporterStatus.OFFLINE), (_A.EXIT,)
    ),
    (_S.AFTER, _E.END): SessionStep(_S.AFTER),
    (_S.LEAVING, _E.END): SessionStep(_S.LEAVING),
    (_S.OVER, _E.END): SessionStep(_S.OVER),
}
"""All transitions. An event without a row for the current state is a fault of the sender."""

_RESULTS: dict[OnFailure, SessionEvent] = {
    "warn": SessionEvent.HOOK_FAILED,
    "endLease": SessionEvent.HOOK_FAILED_END,
    "exit": SessionEvent.HOOK_FAILED_EXIT,
}


@dataclass(frozen=True)
class HookPlan:
    """The part of the hooks that decides what a failure means; None is a hook that is not configured."""

    before: OnFailure | None = None
    after: OnFailure | None = None


class SessionMachine:
    """One session's state machine. `send` returns the actions and statuses."""

    def __init__(self, plan: HookPlan) -> None:
        self.state = SessionState.NEW
        self.exit = False
        """The exporter must end with exit code 1."""
        self._plan = plan

    @property
    def is_over(self) -> bool:
        """The final state is reached."""
        return self.state is SessionState.OVER

    def send(self, event: SessionEvent, reason: str = "") -> list[SessionAction | tuple[ExporterStatus, str]]:
        """Handle an event. Returns the statuses with their messages, and the actions, in order.

        A hook that is not configured is skipped, and counts as successful.

        Raises:
            KeyError: the event is impossible in this state.
        """
        return list(self._send(event, reason))

    def _send(self, event: SessionEvent, reason: str) -> Iterator[SessionAction | tuple[ExporterStatus, str]]:
        before = self.state
        step = TABLE[before, event]
        self.state = step.state
        skipped = self._skipped(step)
        for status in step.statuses:
            if not skipped or status not in (
                ExporterStatus.BEFORE_LEASE_HOOK,
                ExporterStatus.AFTER_LEASE_HOOK,
            ):
                yield status, self._message(status, before, event, reason)
        for action in step.actions:
            if action is SessionAction.EXIT:
                self.exit = True
            if not skipped:
                yield action
        if skipped:
            yield from self._send(SessionEvent.HOOK_OK, "")

    def go_on(self) -> list[SessionAction | tuple[ExporterStatus, str]]:
        """Start in the state `READY`, which an earlier process had reached."""
        self.state = SessionState.READY
        return [
            (
                ExporterStatus.LEASE_READY,
                self._message(ExporterStatus.LEASE_READY, SessionState.READY, SessionEvent.BEGIN, ""),
            )
        ]

    def hook_ended(self, failure: str) -> list[SessionAction | tuple[ExporterStatus, str]]:
        """The running hook has ended; `failure` is empty if it succeeded."""
        if not failure:
            return self.send(SessionEvent.HOOK_OK)
        on_failure = self._plan.after if self.state is SessionState.AFTER else self._plan.before
        return self.send(_RESULTS[on_failure or "warn"], failure)

    def is_ready_after(self, failure: str) -> bool:
        """Whether users are admitted if the running hook ends with `failure` and nothing else happens before."""
        return self.state is SessionState.BEFORE and (not failure or self._plan.before == "warn")

    def _skipped(self, step: SessionStep) -> bool:
        return (SessionAction.RUN_BEFORE in step.actions and self._plan.before is None) or (
            SessionAction.RUN_AFTER in step.actions and self._plan.after is None
        )

    def _message(self, status: ExporterStatus, before: SessionState, event: SessionEvent, reason: str) -> str:
        kind = "afterLease" if before is SessionState.AFTER else "beforeLease"
        match status:
            case ExporterStatus.BEFORE_LEASE_HOOK:
                return running_hook(None)
            case ExporterStatus.AFTER_LEASE_HOOK:
                return "Running afterLease hooks"
            case ExporterStatus.LEASE_READY | ExporterStatus.AVAILABLE if event is SessionEvent.HOOK_FAILED:
                return f"{WARNING}{kind} hook warning: {reason}"
            case ExporterStatus.LEASE_READY:
                return "Ready for commands"
            case ExporterStatus.AVAILABLE:
                return "Available for new lease"
        how = "endLease" if event is SessionEvent.HOOK_FAILED_END else "exit, shutting down"
        return f"{kind} hook failed (on_failure={how}): {reason}"


def diagram() -> str:
    """The table as a Mermaid diagram."""
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
