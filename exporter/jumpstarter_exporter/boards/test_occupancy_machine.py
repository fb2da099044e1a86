"""Who uses a board: whatever comes, in whatever order."""

from __future__ import annotations

import copy

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from jumpstarter_proto.exporter_status import ExporterStatus

from jumpstarter_exporter.boards.events import (
    PHASE_TRANSITIONS,
    ApplyChange,
    BeginLease,
    CallTarget,
    CleanUpLease,
    CloseWaitingSession,
    DelayLease,
    EndLease,
    OccupancyAction,
    ReturnLease,
    ServedLease,
    ServingPhase,
    WithheldReason,
)
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.boards.test_occupancy import FOREIGN, OTHER, OURS, WALL, restarted

LEASES = st.sampled_from([OURS, FOREIGN, OTHER, ServedLease("three", "kim", declinable=True)])
PEOPLE = st.sampled_from(["bob", "cat"])
CONNECTIONS = st.sampled_from(["desk", "sofa", "train"])


class Machine(RuleBasedStateMachine):
    """A board, and a rim that does what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Occupancy()
        self.now = 0.0
        self.serving: str | None = None
        self.offer: list[OccupancyAction] | None = None
        """What is to be done when it is confirmed."""
        self.waiting: str | None = None
        """The lease whose session is open though it has not begun."""

    def do(self, actions: list[OccupancyAction]) -> None:
        for action in actions:
            match action:
                case DelayLease(lease):
                    assert self.serving is None
                    assert self.waiting is None, "a session that nobody closes"
                    self.waiting = lease.name
                case CloseWaitingSession(lease) | ReturnLease(lease):
                    assert self.waiting == lease.name
                    self.waiting = None
                case BeginLease(lease) | CleanUpLease(lease):
                    assert self.waiting in (None, lease.name)
                    self.waiting = None
                    assert self.serving is None, "never two leases"
                    assert not self.board.is_local, "never a lease beside local users"
                    assert self.board.maintenance is None
                    self.serving = lease.name
                case EndLease(lease):
                    assert self.serving == lease.name
                    self.serving = None
                    self.do(self.board.over(self.now))
                case ApplyChange():
                    assert self.serving is None
                    self.do(self.board.release(WithheldReason.CHANGING, now=self.now))

    @precondition(lambda self: self.offer is None)
    @rule(lease=LEASES)
    def offered(self, lease: ServedLease) -> None:
        actions = self.board.offered(lease, self.now)
        if any(isinstance(action, BeginLease) for action in actions):
            self.offer = actions
        else:
            self.do(actions)

    @precondition(lambda self: self.offer is not None)
    @rule(is_ours=st.booleans())
    def answered(self, is_ours: bool) -> None:
        actions, self.offer = self.offer, None
        if is_ours:
            self.board.confirmed()
            self.do(actions or [])
        else:
            self.do(self.board.withdrawn(self.now))

    @precondition(lambda self: self.offer is None)
    @rule(lease=LEASES)
    def assigned(self, lease: ServedLease) -> None:
        self.do(self.board.assigned(lease, self.now))

    @precondition(lambda self: self.offer is None)
    @rule()
    def gone(self) -> None:
        self.do(self.board.gone(self.now))

    @precondition(lambda self: self.serving is not None)
    @rule(phase=st.sampled_from([ServingPhase.LEASED, ServingPhase.CLEANING]))
    def further(self, phase: ServingPhase) -> None:
        assert self.board.lease is not None
        if phase in PHASE_TRANSITIONS[self.board.lease.phase]:
            self.board.became(phase)

    @precondition(lambda self: self.serving is not None)
    @rule()
    def over(self) -> None:
        self.serving = None
        self.do(self.board.over(self.now))

    @rule(connection=CONNECTIONS, person=PEOPLE, flags=st.tuples(*[st.booleans()] * 3))
    def call(self, connection: str, person: str, flags: tuple[bool, bool, bool]) -> None:
        reads, override, force = flags
        before = self.board.withheld
        answer = self.board.local_call(
            connection, person, self.now, reads=reads, override=override, force=force
        )
        assert isinstance(answer, CallTarget) or answer.sentence
        assert self.board.withheld == before
        if answer is CallTarget.LOCAL:
            assert self.serving is None
        if answer is CallTarget.LEASE:
            assert override
            assert self.serving is not None, "there is a session of the lease"
            assert not self.board.is_local

    @rule(connection=CONNECTIONS)
    def left(self, connection: str) -> None:
        self.board.local_left(connection, self.now)

    @rule(person=PEOPLE)
    def maintain(self, person: str) -> None:
        if self.board.maintain(person) is None:
            assert self.serving is None

    @rule()
    def maintained(self) -> None:
        self.do(self.board.maintained(self.now))

    @rule(reason=st.sampled_from(WithheldReason))
    def withhold(self, reason: WithheldReason) -> None:
        self.do(self.board.withhold(reason, "why"))

    @rule(reason=st.sampled_from(WithheldReason))
    def release(self, reason: WithheldReason) -> None:
        self.do(self.board.release(reason, now=self.now))

    @rule(is_alone=st.booleans(), wants=st.none() | LEASES)
    def facts(self, is_alone: bool, wants: ServedLease | None) -> None:
        self.board.left_alone(is_alone)
        self.do(self.board.wants(wants))
        self.board.ends_at(WALL + self.now + 30, "soon", self.now, WALL + self.now)

    @rule(seconds=st.sampled_from([1.0, 11.0, 121.0, 241.0, 3601.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.board.tick(self.now))

    @rule()
    def restart(self) -> None:
        lease = self.board.lease if self.offer is None else None
        self.board = restarted(self.board, self.now)
        self.serving = self.waiting = self.offer = None
        assert (self.board.lease and self.board.lease.name) == (lease and lease.name)

    @rule(record=st.sampled_from([{}, {"version": 9, "lease": "one"}]))
    def restart_with_a_record_that_nobody_can_read(self, record: object) -> None:
        self.board = Occupancy()
        self.board.restore(record, self.now, WALL + self.now)
        self.serving = self.waiting = self.offer = None

    @invariant()
    def told_the_truth(self) -> None:
        status, message = self.board.status
        assert message
        assert status is not ExporterStatus.OFFLINE
        board = self.board
        is_used = board.lease is not None or board.maintenance is not None or board.is_local
        assert board.is_free is not is_used
        is_available = not is_used and not board.withheld
        assert (status is ExporterStatus.AVAILABLE) == is_available
        assert (self.board.sentence == "") == is_available

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        if self.board.lease is not None and self.serving is None and self.offer is None:
            assert self.board.deadline is not None

    @invariant()
    def comes_to_an_end(self) -> None:
        """When everybody leaves and nothing withholds it, the board is available again."""
        end = copy.deepcopy(self.board)
        for connection in ("desk", "sofa", "train"):
            end.local_left(connection, self.now)
        end.maintained(self.now)
        end.release(*(set(WithheldReason) - {WithheldReason.HOOK_FAILED}), now=self.now)
        end.tick(self.now + 10_000)
        end.gone(self.now + 10_000)
        if end.lease is not None:  # it is served, and cleaned up
            end.over(self.now + 10_000)
        assert end.status[0] is ExporterStatus.AVAILABLE


TestMachine = Machine.TestCase
