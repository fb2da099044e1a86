"""Sizes that HTTP/2 limits: what goes beyond ends the connection."""

from __future__ import annotations

import struct

import pytest
from h2.errors import ErrorCodes

from jumpstarter_proto.rpc._connection import ConnectionFault
from jumpstarter_proto.rpc.test_http2 import DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, WINDOW, server

INITIAL_WINDOW_SIZE = 4
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
