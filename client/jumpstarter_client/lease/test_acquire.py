"""The wait for a board, and its way back, while tokens end and controllers have trouble."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.client.v1 import client_grpc
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.remote import REASON, WAITS, ReasonCode
from jumpstarter_proto.rpc import Metadata, RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import kubernetes_pb2

from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient
from jumpstarter_client.controller.lease_view import LeasePhase
from jumpstarter_client.identity.oidc import LoginError
from jumpstarter_client.lease.lease import (
    LeaseRejectedError,
    acknowledge_lease,
    create_lease,
    release_lease,
    wait_for_lease,
)

LAB = "namespaces/lab"
TOKEN_SECONDS = 300.0
WAIT_SECONDS = 1800.0


class Queue(client_grpc.ClientServiceServicer):
    """A controller with one lease, that waits for half an hour."""

    def __init__(self) -> None:
        self.token_ends = math.inf
        self.is_free = False
        self.calls: list[tuple[str, bool]] = []
        """Each call about the lease, and whether it was one of a command that waits."""
        self.deletes: list[RpcError | None] = []
        """What it answers to each DeleteLease."""
        self.cut: trio.Event | None = None
        """Set by the DeleteLease during which the connection breaks."""
        self.reason: Metadata | None = None
        """Why there is no board, as its trailers say; None if there is one."""

    def _ready(self, name: str) -> pb.Lease:
        ready = kubernetes_pb2.Condition(type="Ready", status="True", reason="Ready")
        return pb.Lease(name=name, exporter=f"{LAB}/exporters/one", conditions=[ready])

    async def CreateLease(  # noqa: N802
        self, request: pb.CreateLeaseRequest, call: ServerCall[pb.CreateLeaseRequest, pb.Lease]
    ) -> pb.Lease:
        self.calls.append(("create", call.header(WAITS) is not None))
        name = f"{LAB}/leases/{request.lease_id}"
        return self._ready(name) if self.is_free else pb.Lease(name=name)

    async def GetLease(  # noqa: N802
        self, request: pb.GetLeaseRequest, call: ServerCall[pb.GetLeaseRequest, pb.Lease]
    ) -> pb.Lease:
        self.calls.append(("get", call.header(WAITS) is not None))
        if trio.current_time() >= self.token_ends:
            raise RpcError(StatusCode.UNKNOWN, "oidc: verify token: token is expired")
        if self.reason is not None:
            call.set_trailing_metadata(self.reason)
            said = kubernetes_pb2.Condition(
                type="Unsatisfiable", status="True", message="no exporter matches x"
            )
            return pb.Lease(name=request.name, conditions=[said])
        if trio.current_time() < WAIT_SECONDS and not self.is_free:
            return pb.Lease(name=request.name)
        return self._ready(request.name)

    async def DeleteLease(self, request: pb.DeleteLeaseRequest, call: object) -> empty_pb2.Empty:  # noqa: N802
        answer = self.deletes.pop(0)
        if self.cut is not None and not self.cut.is_set():
            self.cut.set()
            await trio.sleep_forever()
        if answer is not None:
            raise answer
        return empty_pb2.Empty()


class Access:
    """Like a `ControllerClient` with the token of another issuer: each connection has a new token."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.logged_in = True
        self.supports_watch = True

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ControllerCalls]:
        if not self.logged_in:
            raise LoginError("the token is expired, and there is no other; run `jumpstarter login`")
        ours, theirs = trio.testing.memory_stream_pair()
        self._queue.token_ends = trio.current_time() + TOKEN_SECONDS

        async def cut(event: trio.Event) -> None:
            await event.wait()
            await trio.aclose_forcefully(theirs)

        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, theirs, [self._queue])
                if self._queue.cut is not None and not self._queue.cut.is_set():
                    nursery.start_soon(cut, self._queue.cut)
                async with open_channel(ours) as channel:
                    yield ControllerCalls(channel, LAB)
                nursery.cancel_scope.cancel()


async def test_a_wait_is_longer_than_a_token(autojump_clock: trio.testing.MockClock) -> None:
    controller = cast("ControllerClient", Access(Queue()))
    lease = pb.Lease(name=f"{LAB}/leases/x")
    ready, progress = await wait_for_lease(controller, lease, lambda _: None, timeout=7200)
    assert progress.phase is LeasePhase.READY
    assert ready.exporter == f"{LAB}/exporters/one"


async def test_a_controller_hears_of_who_waits_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = Queue()
    controller = cast("ControllerClient", Access(queue))
    made = await create_lease(controller, "x", pb.Lease(), waits=True)
    await wait_for_lease(controller, made, lambda _: None, timeout=7200)
    assert all(waits for _, waits in queue.calls)
    assert len(queue.calls) - 1 > WAIT_SECONDS / 3


async def test_a_board_that_is_free_at_once_costs_one_call_and_one_to_say_that_it_is_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = Queue()
    queue.is_free = True
    controller = cast("ControllerClient", Access(queue))
    made = await create_lease(controller, "x", pb.Lease(), waits=True)
    await wait_for_lease(controller, made, lambda _: None, timeout=7200)
    assert queue.calls == [("create", True)]
    await acknowledge_lease(controller, "x")
    assert queue.calls == [("create", True), ("get", True)]


async def test_who_does_not_wait_is_not_expected_to_be_heard_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = Queue()
    await create_lease(cast("ControllerClient", Access(queue)), "x", pb.Lease())
    assert queue.calls == [("create", False)]


async def test_a_lease_is_given_back_though_the_controllers_disk_is_full_for_a_moment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = Queue()
    queue.deletes = [
        RpcError(StatusCode.RESOURCE_EXHAUSTED, "the disk is full"),
        RpcError(StatusCode.UNAVAILABLE, "shutting down"),
        None,
    ]
    await release_lease(cast("ControllerClient", Access(queue)), "x")
    assert queue.deletes == []


@pytest.mark.parametrize("after", [None, RpcError(StatusCode.FAILED_PRECONDITION, "it has ended already")])
async def test_a_lease_is_given_back_again_when_the_connection_breaks_before_the_answer(
    after: RpcError | None, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    queue.cut, queue.deletes = trio.Event(), [None, after]
    began = trio.current_time()
    await release_lease(cast("ControllerClient", Access(queue)), "x")
    assert queue.deletes == [], "asked again, as the controller may have heard of it or not"
    assert trio.current_time() - began < 1
    assert "could not be released" not in caplog.text


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND])
async def test_who_finds_no_board_hears_so_though_the_controller_does_not_say_why(
    code: StatusCode, autojump_clock: trio.testing.MockClock
) -> None:
    class Forgetful(Queue):
        async def GetLease(  # noqa: N802
            self, request: pb.GetLeaseRequest, call: ServerCall[pb.GetLeaseRequest, pb.Lease]
        ) -> pb.Lease:
            if any(what == "get" for what, _ in self.calls):
                raise RpcError(code, "not now")
            return await super().GetLease(request, call)

    queue = Forgetful()
    queue.reason = [(REASON, ReasonCode.NO_BOARD.value)]
    controller, lease = cast("ControllerClient", Access(queue)), pb.Lease(name=f"{LAB}/leases/x")
    with pytest.raises(LeaseRejectedError) as refused:
        await wait_for_lease(controller, lease, lambda _: None, timeout=60)
    assert str(refused.value) == "the lease cannot be satisfied: no exporter matches x"


async def test_a_lease_that_cannot_be_given_back_hides_nothing_else(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access(Queue())
    access.logged_in = False
    await release_lease(cast("ControllerClient", access), "x")
    assert "lease x could not be released" in caplog.text
    assert "jumpstarter login" in caplog.text


@pytest.mark.parametrize(
    ("reason", "can_wait"),
    [([(REASON, ReasonCode.NO_BOARD.value)], True), ([(REASON, "another")], False), ([], False)],
)
async def test_who_finds_no_board_hears_that_one_can_be_waited_for_if_the_controller_says_so(
    reason: Metadata, can_wait: bool, autojump_clock: trio.testing.MockClock
) -> None:
    queue = Queue()
    queue.reason = reason
    controller, lease = cast("ControllerClient", Access(queue)), pb.Lease(name=f"{LAB}/leases/x")
    with pytest.raises(LeaseRejectedError) as refused:
        await wait_for_lease(controller, lease, lambda _: None, timeout=60)
    cure = "; to wait until there is one, add --wait-for-board" if can_wait else ""
    assert str(refused.value) == f"the lease cannot be satisfied: no exporter matches x{cure}"
