"""Two streams with one token, over real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast

import jwt
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.rpc import ConnectionLimits, RpcError, Server, ServerCall, StatusCode, open_channel
from jumpstarter_proto.v1 import router_grpc, router_pb2

from jumpstarter_controller.router import ROUTER_OPTIONS, RouterService, RouterTokens
from jumpstarter_controller.router.service import (
    GUARD_SECONDS,
    HURRY_SECONDS,
    MAX_STREAMS_PER_TOKEN,
    MEBIBYTE,
    _Side,
)
from jumpstarter_controller.router.stream_pairing import StreamPairing, TooManyStreamsError
from jumpstarter_controller.router.tokens import CLOCK_LEEWAY_SECONDS, MAX_TOKEN_LENGTH

KEY = b"k" * 32
TOKENS = RouterTokens(KEY)


class Lab:
    def __init__(self, nursery: trio.Nursery, **bounds: int) -> None:
        self.service = RouterService(TOKENS, **bounds)
        self.server = Server([self.service], options=ROUTER_OPTIONS)
        self.nursery = nursery

    @asynccontextmanager
    async def dial(self, token: str) -> AsyncIterator[RouterStream]:
        near, far = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.server.serve_connection, far)
        metadata = [("authorization", f"Bearer {token}")]
        async with (
            open_channel(near, metadata=metadata) as channel,
            router_grpc.RouterServiceStub(channel).Stream() as call,
        ):
            yield RouterStream.client(call)

    async def until(self, waiting: int, pairs: int) -> None:
        with trio.fail_after(10):
            while (self.service.waiting, self.service.pairs) != (waiting, pairs):
                await trio.sleep(0.001)

    async def until_empty(self) -> None:
        with trio.fail_after(10):
            while self.service.streams:
                await trio.sleep(0.001)
        assert (self.service.waiting, self.service.pairs) == (0, 0)
        assert not self.service._pairing._here


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        yield Lab(nursery)
        nursery.cancel_scope.cancel()


async def test_what_came_before_the_other_side_arrives_first(lab: Lab) -> None:
    token = TOKENS.issue()
    async with lab.dial(token) as one:
        await one.send_all(b"early")
        await lab.until(1, 0)
        async with lab.dial(token) as two:
            assert await two.receive_some() == b"early"
            await two.send_all(b"answer")
            assert await one.receive_some() == b"answer"
            await one.send_eof()
            assert await two.receive_some() == b""
            await two.send_all(b"still")
            assert await one.receive_some() == b"still"
            await two.send_eof()
            assert await one.receive_some() == b""
            # The stream is over, though nobody has left it.
            await lab.until_empty()


@pytest.mark.parametrize("first_dies", [True, False])
async def test_one_side_that_dies_ends_the_other(lab: Lab, first_dies: bool) -> None:
    token = TOKENS.issue()
    scopes = [trio.CancelScope(), trio.CancelScope()]
    ended: list[str] = []

    async def side(scope: trio.CancelScope) -> None:
        with scope:
            async with lab.dial(token) as stream:
                try:
                    await stream.receive_some()
                except trio.BrokenResourceError as error:
                    ended.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, scopes[0])
        await lab.until(1, 0)
        nursery.start_soon(side, scopes[1])
        await lab.until(0, 1)
        scopes[0 if first_dies else 1].cancel()
        with trio.fail_after(5):
            while not ended:
                await trio.sleep(0.01)
    assert "other side of this stream is gone" in ended[0]
    await lab.until_empty()


@pytest.mark.parametrize("first_dies", [True, False])
async def test_one_side_that_dies_after_its_last_word_ends_the_other(
    lab: Lab, first_dies: bool, autojump_clock: trio.testing.MockClock
) -> None:
    token = TOKENS.issue()

    async def dying(*, task_status: trio.TaskStatus[tuple[RouterStream, trio.CancelScope]]) -> None:
        with trio.CancelScope() as scope:
            async with lab.dial(token) as stream:
                task_status.started((stream, scope))
                await trio.sleep_forever()

    async def staying(*, task_status: trio.TaskStatus[RouterStream]) -> None:
        async with lab.dial(token) as stream:
            task_status.started(stream)
            await trio.sleep_forever()

    if first_dies:
        dead, death = await lab.nursery.start(dying)
        await lab.until(1, 0)
        alive = await lab.nursery.start(staying)
    else:
        alive = await lab.nursery.start(staying)
        await lab.until(1, 0)
        dead, death = await lab.nursery.start(dying)
    await lab.until(0, 1)
    await dead.send_eof()
    assert await alive.receive_some() == b""
    # Nothing is read from the dead one any more, and nothing has to be sent to it.
    death.cancel()
    await lab.until_empty()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BrokenResourceError, match="other side of this stream is gone"):
        await alive.send_all(b"more")


async def test_an_orphan_leaves_nothing(lab: Lab) -> None:
    async with lab.dial(TOKENS.issue()):
        await lab.until(1, 0)
    await lab.until_empty()


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        RouterTokens(b"other" * 8).issue(),
        RouterTokens(KEY, clock=lambda: 1.0).issue(),
        RouterTokens(KEY, clock=lambda: 4e9).issue(),
        jwt.encode({"iss": "x", "aud": "y", "sub": "z", "exp": 4e9}, KEY),
        jwt.encode({"sub": "z"}, "", algorithm="none"),
        "x" * 9000,
    ],
)
async def test_tokens_that_do_not_count(lab: Lab, token: str) -> None:
    async with lab.dial(token) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
    cause = caught.value.__cause__
    assert isinstance(cause, RpcError)
    assert cause.code is StatusCode.UNAUTHENTICATED


async def test_a_reader_that_stops_bounds_what_the_router_holds(lab: Lab) -> None:
    token = TOKENS.issue()
    sent = 0
    async with lab.dial(token) as reader, lab.dial(token) as writer:
        await lab.until(0, 1)
        piece = bytes(65536)
        for _ in range(1000):
            with trio.move_on_after(0.5) as scope:
                await writer.send_all(piece)
            if scope.cancelled_caught:
                break
            sent += len(piece)
        assert sent < 16 * 1024 * 1024, "nobody reads, and it takes more and more"
        assert len(await reader.receive_some()) == 65536


async def test_frames_pass_unchanged(lab: Lab) -> None:
    token = TOKENS.issue()
    near, far = trio.testing.memory_stream_pair()
    lab.nursery.start_soon(lab.server.serve_connection, far)
    async with (
        lab.dial(token),
        open_channel(near, metadata=[("authorization", f"bearer {token}")]) as channel,
        router_grpc.RouterServiceStub(channel).Stream() as call,
    ):
        await call.send(router_pb2.StreamRequest(payload=b"", frame_type=router_pb2.FRAME_TYPE_PING))
        await lab.until(0, 1)


async def refused(lab: Lab, token: str) -> RpcError:
    async with lab.dial(token) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
    assert isinstance(caught.value.__cause__, RpcError)
    return caught.value.__cause__


async def test_more_streams_than_there_may_be_are_refused() -> None:
    async with trio.open_nursery() as nursery:
        lab = Lab(nursery, most_streams=2)
        async with lab.dial(TOKENS.issue()), lab.dial(TOKENS.issue()):
            await lab.until(2, 0)
            error = await refused(lab, TOKENS.issue())
            assert error.code is StatusCode.RESOURCE_EXHAUSTED
            assert "dial again later" in error.details
            assert lab.service.refused == 1
        await lab.until_empty()
        async with lab.dial(TOKENS.issue()):
            await lab.until(1, 0)
        await lab.until_empty()
        nursery.cancel_scope.cancel()


async def test_one_token_is_for_few_streams(lab: Lab) -> None:
    token = TOKENS.issue()
    async with AsyncExitStack() as stack:
        for _ in range(MAX_STREAMS_PER_TOKEN):
            await stack.enter_async_context(lab.dial(token))
        await lab.until(0, MAX_STREAMS_PER_TOKEN // 2)
        assert (await refused(lab, token)).code is StatusCode.RESOURCE_EXHAUSTED
        async with lab.dial(TOKENS.issue()):
            await lab.until(1, MAX_STREAMS_PER_TOKEN // 2)
    await lab.until_empty()


async def test_a_lease_has_no_more_connections_than_its_share() -> None:
    async with trio.open_nursery() as nursery:
        lab = Lab(nursery)
        limits = ConnectionLimits(of_identity=2)
        lab.server = Server([lab.service], options=ROUTER_OPTIONS, limits=limits)
        mine, other = ({"namespace": "n", "lease": name} for name in ("mine", "other"))
        async with lab.dial(TOKENS.issue(about=mine)), lab.dial(TOKENS.issue(about=mine)):
            await lab.until(2, 0)
            error = await refused(lab, TOKENS.issue(about=mine))
            assert error.code is StatusCode.RESOURCE_EXHAUSTED
            assert "lease n/mine has 2 connections" in error.details
            async with lab.dial(TOKENS.issue(about=other)):
                await lab.until(3, 0)
        await lab.until_empty()
        nursery.cancel_scope.cancel()


async def test_a_long_token_is_not_looked_at(lab: Lab) -> None:
    claims = jwt.decode(TOKENS.issue(), options={"verify_signature": False})
    long = jwt.encode(claims | {"more": "x" * MAX_TOKEN_LENGTH}, KEY, algorithm="HS256")
    error = await refused(lab, long)
    assert error.code is StatusCode.UNAUTHENTICATED
    assert "too long" in error.details


async def flooded(lab: Lab, stack: AsyncExitStack) -> list[RouterStream]:
    """Two ends of a stream, of which the second has taken nothing of what the first sends for ever."""
    token = TOKENS.issue()
    ends = [await stack.enter_async_context(lab.dial(token)) for _ in range(2)]

    async def flood() -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await ends[0].send_all(bytes(65536))

    lab.nursery.start_soon(flood)
    return ends


async def test_beyond_its_bound_a_router_takes_no_stream_and_ends_only_as_many_as_it_must(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        lab = Lab(nursery, most_held=7 * MEBIBYTE // 2)
        await nursery.start(lab.service.limit_memory)
        modest = TOKENS.issue()
        near, far = [await stack.enter_async_context(lab.dial(modest)) for _ in range(2)]
        await near.send_all(b"one")
        streams = [await flooded(lab, stack) for _ in range(2)]
        # It has looked at what they hold, and looks more often from now on.
        await trio.sleep(2 * GUARD_SECONDS)
        assert MEBIBYTE < lab.service.held < 7 * MEBIBYTE // 2
        began = trio.current_time()
        streams += [await flooded(lab, stack) for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        while lab.service.streams == 2 + 2 * len(streams):
            await trio.sleep(HURRY_SECONDS / 10)
        assert trio.current_time() - began < 2 * HURRY_SECONDS
        error = await refused(lab, TOKENS.issue())
        assert "no room for another stream" in error.details
        await trio.sleep(2 * HURRY_SECONDS)
        await near.send_all(b"two")
        assert [await far.receive_some() for _ in range(2)] == [b"one", b"two"]
        # One of four was too much.
        assert lab.service.pairs == 4
        async with lab.dial(TOKENS.issue()):
            await lab.until(1, 4)
        nursery.cancel_scope.cancel()


async def test_the_stream_that_holds_most_is_ended_first() -> None:
    service = RouterService(TOKENS, most_held=5)
    sides = [(held, _Side(cast("ServerCall[Any, Any]", None), {})) for held in (1, 3, 5, 0)]
    service._end_greediest(sides, 9)
    assert [held for held, side in sides if side.scope.cancel_called] == [5]
    assert service.refused == 1


async def test_what_is_held_in_all_is_bounded_and_the_greediest_stream_pays() -> None:
    bound = 2 * 1024 * 1024
    async with trio.open_nursery() as nursery:
        lab = Lab(nursery, most_held=bound)
        await nursery.start(lab.service.limit_memory)
        modest, greedy = TOKENS.issue(), [TOKENS.issue() for _ in range(4)]
        async with AsyncExitStack() as stack:
            near = await stack.enter_async_context(lab.dial(modest))
            far = await stack.enter_async_context(lab.dial(modest))
            await near.send_all(b"still here")
            senders = []
            for token in greedy:
                await stack.enter_async_context(lab.dial(token))
                senders.append(await stack.enter_async_context(lab.dial(token)))
            await lab.until(0, 5)
            broken: list[str] = []

            async def flood(stream: RouterStream) -> None:
                try:
                    while True:
                        await stream.send_all(bytes(65536))
                except trio.BrokenResourceError as error:
                    broken.append(str(error))

            async with trio.open_nursery() as flooding:
                for stream in senders:
                    flooding.start_soon(flood, stream)
                with trio.fail_after(30):
                    while not broken or lab.service.held > bound:
                        await trio.sleep(0.05)
                flooding.cancel_scope.cancel()
            assert all("does not take" in one or "other side" in one for one in broken)
            assert await far.receive_some() == b"still here"
        await lab.until_empty()
        nursery.cancel_scope.cancel()


async def test_who_waits_waits_no_longer_than_its_token_counts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A lease's tokens end with it, so nobody waits for a lease that is over."""
    async with trio.open_nursery() as nursery:
        lab = Lab(nursery)
        started = trio.current_time()
        error = await refused(lab, TOKENS.issue(120))
        assert error.code is StatusCode.DEADLINE_EXCEEDED
        assert 120 <= trio.current_time() - started <= 120 + CLOCK_LEEWAY_SECONDS + 1
        await lab.until_empty()
        nursery.cancel_scope.cancel()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 5)), max_size=60))
def test_pairs_are_of_one_name_and_nobody_is_in_two(events: list[tuple[str, bool, int]]) -> None:
    pairing: StreamPairing[tuple[str, int]] = StreamPairing(3)
    waiting: dict[str, tuple[str, int]] = {}
    here: list[tuple[str, int]] = []
    for number, (name, leaves, which) in enumerate(events):
        if leaves:
            if here:
                gone = here.pop(which % len(here))
                pairing.leave(gone[0], gone)
                if waiting.get(gone[0]) == gone:
                    del waiting[gone[0]]
            continue
        side = (name, number)
        try:
            other = pairing.arrive(name, side)
        except TooManyStreamsError:
            assert sum(one[0] == name for one in here) == 3
            continue
        here.append(side)
        assert other == waiting.pop(name, None)
        if other is None:
            waiting[name] = side
        assert pairing.waiting == len(waiting)
    for side in here:
        pairing.leave(side[0], side)
    assert (pairing.waiting, len(pairing._here)) == (0, 0)
