"""A leased board from its lease to its release, over the whole way: controller, router, session."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.hook_times import running_hook
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.v1 import common_pb2, jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.board import LABELS_SECONDS, lease_board
from jumpstarter_client.lease.conftest import (
    CONTROLLER,
    ROUTER,
    BoardExporter,
    FakeController,
    Network,
    Silent,
)
from jumpstarter_client.lease.lease import AcquisitionTimeoutError
from jumpstarter_client.lease.lease_watch import GRACE_SECONDS, LATE_POLL_SECONDS, POLL_SECONDS
from jumpstarter_client.lease.monitor import ANSWER_SECONDS, LeaseEndedError
from jumpstarter_client.lease.own_leases import record_created
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.session_status import ANSWER_SECONDS as STATUS_SECONDS

NEW = LeaseRequest(selector="board=rpi4")


def ignore(_: str) -> None:
    pass


async def ask(channel: Caller) -> None:
    await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())


def hook_line(text: str) -> jumpstarter_pb2.LogStreamResponse:
    return jumpstarter_pb2.LogStreamResponse(message=text, source=common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK)


# --- its begin


@pytest.mark.parametrize("why", ["it was released", "transferred", "deleted"])
async def test_an_own_lease_that_ends_before_it_is_used_is_not_missed(  # noqa: PLR0917 - pytest names them
    lab: FakeController,
    board: BoardExporter,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lab.add("mine")
    record_created(config, "mine")
    said: list[str] = []

    def message(text: str) -> None:
        said.append(text)
        if not text.startswith("using your lease"):
            return
        if why == "deleted":
            del lab.leases["mine"]
        elif why == "transferred":
            lab.leases["mine"].client = lab.leases["mine"].client.replace("ann", "bob")
        else:
            lab.end("mine", why)

    request = replace(NEW, may_reuse=True)
    async with lease_board(config, request, on_message=message) as leased:
        await ask(leased.channel)
        assert leased.lease.is_owned
    assert said[1:] == ["your lease mine has just ended; leasing a board"]
    assert lab.released == [leased.lease.name]


async def test_an_own_lease_whose_board_cannot_be_used_is_still_an_error(  # noqa: PLR0917 - as above
    lab: FakeController,
    board: BoardExporter,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lab.add("mine")
    record_created(config, "mine")

    async def refuse() -> None:
        raise RpcError(StatusCode.PERMISSION_DENIED, "not today")

    lab.before["Dial"] = refuse
    with pytest.raises(RpcError, match="not today"):
        async with lease_board(config, replace(NEW, may_reuse=True), on_message=ignore):
            pass
    assert lab.times("CreateLease") == []


# --- the end of its block


async def test_a_board_that_is_not_needed_any_more_has_its_session_ended_before_it_is_given_back(
    lab: FakeController, board: BoardExporter, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async with lease_board(config, NEW, on_message=ignore) as leased:
        await ask(leased.channel)
        assert (board.ended, lab.released) == (0, [])
    assert (board.ended, lab.released) == (1, [leased.lease.name])
    assert trio.current_time() < 1


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), ConnectError("no such device")])
async def test_a_block_that_fails_ends_the_session_too_and_its_error_stays_what_it_is(
    lab: FakeController,
    board: BoardExporter,
    config: ClientConfig,
    error: Exception,
    autojump_clock: trio.testing.MockClock,
) -> None:
    with pytest.raises(type(error)) as caught:
        async with lease_board(config, NEW, on_message=ignore):
            raise error
    assert caught.value is error
    assert (board.ended, len(lab.released)) == (1, 1)


async def test_a_cancelled_block_gives_the_board_back_without_waiting_for_its_hook(
    lab: FakeController, board: BoardExporter, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(50):
        async with lease_board(config, NEW, on_message=ignore):
            await trio.sleep_forever()
    assert len(lab.released) == 1
    assert trio.current_time() == pytest.approx(50)


async def test_a_lease_that_was_there_before_keeps_its_session(
    lab: FakeController, board: BoardExporter, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("mine")
    async with lease_board(config, LeaseRequest(lease="mine"), on_message=ignore) as leased:
        await ask(leased.channel)
    assert (board.ended, lab.released) == (0, [])


@pytest.mark.parametrize("all_logs", [False, True])
async def test_what_hooks_of_a_lease_that_was_there_before_print_is_shown_if_asked(  # noqa: PLR0917 - pytest names them
    lab: FakeController,
    board: BoardExporter,
    config: ClientConfig,
    capfd: pytest.CaptureFixture[str],
    all_logs: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    lab.add("mine")
    board.log = [hook_line("looking for a card")]
    async with lease_board(config, LeaseRequest(lease="mine", all_logs=all_logs), on_message=ignore):
        await trio.sleep(1)
    assert ("looking for a card" in capfd.readouterr().err) == all_logs


# --- boards that are not ready yet


def prepares(board: BoardExporter, message: str = "Running beforeLease hook") -> None:
    board.status = common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK
    board.message = message


async def test_a_lease_that_ends_before_its_board_is_ready_says_so_with_its_exit_code(
    lab: FakeController, board: BoardExporter, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    prepares(board)
    lab.seconds = 20

    async def end() -> None:
        if trio.current_time() > 20:
            lab.end(next(iter(lab.leases)), "its time is over")

    lab.before["GetLease"] = end
    with pytest.raises(
        LeaseEndedError, match=r"time is over; the board was still not ready 2\ds after"
    ) as caught:
        async with lease_board(config, NEW, on_message=ignore):
            pytest.fail("it is not ready")
    assert caught.value.exit_code is ExitCode.LEASE_ENDED
    assert trio.current_time() < 20 + LATE_POLL_SECONDS * 3


async def test_an_exporter_that_hangs_up_as_the_lease_ends_is_not_dialled_again_and_again(  # noqa: PLR0917 - pytest names them
    lab: FakeController,
    board: BoardExporter,
    network: Network,
    config: ClientConfig,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    prepares(board)

    async def hang_up() -> None:
        await trio.sleep(5)
        lab.end(next(iter(lab.leases)), "it was released")
        await network.cut(ROUTER)

    nursery.start_soon(hang_up)
    with pytest.raises(LeaseEndedError, match="it was released; the board was still not ready"):
        async with lease_board(config, NEW, on_message=ignore):
            pytest.fail("it is not ready")
    assert trio.current_time() < 6


@pytest.mark.parametrize(("usual", "warned"), [(None, 0), (5.0, 0), (600.0, 1)])
async def test_a_lease_that_is_too_short_for_the_hook_is_told_of_before_its_end(  # noqa: PLR0917 - pytest names them
    lab: FakeController,
    board: BoardExporter,
    config: ClientConfig,
    nursery: trio.Nursery,
    usual: float | None,
    warned: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    prepares(board, running_hook(usual))
    lab.seconds = 400

    async def get_ready() -> None:
        await trio.sleep(10)
        board.status = common_pb2.EXPORTER_STATUS_LEASE_READY

    nursery.start_soon(get_ready)
    told: list[str] = []
    async with lease_board(config, NEW, on_message=told.append):
        pass
    found = [one for one in told if "the board's beforeLease hook usually takes 10m" in one]
    assert len(found) == warned
    assert all("the lease ends in 6m" in one for one in found)


# --- boards that cannot be used


async def test_another_board_is_leased_in_place_of_one_that_cannot_be_reached_as_long_as_its_user_wants(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    config = replace(config, dial_timeout=10, retry_timeout=100)
    router = await network.leave(ROUTER)
    told: list[str] = []
    with trio.fail_after(1000), pytest.raises(RpcError, match="could not be reached for 10 s"):
        async with lease_board(config, NEW, on_message=told.append):
            pytest.fail("there is no router")
    assert 100 <= trio.current_time() < 111
    assert told
    assert all("is not reachable" in one and "leasing another board" in one for one in told)
    assert lab.released == list(lab.leases), "each was given back"

    def come_back(_: str) -> None:
        network.hosts[ROUTER] = router

    async with lease_board(config, NEW, on_message=come_back) as leased:
        await ask(leased.channel)
        assert lab.released == list(lab.leases)[:-1]


async def test_no_other_board_is_leased_for_who_wants_none_or_named_the_lease(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("mine")
    await network.leave(ROUTER)
    for request in (replace(NEW, retry_timeout=0), LeaseRequest(lease="mine")):
        begun = trio.current_time()
        with trio.fail_after(1000), pytest.raises(RpcError, match="could not be reached for 60 s"):
            async with lease_board(config, request, on_message=pytest.fail):
                pytest.fail("there is no router")
        assert trio.current_time() - begun < 61


async def test_no_other_board_is_leased_when_the_exporter_refuses(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    services = network.hosts[ROUTER]

    class Refusing(BoardExporter):
        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            raise RpcError(StatusCode.PERMISSION_DENIED, "not yours")

    network.hosts[ROUTER] = [type(services[0])(Refusing())]  # type: ignore[call-arg]
    with trio.fail_after(10), pytest.raises(RpcError, match="not yours"):
        async with lease_board(config, NEW, on_message=pytest.fail):
            pytest.fail("it is refused")
    assert lab.released == list(lab.leases)
    assert len(lab.leases) == 1


async def test_a_board_whose_hook_failed_says_what_the_hook_said(
    lab: FakeController,
    board: BoardExporter,
    config: ClientConfig,
    capfd: pytest.CaptureFixture[str],
    autojump_clock: trio.testing.MockClock,
) -> None:
    board.status, board.message = common_pb2.EXPORTER_STATUS_BEFORE_LEASE_HOOK_FAILED, "no card"
    board.log, board.log_delay = [hook_line("looking for a card")], 0.05
    with trio.fail_after(50), pytest.raises(ConnectError, match="not ready for its lease: no card"):
        async with lease_board(config, NEW, on_message=ignore):
            pytest.fail("its hook failed")
    assert "beforeLease: looking for a card" in capfd.readouterr().err
    assert len(lab.released) == 1


async def test_a_hook_that_failed_and_need_not_have_worked_is_a_warning(
    lab: FakeController, board: BoardExporter, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    board.message = "[HOOK_WARNING] it is warm"
    told: list[str] = []
    async with lease_board(config, NEW, on_message=told.append):
        assert told == ["warning: it is warm"]


async def test_a_session_that_does_not_answer_is_asked_over_another_connection(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    services = network.hosts[ROUTER]

    class Mute(BoardExporter):
        async def GetStatus(self, request: object, call: object) -> jumpstarter_pb2.GetStatusResponse:  # noqa: N802
            if network.opened[ROUTER] == 1:
                await trio.sleep_forever()
            return await super().GetStatus(request, call)

    network.hosts[ROUTER] = [type(services[0])(Mute())]  # type: ignore[call-arg]
    with trio.fail_after(10 * STATUS_SECONDS):
        async with lease_board(config, NEW, on_message=ignore):
            assert trio.current_time() == pytest.approx(STATUS_SECONDS, abs=1)
    assert network.opened[ROUTER] == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("comes", [True, False])
async def test_the_line_about_the_wait_is_gone_when_the_wait_is_over(
    lab: FakeController,
    config: ClientConfig,
    monkeypatch: pytest.MonkeyPatch,
    comes: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("jumpstarter_client.status_line.QUIET_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm")
    lab.is_ready = False

    async def look() -> None:
        assert "Waiting for a board" in terminal.getvalue()
        if comes:
            lab.make_ready(next(iter(lab.leases)))

    lab.before["GetLease"] = look
    drawn = ""
    with suppress(AcquisitionTimeoutError):
        async with lease_board(replace(config, acquisition_timeout=10), NEW, on_message=ignore):
            drawn = terminal.getvalue()
    assert bool(drawn) == comes
    assert (drawn or terminal.getvalue()).endswith("\r\x1b[K")


# --- while it is used


async def test_labels_are_not_waited_for_longer_than_a_moment(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async with lease_board(config, NEW, on_message=ignore) as leased:
        assert await leased.labels() == {"board": "rpi4"}
        lab.before["GetExporter"] = trio.sleep_forever
        begun = trio.current_time()
        with trio.fail_after(100):
            assert await leased.labels() == {}
        assert trio.current_time() - begun == pytest.approx(LABELS_SECONDS)


async def used_until_it_ends(
    config: ClientConfig, end: Callable[[], Awaitable[None]], on_message: Callable[[str], None] = ignore
) -> tuple[str, float]:
    """What its user hears, and how long after `end` they do."""
    verdicts: list[str] = []
    begun = 0.0

    async def use() -> None:
        nonlocal begun
        async with lease_board(config, NEW, on_message=on_message, on_lease_end=verdicts.append) as leased:
            await ask(leased.channel)
            begun = trio.current_time()
            await end()
            await leased.channel.wait_closed()
            await ask(leased.channel)

    with trio.fail_after(5000), pytest.raises(LeaseEndedError) as caught:
        await use()
    assert caught.value.exit_code is ExitCode.LEASE_ENDED
    assert verdicts == [caught.value.details]
    return verdicts[0], trio.current_time() - begun


async def test_a_lease_that_is_released_by_others_is_noticed_within_a_look(
    lab: FakeController, board: BoardExporter, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async def end() -> None:
        lab.end(next(iter(lab.leases)), "it was released")

    end_reason, took = await used_until_it_ends(config, end)
    assert end_reason == "the lease has ended: it was released"
    assert took <= POLL_SECONDS + 1
    assert board.ended == 0, "there is nothing left to end"


async def test_a_lease_that_ends_with_its_connection_is_noticed_at_once(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async def end() -> None:
        lab.end(next(iter(lab.leases)), "it was released")
        await network.leave(ROUTER)

    _, took = await used_until_it_ends(config, end)
    assert took < 1


async def test_the_end_of_a_leases_time_is_noticed_when_it_comes(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.seconds = 400

    async def end() -> None:
        if trio.current_time() >= lab.seconds:
            lab.end(next(iter(lab.leases)), "its time is over")

    lab.before["GetLease"] = end
    told: list[str] = []
    end_reason, took = await used_until_it_ends(config, trio.lowlevel.checkpoint, told.append)
    assert end_reason == "the lease has ended: its time is over"
    assert took <= 400 + LATE_POLL_SECONDS
    assert [one[:23] for one in told] == ["the lease ends in 5m; t"]


async def test_a_controller_that_does_not_answer_is_away_and_ends_nothing_before_its_time(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.seconds = 200
    told: list[tuple[str, float]] = []

    async def hang() -> None:
        await network.leave(CONTROLLER)
        network.hosts[CONTROLLER] = [Silent(type(lab))]

    end_reason, took = await used_until_it_ends(
        config, hang, lambda sentence: told.append((sentence, trio.current_time()))
    )
    assert end_reason == "the lease has ended: it has expired"
    assert 200 + GRACE_SECONDS <= took < 200 + GRACE_SECONDS + POLL_SECONDS + ANSWER_SECONDS + 40
    away = [(sentence, when) for sentence, when in told if "is unreachable" in sentence]
    assert len(away) == 1
    assert "no answer within 10 s" in away[0][0]
    assert away[0][1] == pytest.approx(POLL_SECONDS + ANSWER_SECONDS, abs=1)


async def test_a_call_that_fails_with_the_lease_says_so_although_nobody_has_looked_yet(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async def use() -> None:
        async with lease_board(config, NEW, on_message=ignore):
            lab.end(next(iter(lab.leases)), "it was released")
            raise RpcError(StatusCode.UNAVAILABLE, "the connection broke")

    with trio.fail_after(100), pytest.raises(LeaseEndedError, match="it was released"):
        await use()
    assert trio.current_time() < 1


async def test_a_block_that_fails_by_itself_says_so_although_its_lease_is_over(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async def use() -> None:
        async with lease_board(config, NEW, on_message=ignore):
            lab.end(next(iter(lab.leases)), "it was released")
            raise RpcError(StatusCode.INTERNAL, "the relay sticks")

    with trio.fail_after(1000), pytest.raises(RpcError, match="the relay sticks"):
        await use()
