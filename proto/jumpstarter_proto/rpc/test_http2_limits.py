"""Sizes that HTTP/2 limits: what goes beyond ends the connection."""

from __future__ import annotations

import struct

import pytest

from jumpstarter_proto.rpc._connection import ConnectionFault
from jumpstarter_proto.rpc.test_http2 import DATA, END_HEADERS, SETTINGS, WINDOW, server

INITIAL_WINDOW_SIZE = 4


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
