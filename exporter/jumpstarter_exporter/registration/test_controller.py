"""The conversation with a controller: begun again whatever fails, and no call without an end."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import jwt
import pytest
import trio
import trio.testing
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_exporter.registration.announcer import Announcer
from jumpstarter_exporter.registration.conftest import Lab, Wired
from jumpstarter_exporter.registration.controller import CALL_SECONDS, STEADY_SECONDS, Calls
from jumpstarter_exporter.registration.patience import SLOW_FIRST
from jumpstarter_exporter.registration.tenant import Tenant
from jumpstarter_exporter.status import Status

AWAY = RpcError(StatusCode.UNAVAILABLE, "away")
DELETED = RpcError(StatusCode.UNAUTHENTICATED, "exporter one was deleted")


def devices() -> list[pb.DriverInstanceReport]:
    return [pb.DriverInstanceReport(uuid="root")]


async def follow(lab: Lab, told: Callable[[Tenant | None], None], controller: Wired | None = None) -> None:
    controller = controller or Wired(lab)
    announcer = Announcer(controller, dict, devices, (Status.AVAILABLE, ""))
    await controller.follow(announcer.introduce, told)


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
            controller.hurry()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0


async def test_a_stream_that_ended_well_is_opened_again_without_a_new_introduction(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ann = pb.StatusResponse(leased=True, lease_name="a", client_name="ann")
    lab.says = [ann, None, ann, None, pb.StatusResponse(leased=False)]
    told: list[Tenant | None] = []
    with trio.move_on_after(2):
        await follow(lab, told.append)
    assert told == [Tenant("a", "ann"), Tenant("a", "ann"), None]
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
    assert "lab:8082: the controller does not take this exporter: exporter one was deleted" in errors[0]
    assert lab.says == []
    assert lab.heard.count("AVAILABLE") == 6


async def test_a_fault_of_ours_in_the_conversation_is_logged_and_the_conversation_goes_on(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lab.says = [pb.StatusResponse(leased=False), None] * 3
    told: list[Tenant | None] = []

    def broken(tenant: Tenant | None) -> None:
        told.append(tenant)
        if len(told) == 1:
            raise ZeroDivisionError("a fault")

    with trio.move_on_after(10):
        await follow(lab, broken)
    assert told == [None, None, None]
    assert "ZeroDivisionError: a fault" in caplog.text


async def test_who_is_known_no_more_has_no_lease(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    ann = pb.StatusResponse(leased=True, lease_name="a", client_name="ann")
    lab.says = [ann, RpcError(StatusCode.UNKNOWN, 'exporters.jumpstarter.dev "one" not found')]
    told: list[Tenant | None] = []
    with trio.move_on_after(1):
        await follow(lab, told.append)
    assert told == [Tenant("a", "ann"), None]


@pytest.mark.parametrize("new", ["", "another token", "unreadable"])
async def test_a_new_token_in_the_configuration_is_tried_at_once(
    lab: Lab, autojump_clock: trio.testing.MockClock, new: str
) -> None:
    def reread() -> tuple[Identity, Trust]:
        if new == "unreadable":
            raise JumpstarterError("no such file")
        return Identity(Kind.EXPORTER, "lab", "one", new or "token"), Trust()

    lab.says = [DELETED, DELETED]
    with trio.move_on_after(SLOW_FIRST / 4):
        await follow(lab, lambda _: None, Wired(lab, reread=reread))
    assert len(lab.says) == (0 if new == "another token" else 1)


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


CALLS: list[Callable[[Calls], Awaitable[None]]] = [
    lambda calls: calls.register({}, []),
    lambda calls: calls.report(Status.AVAILABLE, ""),
    lambda calls: calls.unregister("over"),
    lambda calls: calls.release("a"),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_controller_that_does_not_answer_holds_nobody_up(
    lab: Lab, autojump_clock: trio.testing.MockClock, call: Callable[[Calls], Awaitable[None]]
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
            await calls.report(Status.AVAILABLE, "")
        else:
            with pytest.raises(RpcError):
                await calls.report(Status.AVAILABLE, "")


async def test_what_is_told_goes_the_way_that_is_open_and_a_new_one_behind_a_failure(lab: Lab) -> None:
    controller = Wired(lab)
    followed = trio.Event()

    async def introduce(calls: Calls) -> None:
        await calls.register({}, [])

    def told(_: Tenant | None) -> None:
        followed.set()

    async def report() -> None:
        async with controller.at_hand() as calls:
            await calls.report(Status.AVAILABLE, "")

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
