"""What a controller is told of calls: each once, in order, within bounds, and nothing where nobody wants to know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from jumpstarter_proto.lab.v1 import exporter_grpc, exporter_pb2
from jumpstarter_proto.rpc import RpcError, ServerCall, Servicer, StatusCode

from jumpstarter_exporter.registration.call_reports import (
    BATCH_SECONDS,
    MAX_BATCH,
    MAX_WAITING,
    CallReporter,
)
from jumpstarter_exporter.registration.conftest import Lab, Wired
from jumpstarter_exporter.session.call_notes import CallNote, CallOrigin

Request = exporter_pb2.ReportCallsRequest
Response = exporter_pb2.ReportCallsResponse


class Ours(exporter_grpc.ExporterServiceServicer):
    """A controller of ours, that takes calls as the real one does; an answer of it may get lost."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.loses = 0

    async def ReportCalls(  # noqa: N802 - the wire's name
        self, request: Request, call: ServerCall[Request, Response]
    ) -> Response:
        self.requests.append(request)
        if self.loses:
            self.loses -= 1
            raise RpcError(StatusCode.UNAVAILABLE, "the answer got lost")
        return Response()

    @property
    def methods(self) -> list[str]:
        """Of the calls, each once. What was left out has its numbers, too: a controller knows by them what it has."""
        found: dict[int, str] = {}
        begin = following = self.requests[0].first if self.requests else 0
        for request in self.requests:
            assert request.first in (begin, following), "told again, or the next"
            begin, following = request.first, request.first + len(request.calls) + request.omitted
            for number, one in enumerate(request.calls):
                assert found.setdefault(request.first + number, one.method) == one.method
        return [found[number] for number in sorted(found)]


class Older(exporter_grpc.ExporterServiceServicer):
    """One that does not have the call."""


class Replaced(Ours):
    """An older one of which the answer takes its time: a controller of ours has come to its place by then."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked, self.may_answer = trio.Event(), trio.Event()

    async def ReportCalls(  # noqa: N802 - the wire's name
        self, request: Request, call: ServerCall[Request, Response]
    ) -> Response:
        if self.was_asked.is_set():
            return await super().ReportCalls(request, call)
        self.was_asked.set()
        await self.may_answer.wait()
        raise self.unimplemented("ReportCalls")


@asynccontextmanager
async def reporting(lab: Lab, *also: Servicer) -> AsyncIterator[tuple[CallReporter, Wired]]:
    wired = Wired(lab, also=also)
    reporter = CallReporter(wired)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporter.run)
        yield reporter, wired
        nursery.cancel_scope.cancel()


def note(method: str) -> CallNote:
    return CallNote(
        "power", method, CallOrigin("ana"), trio.current_time(), "OK", 0.5, lease="l1", session="s1"
    )


async def test_calls_are_told_within_a_second_or_two_with_their_age_and_nothing_else(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        reporter.connected()
        reporter.note(note("on"))
        reporter.note(note("off"))
        await trio.sleep(BATCH_SECONDS * 2)
        (request,) = ours.requests
        assert [one.method for one in request.calls] == ["on", "off"]
        one = request.calls[0]
        assert (one.device, one.lease, one.user, one.status, one.session) == (
            "power",
            "l1",
            "ana",
            "OK",
            "s1",
        )
        assert BATCH_SECONDS <= one.age_seconds < BATCH_SECONDS * 2
        await trio.sleep(1000)
        assert len(ours.requests) == 1


async def test_all_that_is_known_of_a_call_is_told_each_in_its_place(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        reporter.connected()
        at = trio.current_time()
        caller = CallOrigin("ana", is_hook=True)
        reporter.note(
            CallNote(
                "disk", "flash", caller, at, "ABORTED", 7.5, received=11, sent=22, lease="l", session="s"
            )
        )
        await trio.sleep(BATCH_SECONDS * 2)
        [[one]] = [request.calls for request in ours.requests]
        assert 0 < one.age_seconds < BATCH_SECONDS * 2
        one.ClearField("age_seconds")
        assert one == exporter_pb2.DeviceCall(
            device="disk",
            method="flash",
            user="ana",
            by_hook=True,
            status="ABORTED",
            seconds=7.5,
            received_bytes=11,
            sent_bytes=22,
            lease="l",
            session="s",
        )


async def test_while_the_controller_is_away_calls_are_kept_up_to_a_bound_and_then_counted(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        for number in range(MAX_WAITING + 30):
            reporter.note(note(str(number)))
        await trio.sleep(1000)
        assert ours.requests == []
        reporter.connected()
        await trio.sleep(100)
        assert ours.methods == [str(number) for number in range(MAX_WAITING)]
        assert sum(request.omitted for request in ours.requests) == 30
        assert all(len(request.calls) <= MAX_BATCH for request in ours.requests)


async def test_what_may_not_have_arrived_is_told_again_the_same(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        ours.loses = 2
        reporter.connected()
        reporter.note(note("on"))
        await trio.sleep(BATCH_SECONDS * 1.5)
        reporter.note(note("off"))
        await trio.sleep(100)
        assert ours.methods == ["on", "off"]
        assert [(one.first, len(one.calls)) for one in ours.requests] == [(0, 1)] * 3 + [(1, 1)]
        assert len({one.reporter for one in ours.requests}) == 1


async def test_what_may_not_have_arrived_is_told_at_the_end_also_where_nothing_else_is_left(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        ours.loses = 1
        reporter.connected()
        reporter.note(note("on"))
        await trio.sleep(BATCH_SECONDS * 1.5)
        await reporter.flush()
        assert [(one.first, len(one.calls)) for one in ours.requests] == [(0, 1)] * 2


async def test_an_older_controller_is_asked_once_and_nothing_is_kept_for_it(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting(lab, Older()) as (reporter, wired):
        reporter.connected()
        reporter.note(note("on"))
        await trio.sleep(10)
        opened = wired.opened
        for _ in range(10):
            reporter.note(note("on"))
            reporter.connected()
            await trio.sleep(100)
        assert wired.opened == opened
        assert not reporter._waiting


async def test_the_controller_that_comes_after_an_older_one_is_told_again(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    replaced = Replaced()
    replaced.may_answer.set()
    async with reporting(lab, replaced) as (reporter, _):
        reporter.connected()
        reporter.note(note("on"))
        await trio.sleep(10)
        assert replaced.methods == []
        reporter.disconnected()
        reporter.connected()
        reporter.note(note("off"))
        await trio.sleep(10)
        assert replaced.methods == ["off"]


@pytest.mark.parametrize("is_back", [True, False])
async def test_what_an_older_controller_did_not_take_is_told_to_the_one_that_has_come_meanwhile(
    lab: Lab, autojump_clock: trio.testing.MockClock, is_back: bool
) -> None:
    replaced = Replaced()
    async with reporting(lab, replaced) as (reporter, _):
        reporter.connected()
        reporter.note(note("on"))
        await replaced.was_asked.wait()
        reporter.note(note("cycle"))
        reporter.disconnected()
        if is_back:
            reporter.connected()
        replaced.may_answer.set()
        await trio.testing.wait_all_tasks_blocked()
        reporter.connected()
        reporter.note(note("off"))
        await trio.sleep(10)
        assert replaced.methods == ["on", "cycle", "off"]


async def test_another_controller_than_ours_is_told_nothing(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting(lab) as (reporter, wired):
        for _ in range(2 * MAX_WAITING):
            reporter.note(note("on"))
        await trio.sleep(1000)
        assert wired.opened == 0
        assert len(reporter._waiting) == MAX_WAITING


async def test_what_is_left_is_told_at_the_end(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        reporter.connected()
        for number in range(MAX_BATCH + 1):
            reporter.note(note(str(number)))
        await reporter.flush()
        assert len(ours.methods) == MAX_BATCH + 1


async def test_how_many_were_left_out_is_told_at_the_end_also_where_nothing_else_is_left(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    async with reporting(lab, ours) as (reporter, _):
        ours.loses = 1000
        reporter.connected()
        reporter.note(note("first"))
        await trio.sleep(BATCH_SECONDS * 1.5)
        for number in range(MAX_WAITING + 7):  # while the first is not known to have arrived
            reporter.note(note(str(number)))
        ours.loses = 0
        await reporter.flush()
        assert sum(request.omitted for request in ours.requests) == 7
        assert ours.methods == ["first", *map(str, range(MAX_WAITING))]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("note"), st.integers(1, 700)),
        st.tuples(st.just("lose"), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["away", "back"]), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_whatever_gets_lost_each_call_is_told_in_order_or_counted(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        ours, made = Ours(), 0
        async with reporting(Lab(), ours) as (reporter, _):
            for step, number in steps:
                match step:
                    case "note":
                        for _ in range(number):
                            reporter.note(note(str(made)))
                            made += 1
                    case "lose":
                        ours.loses = number
                    case "away":
                        reporter.disconnected()
                    case "back":
                        reporter.connected()
                    case _:
                        await trio.sleep(number)
                assert len(reporter._waiting) <= MAX_WAITING
            ours.loses = 0
            reporter.connected()
            await trio.sleep(200)
        omitted = {request.first: request.omitted for request in ours.requests}
        told = [int(method) for method in ours.methods]
        assert told == sorted(set(told))
        assert len(told) + sum(omitted.values()) == made

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
