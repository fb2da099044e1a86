"""What peers may do, and what they do wrong, frame by frame."""

from __future__ import annotations

import struct

import hpack
import pytest
from hyperframe.frame import Frame
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_proto.rpc import Options, StatusCode
from jumpstarter_proto.rpc._connection import ConnectionFault, GrpcConnection
from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._events import (
    CallEnded,
    CallReset,
    Event,
    GoingAway,
    HalfClosed,
    MessageReceived,
    PongReceived,
    RequestReceived,
    ResponseStarted,
)
from jumpstarter_proto.rpc._messages import frame_header

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 1, 4, 8, 32
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "x"),
    ("te", "trailers"),
    ("content-type", "application/grpc+proto"),
]
STARTED = [(":status", "200"), ("content-type", "application/grpc")]


def frame(kind: int, flags: int = 0, stream_id: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + body


class Peer:
    """One end of a connection, and a peer that sends what frames it likes."""

    def __init__(self, *, client: bool, options: Options | None = None, settings_flags: int = 0) -> None:
        self.connection = GrpcConnection(client=client, options=options or Options())
        self.connection.start()
        self.packer = hpack.Encoder()
        self.unpacker = hpack.Decoder()
        self.answers()
        self.connection.receive((b"" if client else PREFACE) + frame(SETTINGS, settings_flags))
        self.answers()

    def call(self, metadata: list[tuple[str, str | bytes]] | None = None) -> int:
        stream_id = self.connection.start_call(
            "/a.B/C", scheme="http", authority="x", timeout=None, metadata=metadata or ()
        )
        self.answers()
        return stream_id

    def request(self, stream_id: int = 1, flags: int = END_HEADERS) -> list[Event]:
        return self.send(HEADERS, flags, stream_id, self.pack(REQUEST))

    def pack(self, headers: list[tuple[str, str]]) -> bytes:
        block: bytes = self.packer.encode(headers)
        return block

    def send(self, kind: int, flags: int = 0, stream_id: int = 0, body: bytes = b"") -> list[Event]:
        return self.connection.receive(frame(kind, flags, stream_id, body))

    def answers(self) -> list[Frame]:
        """The frames that our end has sent since."""
        data = self.connection.take().removeprefix(PREFACE)
        frames = []
        while data:
            parsed, length = Frame.parse_frame_header(memoryview(data[:9]))
            parsed.parse_body(memoryview(data[9 : 9 + length]))
            frames.append(parsed)
            data = data[9 + length :]
        return frames

    def answer_kinds(self) -> list[str]:
        return [type(answer).__name__ for answer in self.answers()]


def server(options: Options | None = None) -> Peer:
    return Peer(client=False, options=options)


def client(options: Options | None = None) -> Peer:
    return Peer(client=True, options=options)


# --- calls that come in


def test_request_without_a_body_is_a_call_that_has_ended() -> None:
    events = server().request(flags=END_HEADERS | END_STREAM)
    assert [type(event) for event in events] == [RequestReceived, HalfClosed]


def test_padding_and_priority_are_taken_off() -> None:
    peer = server()
    block = peer.pack(REQUEST)
    body = b"\x03" + b"\0\0\0\0\x10" + block + b"\0\0\0"
    [opened] = peer.send(HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, body)
    assert isinstance(opened, RequestReceived)
    message = frame_header(2) + b"hi"
    received, ended = peer.send(DATA, PADDED | END_STREAM, 1, b"\x04" + message + b"\0\0\0\0")
    assert isinstance(received, MessageReceived)
    assert received.data == b"hi"
    assert isinstance(ended, HalfClosed)


def test_headers_in_many_frames_are_one_list() -> None:
    peer = server()
    block = peer.pack([*REQUEST, ("long", "v" * 5000)])
    assert peer.send(HEADERS, 0, 1, block[:10]) == []
    assert peer.send(CONTINUATION, 0, 1, block[10:100]) == []
    [opened] = peer.send(CONTINUATION, END_HEADERS, 1, block[100:])
    assert isinstance(opened, RequestReceived)
    assert ("long", "v" * 5000) in opened.metadata


def test_our_own_long_headers_are_in_many_frames() -> None:
    peer = client()
    peer.connection.start_call(
        "/a.B/C", scheme="http", authority="x", timeout=None, metadata=[("long", "v" * 40_000)]
    )
    frames = peer.answers()
    assert [type(f).__name__ for f in frames] == ["HeadersFrame", "ContinuationFrame", "ContinuationFrame"]
    assert ["END_HEADERS" in f.flags for f in frames] == [False, False, True]
    headers = dict(peer.unpacker.decode(b"".join(f.data for f in frames)))
    assert headers["long"] == "v" * 40_000


def test_too_many_calls_are_refused_and_the_others_go_on() -> None:
    peer = server(Options(max_streams=2))
    for stream_id in (1, 3, 5):
        events = peer.request(stream_id)
    assert [type(event) for event in events] == [CallReset]
    [refusal] = peer.answers()
    assert refusal.error_code == ErrorCodes.REFUSED_STREAM
    [received] = peer.send(DATA, 0, 3, frame_header(0))
    assert isinstance(received, MessageReceived)


def test_request_that_breaks_http2_is_reset_alone() -> None:
    peer = server()
    block = peer.pack([*REQUEST, ("connection", "close")])
    assert peer.send(HEADERS, END_HEADERS, 1, block) == []
    assert peer.answers()[0].error_code == ErrorCodes.PROTOCOL_ERROR
    assert [type(event) for event in peer.request(3)] == [RequestReceived]


@pytest.mark.parametrize("header", [("grpc-timeout", "5 s"), ("a-bin", "!")])
def test_request_that_breaks_grpc_gets_a_status(header: tuple[str, str]) -> None:
    peer = server()
    assert peer.send(HEADERS, END_HEADERS | END_STREAM, 1, peer.pack([*REQUEST, header])) == []
    [answer] = peer.answers()
    assert dict(peer.unpacker.decode(answer.data))["grpc-status"] == str(int(StatusCode.INTERNAL))


def test_request_that_is_not_grpc_gets_a_415_when_it_has_come() -> None:
    peer = server()
    block = peer.pack([*REQUEST[:-1], ("content-type", "text/html")])
    assert peer.send(HEADERS, END_HEADERS, 1, block) == []
    assert peer.answers() == []
    assert peer.send(DATA, END_STREAM, 1, b"<html>") == []
    headers, data = peer.answers()
    assert dict(peer.unpacker.decode(headers.data)) == {":status": "415", "content-type": "text/plain"}
    assert b"speaks gRPC" in data.data
    assert not peer.connection.is_open(1)


def test_an_answer_to_a_request_that_is_not_grpc_keeps_to_the_window() -> None:
    peer = server()
    peer.send(SETTINGS, 0, 0, b"\0\4\0\0\0\1")
    peer.answers()
    block = peer.pack([*REQUEST[:-1], ("content-type", "text/html")])
    peer.send(HEADERS, END_HEADERS | END_STREAM, 1, block)
    assert [len(answer.data) for answer in peer.answers()[1:]] == [1]
    peer.send(WINDOW, 0, 1, b"\0\0\0\2")
    assert [len(answer.data) for answer in peer.answers()] == [2]
    assert peer.connection.is_open(1)
    peer.send(WINDOW, 0, 1, b"\0\0\1\0")
    [last] = peer.answers()
    assert "END_STREAM" in last.flags
    assert not peer.connection.is_open(1)


def error_codes(peer: Peer) -> list[int]:
    return [found.error_code for found in peer.answers() if hasattr(found, "error_code")]


def test_data_of_a_stream_that_its_peer_ended_is_refused_and_late_data_is_not() -> None:
    peer = server()
    for stream_id, flags in ((1, END_HEADERS | END_STREAM), (3, END_HEADERS)):
        peer.request(stream_id, flags)
        peer.connection.end_call(stream_id, StatusCode.OK, "", ())
    peer.answers()
    peer.send(DATA, 0, 1, b"x")
    assert error_codes(peer) == [ErrorCodes.STREAM_CLOSED]
    peer.send(DATA, 0, 3, b"x")
    assert error_codes(peer) == [], "it was under way when we ended the call"


def test_headers_of_a_stream_that_its_peer_ended_end_the_connection() -> None:
    peer = server()
    peer.request(1, END_HEADERS | END_STREAM)
    peer.connection.end_call(1, StatusCode.OK, "", ())
    with pytest.raises(ConnectionFault, match="has ended"):
        peer.request(1)


def test_a_client_forgives_headers_of_a_call_that_it_gave_up() -> None:
    peer = client()
    for _ in range(2000):
        peer.connection.reset(peer.call())
    peer.send(HEADERS, END_HEADERS | END_STREAM, 1, peer.pack([*STARTED, ("grpc-status", "0")]))


@pytest.mark.parametrize("length", [b"\0\0\0\0\1x", b"\0\0\0\0\3xyz"])
def test_a_content_length_that_does_not_fit_ends_the_call(length: bytes) -> None:
    peer = server()
    block = peer.pack([*REQUEST, ("content-length", "7")])
    [_] = peer.send(HEADERS, END_HEADERS, 1, block)
    events = peer.send(DATA, END_STREAM, 1, length)
    assert isinstance(events[-1], CallReset)
    assert error_codes(peer) == [ErrorCodes.PROTOCOL_ERROR]


@pytest.mark.parametrize(
    ("kind", "stream_id", "body"),
    [
        (PRIORITY, 0, bytes(5)),
        (PRIORITY, 1, bytes(4)),
        (PRIORITY, 1, b"\0\0\0\1\0"),
        (GOAWAY, 1, bytes(8)),
        (GOAWAY, 0, bytes(3)),
        (SETTINGS, 0, bytes(7)),
        (WINDOW, 0, bytes(3)),
    ],
)
def test_frames_that_cannot_be_end_the_connection(kind: int, stream_id: int, body: bytes) -> None:
    peer = server()
    peer.request()
    peer.answers()
    with pytest.raises(ConnectionFault):
        peer.send(kind, 0, stream_id, body)
    assert len(error_codes(peer)) == 1


def test_settings_that_nobody_knows_are_not_kept() -> None:
    peer = server()
    before = peer_settings(peer)
    peer.send(SETTINGS, 0, 0, b"".join(bytes([high, 99]) + bytes(4) for high in range(1, 200)))
    assert peer_settings(peer) == before


def peer_settings(peer: Peer) -> list[object]:
    found = peer.connection._http2.peer_settings
    return [getattr(found, name) for name in found.__slots__]


BAD_HEADERS = hpack.Encoder().encode([*REQUEST, ("connection", "close")])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (SETTINGS, b""),
        (PING, bytes(8)),
        (PRIORITY, b"\0\0\0\0\1"),
        (WINDOW, b"\0\0\0\1"),
        (HEADERS, BAD_HEADERS),
        (0x77, b""),
    ],
)
def test_frames_that_serve_no_call_are_counted_and_too_many_are_a_fault(kind: int, body: bytes) -> None:
    peer = server()
    with pytest.raises(ConnectionFault, match="serve no call") as fault:  # noqa: PT012 - some are taken
        for number in range(1, 100_000):
            stream_id = {PRIORITY: 7, HEADERS: 2 * number - 1}.get(kind, 0)
            peer.send(kind, END_HEADERS if kind == HEADERS else 0, stream_id, body)
            assert peer.connection.send_buffer.size < 2_000_000
    assert fault.value.code is ErrorCodes.ENHANCE_YOUR_CALM


def test_windows_and_pings_that_answer_what_we_send_are_not_work() -> None:
    peer = server()
    peer.request()
    peer.connection.send_headers(1, ())
    for _ in range(100):
        peer.connection.send_message(1, b"x")
        peer.send(WINDOW, 0, 1, b"\0\0\0\6")
        peer.send(WINDOW, 0, 0, b"\0\0\0\6")
        peer.send(PING, 0, 0, bytes(8))
    assert peer.connection.take_work() <= 20


def test_callers_trailers_are_not_listened_to() -> None:
    peer = server()
    peer.request()
    [ended] = peer.send(HEADERS, END_HEADERS | END_STREAM, 1, peer.pack([("x", "y")]))
    assert isinstance(ended, HalfClosed)


def test_call_that_ends_in_the_middle_of_a_message_is_an_error() -> None:
    peer = server()
    peer.request()
    [reset] = peer.send(DATA, END_STREAM, 1, b"\0\0\0\0\x05abc")
    assert isinstance(reset, CallReset)


def test_status_before_the_caller_has_ended_stops_the_caller() -> None:
    peer = server()
    peer.request()
    peer.connection.end_call(1, StatusCode.ABORTED, "", ())
    status, stop = peer.answers()
    assert "END_STREAM" in status.flags
    assert stop.error_code == ErrorCodes.NO_ERROR


def test_status_fits_whatever_its_message_and_metadata_are() -> None:
    peer = server()
    peer.connection.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 6, 16_384)))
    peer.request()
    peer.answers()
    peer.connection.end_call(1, StatusCode.UNKNOWN, "☺" * 100_000, [("large", "v" * 20_000)])
    found = dict(peer.unpacker.decode(peer.answers()[0].data))
    assert found["grpc-status"] == "2"
    assert 3000 < len(found["grpc-message"]) <= 4096
    assert found["grpc-message"].replace("%E2%98%BA", "") == ""
    assert "large" not in found


# --- what is late


@pytest.mark.parametrize("client_resets", [True, False])
def test_frames_of_a_call_that_has_ended_are_late_and_no_fault(client_resets: bool) -> None:
    peer = server(Options(connection_window=100_000))
    peer.request()
    if client_resets:
        assert [type(event) for event in peer.send(RST, 0, 1, struct.pack(">I", 8))] == [CallReset]
    else:
        peer.connection.end_call(1, StatusCode.OK, "", ())
    peer.answers()
    for _ in range(20):
        assert peer.send(DATA, 0, 1, bytes(16_000)) == []
    assert peer.send(WINDOW, 0, 1, struct.pack(">I", 5)) == []
    assert peer.send(RST, 0, 1, struct.pack(">I", 8)) == []
    assert peer.send(HEADERS, END_HEADERS | END_STREAM, 1, peer.pack([("x", "y")])) == []
    # Their window is not lost, and their headers count for those that follow.
    assert "WindowUpdateFrame" in peer.answer_kinds()
    assert [type(event) for event in peer.request(3)] == [RequestReceived]


@pytest.mark.parametrize(
    "bad",
    [
        frame(DATA, 0, 1, b"x"),
        frame(DATA, 0, 0, b"x"),
        frame(HEADERS, END_HEADERS, 2, hpack.Encoder().encode(REQUEST)),
        frame(HEADERS, END_HEADERS, 0, b""),
        frame(RST, 0, 7, bytes(4)),
        frame(RST, 0, 7, bytes(3)),
        frame(WINDOW, 0, 7, b"\0\0\0\1"),
        frame(WINDOW, 0, 0, bytes(4)),
        frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"),
        frame(PUSH, END_HEADERS, 1, bytes(4)),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b""),
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05abc"),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, END_HEADERS, 1, b"\x40\x00\x00"),
        frame(SETTINGS, 0, 0, b"abc"),
        frame(SETTINGS, 0, 1),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)),
        frame(PING, 0, 0, b"short"),
        frame(GOAWAY, 0, 0, b"x"),
        b"\xff\xff\xff" + frame(DATA)[3:],
        b"\x0f\xff\xff" + frame(HEADERS)[3:],
    ],
)
def test_frames_that_break_http2_end_the_connection_with_a_reason(bad: bytes) -> None:
    peer = server()
    with pytest.raises(ConnectionFault):
        peer.connection.receive(bad)
    assert peer.answer_kinds()[-1] == "GoAwayFrame"


def test_headers_without_end_are_cut_off() -> None:
    peer = server(Options(max_header_list=10_000))
    peer.send(HEADERS, 0, 1, b"\x82")
    with pytest.raises(ConnectionFault, match="headers"):  # noqa: PT012 - at the latest with the last of them
        for _ in range(1000):
            peer.send(CONTINUATION, 0, 1, bytes(1000))


@pytest.mark.parametrize("window", [bytes(4), b"\x7f\xff\xff\xff"])
def test_impossible_window_of_a_call_ends_that_call_alone(window: bytes) -> None:
    peer = server()
    peer.request()
    peer.request(3)
    [reset] = peer.send(WINDOW, 0, 1, window)
    assert isinstance(reset, CallReset)
    assert peer.connection.is_open(3)


def test_call_that_sends_more_than_its_window_is_ended_alone() -> None:
    peer = server(Options(stream_window=70_000, max_receive=1_000_000))
    peer.request()
    peer.request(3)
    for _ in range(4):
        peer.send(DATA, 0, 1, frame_header(16_000) + bytes(16_000))
    events = peer.send(DATA, 0, 1, frame_header(16_000) + bytes(16_000))
    assert [type(event) for event in events] == [CallReset]
    assert ErrorCodes.FLOW_CONTROL_ERROR in [getattr(f, "error_code", None) for f in peer.answers()]
    assert peer.connection.is_open(3)


def test_data_after_the_end_ends_the_call() -> None:
    peer = server()
    peer.request(flags=END_HEADERS | END_STREAM)
    assert [type(event) for event in peer.send(DATA, 0, 1, b"x")] == [CallReset]


def test_unknown_frames_and_priorities_mean_nothing() -> None:
    peer = server()
    assert peer.send(0x77, 0xFF, 9, b"what is this") == []
    assert peer.send(PRIORITY, 0, 9, bytes(5)) == []


def test_peers_pings_are_answered_and_ours_heard() -> None:
    peer = server()
    assert peer.send(PING, 0, 0, b"12345678") == []
    [pong] = peer.answers()
    assert (pong.opaque_data, "ACK" in pong.flags) == (b"12345678", True)
    assert [type(event) for event in peer.send(PING, 1, 0, b"jmpalive")] == [PongReceived]


def test_smaller_window_holds_for_open_calls_too() -> None:
    peer = client()
    stream_id = peer.call()
    peer.connection.send_data(stream_id, bytes(10_000))
    peer.connection.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 5_000)))
    assert peer.connection.sendable(stream_id) == 0
    peer.connection.receive(frame(WINDOW, 0, stream_id, struct.pack(">I", 6_000)))
    assert peer.connection.sendable(stream_id) == 1_000


# --- replies


def ended(events: list[Event]) -> CallEnded:
    [event] = [event for event in events if isinstance(event, CallEnded)]
    return event


def test_trailers_only_reply_is_a_status() -> None:
    peer = client()
    block = peer.pack([*STARTED, ("grpc-status", "5"), ("grpc-message", "no such %E2%98%BA"), ("k", "v")])
    [status] = peer.send(HEADERS, END_HEADERS | END_STREAM, peer.call(), block)
    assert status == CallEnded(1, StatusCode.NOT_FOUND, "no such ☺", [("k", "v")])


def test_unknown_grpc_headers_are_left_over_and_no_fault() -> None:
    peer = client()
    stream_id = peer.call()
    [started] = peer.send(
        HEADERS, END_HEADERS, stream_id, peer.pack([*STARTED, ("grpc-accept-encoding", "gzip"), ("k", "")])
    )
    assert started == ResponseStarted(stream_id, [("k", "")])


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("401", StatusCode.UNAUTHENTICATED),
        ("404", StatusCode.UNIMPLEMENTED),
        ("503", StatusCode.UNAVAILABLE),
        ("418", StatusCode.UNKNOWN),
    ],
)
def test_reply_that_is_not_grpc_says_what_it_is(status: str, code: StatusCode) -> None:
    peer = client()
    stream_id = peer.call()
    events = peer.send(HEADERS, END_HEADERS, stream_id, peer.pack([(":status", status)]))
    assert ended(events).code is code
    assert f"HTTP {status}" in ended(events).details


def test_informational_headers_come_before_the_reply() -> None:
    peer = client()
    stream_id = peer.call()
    assert peer.send(HEADERS, END_HEADERS, stream_id, peer.pack([(":status", "103")])) == []
    [started] = peer.send(HEADERS, END_HEADERS, stream_id, peer.pack(STARTED))
    assert isinstance(started, ResponseStarted)


def test_reply_without_a_status_is_an_error() -> None:
    peer = client()
    stream_id = peer.call()
    peer.send(HEADERS, END_HEADERS, stream_id, peer.pack(STARTED))
    assert ended(peer.send(DATA, END_STREAM, stream_id)).code is StatusCode.INTERNAL


def test_ok_in_the_middle_of_a_message_is_an_error() -> None:
    peer = client()
    stream_id = peer.call()
    peer.send(HEADERS, END_HEADERS, stream_id, peer.pack(STARTED))
    peer.send(DATA, 0, stream_id, b"\0\0\0\0\x05abc")
    events = peer.send(HEADERS, END_HEADERS | END_STREAM, stream_id, peer.pack([("grpc-status", "0")]))
    assert ended(events).code is StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (ErrorCodes.REFUSED_STREAM, StatusCode.UNAVAILABLE),
        (ErrorCodes.CANCEL, StatusCode.CANCELLED),
        (ErrorCodes.ENHANCE_YOUR_CALM, StatusCode.RESOURCE_EXHAUSTED),
        (ErrorCodes.INADEQUATE_SECURITY, StatusCode.PERMISSION_DENIED),
        (ErrorCodes.INTERNAL_ERROR, StatusCode.INTERNAL),
        (0x4242, StatusCode.INTERNAL),
    ],
)
def test_reset_is_a_status(reset: int, code: StatusCode) -> None:
    peer = client()
    assert ended(peer.send(RST, 0, peer.call(), struct.pack(">I", reset))).code is code


def test_going_away_says_which_calls_were_never_started() -> None:
    peer = client()
    peer.call()
    [away] = peer.send(GOAWAY, 0, 0, struct.pack(">II", 1, 0) + b"bye")
    assert away == GoingAway(1, "bye")
    assert peer.connection.is_open(1)


def test_peer_that_speaks_http1_is_named() -> None:
    connection = GrpcConnection(client=True, options=Options())
    connection.start()
    with pytest.raises(ConnectionFault, match="HTTP/1"):
        connection.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_client_that_speaks_something_else_is_named() -> None:
    connection = GrpcConnection(client=False, options=Options())
    connection.start()
    with pytest.raises(ConnectionFault, match="does not speak HTTP/2"):
        connection.receive(b"GET / HTTP/1.1\r\n")


def test_connection_that_is_used_up_says_so() -> None:
    peer = client()
    peer.connection._http2.highest_outbound_stream_id = 2**31 - 1
    with pytest.raises(Exception, match="used up"):
        peer.call()


# --- anything at all

kinds = st.integers(0, 11)
frames = st.builds(frame, kinds, st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60))


@settings(max_examples=300)
@given(st.lists(st.one_of(frames, st.binary(max_size=40)), max_size=30), st.booleans())
def test_no_bytes_raise_anything_but_a_fault(sent: list[bytes], is_client: bool) -> None:
    peer = Peer(client=is_client)
    if is_client:
        for _ in range(3):
            peer.call()
    else:
        peer.request(1)
        peer.request(3, END_HEADERS | END_STREAM)
    try:
        for data in sent:
            peer.connection.receive(data)
    except ConnectionFault:
        assert peer.answer_kinds()[-1] == "GoAwayFrame"
    window = peer.connection._http2.inbound
    assert window.unread >= 0
    assert window.partial >= 0


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4), st.integers(1, 50)
)
def test_no_flipped_byte_raises_anything_but_a_fault(flips: list[tuple[int, int]], size: int) -> None:
    caller, callee = (
        GrpcConnection(client=True, options=Options()),
        GrpcConnection(client=False, options=Options()),
    )
    caller.start()
    stream_id = caller.start_call(
        "/a.B/C", scheme="http", authority="x", timeout=1, metadata=[("k", "v"), ("k-bin", b"v")]
    )
    caller.send_message(stream_id, bytes(100))
    caller.send_data(stream_id, b"", end=True)
    data = bytearray(caller.take())
    for position, value in flips:
        data[position % len(data)] ^= value
    try:
        for start in range(0, len(data), size):
            callee.receive(bytes(data[start : start + size]))
    except ConnectionFault:
        pass
