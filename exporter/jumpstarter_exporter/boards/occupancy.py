"""Who uses a board: a lease, local users, or maintenance. A state machine without I/O.

Only one of them has the board at a time. Independent of that, a set of reasons may withhold it from being leased.
After each method the caller performs the returned actions and reads `status`, `record` and `deadline` again; `record`
is written before the actions are performed. docs/occupancy.md has the table for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.exporter_status import ExporterStatus

from jumpstarter_exporter.boards.events import (
    PHASE_TRANSITIONS,
    ApplyChange,
    BeginLease,
    CallTarget,
    CleanUpLease,
    CloseWaitingSession,
    CutConnection,
    DeclineLease,
    DelayLease,
    EndLease,
    LocalRefusal,
    NotifyLocalUsers,
    OccupancyAction,
    ReturnLease,
    ServedLease,
    ServingPhase,
    WithheldReason,
)
from jumpstarter_exporter.boards.local_use import LocalUse
from jumpstarter_exporter.boards.record import OccupancyRecord

__all__ = ["Occupancy", "OccupancyLimits"]


@dataclass(frozen=True)
class OccupancyLimits:
    """Time limits in seconds."""

    leave: float = 10.0
    """Local use ends this long after the last connection is closed."""
    idle: float = 3600.0
    """An idle connection loses the board after this time."""
    idle_if_wanted: float = 120.0
    """The same while a lease waits for the board, here or at its controller."""
    patience: float = 240.0
    """A waiting lease is returned after this time; 0.9's shell waits 300 s."""
    overdue: float = 300.0
    """A lease is ended this long after its end if the controller is away and no client is connected."""
    unheard: float = 60.0
    """After a restart, the time for the controller to confirm the lease; then the exporter decides alone."""


class Occupancy:
    """The occupancy of one board. `now` is a monotonic time in seconds."""

    def __init__(
        self, limits: OccupancyLimits | None = None, *, registered: bool = True, prepares: bool = True
    ) -> None:
        """Without a controller (`registered` is false) local users are never refused.

        `prepares`: a lease begins with a hook. Otherwise it begins at once, and is recorded as leased from the start.
        """
        self.lease: ServedLease | None = None
        self.maintenance: str | None = None
        """Who maintains it, exclusively."""
        self._limits = limits or OccupancyLimits()
        self._registered = registered
        self._prepares = prepares
        self._local = LocalUse(self._limits.leave)
        self._withheld: dict[WithheldReason, str] = {}
        self._failed = ExporterStatus.BEFORE_LEASE_HOOK_FAILED
        self._is_released = False
        """The controller knows that the lease is over: its hooks no longer withhold the board."""
        self._waits_since = 0.0
        self._wanted = ""
        """A waiting lease that would fit this board; empty if there is none."""
        self._told = ""
        """The last waiting lease that local users were notified of; empty if there is none."""
        self._ends: float | None = None
        self._end: float | None = None
        """The same in seconds since the epoch, for the record."""
        self.began: float | None = None
        """When the lease got the board, in seconds since the epoch; None while it waits, and until `begins_at`."""
        self._finished = ""
        """The last lease that the exporter ended: it must not begin again, even if the controller does not know yet."""
        self._is_offered = False
        """The lease was offered, and the controller has not confirmed that it was accepted."""
        self._is_alone = False
        """The controller is out of reach, and no client of the lease is connected."""
        self._resumed: float | None = None
        """When a lease was restored after a restart that the controller has not confirmed yet."""

    # The current user.

    @property
    def withheld(self) -> Mapping[WithheldReason, str]:
        """Why the board cannot be leased although nobody uses it, as sentences."""
        return dict(self._withheld)

    @property
    def is_local(self) -> bool:
        """Whether local users have it."""
        return self.maintenance is None and bool(self._local)

    @property
    def is_free(self) -> bool:
        """Whether nobody has it, whatever withholds it."""
        return self.lease is None and self.maintenance is None and not self.is_local

    @property
    def user(self) -> str:
        """The user that a change must wait for; empty if nobody has the board or a lease only waits for it."""
        if self.lease is not None and self.lease.phase is not ServingPhase.WAITING:
            return f"lease {self.lease.name} of {self.lease.client}"
        if self.maintenance is not None:
            return f"maintenance by {self.maintenance}"
        return f"local use by {', '.join(sorted(self._local.people))}" if self.is_local else ""

    @property
    def status(self) -> tuple[ExporterStatus, str]:
        """The status for the controller."""
        if self.lease is not None:
            match self.lease.phase:
                case ServingPhase.WAITING:
                    obstacle = self._obstacle or "the exporter was started again"
                    return ExporterStatus.BEFORE_LEASE_HOOK, f"Waiting for the board: {obstacle}"
                case ServingPhase.PREPARING:
                    return ExporterStatus.BEFORE_LEASE_HOOK, "Running beforeLease hooks"
                case ServingPhase.LEASED:
                    return ExporterStatus.LEASE_READY, "Ready for commands"
                case ServingPhase.CLEANING:
                    return ExporterStatus.AFTER_LEASE_HOOK, "Running afterLease hooks"
        if not self.is_free:
            return ExporterStatus.AFTER_LEASE_HOOK, f"Not available: {self._obstacle}"
        if WithheldReason.HOOK_FAILED in self._withheld:
            return self._failed, self._withheld[WithheldReason.HOOK_FAILED]
        if self._withheld:
            return ExporterStatus.AFTER_LEASE_HOOK, f"Not available: {self._obstacle}"
        return ExporterStatus.AVAILABLE, "Available for new lease"

    @property
    def sentence(self) -> str:
        """Who has the board, as a sentence; empty if nobody has it and nothing withholds it."""
        if self.lease is not None:
            until = f" until {self.lease.until}" if self.lease.until else ""
            return f"leased by {self.lease.client} ({self.lease.name}, {self.lease.phase}){until}"
        return self._obstacle

    @property
    def _obstacle(self) -> str:
        """What else than a lease prevents a lease."""
        if self.maintenance is not None:
            return f"in maintenance by {self.maintenance}"
        if self.is_local:
            return f"in local use by {', '.join(sorted(self._local.people))}"
        return "; ".join(sentence for _, sentence in self.reasons)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Why the board is not available: pairs of a code such as "local-use", and a sentence."""
        if self.maintenance is not None:
            return [("maintenance", self._obstacle)]
        if self.is_local:
            return [("local-use", self._obstacle)]
        return [
            (reason.replace(" ", "-"), f"{reason}: {why}" if why else str(reason))
            for reason, why in sorted(self._withheld.items())
        ]

    # Leases.

    def assigned(self, lease: ServedLease, now: float) -> list[OccupancyAction]:
        """The controller assigned this lease, or repeats that; the lease's client may have changed.

        A lease that the exporter has ended is ignored: the controller will learn of its end.
        """
        self._withheld.pop(WithheldReason.UNKNOWN, None)
        if lease.name == self._finished:
            return []
        if self.lease is None or lease.name != self.lease.name:
            self._release_hook()
        if self.lease is not None:
            return self._again(lease, now)
        if self._obstacle:
            reason = self._obstacle
            is_used = self.is_local or self.maintenance is not None
            if lease.declinable:
                return [DeclineLease(lease, reason), *self.wants(lease)]
            self.lease = replace(lease, phase=ServingPhase.WAITING)
            self._waits_since = now
            told = f"the lease {lease.name} of {lease.client} waits for this board; it begins when you leave"
            return [DelayLease(self.lease, reason), *([NotifyLocalUsers(told)] if is_used else [])]
        return self._begin(lease)

    def offered(self, lease: ServedLease, now: float) -> list[OccupancyAction]:
        """The controller offers a lease. If it begins, the actions are performed after `confirmed`.

        A lease that had the board before a restart is not new: the controller says next whether it continues.
        """
        current = self.lease
        is_ours = (
            current is not None and current.phase is not ServingPhase.WAITING and current.name == lease.name
        )
        if is_ours and self._resumed is not None:
            return []
        actions = self.assigned(lease, now)
        self._is_offered = self._is_offered or any(isinstance(action, BeginLease) for action in actions)
        return actions

    def confirmed(self) -> None:
        """The controller confirmed the accepted lease."""
        self._is_offered = False

    def withdrawn(self, now: float) -> list[OccupancyAction]:
        """The user is not, or it is unknown: no part of the lease has begun."""
        if not self._is_offered:
            return []
        self._is_offered = False
        self._drop()
        return self._settle(now)

    def is_finished(self, lease: str) -> bool:
        """Whether the exporter has ended the lease, and the controller has not confirmed that yet."""
        return lease == self._finished

    def _again(self, lease: ServedLease, now: float) -> list[OccupancyAction]:
        current = self.lease
        assert current is not None
        if lease.name != current.name:
            if current.phase is ServingPhase.WAITING:
                return [*self._drop(), *self.assigned(lease, now)]
            return self._clean() if self._resumed is not None else []  # repeated after the end of this lease
        until = lease.until or current.until
        self.lease = replace(lease, phase=current.phase, until=until)
        if self._resumed is None:
            return []
        if current.phase is ServingPhase.WAITING:
            self._drop()
            return self.assigned(replace(lease, until=until), now)
        return self._resume()

    def _resume(self) -> list[OccupancyAction]:
        """Continue the lease from before the restart."""
        lease = self.lease
        assert lease is not None
        self._resumed = None
        if lease.phase is ServingPhase.CLEANING:
            return [CleanUpLease(lease)]
        return [BeginLease(lease, hook=lease.phase is ServingPhase.PREPARING)]

    def gone(self, now: float) -> list[OccupancyAction]:
        """The controller says that the board is not or no longer leased."""
        self._release_hook()
        self._withheld.pop(WithheldReason.UNKNOWN, None)
        self._finished = ""
        if self.lease is None:
            return []
        if self.lease.phase is ServingPhase.WAITING:
            return [*self._drop(), *self._settle(now)]
        return (
            self._clean() if self._resumed is not None else []
        )  # the lease's server ends it and calls `over`

    def released(self) -> None:
        """The controller took the lease back; `over` follows."""
        self._release_hook()

    def _clean(self) -> list[OccupancyAction]:
        """The lease from before the restart is over: clean up the board."""
        assert self.lease is not None
        self._resumed = None
        self.lease = replace(self.lease, phase=ServingPhase.CLEANING)
        return [CleanUpLease(self.lease)]

    def _drop(self) -> list[OccupancyAction]:
        """The lease no longer exists; close the session in which it waited."""
        lease, is_open = self.lease, self._resumed is None
        self.lease = self._ends = self._end = self._resumed = self.began = None
        return [CloseWaitingSession(lease)] if lease is not None and is_open else []

    def _release_hook(self) -> None:
        """The controller names another lease or none: the hooks of the last one no longer withhold the board."""
        self._is_released = True
        self._withheld.pop(WithheldReason.HOOK_FAILED, None)

    def became(self, phase: ServingPhase) -> None:
        """The served lease enters this phase. JumpstarterUsageError, without a change, if that is impossible."""
        lease = self.lease
        if lease is None or lease.phase is ServingPhase.WAITING:
            return  # the served lease has ended meanwhile
        if phase is not lease.phase and phase not in PHASE_TRANSITIONS[lease.phase]:
            raise JumpstarterUsageError(f"a lease that is {lease.phase} cannot become {phase}")
        self.lease = replace(lease, phase=phase)

    def over(self, now: float) -> list[OccupancyAction]:
        """The served lease is over, and the board is cleaned up."""
        if self.lease is not None:
            self._finished = self.lease.name
        self._drop()
        return self._settle(now)

    def ends_at(self, end: float | None, until: str, now: float, wall: float) -> None:
        """When the lease ends, as the controller says; None if it does not say.

        `end` and `wall`, which is now, are seconds since the epoch; `until` is the same for people.
        """
        if self.lease is not None:
            self._ends = None if end is None else now + end - wall
            self._end = end
            self.lease = replace(self.lease, until=until)

    @property
    def is_beginning(self) -> bool:
        """Whether a lease has just got the board, and `begins_at` is to say when."""
        return self.began is None and self.lease is not None and self.lease.phase is not ServingPhase.WAITING

    def begins_at(self, then: float) -> None:
        """A lease that got the board just now began `then`, in seconds since the epoch."""
        if self.is_beginning:
            self.began = then

    def wants(self, lease: ServedLease | None) -> list[OccupancyAction]:
        """A waiting lease would fit this board, as the controller says; None if there is none.

        It may have been declined here. Local users are notified once of each.
        """
        self._wanted = "" if lease is None else lease.name
        is_used = self.is_local or self.maintenance is not None
        if lease is None or not is_used or lease.name == self._told:
            return []
        self._told = lease.name
        return [NotifyLocalUsers(f"the lease {lease.name} of {lease.client} wants this board")]

    def left_alone(self, is_alone: bool) -> None:
        """Whether the controller is out of reach and no client of the lease is connected."""
        self._is_alone = is_alone

    def _begin(self, lease: ServedLease) -> list[OccupancyAction]:
        self._wanted, self._told, self._is_released = "", "", False
        self.began = None
        self.lease = replace(lease, phase=ServingPhase.PREPARING)
        return [BeginLease(self.lease)]

    # Local users.

    def local_call(
        self,
        connection: object,
        person: str,
        now: float,
        *,
        reads: bool = False,
        override: bool = False,
        force: bool = False,
    ) -> CallTarget | LocalRefusal:
        """A local call or stream; unless it only `reads`, its user has the board from now on."""
        if reads:
            return CallTarget.LOOK
        if WithheldReason.UNKNOWN in self._withheld:
            return LocalRefusal(
                "unknown",
                f"it is not known whether a lease has the board: {self._withheld[WithheldReason.UNKNOWN]}; wait until "
                "the controller answers, or free the board with `jumpstarter-exporter resume`",
            )
        if self.maintenance is not None and person != self.maintenance:
            return LocalRefusal("maintenance", f"the board is {self._obstacle}; wait until that is over")
        if (lease := self.lease) is not None and not self._has_use(person):
            if not override:
                return LocalRefusal(
                    "leased", f"the board is {self.sentence}; wait for its end, or take part with --override"
                )
            if self._is_offered:
                return LocalRefusal("starting", f"the lease {lease.name} is just beginning; try again")
            if lease.phase is not ServingPhase.WAITING and self._resumed is not None:
                return LocalRefusal(
                    "starting",
                    f"the exporter was started again, and the lease {lease.name} is not served yet; "
                    "try again in a minute",
                )
            if lease.phase in (ServingPhase.PREPARING, ServingPhase.CLEANING) and not force:
                return LocalRefusal(
                    "hook", f"a hook of the lease {lease.name} runs; wait for it, or add --override=force"
                )
            if lease.phase is not ServingPhase.WAITING:
                return CallTarget.LEASE
            # Nothing was prepared for the lease, and others already use the board: one more user may share it.
        self._local.take(connection, person, now)
        return CallTarget.LOCAL

    def _has_use(self, person: str) -> bool:
        """Whether a connection may keep using the board: until a waiting lease begins."""
        return person in self._local.people or person == self.maintenance

    def touched(self, connection: object, now: float) -> None:
        """A connection received data from its user."""
        self._local.touch(connection, now)

    def local_left(self, connection: object, now: float) -> None:
        """A connection was closed."""
        self._local.leave(connection, now)

    def maintain(self, person: str) -> LocalRefusal | None:
        """Start maintenance, exclusively."""
        if self.lease is not None or (self.maintenance or person) != person:
            return LocalRefusal("leased" if self.lease else "maintenance", f"the board is {self.sentence}")
        if self._local.connected - {person}:
            return LocalRefusal("local", f"the board is {self._obstacle}")
        self.maintenance = person
        return None

    def maintained(self, now: float) -> list[OccupancyAction]:
        """End maintenance."""
        self.maintenance = None
        return self._settle(now)

    # Reasons that withhold the board.

    def withhold(
        self,
        reason: WithheldReason,
        why: str,
        *,
        failed: ExporterStatus = ExporterStatus.BEFORE_LEASE_HOOK_FAILED,
    ) -> list[OccupancyAction]:
        """Withhold the board from leases.

        A current lease continues; a hook of a released lease does not withhold it.
        """
        if reason is WithheldReason.HOOK_FAILED:
            if self._is_released:
                return []
            self._failed = failed
        self._withheld[reason] = why
        return self._apply()

    def release(self, *reasons: WithheldReason, now: float) -> list[OccupancyAction]:
        """Remove these reasons."""
        for reason in reasons:
            self._withheld.pop(reason, None)
        return self._settle(now)

    def _apply(self) -> list[OccupancyAction]:
        return [ApplyChange()] if WithheldReason.CHANGING in self._withheld and not self.user else []

    # Time.

    @property
    def deadline(self) -> float | None:
        """When `tick` must be called at the latest."""
        limits = self._limits
        local = self._local.deadline(self._idle)
        times = [local] if local is not None else []
        if self._resumed is not None:
            times.append(self._resumed + limits.unheard)
        elif self.lease is not None and self.lease.phase is ServingPhase.WAITING:
            times.append(self._waits_since + limits.patience)
        if self._is_overdue_possible and self._ends is not None:
            times.append(self._ends + limits.overdue)
        return min(times, default=None)

    @property
    def _idle(self) -> float | None:
        if not self._registered:
            return None
        wanted = bool(self._wanted) or self.lease is not None
        return self._limits.idle_if_wanted if wanted else self._limits.idle

    @property
    def _is_overdue_possible(self) -> bool:
        is_served = (
            self.lease is not None and self.lease.phase is ServingPhase.LEASED and self._resumed is None
        )
        return self._is_alone and is_served

    def tick(self, now: float) -> list[OccupancyAction]:
        """Time has passed."""
        limits, idle = self._limits, self._idle
        actions: list[OccupancyAction] = [
            CutConnection(
                connection, f"nothing was done for {idle:g} s, so the board is free for others again"
            )
            for connection in self._local.expire(idle, now)
        ]
        lease = self.lease
        is_overdue = self._ends is not None and now >= self._ends + limits.overdue
        if self._resumed is not None:
            if now >= self._resumed + limits.unheard:
                return [*actions, *self._go_on_unheard(is_overdue=is_overdue, now=now)]
        elif lease is not None and self._is_overdue_possible and is_overdue:
            self._ends = None
            actions.append(EndLease(lease, "its time is over, and its controller is out of reach"))
        elif (
            lease is not None
            and lease.phase is ServingPhase.WAITING
            and self._obstacle
            and now >= self._waits_since + limits.patience
        ):
            actions.append(ReturnLease(lease, f"the board is {self._obstacle}"))
            self._finished = lease.name
            self._drop()
        return [*actions, *self._settle(now)]

    def _go_on_unheard(self, *, is_overdue: bool, now: float) -> list[OccupancyAction]:
        """The controller has not confirmed the lease since the restart."""
        assert self.lease is not None
        if self.lease.phase is ServingPhase.WAITING:
            self._drop()  # it had not begun; the controller will assign it again
            return self._settle(now)
        return self._clean() if is_overdue else self._resume()

    def _settle(self, now: float) -> list[OccupancyAction]:
        """Nobody has the board: a waiting lease begins."""
        if not self.is_local and self.maintenance is None:
            self._told = ""
        lease = self.lease
        if (
            lease is not None
            and lease.phase is ServingPhase.WAITING
            and self._resumed is None
            and not self._obstacle
        ):
            return self._begin(lease)
        return self._apply()

    # Restarts.

    @property
    def record(self) -> dict[str, object]:
        """What must survive a restart, as plain data."""
        drained = self._withheld.get(WithheldReason.DRAINED)
        lease = None if self._is_offered else self.lease
        if lease is not None and lease.phase is ServingPhase.PREPARING and not self._prepares:
            lease = replace(lease, phase=ServingPhase.LEASED)
        unknown = self._withheld.get(WithheldReason.UNKNOWN)
        return OccupancyRecord(lease, self._end, self.began, self._finished, drained, unknown).to_plain()

    def restore(self, record: object, now: float, wall: float) -> None:
        """Continue from the record of an earlier process; `wall` is now in seconds since the epoch.

        For a lease, or an invalid record, the controller has some time to say who has the board. None is an unused
        board.
        """
        found = OccupancyRecord.from_plain(record)
        if found.unknown is not None:
            self._withheld[WithheldReason.UNKNOWN] = found.unknown
        self._finished = found.finished
        if found.drained is not None:
            self._withheld[WithheldReason.DRAINED] = found.drained
        if found.lease is not None:
            self.lease = found.lease
            self.began = found.began
            self.ends_at(found.end, found.lease.until, now, wall)
            self._resumed = now
