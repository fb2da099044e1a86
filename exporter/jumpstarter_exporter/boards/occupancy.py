"""Who uses a board: a lease, users of its host, or somebody who looks after it. A state machine without I/O.

One has it at a time. What keeps it from being leased while nobody has it is a set of reasons beside that. Whoever
calls a method does the actions that it returns, and then asks for `status`, `record` and `deadline` again; `record` is
written before the actions are done. docs/occupancy.md has the table for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.boards.events import (
    NEXT,
    Action,
    Admission,
    Apply,
    Begin,
    Clean,
    Close,
    Decline,
    End,
    GiveBack,
    Lease,
    Lose,
    Phase,
    Reason,
    Refusal,
    Tell,
    Wait,
)
from jumpstarter_exporter.boards.local_use import LocalUse
from jumpstarter_exporter.boards.record import Record
from jumpstarter_exporter.status import Status

__all__ = ["Limits", "Occupancy"]


@dataclass(frozen=True)
class Limits:
    """Seconds."""

    leave: float = 10.0
    """Local use ends so long after the last connection that used the board."""
    idle: float = 3600.0
    """A connection that says nothing loses its use."""
    idle_if_wanted: float = 120.0
    """The same while a lease waits for the board, here or at its controller."""
    patience: float = 240.0
    """A lease waits so long before it is given back: 0.9's shell waits for 300."""
    overdue: float = 300.0
    """A lease goes on so long behind its end when the controller is away and nobody is connected."""
    unheard: float = 60.0
    """After a restart the controller has so long to say whether the lease goes on; then it does without its word."""


class Occupancy:
    """One board's. `now` is a monotonic time in seconds, and never goes back."""

    def __init__(
        self, limits: Limits | None = None, *, registered: bool = True, prepares: bool = True
    ) -> None:
        """Without a controller (`registered` false) local users are never in anybody's way.

        `prepares`: a lease begins with a hook. Without one it begins at once, and its record says so from the first.
        """
        self.lease: Lease | None = None
        self.maintenance: str | None = None
        """Who looks after it, alone."""
        self._limits = limits or Limits()
        self._registered = registered
        self._prepares = prepares
        self._local = LocalUse(self._limits.leave)
        self._withheld: dict[Reason, str] = {}
        self._failed = Status.BEFORE_LEASE_HOOK_FAILED
        self._is_released = False
        """The controller knows that the lease which is or was served is over: its hooks withhold nothing any more."""
        self._waits_since = 0.0
        self._wanted = ""
        """A lease that is not ours and wants this board; empty for none."""
        self._told = ""
        """The last of these of which they were told who have the board now; empty for none."""
        self._ends: float | None = None
        self._end: float | None = None
        """The same in seconds since the epoch, for the record."""
        self.began: float | None = None
        """When the lease got the board, in seconds since the epoch; None while it waits, and until `begins_at`."""
        self._finished = ""
        """The last lease that we ended: it does not begin again, though its controller may not know yet."""
        self._is_offered = False
        """The lease was offered, and its controller does not know yet that we have taken it."""
        self._is_alone = False
        """The controller is out of reach, and no user of the lease is connected."""
        self._resumed: float | None = None
        """When: the lease was there before a restart, and the controller has not said yet whether it goes on."""

    # Who has it.

    @property
    def withheld(self) -> Mapping[Reason, str]:
        """Why it cannot be leased though nobody uses it, in words."""
        return dict(self._withheld)

    @property
    def is_local(self) -> bool:
        """Whether users of the host have it."""
        return self.maintenance is None and bool(self._local)

    @property
    def is_free(self) -> bool:
        """Whether nobody has it, whatever withholds it."""
        return self.lease is None and self.maintenance is None and not self.is_local

    @property
    def user(self) -> str:
        """Who has it, so that a change waits for them; empty while a lease only waits, and when nobody has it."""
        if self.lease is not None and self.lease.phase is not Phase.WAITING:
            return f"lease {self.lease.name} of {self.lease.client}"
        if self.maintenance is not None:
            return f"maintenance by {self.maintenance}"
        return f"local use by {', '.join(sorted(self._local.people))}" if self.is_local else ""

    @property
    def status(self) -> tuple[Status, str]:
        """What the controller is told."""
        if self.lease is not None:
            match self.lease.phase:
                case Phase.WAITING:
                    obstacle = self._obstacle or "the exporter was started again"
                    return Status.BEFORE_LEASE_HOOK, f"Waiting for the board: {obstacle}"
                case Phase.PREPARING:
                    return Status.BEFORE_LEASE_HOOK, "Running beforeLease hooks"
                case Phase.LEASED:
                    return Status.LEASE_READY, "Ready for commands"
                case Phase.CLEANING:
                    return Status.AFTER_LEASE_HOOK, "Running afterLease hooks"
        if not self.is_free:
            return Status.AFTER_LEASE_HOOK, f"Not available: {self._obstacle}"
        if Reason.HOOK_FAILED in self._withheld:
            return self._failed, self._withheld[Reason.HOOK_FAILED]
        if self._withheld:
            return Status.AFTER_LEASE_HOOK, f"Not available: {self._obstacle}"
        return Status.AVAILABLE, "Available for new lease"

    @property
    def sentence(self) -> str:
        """Who has it, for everybody on the host; empty when nobody has it and nothing withholds it."""
        if self.lease is not None:
            until = f" until {self.lease.until}" if self.lease.until else ""
            return f"leased by {self.lease.client} ({self.lease.name}, {self.lease.phase}){until}"
        return self._obstacle

    @property
    def _obstacle(self) -> str:
        """What is in a lease's way, other than a lease."""
        if self.maintenance is not None:
            return f"in maintenance by {self.maintenance}"
        if self.is_local:
            return f"in local use by {', '.join(sorted(self._local.people))}"
        return "; ".join(sentence for _, sentence in self.reasons)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Why it is not available: a word for programs, such as "local-use", and a sentence for people, of each."""
        if self.maintenance is not None:
            return [("maintenance", self._obstacle)]
        if self.is_local:
            return [("local-use", self._obstacle)]
        return [
            (reason.replace(" ", "-"), f"{reason}: {why}" if why else str(reason))
            for reason, why in sorted(self._withheld.items())
        ]

    # Leases.

    def assigned(self, lease: Lease, now: float) -> list[Action]:
        """The controller says that this lease has the board; it may say so again, and may give it to another client.

        A lease that we have ended does nothing more: its controller is about to hear of it.
        """
        self._withheld.pop(Reason.UNKNOWN, None)
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
                return [Decline(lease, reason), *self.wants(lease)]
            self.lease = replace(lease, phase=Phase.WAITING)
            self._waits_since = now
            told = f"the lease {lease.name} of {lease.client} waits for this board; it begins when you leave"
            return [Wait(self.lease, reason), *([Tell(told)] if is_used else [])]
        return self._begin(lease)

    def offered(self, lease: Lease, now: float) -> list[Action]:
        """The same of a lease that is not ours yet. If something is to begin, that is done when it is `confirmed`.

        One that had the board before a restart is no new one: its controller says next whether it goes on.
        """
        current = self.lease
        is_ours = current is not None and current.phase is not Phase.WAITING and current.name == lease.name
        if is_ours and self._resumed is not None:
            return []
        actions = self.assigned(lease, now)
        self._is_offered = self._is_offered or any(isinstance(action, Begin) for action in actions)
        return actions

    def confirmed(self) -> None:
        """The lease that was offered is ours."""
        self._is_offered = False

    def withdrawn(self, now: float) -> list[Action]:
        """It is not, or nobody knows: nothing of it has begun."""
        if not self._is_offered:
            return []
        self._is_offered = False
        self._drop()
        return self._settle(now)

    def is_finished(self, lease: str) -> bool:
        """Whether we have ended it, and its controller has not said since then that the board is not leased."""
        return lease == self._finished

    def _again(self, lease: Lease, now: float) -> list[Action]:
        current = self.lease
        assert current is not None
        if lease.name != current.name:
            if current.phase is Phase.WAITING:
                return [*self._drop(), *self.assigned(lease, now)]
            return self._clean() if self._resumed is not None else []  # told again behind the end of this one
        until = lease.until or current.until
        self.lease = replace(lease, phase=current.phase, until=until)
        if self._resumed is None:
            return []
        if current.phase is Phase.WAITING:
            self._drop()
            return self.assigned(replace(lease, until=until), now)
        return self._resume()

    def _resume(self) -> list[Action]:
        """Go on with the lease from before the restart."""
        lease = self.lease
        assert lease is not None
        self._resumed = None
        if lease.phase is Phase.CLEANING:
            return [Clean(lease)]
        return [Begin(lease, hook=lease.phase is Phase.PREPARING)]

    def gone(self, now: float) -> list[Action]:
        """The controller says that the board is not leased, or not any more."""
        self._release_hook()
        self._withheld.pop(Reason.UNKNOWN, None)
        self._finished = ""
        if self.lease is None:
            return []
        if self.lease.phase is Phase.WAITING:
            return [*self._drop(), *self._settle(now)]
        return self._clean() if self._resumed is not None else []  # whoever serves it ends it, and says so

    def released(self) -> None:
        """The controller has taken the lease back from us; whoever serves it has yet to say that it is over."""
        self._release_hook()

    def _clean(self) -> list[Action]:
        """The lease from before the restart is over: the board is put in order."""
        assert self.lease is not None
        self._resumed = None
        self.lease = replace(self.lease, phase=Phase.CLEANING)
        return [Clean(self.lease)]

    def _drop(self) -> list[Action]:
        """Nothing is known of the lease any more; a session that it has waited in is closed."""
        lease, is_open = self.lease, self._resumed is None
        self.lease = self._ends = self._end = self._resumed = self.began = None
        return [Close(lease)] if lease is not None and is_open else []

    def _release_hook(self) -> None:
        """The lease that is or was served is released: the controller speaks of another, or of none."""
        self._is_released = True
        self._withheld.pop(Reason.HOOK_FAILED, None)

    def became(self, phase: Phase) -> None:
        """The lease that is served is so far. JumpstarterUsageError: there is no way there; nothing has changed."""
        lease = self.lease
        if lease is None or lease.phase is Phase.WAITING:
            return  # what was served is over meanwhile
        if phase is not lease.phase and phase not in NEXT[lease.phase]:
            raise JumpstarterUsageError(f"a lease that is {lease.phase} cannot become {phase}")
        self.lease = replace(lease, phase=phase)

    def over(self, now: float) -> list[Action]:
        """The lease that was served is over, and the board is in order again."""
        if self.lease is not None:
            self._finished = self.lease.name
        self._drop()
        return self._settle(now)

    def ends_at(self, end: float | None, until: str, now: float, wall: float) -> None:
        """When the lease ends, as its controller says; None when that says nothing.

        `end` and `wall`, which is now, are seconds since the epoch; `until` is the same for people.
        """
        if self.lease is not None:
            self._ends = None if end is None else now + end - wall
            self._end = end
            self.lease = replace(self.lease, until=until)

    def begins_at(self, wall: float) -> None:
        """It is `wall`, in seconds since the epoch: a lease that has got the board just now began then."""
        if self.began is None and self.lease is not None and self.lease.phase is not Phase.WAITING:
            self.began = wall

    def wants(self, lease: Lease | None) -> list[Action]:
        """A lease that is not ours waits, and would fit this board, as its controller says; None when there is none.

        It may have been declined here. Who has the board is told when it is another than they were told of last.
        """
        self._wanted = "" if lease is None else lease.name
        is_used = self.is_local or self.maintenance is not None
        if lease is None or not is_used or lease.name == self._told:
            return []
        self._told = lease.name
        return [Tell(f"the lease {lease.name} of {lease.client} wants this board")]

    def left_alone(self, is_alone: bool) -> None:
        """Whether the controller is out of reach and no user of the lease is connected."""
        self._is_alone = is_alone

    def _begin(self, lease: Lease) -> list[Action]:
        self._wanted, self._told, self._is_released = "", "", False
        self.began = None
        self.lease = replace(lease, phase=Phase.PREPARING)
        return [Begin(self.lease)]

    # Users of the host.

    def local_call(
        self,
        connection: object,
        person: str,
        now: float,
        *,
        reads: bool = False,
        override: bool = False,
        force: bool = False,
    ) -> Admission | Refusal:
        """A call or a stream of somebody on the host; unless it only `reads`, they use the board from then on."""
        if reads:
            return Admission.LOOK
        if Reason.UNKNOWN in self._withheld:
            return Refusal(
                "unknown",
                f"a lease may have the board, which is not known: {self._withheld[Reason.UNKNOWN]}; wait until its "
                "controller says, or free the board with `jumpstarter-exporter resume`",
            )
        if self.maintenance is not None and person != self.maintenance:
            return Refusal("maintenance", f"the board is {self._obstacle}; wait until that is over")
        if (lease := self.lease) is not None and not self._has_use(person):
            if not override:
                return Refusal(
                    "leased", f"the board is {self.sentence}; wait for its end, or take part with --override"
                )
            if self._is_offered:
                return Refusal("starting", f"the lease {lease.name} is just beginning; try again")
            if lease.phase is not Phase.WAITING and self._resumed is not None:
                return Refusal(
                    "starting",
                    f"the exporter was started again, and the lease {lease.name} is not served yet; "
                    "try again in a minute",
                )
            if lease.phase in (Phase.PREPARING, Phase.CLEANING) and not force:
                return Refusal(
                    "hook", f"a hook of the lease {lease.name} runs; wait for it, or add --override=force"
                )
            if lease.phase is not Phase.WAITING:
                return Admission.LEASE
            # Nothing was prepared for the lease, and others may use the board here: one more shares that.
        self._local.take(connection, person, now)
        return Admission.LOCAL

    def _has_use(self, person: str) -> bool:
        """Whoever used it before a lease came may go on while that waits; when it begins, nobody uses it."""
        return person in self._local.people or person == self.maintenance

    def touched(self, connection: object, now: float) -> None:
        """A byte of its user has come on a connection."""
        self._local.touch(connection, now)

    def local_left(self, connection: object, now: float) -> None:
        """A connection is gone."""
        self._local.leave(connection, now)

    def maintain(self, person: str) -> Refusal | None:
        """Begin to look after the board, alone."""
        if self.lease is not None or (self.maintenance or person) != person:
            return Refusal("leased" if self.lease else "maintenance", f"the board is {self.sentence}")
        if self._local.connected - {person}:
            return Refusal("local", f"the board is {self._obstacle}")
        self.maintenance = person
        return None

    def maintained(self, now: float) -> list[Action]:
        """That is over."""
        self.maintenance = None
        return self._settle(now)

    # What withholds it.

    def withhold(
        self, reason: Reason, why: str, *, failed: Status = Status.BEFORE_LEASE_HOOK_FAILED
    ) -> list[Action]:
        """It is not to be leased. A lease that runs goes on; a hook of one that is released withholds nothing."""
        if reason is Reason.HOOK_FAILED:
            if self._is_released:
                return []
            self._failed = failed
        self._withheld[reason] = why
        return self._apply()

    def release(self, *reasons: Reason, now: float) -> list[Action]:
        """These do not withhold it any more."""
        for reason in reasons:
            self._withheld.pop(reason, None)
        return self._settle(now)

    def _apply(self) -> list[Action]:
        return [Apply()] if Reason.CHANGING in self._withheld and not self.user else []

    # Time.

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called, at the latest."""
        limits = self._limits
        local = self._local.deadline(self._idle)
        times = [local] if local is not None else []
        if self._resumed is not None:
            times.append(self._resumed + limits.unheard)
        elif self.lease is not None and self.lease.phase is Phase.WAITING:
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
        is_served = self.lease is not None and self.lease.phase is Phase.LEASED and self._resumed is None
        return self._is_alone and is_served

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        limits, idle = self._limits, self._idle
        actions: list[Action] = [
            Lose(connection, f"nothing was done for {idle:g} s, so the board is free for others again")
            for connection in self._local.expire(idle, now)
        ]
        lease = self.lease
        is_overdue = self._ends is not None and now >= self._ends + limits.overdue
        if self._resumed is not None:
            if now >= self._resumed + limits.unheard:
                return [*actions, *self._go_on_unheard(is_overdue=is_overdue, now=now)]
        elif lease is not None and self._is_overdue_possible and is_overdue:
            self._ends = None
            actions.append(End(lease, "its time is over, and its controller is out of reach"))
        elif (
            lease is not None
            and lease.phase is Phase.WAITING
            and self._obstacle
            and now >= self._waits_since + limits.patience
        ):
            actions.append(GiveBack(lease, f"the board is {self._obstacle}"))
            self._finished = lease.name
            self._drop()
        return [*actions, *self._settle(now)]

    def _go_on_unheard(self, *, is_overdue: bool, now: float) -> list[Action]:
        """The controller has said nothing since the restart."""
        assert self.lease is not None
        if self.lease.phase is Phase.WAITING:
            self._drop()  # it had nothing yet; the controller will say it again
            return self._settle(now)
        return self._clean() if is_overdue else self._resume()

    def _settle(self, now: float) -> list[Action]:
        """Nobody has it any more: who waits for it begins."""
        if not self.is_local and self.maintenance is None:
            self._told = ""
        lease = self.lease
        if (
            lease is not None
            and lease.phase is Phase.WAITING
            and self._resumed is None
            and not self._obstacle
        ):
            return self._begin(lease)
        return self._apply()

    # Restarts.

    @property
    def record(self) -> dict[str, object]:
        """What a restart has to know; plain data."""
        drained = self._withheld.get(Reason.DRAINED)
        lease = None if self._is_offered else self.lease
        if lease is not None and lease.phase is Phase.PREPARING and not self._prepares:
            lease = replace(lease, phase=Phase.LEASED)
        unknown = self._withheld.get(Reason.UNKNOWN)
        return Record(lease, self._end, self.began, self._finished, drained, unknown).to_plain()

    def restore(self, record: object, now: float, wall: float) -> None:
        """Go on where a process before has ended; `wall` is now in seconds since the epoch.

        Of a lease the controller is heard first, for a while; of what is no record until it has spoken. None is a
        board that nobody had.
        """
        found = Record.from_plain(record)
        if found.unknown is not None:
            self._withheld[Reason.UNKNOWN] = found.unknown
        self._finished = found.finished
        if found.drained is not None:
            self._withheld[Reason.DRAINED] = found.drained
        if found.lease is not None:
            self.lease = found.lease
            self.began = (
                None if found.began is None else min(found.began, wall)
            )  # the clock may have been set
            self.ends_at(found.end, found.lease.until, now, wall)
            self._resumed = now
