"""The conversation with a controller: begun again whatever fails, and no call without an end."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import jwt
import pytest
import trio
import trio.testing
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.lab.v1.exporter_grpc import ExporterServiceServicer
from jumpstarter_proto.lab.v1.exporter_pb2 import (
    AcceptLeaseRequest,
    AcceptLeaseResponse,
    Assignment,
    WatchAssignmentRequest,
)
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_exporter.registration.conftest import Call, Lab, Wired
from jumpstarter_exporter.registration.controller import (
    ASSIGNMENT_RATE,
    CALL_SECONDS,
    DIAL_RATE,
    STEADY_SECONDS,
    RegistrationCalls,
)
from jumpstarter_exporter.registration.lease_assignment import (
    MAX_NAME_LENGTH,
    LeaseAssignment,
    lease_assignment_of,
)
from jumpstarter_exporter.registration.registered_exporter import _local_time_text
from jumpstarter_exporter.registration.retry_policy import (
    FIRST_RETRY_AFTER_REJECTION_SECONDS,
    MAX_RETRY_SECONDS,
)
from jumpstarter_exporter.registration.status_reporter import StatusReporter

AWAY = RpcError(StatusCode.UNAVAILABLE, "away")
DELETED = RpcError(StatusCode.UNAUTHENTICATED, "exporter one was deleted")


def devices() -> list[pb.DriverInstanceReport]:
    return [pb.DriverInstanceReport(uuid="root")]


async def follow(
    lab: Lab, told: Callable[[LeaseAssignment | None], None], controller: Wired | None = None
) -> None:
    controller = controller or Wired(lab)
    announcer = StatusReporter(controller, dict, devices, (ExporterStatus.AVAILABLE, ""))
    await controller.follow(announcer.register, told)


async def test_devices_are_told_anew_on_every_new_connection(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    """The controller behind it may be another one, which has never heard of them."""
    lab.says = [RpcError(StatusCode.UNAVAILABLE, "restarting")]
    with trio.move_on_after(60):
        await follow(lab, lambda _: None)
    assert lab.heard == ["register 1 {}", "AVAILABLE"] * 2


async def test_who_was_refused_tries_again_at_once_when_somebody_says_so(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    """As a reload does, when the exporter has been enrolled again meanwhile."""
    lab.says = [DELETED, DELETED]
    controller = Wired(lab)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, lab, lambda _: None, controller)
        for tries in (1, 2, 3):
            await trio.testing.wait_all_tasks_blocked()
            assert lab.heard.count("AVAILABLE") == tries
            controller.retry_now()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0


async def test_a_stream_that_ended_well_is_opened_again_without_a_new_introduction(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ann = pb.StatusResponse(leased=True, lease_name="a", client_name="ann")
    lab.says = [ann, None, ann, None, pb.StatusResponse(leased=False)]
    told: list[LeaseAssignment | None] = []
    with trio.move_on_after(2):
        await follow(lab, told.append)
    assert told == [LeaseAssignment("a", "ann"), LeaseAssignment("a", "ann"), None]
    assert lab.heard == ["register 1 {}", "AVAILABLE"]


async def test_who_was_deleted_says_so_and_goes_on_asking(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lab.says = [RpcError(StatusCode.UNAUTHENTICATED, "exporter one was deleted")] * 5
    with trio.move_on_after(300):
        await follow(lab, lambda _: None)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "lab:8082: the controller rejected this exporter: exporter one was deleted" in errors[0]
    assert lab.says == []
    assert lab.heard.count("AVAILABLE") == 6


async def test_a_fault_of_ours_in_the_conversation_is_logged_and_the_conversation_goes_on(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lab.says = [pb.StatusResponse(leased=False), None] * 3
    told: list[LeaseAssignment | None] = []

    def broken(assignment: LeaseAssignment | None) -> None:
        told.append(assignment)
        if len(told) == 1:
            raise ZeroDivisionError("a fault")

    with trio.move_on_after(10):
        await follow(lab, broken)
    assert told == [None, None, None]
    assert "ZeroDivisionError: a fault" in caplog.text


async def test_a_stream_that_ends_as_soon_as_it_has_said_something_is_opened_less_and_less_often(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.says = [pb.StatusResponse(leased=False), None] * 1000
    told: list[LeaseAssignment | None] = []
    with trio.move_on_after(20 * MAX_RETRY_SECONDS):
        await follow(lab, told.append)
    assert 20 <= len(told) <= 50


async def test_a_stream_that_lasted_is_opened_again_soon(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        told: list[float] = []
        nursery.start_soon(follow, lab, lambda _: told.append(trio.current_time()))
        lab.says = [pb.StatusResponse(leased=False), None] * 10
        lab.say()
        await trio.sleep(20 * MAX_RETRY_SECONDS)
        lab.says = [None, pb.StatusResponse(leased=False)]
        lab.say()
        await trio.sleep(0.6)
        assert trio.current_time() - told[-1] < 0.6
        nursery.cancel_scope.cancel()


async def test_a_controller_that_says_the_same_without_end_is_heard_slowly(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    burst, per_second = ASSIGNMENT_RATE
    seconds = 60.0
    lab.says = [pb.StatusResponse(leased=True, lease_name="a", client_name=f"c{i}") for i in range(2000)]
    told: list[LeaseAssignment | None] = []
    with trio.move_on_after(seconds):
        await follow(lab, told.append)
    assert burst < len(told) <= burst + seconds * per_second + 2
    assert [one.client for one in told if one] == [f"c{i}" for i in range(len(told))], (
        "and nothing is left out"
    )
    assert caplog.text.count("more than 5 messages per second") == 1


async def test_a_controller_that_announces_connections_without_end_is_heard_slowly(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    burst, per_second = DIAL_RATE
    seconds = 30.0
    lab.dials = [pb.ListenResponse(router_token=str(number)) for number in range(2000)]
    arrived: list[pb.ListenResponse] = []
    with trio.move_on_after(seconds):
        await Wired(lab).listen("a", arrived.append)
    assert burst < len(arrived) <= burst + seconds * per_second + 2


class Ours(ExporterServiceServicer):
    """A controller of ours, which says these and then nothing."""

    def __init__(self, *says: Assignment) -> None:
        self._says = says
        self.refusals = 0

    async def AcceptLease(self, request: AcceptLeaseRequest, call: Call) -> AcceptLeaseResponse:  # noqa: N802
        self.refusals += 1
        raise RpcError(StatusCode.NOT_FOUND, f"{self.refusals} " + 3000 * "x")

    async def WatchAssignment(  # noqa: N802
        self, request: WatchAssignmentRequest, call: ServerCall[WatchAssignmentRequest, Assignment]
    ) -> None:
        for one in self._says:
            await call.send(one)
        await trio.sleep_forever()


async def test_a_controller_that_offers_and_refuses_without_end_does_not_fill_the_log(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ours = Ours(*(Assignment(lease=f"l{number}", client="ann", offered=True) for number in range(200)))
    with trio.move_on_after(60):
        await follow(lab, lambda _: None, Wired(lab, also=[ours]))
    assert ours.refusals == 200
    said = [one for one in caplog.messages if one.startswith("lease l")]
    assert 0 < len(said) < 30
    assert max(map(len, said)) < 1100


async def test_of_why_a_controller_refuses_so_much_is_logged_as_tells_it(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lab.says = [RpcError(StatusCode.UNAVAILABLE, f"{number} " + 5000 * "x") for number in range(5)]
    with trio.move_on_after(60):
        await follow(lab, lambda _: None)
    said = [one for one in caplog.messages if "xxx" in one]
    assert len(said) == 5
    assert max(map(len, said)) < 1100


@pytest.mark.parametrize(("seconds", "nanos"), [(2**62, 0), (-(2**62), 0), (5, 2**31 - 1), (253402300800, 0)])
async def test_a_lease_that_ends_at_no_time_has_no_end(
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    seconds: int,
    nanos: int,
) -> None:
    end = Timestamp(seconds=seconds, nanos=nanos)
    ours = Ours(Assignment(lease="a", client="ann", end=end))
    told: list[LeaseAssignment | None] = []
    with trio.move_on_after(60):
        await follow(lab, told.append, Wired(lab, also=[ours]))
    assert told == [LeaseAssignment("a", "ann", None)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@given(st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)))
def test_whenever_a_controller_says_that_a_lease_ends_there_is_a_sentence_for_it(end: Timestamp) -> None:
    assignment = lease_assignment_of("a", "ann", end)
    assert assignment is not None
    assert bool(_local_time_text(assignment.until)) == (assignment.until is not None)
    if 0 <= end.nanos < 10**9 and 0 <= end.seconds < 10**11:
        assert assignment.until == pytest.approx(end.seconds + end.nanos / 10**9)


def test_the_end_of_a_lease_is_a_time_of_today_or_has_its_date() -> None:
    now = time.time()
    assert re.fullmatch(r"\d\d:\d\d", _local_time_text(now))
    for days in (-1, 1, 31, 365):  # of which one is in this month
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", _local_time_text(now + days * 86400))


BAD_NAMES = ["x" * (MAX_NAME_LENGTH + 1), "\x1b[2J", "two\nlines", "turned\u202e", "nul\0"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=["long", "terminal", "lines", "turned", "nul"])
@pytest.mark.parametrize("place", ["lease", "client", "waiting_lease", "waiting_client", "old lease"])
async def test_a_name_that_can_be_none_is_refused_in_one_sentence_and_the_exporter_goes_on_asking(
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    name: str,
    place: str,
) -> None:
    caplog.set_level(logging.INFO)
    said = Assignment(lease="a", client="ann", waiting_lease="b", waiting_client="bob")
    if place != "old lease":
        setattr(said, place, name)
    ours = [] if place == "old lease" else [Ours(said)]
    lab.says = [pb.StatusResponse(leased=True, lease_name=name, client_name="ann"), None] * 20
    told: list[LeaseAssignment | None] = []
    with trio.move_on_after(6.0):
        await follow(lab, told.append, Wired(lab, also=ours))
    assert told == []
    assert lab.heard.count("AVAILABLE") >= 3
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "which is invalid; the lease is not served" in warning
    assert warning.isprintable()
    assert len(warning) < 300


async def test_who_is_known_no_more_has_no_lease(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    ann = pb.StatusResponse(leased=True, lease_name="a", client_name="ann")
    lab.says = [ann, RpcError(StatusCode.UNKNOWN, 'exporters.jumpstarter.dev "one" not found')]
    told: list[LeaseAssignment | None] = []
    with trio.move_on_after(1):
        await follow(lab, told.append)
    assert told == [LeaseAssignment("a", "ann"), None]


@pytest.mark.parametrize("new", ["", "another token", "another certificate", "unreadable"])
async def test_a_new_token_in_the_configuration_is_tried_at_once(
    lab: Lab, autojump_clock: trio.testing.MockClock, new: str
) -> None:
    async def reread() -> tuple[Identity, Trust]:
        if new == "unreadable":
            raise JumpstarterError("no such file")
        token = new if "token" in new else "token"
        return Identity(Kind.EXPORTER, "lab", "one", token), Trust(ca="QUJD" if "certificate" in new else "")

    lab.says = [DELETED, DELETED]
    with trio.move_on_after(FIRST_RETRY_AFTER_REJECTION_SECONDS / 4):
        await follow(lab, lambda _: None, Wired(lab, reread=reread))
    assert len(lab.says) == (0 if new.startswith("another") else 1)


@pytest.mark.parametrize(("days", "said"), [(29, True), (31, False), (None, False)])
async def test_the_end_of_a_token_is_said_a_month_before(
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    days: int | None,
    said: bool,
) -> None:
    claims = {"sub": "one"} | ({} if days is None else {"exp": int(time.time()) + days * 86400})
    token = jwt.encode(claims, "x" * 32)
    with trio.move_on_after(1):
        await follow(lab, lambda _: None, Wired(lab, token=token))
    assert ("enrol again" in caplog.text) is said
    if days is not None:
        assert (f"expires in {days * 24} h" in caplog.text) is said


async def test_the_end_of_a_token_is_said_where_the_controller_makes_no_other(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    token = jwt.encode({"sub": "one", "exp": int(time.time()) + 86400}, "x" * 32)
    renewals = Renewals(RpcError(StatusCode.UNIMPLEMENTED, "what?"))
    with trio.move_on_after(1):
        await follow(lab, lambda _: None, Wired(lab, token=token, renewal=renewals))
    assert "this exporter's token expires in 24 h" in caplog.text


async def test_a_token_is_renewed_in_time_where_the_wall_clock_is_set_meanwhile(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    renewals = Renewals(1e9)
    renewals.left = 1e6
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, lab, lambda _: None, Wired(lab, renewal=renewals))
        await trio.sleep(10)
        renewals.left = -1.0  # as the clock was set on
        await trio.sleep(2 * 3600)
        assert len(renewals.asked) == 1
        nursery.cancel_scope.cancel()


class Renewals:
    """Tokens that are due at once, as those of a clock that is off, or for which there is no other."""

    def __init__(self, *outcomes: RpcError | float) -> None:
        self.outcomes = list(outcomes)
        self.left = -1.0
        self.asked: list[float] = []

    def seconds(self, identity: Identity) -> float | None:
        return self.left

    async def renew(
        self, calls: RegistrationCalls, identity: Identity, trust: Trust
    ) -> tuple[Identity, Trust]:
        self.asked.append(trio.current_time())
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, RpcError):
            raise outcome
        self.left = outcome
        return replace(identity, token=f"token-{len(self.asked)}"), trust


async def test_a_token_is_renewed_in_time_and_used_on_a_connection_of_its_own(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    renewals = Renewals(AWAY, AWAY, 1e9)
    with trio.move_on_after(120):
        await follow(lab, lambda _: None, Wired(lab, renewal=renewals))
    first, second, third = renewals.asked
    assert 0 < second - first <= 5
    assert second < third <= 30
    assert lab.heard == ["register 1 {}", "AVAILABLE"] * 2


@pytest.mark.parametrize(
    ("outcome", "times"),
    [(RpcError(StatusCode.UNIMPLEMENTED, "what?"), 1), (-1.0, 1)],
    ids=["never", "due again"],
)
async def test_a_token_that_is_due_all_the_time_is_asked_for_once_a_connection(
    lab: Lab, autojump_clock: trio.testing.MockClock, outcome: RpcError | float, times: int
) -> None:
    renewals = Renewals(outcome, outcome)
    with trio.move_on_after(3600):
        await follow(lab, lambda _: None, Wired(lab, renewal=renewals))
    assert len(renewals.asked) == times
    assert lab.heard == ["register 1 {}", "AVAILABLE"]


CALLS: list[Callable[[RegistrationCalls], Awaitable[None]]] = [
    lambda calls: calls.register({}, []),
    lambda calls: calls.report(ExporterStatus.AVAILABLE, ""),
    lambda calls: calls.unregister("over"),
    lambda calls: calls.release("a"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_controller_that_does_not_answer_holds_nobody_up(
    lab: Lab, autojump_clock: trio.testing.MockClock, call: Callable[[RegistrationCalls], Awaitable[None]]
) -> None:
    lab.answers = False
    before = trio.current_time()
    with trio.fail_after(3 * CALL_SECONDS):
        async with Wired(lab).open() as calls:
            with pytest.raises(RpcError) as caught:
                await call(calls)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert trio.current_time() - before == pytest.approx(CALL_SECONDS, abs=0.1)


@pytest.mark.parametrize("code", [StatusCode.UNIMPLEMENTED, StatusCode.INTERNAL])
async def test_a_controller_without_statuses_is_as_good(lab: Lab, code: StatusCode) -> None:
    lab.failures = [RpcError(code, "no")]
    async with Wired(lab).open() as calls:
        if code is StatusCode.UNIMPLEMENTED:
            await calls.report(ExporterStatus.AVAILABLE, "")
        else:
            with pytest.raises(RpcError):
                await calls.report(ExporterStatus.AVAILABLE, "")


async def test_what_is_told_goes_the_way_that_is_open_and_a_new_one_behind_a_failure(lab: Lab) -> None:
    controller = Wired(lab)
    followed = trio.Event()

    async def introduce(calls: RegistrationCalls) -> None:
        await calls.register({}, [])

    def told(_: LeaseAssignment | None) -> None:
        followed.set()

    async def report() -> None:
        async with controller.reuse_or_open() as calls:
            await calls.report(ExporterStatus.AVAILABLE, "")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await report()
            assert controller.opened == 1, "of its own, as nobody follows"
            lab.say()
            nursery.start_soon(controller.follow, introduce, told)
            await followed.wait()
            await report()
            await controller.release("one")
            assert controller.opened == 2, "that of who follows"
            lab.failures.append(RpcError(StatusCode.UNAVAILABLE, "cut"))
            with pytest.raises(RpcError, match="cut"):
                await report()
            await report()
            assert controller.opened == 3
            nursery.cancel_scope.cancel()
    assert lab.heard.count("AVAILABLE") == 4


async def test_a_lease_is_given_back_until_the_controller_has_taken_it(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.refusals = [AWAY] * 5
    with trio.fail_after(60):
        await Wired(lab).release("a")
    assert lab.heard == ["release a"] * 6
    assert lab.times[-1] - lab.times[-2] > 2, "asked less and less often"


class Dying(Lab):
    """Its process ends while it takes a lease back: the next one knows of that, or not."""

    def __init__(self, *, is_written: bool) -> None:
        super().__init__()
        self.is_written = is_written

    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, call: Call) -> pb.ReleaseLeaseResponse:  # noqa: N802
        if f"release {request.name}" not in self.heard:
            await self._hear(f"release {request.name}")
            breaks, self.breaks = self.breaks, trio.Event()
            breaks.set()
            await trio.sleep_forever()
        if self.is_written:
            self.refusals = [RpcError(StatusCode.FAILED_PRECONDITION, "not yours any more")]
        return await super().ReleaseLease(request, call)


@pytest.mark.parametrize("is_written", [True, False])
@pytest.mark.parametrize("is_followed", [True, False])
async def test_a_lease_is_given_back_again_when_the_connection_breaks_before_the_answer(
    autojump_clock: trio.testing.MockClock, is_written: bool, is_followed: bool
) -> None:
    lab = Dying(is_written=is_written)
    controller = Wired(lab)
    async with trio.open_nursery() as nursery:
        if is_followed:
            nursery.start_soon(follow, lab, lambda _: None, controller)
            await lab.until("AVAILABLE")
        with trio.fail_after(3):
            await controller.release("a")
        nursery.cancel_scope.cancel()
    assert [words for words in lab.heard if words.startswith("release")] == ["release a"] * 2
    assert lab.refusals == []


@pytest.mark.parametrize("code", [StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION])
async def test_a_lease_that_is_not_ours_any_more_is_not_given_back_again(
    lab: Lab, autojump_clock: trio.testing.MockClock, code: StatusCode
) -> None:
    lab.refusals = [RpcError(code, "not yours")]
    with trio.fail_after(60):
        await Wired(lab).release("a")
    assert lab.heard == ["release a"]


async def test_listening_is_begun_again_and_soon_when_it_had_lasted(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (pb.ListenResponse(router_token=token) for token in ("first", "second"))
    # What comes after the first is cut off, for its connection fails here.
    lasted = STEADY_SECONDS + 0.01  # a difference of two times is not exact
    lab.dials = [*[AWAY] * 5, first, 1000.0, lasted, AWAY, second]
    arrived: list[str] = []

    def connected(connection: pb.ListenResponse) -> None:
        arrived.append(connection.router_token)
        if len(arrived) == 1:
            raise ZeroDivisionError("a fault")

    with trio.move_on_after(120):
        await Wired(lab).listen("a", connected)
    assert arrived == ["first", "second"]
    assert "ZeroDivisionError: a fault" in caplog.text
    assert set(lab.heard) == {"listen a"}
    pauses = [later - before for before, later in zip(lab.times, lab.times[1:], strict=False)]
    assert pauses[5] > 2, "less and less often"
    assert pauses[6] <= lasted + 0.3, "but soon when it had worked for a while"
