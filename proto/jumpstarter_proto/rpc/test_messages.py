"""How messages are cut out of what arrives."""

from __future__ import annotations

import tracemalloc

from jumpstarter_proto.rpc._messages import MessageReader, frame_header


def test_a_message_that_comes_in_one_piece_is_copied_once() -> None:
    size = 4 << 20
    data = frame_header(size) + bytes(size)
    reader = MessageReader(size)
    tracemalloc.start()
    try:
        [(message, _)] = reader.feed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(message) == size
    assert peak < 1.5 * size
