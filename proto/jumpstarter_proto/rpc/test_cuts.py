"""Whatever a server cuts a connection for, its peer is told why, and its log says the same, once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from jumpstarter_proto.rpc import ConnectionLimits, Options, Server
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc.conftest import STREAM, UNARY, Bytes, Call, Echo
from jumpstarter_proto.rpc.test_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    frame,
)

OPTIONS = Options(resets_per_second=10, max_streams=10, keepalive_interval=60, keepalive_timeout=20)


class Door(Echo):
    """Trusts whoever makes a unary call."""

    async def Unary(self, request: Bytes, call: Call) -> Bytes:  # noqa: N802
        call.set_authenticated("ann")
        return request


BEGIN = PREFACE + frame(SETTINGS, 0, 0, b"")


def bad(*frames: bytes) -> Callable[[], Iterator[bytes]]:
    """Frames that nobody may send."""
    return lambda: iter([BEGIN, *frames])


def calls(path: str = STREAM.path, *, resets: int = 0, words: str = "") -> Iterator[bytes]:
    """A client's begin, and calls that it resets at once, if any."""
    client = GrpcConnection(client=True, options=Options())
    client.start()
    yield client.take()
    for _ in range(max(resets, 1)):
        metadata = [("words", words)] if words else []
        number = client.start_call(path, scheme="http", authority="x", timeout=None, metadata=metadata)
        if resets:
            client.reset(number)
        yield client.take()


def known_and_silent() -> Iterator[bytes]:
    client = GrpcConnection(client=True, options=Options())
    client.start()
    number = client.start_call(UNARY.path, scheme="http", authority="x", timeout=None, metadata=())
    client.send_message(number, Bytes(value=b"ann").SerializeToString(), end=True)
    yield client.take()


CUTS: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "silence": (lambda: iter([]), "no caller was authenticated on it within 30 s"),
    "half a preface": (lambda: iter([PREFACE[:10]]), "no caller was authenticated on it within 30 s"),
    "a call that nobody trusts": (calls, "no caller was authenticated on it within 30 s"),
    "silence of one that is known": (known_and_silent, "the peer has not answered for 80 s"),
    "other words": (lambda: iter([b"SSH-2.0-OpenSSH_9.2\r\n"]), "does not speak HTTP/2"),
    "no settings": (lambda: iter([PREFACE, frame(PING, 0, 0, bytes(8))]), "does not speak HTTP/2"),
    "a frame that is too large": (bad(b"\xff\xff\xff\0\0\0\0\0\1"), "a frame of 16777215 bytes"),
    "a large frame of no data": (bad(b"\0\xff\xff\4\0\0\0\0\0"), "too large a frame"),
    "many settings": (
        lambda: iter([BEGIN] + [frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1") * 50] * 400),
        "too many frames",
    ),
    "many pings": (lambda: iter([BEGIN] + [frame(PING, 0, 0, bytes(8)) * 100] * 400), "too many frames"),
    "many resets": (lambda: calls(resets=200), "cancels too many calls"),
    "headers without an end": (
        bad(frame(HEADERS, 0, 1, b""), *[frame(CONTINUATION, 0, 1, bytes(16000))] * 8),
        "too many headers",
    ),
    "an invalid header block": (
        bad(frame(HEADERS, END_HEADERS, 1, b"\xff" * 20)),
        "headers are invalid",
    ),
    "more headers than are taken": (
        lambda: calls(words="x" * 60_000),
        "too many headers|too large a frame|headers",
    ),
    "data of no call": (bad(frame(DATA, 0, 1, b"x")), "which is not open"),
    "a reset of no call": (bad(frame(RST, 0, 1, bytes(4))), "which is not open"),
    "a reset of another length": (bad(frame(RST, 0, 1, bytes(3))), "an impossible length"),
    "a window that does not grow": (bad(frame(WINDOW, 0, 0, bytes(4))), "does not grow"),
    "a window beyond all": (bad(frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff")), "an impossible window"),
    "an even number": (bad(frame(HEADERS, END_HEADERS, 2, b"\x82")), "an even number"),
    "a push": (bad(frame(PUSH, 0, 1, bytes(4))), "a push, which is not allowed"),
    "a priority of itself": (bad(frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 1))), "depends on itself"),
}


def last_goaway(seen: bytes) -> str:
    """What the last GOAWAY says."""
    text, at = "", 0
    while at + 9 <= len(seen):
        size, kind = int.from_bytes(seen[at : at + 3], "big"), seen[at + 3]
        if kind == GOAWAY:
            text = seen[at + 17 : at + 9 + size].decode()
        at += 9 + size
    return text


@pytest.mark.parametrize("cut", CUTS)
async def test_the_peer_and_the_log_are_told_the_reason(
    cut: str,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pieces, reason = CUTS[cut]
    server = Server([Door()], limits=ConnectionLimits(), options=OPTIONS)
    near, far = trio.testing.memory_stream_pair()
    nursery.start_soon(server.serve_connection, far)
    seen = bytearray()

    async def read() -> None:
        while data := await near.receive_some():
            seen.extend(data)

    async with trio.open_nursery() as reading:
        reading.start_soon(read)
        # A stream in memory cannot tell how much of the server's own begin it has taken when that is cut short.
        await trio.testing.wait_all_tasks_blocked()
        with suppress(trio.BrokenResourceError):
            for piece in pieces():
                await near.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
    await trio.testing.wait_all_tasks_blocked()
    [record] = caplog.records
    said = last_goaway(bytes(seen))
    assert any(words in said for words in reason.split("|")), said
    assert record.getMessage() in (
        f"closed the connection of a tunnel: {said}",
        f"closed the connection of a tunnel: the peer broke the HTTP/2 protocol: {said}",
    )


async def test_of_many_at_once_the_one_that_has_to_leave_is_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in already, and goes for one of another address."""
    limits = ConnectionLimits(unauthenticated=2, unauthenticated_of_peer=2)
    server = Server([Door()], limits=limits, options=OPTIONS)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await nursery.start(server.serve, listeners)
    port = listeners[0].socket.getsockname()[1]
    greedy = [await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.66") for _ in range(2)]
    for stream in greedy:
        assert await stream.receive_some()  # it is in
    other = await trio.open_tcp_stream("127.0.0.1", port)
    assert await other.receive_some()
    seen = b""
    with suppress(trio.BrokenResourceError), trio.fail_after(5):
        while data := await greedy[1].receive_some():
            seen += data
    assert last_goaway(seen) == "too many connections that are not authenticated; try again later"
    with trio.fail_after(5):
        while not any(record.getMessage().endswith(last_goaway(seen)) for record in caplog.records):
            await trio.sleep(0.01)
    for stream in (*greedy, other):
        await stream.aclose()
    nursery.cancel_scope.cancel()
