"""Who uses a board: the table for people, row by row, and whatever comes in whatever order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jumpstarter_exporter.boards.events import (
    Action,
    Admission,
    Apply,
    Begin,
    Clean,
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
from jumpstarter_exporter.boards.occupancy import Limits, Occupancy
from jumpstarter_exporter.status import Status

OURS = Lease("one", "ann", declinable=True)
FOREIGN = Lease("one", "ann")
OTHER = Lease("two", "eve")
LIMITS = Limits()


def used(board: Occupancy, person: str = "bob", now: float = 0.0) -> Occupancy:
    assert board.local_call("desk", person, now) is Admission.LOCAL
    return board


def leased(phase: Phase = Phase.LEASED) -> Occupancy:
    board = Occupancy()
    board.assigned(FOREIGN, 0)
    board.became(phase)
    return board


def status(board: Occupancy) -> Status:
    return board.status[0]


def deadline(board: Occupancy) -> float | None:
    return board.deadline


def refused(answer: Admission | Refusal | None) -> Refusal:
    assert isinstance(answer, Refusal)
    return answer


# Nobody has it, and nothing withholds it.


def test_a_free_board_is_available_and_the_first_call_that_does_something_takes_it() -> None:
    board = Occupancy()
    assert board.status == (Status.AVAILABLE, "Available for new lease")
    assert board.sentence == ""
    assert board.local_call("desk", "bob", 0, reads=True) is Admission.LOOK
    assert board.is_free
    used(board)
    assert board.status == (Status.AFTER_LEASE_HOOK, "Not available: in local use by bob")
    assert board.sentence == "in local use by bob"


@pytest.mark.parametrize("lease", [OURS, FOREIGN])
def test_a_free_board_is_prepared_at_once_for_a_lease(lease: Lease) -> None:
    board = Occupancy()
    (begin,) = board.assigned(lease, 0)
    assert begin == Begin(Lease("one", "ann", Phase.PREPARING), hook=True)
    assert status(board) is Status.BEFORE_LEASE_HOOK
    assert board.record == {"version": 1, "lease": "one", "client": "ann", "phase": "preparing"}
    board.became(Phase.LEASED)
    assert status(board) is Status.LEASE_READY
    board.became(Phase.CLEANING)
    assert status(board) is Status.AFTER_LEASE_HOOK
    assert board.over(9) == []
    assert status(board) is Status.AVAILABLE


# Nobody has it, and something withholds it.


def test_a_drained_board_serves_local_users_and_declines_leases() -> None:
    board = Occupancy()
    assert board.withhold(Reason.DRAINED, "by root") == []
    assert board.status == (Status.AFTER_LEASE_HOOK, "Not available: drained: by root")
    assert board.assigned(OURS, 0) == [Decline(OURS, "drained: by root")]
    assert board.lease is None
    used(board)
    board.local_left("desk", 1)
    board.tick(1 + LIMITS.leave)
    assert board.withheld == {Reason.DRAINED: "by root"}, "local use clears no reason"
    assert board.release(Reason.DRAINED, now=20) == []
    assert status(board) is Status.AVAILABLE


def test_a_lease_that_cannot_be_declined_waits_until_the_reasons_end() -> None:
    board = Occupancy()
    board.withhold(Reason.HARDWARE, "no console")
    assert board.assigned(FOREIGN, 0) == [Wait(FOREIGN, "hardware: no console")]
    assert board.status == (Status.BEFORE_LEASE_HOOK, "Waiting for the board: hardware: no console")
    assert board.release(Reason.HARDWARE, now=5) == [Begin(Lease("one", "ann", Phase.PREPARING))]


def test_patience_ends_and_the_lease_is_given_back_with_the_reason() -> None:
    board = Occupancy()
    board.withhold(Reason.STOPPED, "its hook failed")
    board.assigned(FOREIGN, 10)
    assert board.deadline == 10 + LIMITS.patience
    assert board.tick(10 + LIMITS.patience - 0.1) == []
    assert board.tick(10 + LIMITS.patience) == [GiveBack(FOREIGN, "the board is stopped: its hook failed")]
    assert board.lease is None
    assert board.deadline is None


@pytest.mark.parametrize("failed", [Status.BEFORE_LEASE_HOOK_FAILED, Status.AFTER_LEASE_HOOK_FAILED])
def test_a_failed_hook_is_told_as_09_tells_it(failed: Status) -> None:
    board = Occupancy()
    board.withhold(Reason.HOOK_FAILED, "exit status 3", failed=failed)
    board.withhold(Reason.DRAINED, "")
    assert board.status == (failed, "exit status 3")
    board.release(Reason.HOOK_FAILED, now=0)
    assert board.status == (Status.AFTER_LEASE_HOOK, "Not available: drained")


# Users of the host have it.


def test_local_use_is_shared_and_ends_some_seconds_after_the_last_connection() -> None:
    board = used(Occupancy())
    assert board.local_call("sofa", "cat", 1) is Admission.LOCAL
    assert board.sentence == "in local use by bob, cat"
    board.local_left("desk", 2)
    assert board.deadline == 1 + LIMITS.idle
    board.local_left("sofa", 3)
    assert board.deadline == 3 + LIMITS.leave
    assert board.sentence == "in local use by cat"
    board.tick(3 + LIMITS.leave - 0.1)
    assert board.is_local
    board.tick(3 + LIMITS.leave)
    assert board.is_free


def test_a_command_within_these_seconds_goes_on_with_the_use() -> None:
    board = used(Occupancy())
    board.local_left("desk", 2)
    used(board, now=5)
    board.tick(2 + LIMITS.leave)
    assert board.is_local


def test_a_lease_of_our_controller_is_declined_and_local_users_hear_of_it() -> None:
    board = used(Occupancy())
    told = "the lease one of ann wants this board"
    assert board.assigned(OURS, 1) == [Decline(OURS, "in local use by bob"), Tell(told)]
    assert board.gone(2) == []
    assert board.deadline == LIMITS.idle_if_wanted, "who does nothing keeps nobody waiting for an hour"
    board.wants(False)
    assert board.deadline == LIMITS.idle


def test_a_lease_of_09s_controller_waits_and_begins_when_they_leave() -> None:
    board = used(Occupancy())
    wait, tell = board.assigned(FOREIGN, 1)
    assert wait == Wait(FOREIGN, "in local use by bob")
    assert isinstance(tell, Tell)
    assert board.status == (Status.BEFORE_LEASE_HOOK, "Waiting for the board: in local use by bob")
    assert board.local_call("desk", "bob", 2) is Admission.LOCAL, "who used it before goes on"
    assert board.local_call("again", "bob", 2) is Admission.LOCAL
    assert refused(board.local_call("sofa", "cat", 2)).code == "leased"
    board.local_left("desk", 3)
    board.local_left("again", 3)
    assert board.local_call("back", "bob", 4) is Admission.LOCAL
    board.local_left("back", 5)
    assert board.tick(5 + LIMITS.leave) == [Begin(Lease("one", "ann", Phase.PREPARING))]


def test_a_connection_that_does_nothing_loses_its_use_and_takes_it_again() -> None:
    board = used(Occupancy())
    board.touched("desk", 100)
    assert board.tick(LIMITS.idle) == []
    (lose,) = board.tick(100 + LIMITS.idle)
    assert lose == Lose("desk", "nothing was done for 3600 s, so the board is free for others again")
    board.tick(100 + LIMITS.idle + LIMITS.leave)
    assert board.is_free
    used(board, now=9000)


def test_without_a_controller_nobody_loses_their_use() -> None:
    board = used(Occupancy(registered=False))
    assert board.deadline is None
    assert board.tick(1e9) == []
    assert board.is_local


def test_maintenance_is_alone() -> None:
    board = Occupancy()
    assert board.maintain("root") is None
    assert refused(board.local_call("desk", "bob", 0)).sentence == (
        "the board is in maintenance by root; wait until that is over"
    )
    assert board.local_call("desk", "root", 0) is Admission.LOCAL
    assert refused(board.maintain("bob")).code == "maintenance"
    board.local_left("desk", 0)
    board.tick(LIMITS.leave)
    assert board.assigned(OURS, 1) == [Decline(OURS, "in maintenance by root")]
    assert board.assigned(FOREIGN, 1) == [Wait(FOREIGN, "in maintenance by root")]
    assert board.maintained(2) == [Begin(Lease("one", "ann", Phase.PREPARING))]
    assert refused(board.maintain("root")).code == "leased"
    assert refused(used(Occupancy()).maintain("root")).code == "local"


# A lease has it.


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.LEASED, Phase.CLEANING])
def test_a_lease_has_it_alone_but_for_reads_and_overrides(phase: Phase) -> None:
    board = leased(phase)
    board.ends_in(60, "17:00", 0)
    assert board.local_call("desk", "bob", 0, reads=True) is Admission.LOOK
    answer = refused(board.local_call("desk", "bob", 0))
    assert (answer.code, answer.sentence) == (
        "leased",
        f"the board is leased by ann (one, {phase}) until 17:00; wait for its end, or take part with --override",
    )
    with_override = board.local_call("desk", "bob", 0, override=True)
    if phase is Phase.LEASED:
        assert with_override is Admission.LEASE
    else:
        assert refused(with_override).code == "hook"
    assert board.local_call("desk", "bob", 0, override=True, force=True) is Admission.LEASE
    assert not board.is_local


def test_what_withholds_the_board_meanwhile_changes_nothing_for_the_lease() -> None:
    board = leased()
    assert board.withhold(Reason.CHANGING, "rpi4.yaml") == []
    assert status(board) is Status.LEASE_READY
    assert board.over(1) == [Apply()]
    assert board.release(Reason.CHANGING, now=1) == []
    assert status(board) is Status.AVAILABLE


def test_a_change_does_not_wait_for_the_lease_that_waits_for_it() -> None:
    board = used(Occupancy())
    board.withhold(Reason.CHANGING, "rpi4.yaml")
    board.assigned(FOREIGN, 0)
    board.local_left("desk", 1)
    assert board.tick(1 + LIMITS.leave) == [Apply()]
    assert board.release(Reason.CHANGING, now=12) == [Begin(Lease("one", "ann", Phase.PREPARING))]


def test_the_next_lease_waits_for_the_end_of_this_one_and_a_lease_may_change_hands() -> None:
    board = leased()
    assert board.assigned(OTHER, 1) == []
    assert board.lease == Lease("one", "ann", Phase.LEASED)
    board.assigned(Lease("one", "cat"), 1)
    assert board.lease == Lease("one", "cat", Phase.LEASED)
    assert board.gone(2) == [], "whoever serves it ends it"
    board.over(3)
    assert board.assigned(OTHER, 4) == [Begin(Lease("two", "eve", Phase.PREPARING))]


def test_a_lease_that_waits_is_forgotten_when_it_is_gone() -> None:
    board = used(Occupancy())
    board.assigned(FOREIGN, 1)
    assert board.gone(2) == []
    assert board.lease is None


def test_a_lease_that_nobody_uses_ends_some_minutes_behind_its_end_when_the_controller_is_away() -> None:
    board = leased()
    board.ends_in(60, "17:00", 0)
    assert deadline(board) is None
    board.left_alone(True)
    assert deadline(board) == 60 + LIMITS.overdue
    assert board.tick(60 + LIMITS.overdue - 0.1) == []
    board.left_alone(False)
    assert board.tick(60 + LIMITS.overdue) == []
    board.left_alone(True)
    assert board.lease is not None
    assert board.tick(60 + LIMITS.overdue) == [
        End(board.lease, "its time is over, and its controller is out of reach")
    ]
    assert board.tick(60 + LIMITS.overdue) == [], "once"


# Restarts.


def restarted(board: Occupancy) -> Occupancy:
    again = Occupancy()
    again.restore(json.loads(json.dumps(board.record)))
    return again


@pytest.mark.parametrize(
    ("phase", "actions"),
    [
        (Phase.PREPARING, [Begin(Lease("one", "ann", Phase.PREPARING), hook=True)]),
        (Phase.LEASED, [Begin(Lease("one", "ann", Phase.LEASED), hook=False)]),
        (Phase.CLEANING, [Clean(Lease("one", "ann", Phase.CLEANING))]),
    ],
)
def test_a_restart_goes_on_where_the_lease_was(phase: Phase, actions: list[Action]) -> None:
    board = restarted(leased(phase))
    assert refused(board.local_call("desk", "bob", 0)).code == "leased", (
        "before the controller has said a word"
    )
    assert board.assigned(FOREIGN, 1) == actions
    assert board.assigned(FOREIGN, 2) == []


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.LEASED, Phase.CLEANING])
def test_a_lease_that_is_over_behind_a_restart_is_cleaned_up_first(phase: Phase) -> None:
    for told in ("gone", "another"):
        board = restarted(leased(phase))
        actions = board.gone(1) if told == "gone" else board.assigned(OTHER, 1)
        assert actions == [Clean(Lease("one", "ann", Phase.CLEANING))]
        assert status(board) is Status.AFTER_LEASE_HOOK
        assert board.gone(2) == []
        board.over(3)
        assert status(board) is Status.AVAILABLE


def test_a_lease_that_waited_is_like_a_new_one_and_a_drained_board_stays_so() -> None:
    board = used(Occupancy())
    board.withhold(Reason.DRAINED, "by root")
    board.assigned(FOREIGN, 1)
    again = restarted(board)
    assert again.deadline is None
    assert again.assigned(FOREIGN, 1) == [Wait(FOREIGN, "drained: by root")]
    again = restarted(board)
    assert again.gone(1) == []
    assert again.withheld == {Reason.DRAINED: "by root"}


@pytest.mark.parametrize("record", [None, [], {}, {"version": 2, "lease": "one"}, {"version": 1, "lease": 3}])
def test_what_is_no_record_says_that_nobody_had_it(record: object) -> None:
    board = Occupancy()
    board.restore(record)
    assert status(board) is Status.AVAILABLE


# Whatever comes, in whatever order.

LEASES = st.sampled_from([OURS, FOREIGN, OTHER, Lease("three", "kim", declinable=True)])
PEOPLE = st.sampled_from(["bob", "cat"])
CONNECTIONS = st.sampled_from(["desk", "sofa", "train"])


class Machine(RuleBasedStateMachine):
    """A board, and a rim that does what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Occupancy()
        self.now = 0.0
        self.serving: str | None = None

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Begin(lease) | Clean(lease):
                    assert self.serving is None, "never two leases"
                    assert not self.board.is_local, "never a lease beside local users"
                    assert self.board.maintenance is None
                    self.serving = lease.name
                case End(lease):
                    assert self.serving == lease.name
                    self.serving = None
                    self.do(self.board.over(self.now))
                case Apply():
                    assert self.serving is None
                    self.do(self.board.release(Reason.CHANGING, now=self.now))

    @rule(lease=LEASES)
    def assigned(self, lease: Lease) -> None:
        self.do(self.board.assigned(lease, self.now))

    @rule()
    def gone(self) -> None:
        self.do(self.board.gone(self.now))

    @precondition(lambda self: self.serving is not None)
    @rule(phase=st.sampled_from([Phase.LEASED, Phase.CLEANING]))
    def further(self, phase: Phase) -> None:
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
        assert isinstance(answer, Admission) or answer.sentence
        assert self.board.withheld == before
        if answer is Admission.LOCAL:
            assert self.serving is None
        if answer is Admission.LEASE:
            assert override
            assert self.board.lease is not None

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

    @rule(reason=st.sampled_from(Reason))
    def withhold(self, reason: Reason) -> None:
        self.do(self.board.withhold(reason, "why"))

    @rule(reason=st.sampled_from(Reason))
    def release(self, reason: Reason) -> None:
        self.do(self.board.release(reason, now=self.now))

    @rule(is_alone=st.booleans(), is_wanted=st.booleans())
    def facts(self, is_alone: bool, is_wanted: bool) -> None:
        self.board.left_alone(is_alone)
        self.board.wants(is_wanted)
        self.board.ends_in(30, "soon", self.now)

    @rule(seconds=st.sampled_from([1.0, 11.0, 121.0, 241.0, 3601.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.board.tick(self.now))

    @rule()
    def restart(self) -> None:
        lease = self.board.lease
        self.board = restarted(self.board)
        self.serving = None
        assert (self.board.lease and self.board.lease.name) == (lease and lease.name)

    @invariant()
    def told_the_truth(self) -> None:
        status, message = self.board.status
        assert message
        assert status is not Status.OFFLINE
        is_available = self.board.is_free and not self.board.withheld
        assert (status is Status.AVAILABLE) == is_available
        assert (self.board.sentence == "") == is_available

    @invariant()
    def comes_to_an_end(self) -> None:
        """When everybody leaves and nothing withholds it, the board is available again."""
        end = Occupancy()
        end.__dict__.update(_copy(self.board.__dict__))
        for connection in ("desk", "sofa", "train"):
            end.local_left(connection, self.now)
        end.maintained(self.now)
        end.release(*Reason, now=self.now)
        end.tick(self.now + 10_000)
        end.gone(self.now + 10_000)
        if end.lease is not None:  # it is served, and cleaned up
            end.over(self.now + 10_000)
        assert end.status[0] is Status.AVAILABLE


def _copy(values: dict[str, Any]) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}


TestMachine = Machine.TestCase
