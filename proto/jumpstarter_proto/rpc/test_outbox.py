from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._outbox import Outbox

sizes = st.lists(st.one_of(st.integers(0, 100), st.integers(8000, 20_000)), max_size=150)


@given(sizes, st.lists(st.integers(1, 50_000), min_size=1, max_size=20), st.booleans())
def test_bytes_leave_in_the_order_in_which_they_came(
    chunks: list[int], writes: list[int], take: bool
) -> None:
    outbox = Outbox()
    data = b""
    for number, size in enumerate(chunks):
        chunk = bytes([number % 256]) * size
        outbox.append(memoryview(chunk) if number % 3 else chunk)
        data += chunk
    sent = b""
    for limit in writes * 100:
        if not outbox.size or (take and sent):
            break
        offered = b"".join(outbox.pieces())
        count = min(limit, len(offered))
        sent += offered[:count]
        outbox.written(count)
        assert outbox.size == len(data) - len(sent)
    assert sent + outbox.take() == data
    assert outbox.size == 0
    assert outbox.take() == b""


def test_large_pieces_are_not_copied() -> None:
    outbox = Outbox()
    large = bytes(100_000)
    outbox.append(b"small")
    outbox.append(large)
    assert outbox.pieces()[1] is large


def test_one_system_call_gets_no_more_pieces_than_it_takes() -> None:
    outbox = Outbox()
    for _ in range(3000):
        outbox.append(bytes(8192))
    assert len(outbox.pieces()) < 1024
    assert len(outbox.take()) == 3000 * 8192


def test_small_pieces_in_a_row_are_one() -> None:
    outbox = Outbox()
    for _ in range(1000):
        outbox.append(b"small")
    assert outbox.pieces() == [b"small" * 1000]
