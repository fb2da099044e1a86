from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.rpc import Options, StatusCode
from jumpstarter_proto.rpc._connection import GrpcConnection
from jumpstarter_proto.rpc._events import CallEnded, Event, HalfClosed, MessageReceived, RequestReceived
from jumpstarter_proto.rpc._messages import FramingError, MessageReader, frame_header
from jumpstarter_proto.rpc._metadata import (
    decode_details,
    decode_metadata,
    decode_timeout,
    encode_details,
    encode_metadata,
    encode_timeout,
)

sizes = st.lists(st.integers(1, 200), min_size=1, max_size=30)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    start = index = 0
    while start < len(data):
        end = start + cuts[index % len(cuts)]
        yield data[start:end]
        start, index = end, index + 1


@given(st.lists(st.binary(max_size=500)), sizes)
def test_messages_are_the_same_however_their_bytes_arrive(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frame_header(len(message)) + message for message in messages)
    reader = MessageReader(1000)
    read = [framed for piece in pieces(data, cuts) for framed in reader.feed(piece)]
    assert [message for message, _ in read] == messages
    assert sum(credit for _, credit in read) == len(data)
    assert reader.is_between_messages


@pytest.mark.parametrize(
    ("header", "words"), [(b"\x01\0\0\0\0", "compressed"), (b"\0\0\0\x03\xe9", "1001 bytes")]
)
def test_message_that_is_not_taken_says_why(header: bytes, words: str) -> None:
    with pytest.raises(FramingError, match=words):
        MessageReader(1000).feed(header)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=20_000), min_size=1, max_size=5), sizes)
def test_events_are_the_same_however_bytes_arrive(messages: list[bytes], cuts: list[int]) -> None:
    def exchange(cut: list[int]) -> list[Event]:
        client = GrpcConnection(client=True, options=Options())
        server = GrpcConnection(client=False, options=Options())
        client.start()
        server.start()
        stream_id = client.start_call(
            "/a.B/C", scheme="http", authority="x", timeout=1.5, metadata=[("k", "v")]
        )
        for message in messages:
            client.send_data(stream_id, frame_header(len(message)))
            for start in range(0, len(message), 16000):
                client.send_data(stream_id, message[start : start + 16000])
        client.send_data(stream_id, b"", end=True)
        events = [e for piece in pieces(client.take(), cut) for e in server.receive(piece)]
        server.send_headers(stream_id, [("answer", "")])
        server.end_call(stream_id, StatusCode.ABORTED, "100% ☺", [("t-bin", b"\0\xff")])
        return events + [e for piece in pieces(server.take(), cut) for e in client.receive(piece)]

    whole, cut = exchange([1 << 30]), exchange([size * 7 for size in cuts])
    assert [e for e in cut if type(e).__name__ != "WindowOpened"] == [
        e for e in whole if type(e).__name__ != "WindowOpened"
    ]
    assert [type(e) for e in whole if isinstance(e, RequestReceived | HalfClosed | CallEnded)] == [
        RequestReceived,
        HalfClosed,
        CallEnded,
    ]
    assert [e.data for e in whole if isinstance(e, MessageReceived)] == messages
    ended = whole[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.code, ended.details, ended.metadata) == (
        StatusCode.ABORTED,
        "100% ☺",
        [("t-bin", b"\0\xff")],
    )


@given(st.floats(0, 1e9))
def test_timeout_survives_and_is_never_longer(seconds: float) -> None:
    text = encode_timeout(seconds)
    assert len(text) <= 9
    decoded = decode_timeout(text)
    assert decoded <= seconds + 1e-9
    assert decoded >= seconds * 0.9 - 1e-6


@pytest.mark.parametrize("text", ["", "S", "5", "5x", "123456789S", "-5S", "٣S"])
def test_timeout_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_timeout(text)


@given(st.text())
def test_status_message_survives(details: str) -> None:
    clean = details.encode("utf-8", "ignore").decode()
    encoded = encode_details(clean)
    assert encoded.isascii()
    assert encoded.isprintable() or not encoded
    assert encoded == encoded.strip()
    assert decode_details(encoded) == clean


@pytest.mark.parametrize("details", [" ", "  ", " both ", "the end: "])
def test_blanks_at_the_ends_of_a_status_message_are_no_header_that_http2_forbids(details: str) -> None:
    encoded = encode_details(details)
    assert encoded == encoded.strip()
    assert decode_details(encoded) == details


@given(st.binary())
def test_binary_metadata_survives_with_and_without_padding(value: bytes) -> None:
    [(name, text)] = encode_metadata([("a-bin", value)])
    padded = text + "=" * (-len(text) % 4)
    assert decode_metadata([(name, text)]) == [("a-bin", value)]
    assert decode_metadata([(name, f"{padded},{text}")]) == [("a-bin", value)] * 2


@pytest.mark.parametrize(
    "header",
    [
        ("Upper", "x"),
        ("grpc-status", "0"),
        ("a", "ü"),
        ("a", "x\ny"),
        ("a-bin", "text"),
        ("te", "x"),
        ("a", b"x"),
    ],
)
def test_metadata_that_grpc_forbids_is_the_callers_mistake(header: tuple[str, str | bytes]) -> None:
    with pytest.raises(JumpstarterUsageError):
        encode_metadata([header])


def test_an_idle_connection_holds_little() -> None:
    """A lab has thousands of them."""
    count = 64
    connections = [GrpcConnection(client=False, options=Options())]  # and what is made once
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count):
            connection = GrpcConnection(client=False, options=Options())
            connection.start()
            connection.take()
            connections.append(connection)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (held - before) / count < 8 * 1024
