"""Sizes that HTTP/2 limits: what goes beyond ends the connection."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress

import hpack
import pytest

from jumpstarter_proto.rpc import Options
from jumpstarter_proto.rpc._connection import ConnectionFault
from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._events import CallReset, HalfClosed, MessageReceived, RequestReceived
from jumpstarter_proto.rpc._messages import frame_header
from jumpstarter_proto.rpc.test_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    REQUEST,
    RST,
    SETTINGS,
    WINDOW,
    Peer,
    frame,
    server,
)

HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]


def test_a_frame_above_the_size_that_we_take_ends_the_connection() -> None:
    peer = server()
    peer.request(flags=END_HEADERS)
    size = peer.connection._http2.max_inbound_frame_size
    peer.send(DATA, 0, 1, bytes(size))
    with pytest.raises(ConnectionFault, match=f"a frame of {size + 1} bytes"):
        peer.send(DATA, 0, 1, bytes(size + 1))


def test_a_setting_that_makes_a_calls_window_impossible_ends_the_connection() -> None:
    peer = server()
    peer.request()
    peer.send(WINDOW, 0, 1, struct.pack(">I", (1 << 31) - 1 - 65535))
    with pytest.raises(ConnectionFault, match="an impossible window"):
        peer.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 65536))


def test_streams_whose_frames_may_be_late_are_remembered_in_bounded_number() -> None:
    peer = server()
    for number in range(1, 4001, 2):
        peer.request(number)
        peer.connection.reset(number, ErrorCodes.CANCEL)
        peer.connection.take_work()
        assert len(peer.connection._http2._late) <= 1024
    peer.answers()
    peer.send(DATA, 0, number, b"late")
    assert "RstStreamFrame" not in peer.answer_kinds()


def test_who_is_not_authenticated_and_speaks_no_grpc_has_few_answers_that_wait() -> None:
    peer = server()
    peer.connection.confined = 1 << 30
    peer.send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
    for number in range(1, 41, 2):
        peer.send(HEADERS, END_HEADERS | END_STREAM, number, peer.pack(GET))
    refused = [one.stream_id for one in peer.answers() if type(one).__name__ == "RstStreamFrame"]
    assert refused == [33, 35, 37, 39]


LIVE, ENDED = 1, 3
BODIES = {
    DATA: b"x",
    PING: bytes(8),
    WINDOW: b"\0\0\0\1",
    RST: bytes(4),
    PRIORITY: bytes(5),
    GOAWAY: bytes(8),
}


@pytest.mark.parametrize("stream_id", [0, LIVE, ENDED])
@pytest.mark.parametrize("body", [True, False], ids=["with a body", "empty"])
@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("kind", range(12))
def test_frames_that_serve_no_call_are_counted(kind: int, flags: int, body: bool, stream_id: int) -> None:
    if (kind, stream_id, body, flags) == (DATA, LIVE, True, 0):
        return  # which serves it
    peer = server()
    for number in (LIVE, ENDED):
        peer.request(number)
    peer.connection.reset(ENDED, ErrorCodes.CANCEL)
    peer.answers()
    peer.connection.take_work()
    with suppress(ConnectionFault):  # which ends it sooner
        peer.send(kind, flags, stream_id, BODIES.get(kind, b"") if body else b"")
        for _ in range(100):
            peer.send(kind, flags, stream_id, BODIES.get(kind, b"") if body else b"")
        assert peer.connection._http2.work >= 100


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([0, 4096] * 1000, [0, 4096]),
        ([100, 50, 3000, 70, 2000], [50, 2000]),
        ([0, 6000, 5000], [0, 4096]),  # ours is never larger than the usual one
        ([8000, 4096], []),
    ],
)
def test_the_peer_is_told_the_smallest_size_of_its_table_and_the_last_one(
    sizes: list[int], said: list[int]
) -> None:
    peer = server()
    peer.request()
    for size in sizes:
        peer.send(SETTINGS, 0, 0, struct.pack(">HI", HEADER_TABLE_SIZE, size))
        peer.connection.take_work()
        assert len(peer.connection._http2.encoder.table_size_changes) <= 2
    peer.answers()
    peer.connection.send_headers(1, ())
    [headers] = peer.answers()
    resizes = b"".join(bytes([0x20 | size]) if size < 31 else _long(size) for size in said)
    assert headers.data.startswith(resizes)
    assert headers.data[len(resizes)] & 0xE0 != 0x20, "nothing but these"
    peer.unpacker.max_allowed_table_size = sizes[-1]
    assert (":status", "200") in peer.unpacker.decode(headers.data)


def _long(size: int) -> bytes:
    """A table's new size as HPACK says it, with a prefix of five bits."""
    size -= 31
    return b"\x3f" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7]))
