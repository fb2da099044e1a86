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


def expanding(peer: Peer) -> bytes:
    """A header block of some 20 bytes that stands for 60 KB of headers."""
    large = ("large", "v" * 3900)
    peer.send(HEADERS, END_HEADERS, 1, peer.packer.encode([*REQUEST, large], huffman=False))
    peer.connection.reset(1)
    block: bytes = peer.packer.encode([hpack.NeverIndexedHeaderTuple(*one) for one in REQUEST] + [large] * 15)
    return block


ENDS = {
    "a reset": frame(RST, 0, 3, bytes(4)),
    "headers twice": frame(HEADERS, END_HEADERS, 3, b""),
    "a message that is no message": frame(DATA, 0, 3, b"\xff" * 5),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_call_that_ends_in_the_bytes_that_opened_it_is_not_a_call(end: str) -> None:
    peer = server()
    message = frame(DATA, 0, 3, frame_header(2) + b"hi")
    opened = frame(HEADERS, END_HEADERS, 3, expanding(peer)) + message
    other = frame(HEADERS, END_HEADERS, 5, peer.pack(REQUEST))
    events = peer.connection.receive(opened + other + ENDS[end] + frame(DATA, END_STREAM, 5))
    assert [(type(event), getattr(event, "stream_id", 0)) for event in events] == [
        (CallReset, 3),
        (MessageReceived, 3),
        (RequestReceived, 5),
        (HalfClosed, 5),
    ]
    assert peer.connection.held_in_all == 0
    # One that came before is told of its end.
    events = peer.send(RST, 0, 5, bytes(4))
    assert [type(event) for event in events] == [CallReset]


def test_calls_that_are_opened_and_reset_at_once_hold_nothing() -> None:
    peer = server()
    block = expanding(peer)
    pairs = b"".join(
        frame(HEADERS, END_HEADERS, number, block) + frame(RST, 0, number, bytes(4))
        for number in range(3, 603, 2)
    )
    tracemalloc.start()
    try:
        events = peer.connection.receive(pairs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(events) == 300
    assert peak < 1_000_000, "its headers would be 18 MB"


def test_more_resets_than_are_taken_at_once_end_the_connection_before_the_rest_is_read() -> None:
    options = Options(resets_per_second=10, max_streams=10)
    peer = server(options)
    pair = [
        frame(HEADERS, END_HEADERS, number, peer.packer.encode(REQUEST)) + frame(RST, 0, number, bytes(4))
        for number in range(1, 401, 2)
    ]
    assert len(peer.connection.receive(b"".join(pair[:60]))) == options.resets_at_once == 60
    with pytest.raises(ConnectionFault, match="cancels too many calls"):
        peer.connection.receive(b"".join(pair[60:]))
    assert peer.connection._http2.highest_inbound_stream_id == 2 * 60 + 121
    [goaway] = peer.answers()
    assert goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM


def test_the_end_of_a_header_block_may_be_empty() -> None:
    peer = server()
    assert peer.send(HEADERS, 0, 1, peer.pack(REQUEST)) == []
    assert [type(event) for event in peer.send(CONTINUATION, END_HEADERS, 1)] == [RequestReceived]


def test_settings_are_not_acknowledged_before_the_peer_has_sent_its_own() -> None:
    peer = Peer(client=False, settings_flags=0)
    peer.send(SETTINGS, 1)
    with pytest.raises(ConnectionFault, match="before it sends its own"):
        Peer(client=False, settings_flags=1)


@pytest.mark.parametrize(
    ("lengths", "is_taken"), [(("7", "7"), True), (("7", "8"), False), (("0", "1"), False)]
)
def test_lengths_that_differ_are_refused(lengths: tuple[str, ...], is_taken: bool) -> None:
    peer = server()
    block = peer.pack([*REQUEST, *(("content-length", length) for length in lengths)])
    assert len(peer.send(HEADERS, END_HEADERS, 1, block)) == is_taken
    codes = [answer.error_code for answer in peer.answers() if hasattr(answer, "error_code")]
    assert codes == ([] if is_taken else [ErrorCodes.PROTOCOL_ERROR])


@pytest.mark.parametrize("header", [("x y", "a"), ("x", "a\nb"), ("x:", "a")])
def test_characters_that_http2_forbids_in_headers_break_their_call_alone(header: tuple[str, str]) -> None:
    peer = server()
    assert peer.send(HEADERS, END_HEADERS, 1, peer.pack([*REQUEST, header])) == []
    [answer] = peer.answers()
    assert (type(answer).__name__, answer.stream_id) == ("RstStreamFrame", 1)
    assert answer.error_code == ErrorCodes.PROTOCOL_ERROR
    assert [type(event) for event in peer.request(3)] == [RequestReceived]
