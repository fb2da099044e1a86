"""Who uses a board: the table for people, row by row."""

from __future__ import annotations

import json

import pytest
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
from jumpstarter_exporter.boards.occupancy import Occupancy, OccupancyLimits

OURS = ServedLease("one", "ann", declinable=True)
FOREIGN = ServedLease("one", "ann")
OTHER = ServedLease("two", "eve")
LIMITS = OccupancyLimits()
WALL = 1e9
"""Seconds since the epoch where `now` is 0."""


def used(board: Occupancy, person: str = "bob", now: float = 0.0) -> Occupancy:
    assert board.local_call("desk", person, now) is CallTarget.LOCAL
    return board


def leased(phase: ServingPhase = ServingPhase.LEASED) -> Occupancy:
    board = Occupancy()
    board.assigned(FOREIGN, 0)
    board.became(phase)
    return board


def status(board: Occupancy) -> ExporterStatus:
    return board.status[0]


def deadline(board: Occupancy) -> float | None:
    return board.deadline


def refused(answer: CallTarget | LocalRefusal | None) -> LocalRefusal:
    assert isinstance(answer, LocalRefusal)
    return answer


# Nobody has it, and nothing withholds it.


def test_a_free_board_is_available_and_the_first_call_that_does_something_takes_it() -> None:
    board = Occupancy()
    assert board.status == (ExporterStatus.AVAILABLE, "Available for new lease")
    assert board.sentence == ""
    assert board.local_call("desk", "bob", 0, reads=True) is CallTarget.LOOK
    assert board.is_free
    used(board)
    assert board.status == (ExporterStatus.AFTER_LEASE_HOOK, "Not available: in local use by bob")
    assert board.sentence == "in local use by bob"


@pytest.mark.parametrize("lease", [OURS, FOREIGN])
def test_a_free_board_is_prepared_at_once_for_a_lease(lease: ServedLease) -> None:
    board = Occupancy()
    (begin,) = board.assigned(lease, 0)
    assert begin == BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING), hook=True)
    assert status(board) is ExporterStatus.BEFORE_LEASE_HOOK
    assert board.record == {"version": 1, "lease": "one", "client": "ann", "phase": "preparing"}
    board.became(ServingPhase.LEASED)
    assert status(board) is ExporterStatus.LEASE_READY
    board.became(ServingPhase.CLEANING)
    assert board.status == (ExporterStatus.AFTER_LEASE_HOOK, "Running afterLease hooks")
    assert board.over(9) == []
    assert status(board) is ExporterStatus.AVAILABLE


# Nobody has it, and something withholds it.


def test_a_drained_board_serves_local_users_and_declines_leases() -> None:
    board = Occupancy()
    assert board.withhold(WithheldReason.DRAINED, "by root") == []
    assert board.status == (ExporterStatus.AFTER_LEASE_HOOK, "Not available: drained: by root")
    assert board.assigned(OURS, 0) == [DeclineLease(OURS, "drained: by root")]
    assert board.lease is None
    used(board)
    board.local_left("desk", 1)
    board.tick(1 + LIMITS.leave)
    assert board.withheld == {WithheldReason.DRAINED: "by root"}, "local use clears no reason"
    assert board.release(WithheldReason.DRAINED, now=20) == []
    assert status(board) is ExporterStatus.AVAILABLE


def test_a_lease_that_cannot_be_declined_waits_until_the_reasons_end() -> None:
    board = Occupancy()
    board.withhold(WithheldReason.HARDWARE, "no console")
    assert board.assigned(FOREIGN, 0) == [DelayLease(FOREIGN, "hardware: no console")]
    assert board.status == (ExporterStatus.BEFORE_LEASE_HOOK, "Waiting for the board: hardware: no console")
    assert board.release(WithheldReason.HARDWARE, now=5) == [
        BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))
    ]


def test_who_used_the_board_long_ago_has_no_part_in_it_while_a_lease_waits() -> None:
    board = used(Occupancy())
    board.local_left("desk", 0)
    board.tick(LIMITS.leave)
    board.withhold(WithheldReason.DRAINED, "")
    board.assigned(FOREIGN, 20)
    assert refused(board.local_call("desk", "bob", 21)).code == "leased"


def test_patience_ends_and_the_lease_is_given_back_with_the_reason() -> None:
    board = Occupancy()
    board.withhold(WithheldReason.STOPPED, "its hook failed")
    board.assigned(FOREIGN, 10)
    assert board.deadline == 10 + LIMITS.patience
    assert board.tick(10 + LIMITS.patience - 0.1) == []
    assert board.tick(10 + LIMITS.patience) == [ReturnLease(FOREIGN, "the board is stopped: its hook failed")]
    assert board.lease is None
    assert deadline(board) is None
    assert board.assigned(FOREIGN, 260) == [], "it was given back; its controller is about to hear of it"
    assert board.assigned(OTHER, 260) == [DelayLease(OTHER, "stopped: its hook failed")]


@pytest.mark.parametrize(
    "failed", [ExporterStatus.BEFORE_LEASE_HOOK_FAILED, ExporterStatus.AFTER_LEASE_HOOK_FAILED]
)
def test_a_failed_hook_is_told_as_09_tells_it(failed: ExporterStatus) -> None:
    board = Occupancy()
    board.withhold(WithheldReason.HOOK_FAILED, "exit status 3", failed=failed)
    board.withhold(WithheldReason.DRAINED, "")
    assert board.status == (failed, "exit status 3")
    board.release(WithheldReason.HOOK_FAILED, now=0)
    assert board.status == (ExporterStatus.AFTER_LEASE_HOOK, "Not available: drained")


@pytest.mark.parametrize("released", ["by its user", "for another lease"])
@pytest.mark.parametrize("when", ["before it failed", "behind its end"])
def test_a_failed_hook_withholds_the_board_until_its_lease_is_released(released: str, when: str) -> None:
    board = leased(ServingPhase.CLEANING)

    def release() -> list[OccupancyAction]:
        return board.gone(1) if released == "by its user" else board.assigned(OTHER, 1)

    if when == "before it failed":
        assert release() == []
        board.withhold(
            WithheldReason.HOOK_FAILED, "exit status 3", failed=ExporterStatus.AFTER_LEASE_HOOK_FAILED
        )
        board.over(2)
    else:
        board.withhold(
            WithheldReason.HOOK_FAILED, "exit status 3", failed=ExporterStatus.AFTER_LEASE_HOOK_FAILED
        )
        assert board.assigned(FOREIGN, 1) == [], "said again"
        board.over(2)
        assert board.assigned(FOREIGN, 2) == []
        assert board.status == (ExporterStatus.AFTER_LEASE_HOOK_FAILED, "exit status 3")
        begun = (
            []
            if released == "by its user"
            else [BeginLease(ServedLease("two", "eve", ServingPhase.PREPARING))]
        )
        assert release() == begun
    assert board.withheld == {}
    assert board.gone(4) == []
    board.over(5)
    assert status(board) is ExporterStatus.AVAILABLE
    board.assigned(ServedLease("three", "kim"), 6)
    board.withhold(WithheldReason.HOOK_FAILED, "exit status 4")
    assert board.withheld == {WithheldReason.HOOK_FAILED: "exit status 4"}, (
        "the next lease's hook is another one"
    )


# Users of the host have it.


def test_local_use_is_shared_and_ends_some_seconds_after_the_last_connection() -> None:
    board = used(Occupancy())
    assert board.local_call("sofa", "cat", 1) is CallTarget.LOCAL
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


def test_the_times_are_settings() -> None:
    board = used(Occupancy(OccupancyLimits(leave=1, idle=20, idle_if_wanted=5)))
    assert deadline(board) == 20
    board.assigned(OURS, 1)
    assert deadline(board) == 5
    board.local_left("desk", 2)
    assert deadline(board) == 3


def test_a_command_within_these_seconds_goes_on_with_the_use() -> None:
    board = used(Occupancy())
    board.local_left("desk", 2)
    used(board, now=5)
    assert board.deadline == 5 + LIMITS.idle
    board.tick(2 + LIMITS.leave)
    assert board.is_local


def test_a_lease_of_our_controller_is_declined_and_local_users_hear_of_it() -> None:
    board = used(Occupancy())
    told = "the lease one of ann wants this board"
    assert board.assigned(OURS, 1) == [DeclineLease(OURS, "in local use by bob"), NotifyLocalUsers(told)]
    assert board.gone(2) == []
    assert board.deadline == LIMITS.idle_if_wanted, "who does nothing keeps nobody waiting for an hour"
    assert board.wants(OURS) == [], "they know that"
    assert board.wants(None) == []
    assert board.deadline == LIMITS.idle


def test_local_users_hear_of_a_lease_that_waits_though_the_board_was_never_asked() -> None:
    board = Occupancy()
    assert board.wants(OURS) == [], "there is nobody to tell"
    assert board.wants(None) == []
    used(board)
    assert board.wants(OURS) == [NotifyLocalUsers("the lease one of ann wants this board")]
    assert board.deadline == LIMITS.idle_if_wanted
    assert board.wants(OURS) == []
    assert board.wants(OTHER) == [NotifyLocalUsers("the lease two of eve wants this board")]
    assert board.wants(None) == []
    assert board.deadline == LIMITS.idle


def test_local_users_hear_again_of_the_first_in_the_line_only_when_it_is_another() -> None:
    board = used(Occupancy())
    told = [NotifyLocalUsers("the lease one of ann wants this board")]
    assert board.wants(OURS) == told
    assert board.wants(None) == []
    assert board.wants(OURS) == [], "it was away for a moment, perhaps offered another board"
    assert board.deadline == LIMITS.idle_if_wanted
    assert board.wants(OTHER) != []
    assert board.wants(OURS) == told
    board.local_left("desk", 1)
    board.tick(1 + LIMITS.leave)
    assert board.wants(OURS) == [], "there is nobody to tell"
    used(board, now=60)
    assert board.wants(OURS) == told, "who comes later does not know it"


def test_a_lease_of_09s_controller_waits_and_begins_when_they_leave() -> None:
    board = used(Occupancy())
    wait, tell = board.assigned(FOREIGN, 1)
    assert wait == DelayLease(FOREIGN, "in local use by bob")
    assert isinstance(tell, NotifyLocalUsers)
    assert board.deadline == LIMITS.idle_if_wanted
    assert board.status == (ExporterStatus.BEFORE_LEASE_HOOK, "Waiting for the board: in local use by bob")
    assert board.local_call("desk", "bob", 2) is CallTarget.LOCAL, "who used it before goes on"
    assert board.local_call("again", "bob", 2) is CallTarget.LOCAL
    assert refused(board.local_call("sofa", "cat", 2)).code == "leased"
    board.local_left("desk", 3)
    board.local_left("again", 3)
    assert board.local_call("back", "bob", 4) is CallTarget.LOCAL
    board.local_left("back", 5)
    assert board.tick(5 + LIMITS.leave) == [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))]


def test_a_connection_that_does_nothing_loses_its_use_and_takes_it_again() -> None:
    board = used(Occupancy())
    board.touched("desk", 100)
    board.touched("a connection that uses nothing", 100)
    assert board.tick(LIMITS.idle) == []
    (lose,) = board.tick(100 + LIMITS.idle)
    assert lose == CutConnection("desk", "nothing was done for 3600 s, so the board is free for others again")
    assert board.tick(1e6) == [], "once"
    assert board.is_local, "what it did may not be at its end"
    board.local_left("desk", 1e6)
    board.tick(1e6 + LIMITS.leave)
    assert board.is_free
    used(board, now=2e6)


def test_what_is_done_late_is_not_undone_by_what_was_heard_before() -> None:
    board = used(Occupancy(), now=100)
    board.touched("desk", 50)
    assert board.tick(100 + LIMITS.idle - 1) == []


def test_a_lease_that_is_offered_is_nobodys_before_its_controller_knows_that_it_is_taken() -> None:
    board = Occupancy()
    (begin,) = board.offered(OURS, 0)
    assert begin == BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING)) or isinstance(
        begin, BeginLease
    )
    assert "lease" not in board.record
    assert refused(board.local_call("desk", "bob", 1, override=True, force=True)).code == "starting"
    assert board.withdrawn(2) == []
    assert board.is_free
    assert board.withdrawn(2) == []
    assert board.offered(OURS, 3) == [begin], "it may be offered again"
    board.confirmed()
    assert board.record["phase"] == "preparing"
    assert board.withdrawn(4) == []
    assert board.lease is not None


def test_a_lease_that_is_declined_is_not_withdrawn() -> None:
    board = used(Occupancy())
    (decline, _) = board.offered(OURS, 1)
    assert isinstance(decline, DeclineLease)
    assert board.withdrawn(2) == []
    assert board.is_local


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
    assert board.status == (ExporterStatus.AFTER_LEASE_HOOK, "Not available: in maintenance by root")
    assert not board.is_free
    assert board.local_call("desk", "root", 0) is CallTarget.LOCAL
    assert not board.is_local, "it is not everybody's"
    assert refused(board.maintain("bob")).code == "maintenance"
    board.local_left("desk", 0)
    board.tick(LIMITS.leave)
    assert board.assigned(OURS, 1) == [
        DeclineLease(OURS, "in maintenance by root"),
        NotifyLocalUsers("the lease one of ann wants this board"),
    ]
    assert board.assigned(FOREIGN, 1)[0] == DelayLease(FOREIGN, "in maintenance by root")
    assert board.local_call("desk", "root", 1) is CallTarget.LOCAL, "they go on while it waits"
    board.local_left("desk", 1)
    board.tick(1 + LIMITS.leave)
    assert board.maintained(2) == [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))]
    assert refused(board.maintain("root")).code == "leased"
    assert refused(used(Occupancy()).maintain("root")).code == "local"


# A lease has it.


@pytest.mark.parametrize("phase", [ServingPhase.PREPARING, ServingPhase.LEASED, ServingPhase.CLEANING])
def test_a_lease_has_it_alone_but_for_reads_and_overrides(phase: ServingPhase) -> None:
    board = leased(phase)
    board.ends_at(WALL + 60, "17:00", 0, WALL)
    assert board.local_call("desk", "bob", 0, reads=True) is CallTarget.LOOK
    answer = refused(board.local_call("desk", "bob", 0))
    assert (answer.code, answer.sentence) == (
        "leased",
        f"the board is leased by ann (one, {phase}) until 17:00; wait for its end, or take part with --override",
    )
    with_override = board.local_call("desk", "bob", 0, override=True)
    if phase is ServingPhase.LEASED:
        assert with_override is CallTarget.LEASE
    else:
        assert refused(with_override).code == "hook"
    assert board.local_call("desk", "bob", 0, override=True, force=True) is CallTarget.LEASE
    assert not board.is_local


def test_what_withholds_the_board_meanwhile_changes_nothing_for_the_lease() -> None:
    board = leased()
    assert board.withhold(WithheldReason.CHANGING, "rpi4.yaml") == []
    assert status(board) is ExporterStatus.LEASE_READY
    assert board.tick(10_000) == [], "it has the board, and waits for nothing"
    assert board.over(1) == [ApplyChange()]
    assert board.release(WithheldReason.CHANGING, now=1) == []
    assert status(board) is ExporterStatus.AVAILABLE


def test_a_change_waits_until_nobody_uses_the_board() -> None:
    board = used(Occupancy())
    assert board.withhold(WithheldReason.CHANGING, "rpi4.yaml") == []
    board.local_left("desk", 1)
    assert board.tick(1 + LIMITS.leave) == [ApplyChange()]
    board = Occupancy()
    board.maintain("root")
    assert board.withhold(WithheldReason.CHANGING, "rpi4.yaml") == []
    assert board.maintained(1) == [ApplyChange()]
    assert Occupancy().withhold(WithheldReason.CHANGING, "rpi4.yaml") == [ApplyChange()]


def test_a_lease_begins_whose_patience_ends_as_the_board_gets_free() -> None:
    board = used(Occupancy())
    board.assigned(FOREIGN, 0)
    board.local_left("desk", LIMITS.patience - LIMITS.leave)
    assert board.tick(LIMITS.patience) == [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))]


def test_a_change_does_not_wait_for_the_lease_that_waits_for_it() -> None:
    board = used(Occupancy())
    board.withhold(WithheldReason.CHANGING, "rpi4.yaml")
    board.assigned(FOREIGN, 0)
    board.local_left("desk", 1)
    assert board.tick(1 + LIMITS.leave) == [ApplyChange()]
    assert board.release(WithheldReason.CHANGING, now=12) == [
        BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))
    ]


def test_the_next_lease_waits_for_the_end_of_this_one_and_a_lease_may_change_hands() -> None:
    board = leased()
    assert board.assigned(OTHER, 1) == []
    assert board.lease == ServedLease("one", "ann", ServingPhase.LEASED)
    board.assigned(ServedLease("one", "cat"), 1)
    assert board.lease == ServedLease("one", "cat", ServingPhase.LEASED)
    assert not board.is_free
    board.assigned(ServedLease("one", "cat", until="17:00"), 1)
    board.assigned(ServedLease("one", "cat", until="18:00"), 1)
    assert board.sentence == "leased by cat (one, leased) until 18:00"
    assert board.gone(2) == [], "whoever serves it ends it"
    board.over(3)
    assert board.assigned(OTHER, 4) == [BeginLease(ServedLease("two", "eve", ServingPhase.PREPARING))]


def test_a_lease_that_waits_is_forgotten_when_it_is_gone_or_another_has_its_place() -> None:
    board = used(Occupancy())
    board.assigned(FOREIGN, 1)
    assert board.gone(2) == [CloseWaitingSession(FOREIGN)]
    assert board.lease is None
    board.assigned(FOREIGN, 3)
    board.ends_at(WALL, "17:00", 3, WALL)
    assert board.assigned(OTHER, 100)[:2] == [
        CloseWaitingSession(ServedLease("one", "ann", until="17:00")),
        DelayLease(OTHER, "in local use by bob"),
    ]
    assert board.sentence == "leased by eve (two, waiting)"
    board.local_left("desk", 100)
    board.tick(100 + LIMITS.leave)
    board.became(ServingPhase.LEASED)
    board.left_alone(True)
    assert deadline(board) is None, "the end was the other's"


def test_an_override_while_a_lease_waits_shares_the_local_use_and_makes_no_second_user() -> None:
    board = used(Occupancy())
    board.assigned(FOREIGN, 1)
    assert board.local_call("sofa", "cat", 2, override=True) is CallTarget.LOCAL
    board.local_left("desk", 3)
    board.local_left("sofa", 4)
    assert board.tick(4 + LIMITS.leave - 0.1) == []
    assert board.tick(4 + LIMITS.leave) == [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))]


@pytest.mark.parametrize("phase", [ServingPhase.PREPARING, ServingPhase.LEASED, ServingPhase.CLEANING])
@pytest.mark.parametrize("then", ServingPhase)
def test_a_lease_goes_no_step_back(phase: ServingPhase, then: ServingPhase) -> None:
    board = leased(phase)
    if then is phase or then in PHASE_TRANSITIONS[phase]:
        board.became(then)
        assert board.lease == ServedLease("one", "ann", then)
    else:
        with pytest.raises(JumpstarterUsageError, match=f"is {phase} cannot become {then}"):
            board.became(then)
        assert board.lease == ServedLease("one", "ann", phase)


def test_what_a_session_says_behind_its_end_changes_nothing() -> None:
    board = leased()
    board.over(1)
    board.became(ServingPhase.CLEANING)
    board.ends_at(WALL + 60, "17:00", 1, WALL)
    assert board.lease is None
    board.withhold(WithheldReason.DRAINED, "")
    board.assigned(OTHER, 2)
    board.became(ServingPhase.CLEANING)
    assert board.lease == OTHER


def test_a_lease_that_nobody_uses_ends_some_minutes_behind_its_end_when_the_controller_is_away() -> None:
    board = leased()
    board.ends_at(WALL + 60, "17:00", 0, WALL)
    assert deadline(board) is None
    board.left_alone(True)
    assert deadline(board) == 60 + LIMITS.overdue
    assert board.tick(60 + LIMITS.overdue - 0.1) == []
    board.left_alone(False)
    assert board.tick(60 + LIMITS.overdue) == []
    board.left_alone(True)
    assert board.lease is not None
    assert board.tick(60 + LIMITS.overdue) == [
        EndLease(board.lease, "its time is over, and its controller is out of reach")
    ]
    assert board.tick(60 + LIMITS.overdue) == [], "once"


@pytest.mark.parametrize("phase", [ServingPhase.PREPARING, ServingPhase.CLEANING])
def test_a_hook_that_runs_behind_the_leases_end_has_its_own_time(phase: ServingPhase) -> None:
    board = leased(phase)
    board.ends_at(WALL + 60, "17:00", 0, WALL)
    board.left_alone(True)
    assert deadline(board) is None
    assert board.tick(9000) == []


# Restarts.


def restarted(board: Occupancy, now: float = 0.0, wall: float | None = None) -> Occupancy:
    again = Occupancy()
    again.restore(json.loads(json.dumps(board.record)), now, WALL + now if wall is None else wall)
    return again


@pytest.mark.parametrize(
    ("phase", "actions"),
    [
        (ServingPhase.PREPARING, [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING), hook=True)]),
        (ServingPhase.LEASED, [BeginLease(ServedLease("one", "ann", ServingPhase.LEASED), hook=False)]),
        (ServingPhase.CLEANING, [CleanUpLease(ServedLease("one", "ann", ServingPhase.CLEANING))]),
    ],
)
def test_a_restart_goes_on_where_the_lease_was(phase: ServingPhase, actions: list[OccupancyAction]) -> None:
    board = restarted(leased(phase))
    assert refused(board.local_call("desk", "bob", 0)).code == "leased", (
        "before the controller has said a word"
    )
    assert board.assigned(FOREIGN, 1) == actions
    assert board.assigned(FOREIGN, 2) == []


@pytest.mark.parametrize("phase", [ServingPhase.PREPARING, ServingPhase.LEASED, ServingPhase.CLEANING])
def test_a_lease_that_is_over_behind_a_restart_is_cleaned_up_first(phase: ServingPhase) -> None:
    for told in ("gone", "another"):
        board = restarted(leased(phase))
        actions = board.gone(1) if told == "gone" else board.assigned(OTHER, 1)
        assert actions == [CleanUpLease(ServedLease("one", "ann", ServingPhase.CLEANING))]
        assert status(board) is ExporterStatus.AFTER_LEASE_HOOK
        assert board.gone(2) == []
        board.over(3)
        assert status(board) is ExporterStatus.AVAILABLE


@pytest.mark.parametrize("phase", [ServingPhase.PREPARING, ServingPhase.LEASED, ServingPhase.CLEANING])
def test_a_lease_that_had_the_board_before_a_restart_is_not_lost_when_it_is_offered_again(
    phase: ServingPhase,
) -> None:
    board = restarted(leased(phase))
    before = board.record
    assert board.offered(OURS, 1) == []
    assert board.record == before, "for the next restart"
    assert board.withdrawn(2) == []
    assert [type(action) for action in board.gone(3)] == [CleanUpLease]


def test_a_lease_that_waited_is_like_a_new_one_and_a_drained_board_stays_so() -> None:
    board = used(Occupancy())
    board.withhold(WithheldReason.DRAINED, "by root")
    board.assigned(FOREIGN, 1)
    again = restarted(board)
    assert again.status == (ExporterStatus.BEFORE_LEASE_HOOK, "Waiting for the board: drained: by root")
    assert again.assigned(FOREIGN, 1) == [DelayLease(FOREIGN, "drained: by root")]
    again = restarted(board)
    assert again.gone(1) == []
    assert again.withheld == {WithheldReason.DRAINED: "by root"}


@pytest.mark.parametrize(
    "record",
    [
        [],
        {},
        {"version": 2, "lease": "one", "client": "ann", "phase": "leased", "finished": "one"},
        {"version": 2, "board": {"had": "by", "ann": True}},
        {"version": 1, "unknown": 5},
        {"version": 1, "lease": 3, "client": "ann", "phase": "leased"},
        {"version": 1, "lease": "one", "client": None, "phase": "leased"},
        {"version": 1, "lease": "one", "client": "ann", "phase": "lost"},
        {"version": 1, "lease": "one", "client": "ann", "phase": ["leased"]},
    ],
)
def test_nobody_gets_a_board_whose_record_is_invalid_before_its_controller_has_spoken(
    record: object,
) -> None:
    def found() -> Occupancy:
        board = Occupancy()
        board.restore(record, 0, WALL)
        return restarted(board)  # and the next process knows as much

    board = found()
    assert board.local_call("desk", "bob", 0, reads=True) is CallTarget.LOOK
    for override in (False, True):
        refusal = refused(board.local_call("desk", "bob", 0, override=override, force=override))
        assert refusal.code == "unknown"
        assert "jumpstarter-exporter resume" in refusal.sentence
    board.tick(10_000)
    assert status(board) is not ExporterStatus.AVAILABLE
    assert [type(action) for action in board.assigned(FOREIGN, 1)] == [BeginLease], "it may be in its middle"
    assert refused(board.local_call("desk", "bob", 2)).code == "leased"
    board = found()
    assert [type(action) for action in board.offered(OURS, 1)] == [BeginLease]
    for freed in ("by its controller", "by hand"):
        board = found()
        if freed == "by hand":
            board.release(WithheldReason.UNKNOWN, now=1)
        else:
            board.gone(1)
        assert status(board) is ExporterStatus.AVAILABLE
        assert board.record == {"version": 1}
        used(board)


@pytest.mark.parametrize("record", [None, {"version": 1, "end": 5, "drained": 7, "finished": 8}])
def test_a_board_without_a_record_of_a_lease_is_nobodys(record: object) -> None:
    board = Occupancy()
    board.restore(record, 0, WALL)
    assert status(board) is ExporterStatus.AVAILABLE
    assert board.record == {"version": 1}


def test_a_board_that_a_later_version_has_drained_stays_drained() -> None:
    board = Occupancy()
    board.restore({"version": 2, "drained": "by root"}, 0, WALL)
    board.gone(1)
    assert board.withheld == {WithheldReason.DRAINED: "by root"}


@pytest.mark.parametrize("end", [float("nan"), float("inf"), -1, 10**400, "soon", None])
def test_an_end_that_is_not_a_time_is_none(end: object) -> None:
    board = Occupancy()
    plain = {"version": 1, "lease": "one", "client": "ann", "phase": "leased"}
    board.restore({**plain, "end": end, "until": 5}, 0, WALL)
    assert board.record == plain


def test_a_restart_knows_since_when_the_lease_has_the_board() -> None:
    board = used(Occupancy())
    board.assigned(FOREIGN, 0)
    board.begins_at(WALL)
    assert board.began is None, "it waits"
    board.local_left("desk", 1)
    board.tick(1 + LIMITS.leave)
    board.begins_at(WALL + 11)
    board.became(ServingPhase.LEASED)
    board.begins_at(WALL + 50)
    again = restarted(board, 0, WALL + 60)
    assert again.began == WALL + 11
    again.assigned(FOREIGN, 0)
    assert again.began == WALL + 11
    assert restarted(board, 0, WALL).began == WALL + 11, "the clock was set back; that of records is not"
    again.over(1)
    again.assigned(OTHER, 1)
    again.begins_at(WALL + 70)
    assert again.began == WALL + 70
    older = Occupancy()
    older.restore({"version": 1, "lease": "one", "client": "ann", "phase": "leased"}, 0, WALL)
    assert older.lease is not None
    assert older.began is None


def test_a_restart_knows_until_when_the_lease_lasts() -> None:
    board = leased()
    board.ends_at(WALL + 60, "17:00", 0, WALL)
    again = restarted(board, 5, WALL + 30)  # the monotonic clock has begun anew
    assert again.record == board.record
    assert again.sentence == "leased by ann (one, leased) until 17:00"
    again.assigned(FOREIGN, 6)
    assert again.sentence == "leased by ann (one, leased) until 17:00", (
        "also where the controller's word lacks it"
    )
    again.left_alone(True)
    assert again.deadline == 5 + 30 + LIMITS.overdue


@pytest.mark.parametrize(
    ("phase", "actions"),
    [
        (ServingPhase.PREPARING, [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING), hook=True)]),
        (ServingPhase.LEASED, [BeginLease(ServedLease("one", "ann", ServingPhase.LEASED), hook=False)]),
        (ServingPhase.CLEANING, [CleanUpLease(ServedLease("one", "ann", ServingPhase.CLEANING))]),
    ],
)
def test_a_lease_goes_on_without_its_controllers_word_when_that_does_not_come(
    phase: ServingPhase, actions: list[OccupancyAction]
) -> None:
    again = restarted(leased(phase), 7)
    assert again.deadline == 7 + LIMITS.unheard
    assert again.tick(7 + LIMITS.unheard - 0.1) == []
    answer = refused(again.local_call("desk", "bob", 8, override=True, force=True))
    assert answer.code == "starting", "there is no session of the lease yet"
    assert again.tick(7 + LIMITS.unheard) == actions
    assert again.local_call("desk", "bob", 80, override=True, force=True) is CallTarget.LEASE
    assert again.tick(9000) == [], "once"


def test_a_lease_that_has_long_been_over_behind_a_restart_is_only_cleaned_up() -> None:
    board = leased()
    board.ends_at(WALL + 60, "17:00", 0, WALL)
    again = restarted(board, 0, WALL + 60 + LIMITS.overdue)
    again.left_alone(True)
    assert deadline(again) == LIMITS.unheard, "nothing is served that could end before"
    assert again.tick(1) == []
    assert again.tick(LIMITS.unheard) == [
        CleanUpLease(ServedLease("one", "ann", ServingPhase.CLEANING, until="17:00"))
    ]


def test_a_lease_that_waited_is_forgotten_behind_a_restart_when_no_controller_says_it_again() -> None:
    board = used(Occupancy())
    board.assigned(FOREIGN, 1)
    again = restarted(board)
    assert again.status == (
        ExporterStatus.BEFORE_LEASE_HOOK,
        "Waiting for the board: the exporter was started again",
    )
    assert again.tick(1) == [], "the controller has the first word"
    assert again.lease == FOREIGN
    assert again.tick(LIMITS.unheard) == []
    assert status(again) is ExporterStatus.AVAILABLE
    again = restarted(board)
    assert again.local_call("desk", "bob", 0, override=True) is CallTarget.LOCAL
    again = restarted(board)
    assert again.assigned(OTHER, 1) == [BeginLease(ServedLease("two", "eve", ServingPhase.PREPARING))], (
        "no session to close"
    )
    again = restarted(board)
    assert again.assigned(FOREIGN, 1) == [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))]


def test_a_lease_that_we_ended_does_not_begin_again_also_behind_a_restart() -> None:
    board = leased()
    board.over(1)
    assert board.assigned(FOREIGN, 2) == []
    again = restarted(board)
    assert again.assigned(FOREIGN, 2) == []
    assert status(again) is ExporterStatus.AVAILABLE
    assert again.gone(3) == []
    assert again.assigned(FOREIGN, 4) == [BeginLease(ServedLease("one", "ann", ServingPhase.PREPARING))]


def test_who_was_told_to_go_is_not_told_again_and_others_have_their_time() -> None:
    use = LocalUse(grace=3)
    use.take("desk", "bob", 0)
    assert use.expire(10, 10) == ["desk"]
    assert (use.deadline(10), use.expire(10, 11)) == (None, []), (
        "else one would look without a pause until they go"
    )
    use.take("bench", "eve", 12)
    assert use.deadline(10) == 22
    use.leave("desk", 13)
    use.leave("bench", 14)
    assert use.deadline(10) == 17
