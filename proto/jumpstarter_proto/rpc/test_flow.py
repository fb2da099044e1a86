from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jumpstarter_proto.rpc import Options, StatusCode
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc._events import CallReset, HalfClosed, MessageReceived
from jumpstarter_proto.rpc._flow import CallWindow, ConnectionWindow, FlowControlFault
from jumpstarter_proto.rpc._messages import frame_header


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_call_gets_its_whole_window_back(messages: list[int]) -> None:
    """Whatever a message needs is extended, and what all read has been given back, less what saves frames."""
    window = CallWindow(1000)
    for length in messages:
        left = length
        while left:
            part = min(left, window.left)
            window.received(part)
            left -= part
            if left:
                assert window.shortfall(left) or part
                window.extend(left)
                assert window.left >= left
        window.extended = 0
        window.read(length)
    assert 1000 - 500 < window.left <= 1000


def test_what_was_not_allowed_is_a_fault() -> None:
    call, connection = CallWindow(10), ConnectionWindow(10)
    with pytest.raises(FlowControlFault):
        call.received(11)
    with pytest.raises(FlowControlFault):
        connection.received(11)


def test_connection_opens_again_without_its_unread_messages() -> None:
    window = ConnectionWindow(1000)
    window.received(600)
    window.unread = 600
    assert window.increment() == 0
    window.unread = 100
    assert window.increment() == 500
    assert window.left == 900


def _exchange(
    sizes: list[int], options: Options, *, read: bool = True
) -> tuple[GrpcConnection, dict[int, bytes], list[CallReset]]:
    """Every call sends one message, all at the same time and in turns, each as far as its windows go."""
    client, server = (
        GrpcConnection(client=True, options=Options()),
        GrpcConnection(client=False, options=options),
    )
    client.start()
    server.start()
    client.receive(server.take())
    left: dict[int, memoryview] = {}
    for size in sizes:
        stream_id = client.start_call("/a/b", scheme="http", authority="x", timeout=None, metadata=())
        left[stream_id] = memoryview(frame_header(size) + stream_id.to_bytes(4, "big") * (size // 4))
    arrived: dict[int, bytes] = {}
    failed: list[CallReset] = []
    moved = True
    while moved:
        moved = False
        for stream_id, data in left.items():
            count = min(len(data), client.sendable(stream_id), 50_000)
            if count:
                moved = True
                client.send_data(stream_id, data[:count], end=count == len(data))
                left[stream_id] = data[count:]
        for event in server.receive(client.take()):
            if isinstance(event, MessageReceived):
                arrived[event.stream_id] = event.data
                if read:
                    server.acknowledge(event.stream_id, event.credit)
            elif isinstance(event, CallReset):
                failed.append(event)
            elif isinstance(event, HalfClosed) and read:
                server.end_call(event.stream_id, StatusCode.OK, "", ())
        if answer := server.take():
            moved = True
            client.receive(answer)
    return server, arrived, failed


def test_many_large_messages_at_a_time_do_not_keep_each_other_from_arriving() -> None:
    options = Options(stream_window=100_000, connection_window=1_000_000)
    sizes = [400_000] * 15
    server, arrived, failed = _exchange(sizes, options)
    assert not failed
    assert len(arrived) == 15
    assert all(data == stream_id.to_bytes(4, "big") * 100_000 for stream_id, data in arrived.items())
    window = server._http2.inbound
    assert (window.unread, window.partial, window._extended) == (0, 0, 0)


def test_more_pieces_of_messages_than_we_hold_fail_their_calls_and_not_all() -> None:
    options = Options(stream_window=100_000, connection_window=200_000)
    server, arrived, failed = _exchange([150_000] * 20, options)
    assert failed
    assert len(arrived) + len(failed) == 20
    assert len(arrived) > 2
    assert "too many large messages" in failed[0].reason
    window = server._http2.inbound
    assert (window.unread, window.partial, window._extended) == (0, 0, 0)


def test_reader_that_stops_is_sent_no_more_than_the_windows() -> None:
    options = Options(stream_window=100_000, connection_window=300_000)
    server, arrived, _ = _exchange([50_000] * 40, options, read=False)
    held = sum(map(len, arrived.values())) + server._http2.inbound.partial
    assert held <= 3 * 300_000
    assert len(arrived) < 19


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 150_000), min_size=1, max_size=12), st.integers(5_000, 500_000))
@example([20_000, 90_000], 20_005)  # what is read is less than is given back at a time, and is missing
def test_messages_of_a_call_that_is_read_always_arrive(sizes: list[int], cut: int) -> None:
    client = GrpcConnection(client=True, options=Options())
    server = GrpcConnection(client=False, options=Options(stream_window=100_000, connection_window=300_000))
    client.start()
    server.start()
    client.receive(server.take())
    stream_id = client.start_call("/a/b", scheme="http", authority="x", timeout=None, metadata=())
    left = memoryview(b"".join(frame_header(size) + bytes(size) for size in sizes))
    arrived = []
    while left:
        count = min(len(left), client.sendable(stream_id), cut)
        assert count, "the sender waits for a window that nobody opens"
        client.send_data(stream_id, left[:count])
        left = left[count:]
        for event in server.receive(client.take()):
            if isinstance(event, MessageReceived):
                arrived.append(len(event.data))
                server.acknowledge(stream_id, event.credit)
        client.receive(server.take())
    assert arrived == sizes
