from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._send_buffer import SendBuffer

sizes = st.lists(st.one_of(st.integers(0, 100), st.integers(8000, 20_000)), max_size=150)


@given(sizes, st.lists(st.integers(1, 50_000), min_size=1, max_size=20), st.booleans())
def test_bytes_leave_in_the_order_in_which_they_came(
    chunks: list[int], writes: list[int], take: bool
) -> None:
    send_buffer = SendBuffer()
    data = b""
    for number, size in enumerate(chunks):
        chunk = bytes([number % 256]) * size
        send_buffer.append(memoryview(chunk) if number % 3 else chunk)
        data += chunk
    sent = b""
    for limit in writes * 100:
        if not send_buffer.size or (take and sent):
            break
        offered = b"".join(send_buffer.pieces())
        count = min(limit, len(offered))
        sent += offered[:count]
        send_buffer.written(count)
        assert send_buffer.size == len(data) - len(sent)
    assert sent + send_buffer.take() == data
    assert send_buffer.size == 0
    assert send_buffer.take() == b""


def test_large_pieces_are_not_copied() -> None:
    send_buffer = SendBuffer()
    large = bytes(100_000)
    send_buffer.append(b"small")
    send_buffer.append(large)
    assert send_buffer.pieces()[1] is large


def test_one_system_call_gets_no_more_pieces_than_it_takes() -> None:
    send_buffer = SendBuffer()
    for _ in range(3000):
        send_buffer.append(bytes(8192))
    assert len(send_buffer.pieces()) < 1024
    assert len(send_buffer.take()) == 3000 * 8192


def test_small_pieces_in_a_row_are_one() -> None:
    send_buffer = SendBuffer()
    for _ in range(1000):
        send_buffer.append(b"small")
    assert send_buffer.pieces() == [b"small" * 1000]
