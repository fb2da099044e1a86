"""Two programs, what joins them, and everything that can happen to their bytes."""

from __future__ import annotations

import itertools
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jumpstarter_proto.byte_streams.join import QUIET_SECONDS, BrokenJoinError, closing, join
from jumpstarter_proto.rpc.conftest import socket_pair, tls_pair
from tests.support.joined import ROOM, Program, Wire, joined_over, play, tcp, wire

PROGRAMS = st.builds(
    Program,
    pieces=st.lists(st.integers(1, 3000), max_size=6),
    pauses=st.lists(st.sampled_from([0, 0.01, 0.3, 7.0]), max_size=3),
    end=st.sampled_from(["half-close", "half-close", "half-close", "reset"]),
)
LEAVES = st.none() | st.sampled_from([0.0, 0.005, 0.2, 1.0, 9.0])


def run(one: Program, other: Program, play_it: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(600):
            await play_it()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@given(PROGRAMS, PROGRAMS, LEAVES)
@settings(max_examples=200)
def test_no_byte_is_lost_without_an_error(one: Program, other: Program, leave_after: float | None) -> None:
    async def play_it() -> None:
        one.stream, near = wire()
        other.stream, far = wire()

        async def join_them() -> None:
            async with closing(near), closing(far):
                await join(near, far)

        await play(one, other, join_them, leave_after)

    run(one, other, play_it)


@given(PROGRAMS, PROGRAMS, LEAVES)
@settings(max_examples=100)
def test_no_byte_is_lost_without_an_error_through_a_call(
    one: Program, other: Program, leave_after: float | None
) -> None:
    async def play_it() -> None:
        one.stream, near = wire()
        other.stream, far = wire()
        async with joined_over(trio.testing.memory_stream_pair(), near, far) as join_them:
            await play(one, other, join_them, leave_after)

    run(one, other, play_it)


LARGE = st.builds(
    Program,
    pieces=st.lists(st.integers(1, 200_000), max_size=4),
    pauses=st.lists(st.sampled_from([0, 0.001]), max_size=3),
    end=st.sampled_from(["half-close", "half-close", "half-close", "reset"]),
)


@pytest.mark.parametrize("carrier", ["unix", "tls"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=LARGE, other=LARGE, leave_after=st.none() | st.sampled_from([0.0, 0.005, 0.02]))
def test_no_byte_is_lost_without_an_error_between_sockets(
    carrier: str,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    one: Program,
    other: Program,
    leave_after: float | None,
) -> None:
    async def play_it() -> None:
        one.stream, near = await tcp()
        other.stream, far = await tcp()
        pair = socket_pair() if carrier == "unix" else await tls_pair(contexts)
        async with joined_over(pair, near, far) as join_them:
            await play(one, other, join_them, leave_after)

    async def main() -> None:
        with trio.fail_after(15):
            await play_it()

    trio.run(main)


async def test_two_programs_that_both_break_off_while_the_way_is_full_leave_nothing_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What each has sent fills the way to the other, whose side has nobody left to give it to."""
    one, near = wire()
    other, far = wire()

    async def flood(stream: Wire) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(bytes(10_000_000))

    async def leave(stream: Wire) -> None:
        stream.abort()
        await stream.aclose()

    async def break_off() -> None:
        await trio.testing.wait_all_tasks_blocked()
        await leave(one)
        await leave(other)

    with trio.fail_after(60):
        async with (
            joined_over(trio.testing.memory_stream_pair(), near, far) as join_them,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(flood, one)
            nursery.start_soon(flood, other)
            nursery.start_soon(break_off)
            with pytest.raises(BrokenJoinError):
                await join_them()


async def test_a_tcp_connection_is_reset_when_the_other_side_breaks_and_not_closed() -> None:
    program, near = await tcp()
    service, far = wire()
    async with program, trio.open_nursery() as nursery:

        async def join_them() -> None:
            with pytest.raises(BrokenJoinError) as broken:
                async with closing(near), closing(far):
                    await join(near, far)
            assert broken.value.side is far

        nursery.start_soon(join_them)
        await service.send_all(b"the beginning of")
        assert await program.receive_some() == b"the beginning of"
        service.abort()
        await service.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await program.receive_some()


async def test_leaving_a_join_passes_on_what_has_come_and_then_resets(
    autojump_clock: trio.testing.MockClock,
) -> None:
    program, near = wire()
    service, far = wire()
    async with trio.open_nursery() as nursery:

        async def join_them() -> None:
            async with closing(near), closing(far):
                await join(near, far)

        nursery.start_soon(join_them)
        await program.send_all(bytes(ROOM))  # more than one piece
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            got = 0
            while got < ROOM:
                got += len(await service.receive_some())
            with pytest.raises(trio.BrokenResourceError):
                await service.receive_some()


async def test_leaving_a_join_of_which_nobody_says_anything_takes_a_moment_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    (program, near), (service, far) = wire(), wire()
    with trio.move_on_after(60):
        await join(near, far)
    assert trio.current_time() == pytest.approx(60 + QUIET_SECONDS)
    for one in (program, service):
        await trio.aclose_forcefully(one)


async def test_the_end_of_a_console_s_user_ends_all_once_it_was_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    user, near = wire()
    console, far = wire()
    over = trio.Event()

    async def join_them() -> None:
        async with closing(near), closing(far):
            await join(near, far, ends_with=[near])
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(join_them)
        await console.send_all(b"login: ")
        await user.send_all(b"poweroff")
        await user.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert not over.is_set(), "the console has not taken it"
        assert await console.receive_some() == b"poweroff"
        await over.wait()


@pytest.mark.parametrize("ended", ["caller", "exporter"])
async def test_a_connection_that_is_lost_after_one_side_said_its_end_is_an_error_for_the_other_at_once(
    autojump_clock: trio.testing.MockClock, ended: str
) -> None:
    """Nothing more comes from that side, and the other has nothing to say; nobody may wait until it does."""
    one, near = wire()
    other, far = wire()
    carrier = trio.testing.memory_stream_pair()
    over = trio.Event()
    speaker, listener = (one, other) if ended == "caller" else (other, one)
    async with joined_over(carrier, near, far) as join_them, trio.open_nursery() as nursery:

        async def forward() -> None:
            with pytest.raises(BrokenJoinError):
                await join_them()
            over.set()

        nursery.start_soon(forward)
        await speaker.send_all(b"all")
        await speaker.send_eof()
        assert await listener.receive_some() == b"all"
        assert await listener.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        lost = trio.current_time()
        await trio.aclose_forcefully(carrier[0])
        with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
            await speaker.receive_some()
        await over.wait()
        with pytest.raises(trio.BrokenResourceError):
            await listener.send_all(b"x")
        assert trio.current_time() - lost < 1


async def test_what_a_stream_raises_wins_over_the_streams_that_break_because_of_it() -> None:
    class Card(Wire):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            raise OSError("input/output error")

    program, near = wire()
    _, far = wire()
    await program.send_all(b"x")
    with pytest.raises(OSError, match="input/output error"):
        await join(near, Card(far._in, far._out))


class Faulty(Wire):
    """A stream whose own code fails once a direction of it has broken."""

    async def finish(self, *, discard: bool = False) -> None:
        raise OSError("input/output error")


async def test_what_a_stream_raises_while_the_bytes_for_it_are_flushed_is_raised_as_it_is() -> None:
    program, near = wire()
    _, far = wire()
    program.abort()
    await program.aclose()
    with pytest.raises(OSError, match="input/output error"):
        await join(near, Faulty(far._in, far._out))


async def test_what_a_stream_raises_while_its_words_are_dropped_is_raised_as_it_is() -> None:
    class Source(Wire):
        words = iter([b"x"])

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            if (word := next(self.words, None)) is None:
                raise OSError("input/output error")
            return word

    class Deaf(Wire):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            raise trio.BrokenResourceError

    _, near = wire()
    _, far = wire()
    with pytest.raises(OSError, match="input/output error"):
        await join(Source(near._in, near._out), Deaf(far._in, far._out))


@contextmanager
def behind_look(number: int, act: Callable[[], None]) -> Iterator[None]:
    """Act as soon as the kernel was asked so many times how a socket of this thread's is."""
    looks = itertools.count(1)

    def profile(frame: object, event: str, function: object) -> None:
        is_look = getattr(function, "__name__", "") in ("getsockopt", "ioctl")
        if event == "c_return" and is_look and next(looks) == number:
            act()

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


class Confirmed(Wire):
    """A stream that is told when all of its data was taken."""

    is_confirmed = False

    async def confirm(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_confirmed = True


async def connected_service(kind: str) -> tuple[trio.SocketStream, socket.socket]:
    """A socket of ours, and the other end, whose kernel acknowledges only some of `TO_SERVICE` before it reads."""
    if kind == "unix":
        ours, theirs = socket.socketpair()
        near = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    else:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            near = await trio.open_tcp_stream(*listener.getsockname())
            theirs, _ = listener.accept()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * TO_SERVICE)
    theirs.settimeout(10)
    return near, theirs


TO_SERVICE = 20_000


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("look", range(1, 7))
async def test_a_service_that_closes_while_we_look_has_taken_everything_or_has_not(
    kind: str, look: int, *, reads: bool
) -> None:
    program, far = wire()
    source = Confirmed(far._in, far._out)
    near, theirs = await connected_service(kind)
    got = bytearray()

    def close() -> None:
        while reads and (data := theirs.recv(TO_SERVICE)):
            got.extend(data)
        theirs.close()

    async def speak() -> None:
        await program.send_all(bytes(TO_SERVICE))
        await program.send_eof()

    async with near, trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        with behind_look(look, close):
            if reads:
                await join(source, near)
            else:
                with pytest.raises(BrokenJoinError):
                    await join(source, near)
    assert len(got) == (TO_SERVICE if reads else 0)
    assert source.is_confirmed == reads
