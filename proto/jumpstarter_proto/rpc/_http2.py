"""HTTP/2 without I/O, as far as gRPC uses it; hpack encodes headers.

gRPC uses little of HTTP/2's streams: two directions that end once, a window each way. So streams are what `Http2Stream`
says, and data is not copied on its way. Frames that were under way when a call ended do no harm.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import hpack

from jumpstarter_proto.rpc._error_codes import ErrorCodes
from jumpstarter_proto.rpc._flow import CallWindow, ConnectionWindow, FlowControlFault
from jumpstarter_proto.rpc._headers import (
    REQUEST,
    RESPONSE,
    TRAILERS,
    Header,
    HeaderFault,
    HeaderPacker,
    HeaderUnpacker,
)
from jumpstarter_proto.rpc._send_buffer import SendBuffer
from jumpstarter_proto.rpc._settings import PeerSettings, SettingCodes, SettingsFault, pack_settings

__all__ = ["MAX_FRAME", "ConnectionFault", "Http2", "Http2Stream", "StreamOwner"]

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW, _CONTINUATION = (
    range(10)
)
_END_STREAM, _END_HEADERS, _PADDED, _HAS_PRIORITY = 0x1, 0x4, 0x8, 0x20
_ACK = 0x1
_FRAME = struct.Struct(">HBBBL")
_FRAME_BYTES = 9
_WORD = struct.Struct(">L")
_TWO_WORDS = struct.Struct(">LL")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_MAX_31_BITS = 2**31 - 1
_MAX_STREAMS_BEFORE_SETTINGS = 100
_MAX_LATE_STREAMS = 1024
"""Streams of which late frames are expected, at most."""
WORK_AT_ONCE = 20_000
"""See `Http2.work`."""
_WORK_FRAME, _WORK_SETTINGS, _WORK_REFUSAL = 1, 10, 20
DEFAULT_WINDOW_BYTES = 65535
"""What HTTP/2 lets a peer send on a connection before anything was agreed on."""
BLOCK_OVERHEAD_BYTES = 64 * 1024
"""So much larger than its headers may a header block be."""
TOO_MUCH_WORK = "the peer sends too many frames that serve no call"
MAX_FRAME = 2**20
"""The largest frame that we take."""


class ConnectionFault(Exception):  # noqa: N818 - a fault of the peer's
    """The peer broke HTTP/2; the connection is lost. What is left to send tells it why."""

    def __init__(self, message: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class Http2Stream:
    """One call as HTTP/2 sees it."""

    __slots__ = ("content_left", "id", "inbound", "is_receiving", "is_sending", "outbound", "started")

    def __init__(self, stream_id: int, outbound: int, inbound: int) -> None:
        self.id = stream_id
        self.outbound = outbound
        """What the peer lets us send on it."""
        self.inbound = CallWindow(inbound)
        self.is_sending = True
        """We have not ended our direction."""
        self.is_receiving = True
        """The peer has not ended its direction."""
        self.started = False
        """A server has sent headers, or a client has received them; the next are trailers."""
        self.content_left: int | None = None
        """Bytes of data still to come, if a client has said how many there are."""


class StreamOwner(Protocol):
    """Receives the frames of streams. Streams leave `Http2.calls` when the owner takes them out."""

    def on_open(self, stream_id: int, headers: list[Header], end: bool) -> None:
        """A peer opened a stream, and ended its direction with it; the owner adds it to `calls` or resets it."""

    def on_headers(self, stream: Any, headers: list[Header], end: bool) -> None:
        """Headers of an open stream: the reply's, or trailers."""

    def on_data(self, stream: Any, data: bytes, start: int, stop: int, padding: int) -> None:
        """`data[start:stop]` of a stream; `padding` bytes more count against its window."""

    def on_end(self, stream: Any) -> None:
        """The peer has ended its direction."""

    def on_reset(self, stream: Any, code: int) -> None:
        """The peer has reset a stream."""

    def on_broken(self, stream: Any, reason: str) -> None:
        """The peer broke the rules on one stream, which we have reset."""

    def on_window(self, stream_id: int) -> None:
        """More may be sent on one stream, or on all (0)."""

    def on_going_away(self, last_stream_id: int, reason: str) -> None:
        """The peer opens and takes no more streams."""

    def on_pong(self) -> None:
        """The peer answered a PING."""


class Http2:
    """One end of an HTTP/2 connection. Everything queues bytes in `send_buffer`; `receive` calls the owner.

    A stream's owner may send and reset it whatever its state; what HTTP/2 does not allow any more is not sent.
    """

    __slots__ = (
        "_block",
        "_connection_window",
        "_data_ends",
        "_data_left",
        "_data_stream",
        "_is_client",
        "_late",
        "_max_block",
        "_owner",
        "_packer",
        "_preface",
        "_saw_settings",
        "_settings",
        "_unpacker",
        "_unread",
        "calls",
        "decoder",
        "encoder",
        "frames_sent",
        "highest_inbound_stream_id",
        "highest_outbound_stream_id",
        "inbound",
        "max_inbound_frame_size",
        "outbound_flow_control_window",
        "peer_settings",
        "send_buffer",
        "work",
    )

    def __init__(
        self,
        owner: StreamOwner,
        *,
        client: bool,
        settings: Mapping[SettingCodes, int],
        max_header_list: int,
        window: int,
    ) -> None:
        self._settings = settings
        self.peer_settings = PeerSettings()
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder(max_header_list_size=max_header_list)
        self.max_inbound_frame_size = settings[SettingCodes.MAX_FRAME_SIZE]
        self.outbound_flow_control_window = DEFAULT_WINDOW_BYTES
        """What the peer lets us send on all streams together."""
        self.highest_inbound_stream_id = self.highest_outbound_stream_id = 0
        self.send_buffer = SendBuffer()
        self.calls: dict[int, Any] = {}
        self.inbound = ConnectionWindow(DEFAULT_WINDOW_BYTES)
        self._connection_window = window
        self._is_client = client
        self._owner = owner
        self._packer = HeaderPacker(self.encoder)
        self._unpacker = HeaderUnpacker(self.decoder)
        self._max_block = max_header_list + BLOCK_OVERHEAD_BYTES
        self._unread = b""
        """The beginning of a frame that is not DATA."""
        self._preface = b"" if self._is_client else _PREFACE
        self._saw_settings = False
        self._data_left = 0
        """Bytes still to come of the DATA frame that is being read, and what it was."""
        self._data_stream = 0
        self._data_ends = False
        self.work = 0
        """What the peer made us do that serves no call, since this was last looked at: about microseconds."""
        self.frames_sent = 0
        """Of data and headers. Peers answer those with windows and pings, which is honest work."""
        self._late: dict[int, None] = {}
        """Streams that we have reset: the peer's frames may have been under way."""
        self._block: tuple[int, bool, bytearray] | None = None
        """A header block whose CONTINUATION frames are still to come."""

    # --- sending

    def start(self, confined: int | None = None) -> None:
        """Queue the preface, our settings and our window, which are sent first.

        A peer that is `confined` to some bytes has the default window of HTTP/2 until `widen`.
        """
        if self._is_client:
            self.send_buffer.append(_PREFACE)
        self._send_frame(_SETTINGS, 0, 0, pack_settings(self._settings))
        if confined is None:
            self.widen()
        else:
            self.inbound.is_confined = True
            self._max_block = confined // 2

    def widen(self) -> None:
        """Give the connection its full window, and room for all headers that we take."""
        self._max_block = self.decoder.max_header_list_size + BLOCK_OVERHEAD_BYTES
        if count := self.inbound.grow(max(self._connection_window, DEFAULT_WINDOW_BYTES)):
            self._send_window(0, count)

    def new_stream_id(self) -> int | None:
        """Return the id of our next stream; None if this connection has no ids left."""
        stream_id = self.highest_outbound_stream_id + 2 if self.highest_outbound_stream_id else 1
        if stream_id > _MAX_31_BITS:
            return None
        self.highest_outbound_stream_id = stream_id
        return stream_id

    def send_headers(
        self, stream: Http2Stream | int, headers: Sequence[Header], *, end: bool = False
    ) -> None:
        """Queue a header block, on an open stream or on one that was never opened (its id)."""
        stream_id = stream if isinstance(stream, int) else stream.id
        if not isinstance(stream, int):
            if not stream.is_sending:
                return
            stream.is_sending = not end
        block = self._packer.pack(headers)
        flags = _END_STREAM if end else 0
        limit = self.peer_settings.max_frame_size
        if len(block) <= limit:
            self._send_frame(_HEADERS, flags | _END_HEADERS, stream_id, block)
            return
        self._send_frame(_HEADERS, flags, stream_id, block[:limit])
        for start in range(limit, len(block), limit):
            is_last = start + limit >= len(block)
            self._send_frame(
                _CONTINUATION, _END_HEADERS if is_last else 0, stream_id, block[start : start + limit]
            )

    def sendable(self, stream: Http2Stream) -> int:
        """Bytes that may be sent now in one frame."""
        size = min(stream.outbound, self.outbound_flow_control_window, self.peer_settings.max_frame_size)
        return max(size, 0)

    def send_data(self, stream: Http2Stream, *pieces: bytes | memoryview, end: bool = False) -> None:
        """Queue up to `sendable` bytes in one frame. They must not change any more."""
        if not stream.is_sending:
            return
        size = sum(map(len, pieces))
        stream.is_sending = not end
        stream.outbound -= size
        self.outbound_flow_control_window -= size
        self._send_frame(_DATA, _END_STREAM if end else 0, stream.id, *pieces)

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """Queue a reset."""
        self._late[stream_id] = None
        if len(self._late) > _MAX_LATE_STREAMS:
            del self._late[next(iter(self._late))]
        self._send_frame(_RST_STREAM, 0, stream_id, _WORD.pack(code))

    def say_goodbye(self, code: ErrorCodes, reason: str) -> None:
        """Queue a GOAWAY: streams that were opened until now go on."""
        body = _TWO_WORDS.pack(self.highest_inbound_stream_id, code) + reason.encode()[:1024]
        self._send_frame(_GOAWAY, 0, 0, body)

    def open_window(self, stream: Http2Stream, count: int) -> None:
        """Extend the window of a stream."""
        if count and stream.is_receiving:
            self._send_window(stream.id, count)

    def open_connection_window(self) -> None:
        """Let the peer send more on the connection, if that is due."""
        if count := self.inbound.increment():
            self._send_window(0, count)

    def _send_window(self, stream_id: int, count: int) -> None:
        self._send_frame(_WINDOW, 0, stream_id, _WORD.pack(count))

    def _send_frame(self, kind: int, flags: int, stream_id: int, *body: bytes | memoryview) -> None:
        size = sum(map(len, body))
        if kind <= _HEADERS:
            self.frames_sent += 1
        append = self.send_buffer.append
        append(_FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream_id))
        for piece in body:
            append(piece)

    def ping(self, data: bytes) -> None:
        """Queue a PING of 8 bytes."""
        self._send_frame(_PING, 0, 0, data)

    # --- receiving

    def receive(self, data: bytes) -> None:
        """Parse received bytes, and pass the frames to the owner.

        Raises:
            ConnectionFault: they are not HTTP/2, or exceed a limit; a GOAWAY is queued.
        """
        try:
            self._receive(data)
        except ConnectionFault as fault:
            self.say_goodbye(fault.code, str(fault))
            raise
        except FlowControlFault as error:
            raise self._fault(str(error), ErrorCodes.FLOW_CONTROL_ERROR) from None
        except hpack.OversizedHeaderListError as error:
            raise self._fault(f"too many headers: {error}", ErrorCodes.ENHANCE_YOUR_CALM) from error
        except (hpack.HPACKError, UnicodeError, IndexError) as error:
            # What hpack raises for hostile bytes.
            raise self._fault(f"its headers are invalid: {error}", ErrorCodes.COMPRESSION_ERROR) from error
        except SettingsFault as error:
            raise self._fault(str(error), error.code) from None
        except struct.error as error:
            raise self._fault(
                f"a frame of an impossible length: {error}", ErrorCodes.FRAME_SIZE_ERROR
            ) from error
        except ValueError as error:
            raise self._fault(f"its frames are invalid: {error}", ErrorCodes.PROTOCOL_ERROR) from error

    @property
    def has_begun(self) -> bool:
        """Whether the peer has sent the settings with which HTTP/2 begins."""
        return self._saw_settings

    @property
    def incomplete(self) -> int:
        """Bytes of frames and header blocks that have come in part."""
        return len(self._unread) + (len(self._block[2]) if self._block is not None else 0)

    def _fault(self, reason: str, code: ErrorCodes) -> ConnectionFault:
        self.say_goodbye(code, reason)
        return ConnectionFault(f"the peer broke the HTTP/2 protocol: {reason}", code)

    def _receive(self, data: bytes) -> None:
        if self._unread:
            data = self._unread + data
            self._unread = b""
        position, end = 0, len(data)
        if self._preface:
            position = self._receive_preface(data)
        while position < end:
            if self._data_left:
                position = self._receive_data_part(data, position, end)
                continue
            body = position + _FRAME_BYTES
            if end < body:
                break
            high, low, kind, flags, stream_id = _FRAME.unpack_from(data, position)
            size = high << 8 | low
            stream_id &= _MAX_31_BITS
            if not self._saw_settings or self._block is not None or size > self.max_inbound_frame_size:
                self._check_order(kind, flags, stream_id, size, data)
            if kind == _DATA and not flags & _PADDED:
                position = body
                self._begin_data(stream_id, size, bool(flags & _END_STREAM))
                continue
            if kind == _DATA and size > self.inbound.left:
                raise FlowControlFault("the peer sent more than the connection's window")
            if size > self._max_block and kind != _DATA:
                raise ConnectionFault("too large a frame", ErrorCodes.ENHANCE_YOUR_CALM)
            if end < body + size:
                break
            position = body + size
            self._receive_one(kind, flags, stream_id, data[body:position])
        if position < end:
            self._unread = data[position:] if position else data

    def _receive_preface(self, data: bytes) -> int:
        expected = self._preface[: len(data)]
        if not data.startswith(expected):
            raise ConnectionFault("the peer does not speak HTTP/2")
        self._preface = self._preface[len(expected) :]
        return len(expected)

    def _check_order(self, kind: int, flags: int, stream_id: int, size: int, data: bytes) -> None:
        if not self._saw_settings:
            if data.startswith(b"HTTP/1"):
                raise ConnectionFault("the peer speaks HTTP/1, not gRPC; is it the right port?")
            if kind != _SETTINGS:
                raise ConnectionFault("the peer does not speak HTTP/2; is it the right address?")
            if flags & _ACK:
                raise ConnectionFault("the peer acknowledges settings before it sends its own")
            self._saw_settings = True
        if size > self.max_inbound_frame_size:
            raise ConnectionFault(f"a frame of {size} bytes", ErrorCodes.FRAME_SIZE_ERROR)
        if self._block is not None and (kind != _CONTINUATION or stream_id != self._block[0]):
            raise ConnectionFault("a frame in the middle of a header block")

    def _begin_data(self, stream_id: int, size: int, ends: bool) -> None:
        stream = self.calls.get(stream_id)
        if not size or stream is None:
            self._spend(_WORK_FRAME)
        if stream is None:
            self._refuse_if_idle(stream_id)
            if stream_id not in self._late:
                self._spend(_WORK_REFUSAL)
                self.reset(stream_id, ErrorCodes.STREAM_CLOSED)
        elif not stream.is_receiving:
            self._break(stream, "data after its end", ErrorCodes.STREAM_CLOSED)
        if size:
            self._data_left, self._data_stream, self._data_ends = size, stream_id, ends
        elif ends:
            self._end(stream_id)

    def _receive_data_part(self, data: bytes, position: int, end: int) -> int:
        stop = min(end, position + self._data_left)
        stream_id = self._data_stream
        self._data_left -= stop - position
        self._take_data(stream_id, data, position, stop, 0)
        if not self._data_left and self._data_ends:
            self._end(stream_id)
        return stop

    def _take_data(self, stream_id: int, data: bytes, start: int, stop: int, padding: int) -> None:
        count = stop - start + padding
        self.inbound.received(count)
        stream = self.calls.get(stream_id)
        if stream is not None:
            try:
                stream.inbound.received(count)
            except FlowControlFault as error:
                self._break(stream, str(error), ErrorCodes.FLOW_CONTROL_ERROR)
            else:
                if stream.content_left is not None:
                    stream.content_left -= stop - start
                self._owner.on_data(stream, data, start, stop, padding)
        self.open_connection_window()

    def _end(self, stream_id: int) -> None:
        stream = self.calls.get(stream_id)
        if stream is None:
            return
        if stream.content_left:
            self._break(stream, "data of another length than its content-length")
            return
        stream.is_receiving = False
        self._owner.on_end(stream)

    def _receive_one(self, kind: int, flags: int, stream_id: int, body: bytes) -> None:
        match kind:
            case 0x1:
                self._receive_headers(flags, stream_id, body)
            case 0x8:
                self._receive_window(stream_id, body)
            case 0x3:
                self._receive_reset(stream_id, body)
            case 0x0:
                self._receive_padded_data(flags, stream_id, body)
            case 0x4:
                self._receive_settings(flags, stream_id, body)
            case 0x6:
                self._receive_ping(flags, stream_id, body)
            case 0x7:
                if stream_id:
                    raise ConnectionFault("a GOAWAY of a stream")
                self._spend(_WORK_FRAME)
                last, _code = _TWO_WORDS.unpack_from(body)
                self._owner.on_going_away(last & _MAX_31_BITS, body[8:].decode("utf-8", "replace"))
            case 0x9:
                self._receive_continuation(flags, body)
            case 0x5:
                raise ConnectionFault("a push, which is not allowed")
            case 0x2:
                self._spend(_WORK_FRAME)
                self._check_priority(stream_id, body)
            case _:
                self._spend(_WORK_FRAME)  # what we need not know

    def _receive_headers(self, flags: int, stream_id: int, body: bytes) -> None:
        if flags & (_PADDED | _HAS_PRIORITY):
            body = _unpadded(body, flags)
            if flags & _HAS_PRIORITY:
                self._check_priority(stream_id, body[:5])
                body = body[5:]
        ends = bool(flags & _END_STREAM)
        if flags & _END_HEADERS:
            self._take_headers(stream_id, body, ends)
        else:
            self._block = (stream_id, ends, bytearray(body))

    def _receive_continuation(self, flags: int, body: bytes) -> None:
        if self._block is None:
            raise ConnectionFault("a header block without a beginning")
        stream_id, ends, block = self._block
        self._spend(_WORK_FRAME)
        block += body
        if not (body or flags & _END_HEADERS) or len(block) > self._max_block:
            raise ConnectionFault("too many headers", ErrorCodes.ENHANCE_YOUR_CALM)
        if flags & _END_HEADERS:
            self._block = None
            self._take_headers(stream_id, bytes(block), ends)

    def _take_headers(self, stream_id: int, block: bytes, ends: bool) -> None:
        stream = self.calls.get(stream_id)
        if stream is None and not self._is_client and stream_id > self.highest_inbound_stream_id:
            self._open(stream_id, block, ends)
            return
        if stream is None:
            self._refuse_if_idle(stream_id)
            self._spend(_WORK_REFUSAL)
            if not self._is_client and stream_id not in self._late:
                raise ConnectionFault("headers of a stream that has ended", ErrorCodes.STREAM_CLOSED)
        kind = RESPONSE if self._is_client and (stream is None or not stream.started) else TRAILERS
        try:
            # Of a stream that has ended, too: blocks depend on each other.
            headers = self._unpacker.unpack(block, kind)
        except HeaderFault as error:
            if stream is not None:
                self._break(stream, str(error))
            return
        if stream is None:
            return
        if not stream.is_receiving:
            self._break(stream, "headers after its end", ErrorCodes.STREAM_CLOSED)
            return
        if not self._is_client and not ends:
            self._break(stream, "headers twice")
            return
        self._owner.on_headers(stream, headers, ends)
        if ends:
            self._end(stream_id)

    def _open(self, stream_id: int, block: bytes, ends: bool) -> None:
        if not stream_id % 2:
            raise ConnectionFault("a client's stream with an even number")
        self.highest_inbound_stream_id = stream_id
        try:
            headers = self._unpacker.unpack(block, REQUEST)
            length = _content_length(headers)
        except (HeaderFault, ValueError):
            self._spend(_WORK_REFUSAL + len(block) // 100)
            self.reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        self._owner.on_open(stream_id, headers, ends)
        if length is not None and (stream := self.calls.get(stream_id)):
            stream.content_left = length
        if ends:
            self._end(stream_id)

    def _receive_window(self, stream_id: int, body: bytes) -> None:
        (count,) = _WORD.unpack(body)
        count &= _MAX_31_BITS
        self._spend(_WORK_FRAME)
        if not stream_id:
            if not count:
                raise ConnectionFault("a window that does not grow")
            self.outbound_flow_control_window += count
            if self.outbound_flow_control_window > _MAX_31_BITS:
                raise ConnectionFault("an impossible window", ErrorCodes.FLOW_CONTROL_ERROR)
            self._owner.on_window(0)
            return
        stream = self.calls.get(stream_id)
        if stream is None:
            self._refuse_if_idle(stream_id)
            return
        if not count:
            self._break(stream, "a window that does not grow")
            return
        stream.outbound += count
        if stream.outbound > _MAX_31_BITS:
            self._break(stream, "an impossible window", ErrorCodes.FLOW_CONTROL_ERROR)
            return
        self._owner.on_window(stream_id)

    def _receive_reset(self, stream_id: int, body: bytes) -> None:
        (code,) = _WORD.unpack(body)
        stream = self.calls.get(stream_id)
        if stream is None:
            self._spend(_WORK_FRAME)
            self._refuse_if_idle(stream_id)
            return
        stream.is_sending = stream.is_receiving = False
        self._owner.on_reset(stream, code)

    def _receive_padded_data(self, flags: int, stream_id: int, body: bytes) -> None:
        data = _unpadded(body, flags)
        self._begin_data(stream_id, 0, ends=False)
        self._take_data(stream_id, data, 0, len(data), len(body) - len(data))
        if flags & _END_STREAM:
            self._end(stream_id)

    def _receive_settings(self, flags: int, stream_id: int, body: bytes) -> None:
        if stream_id:
            raise ConnectionFault("settings of a stream")
        if len(body) % 6 or (flags & _ACK and body):
            raise ConnectionFault("settings of an impossible length", ErrorCodes.FRAME_SIZE_ERROR)
        self._spend(_WORK_SETTINGS * (1 + len(body) // 6))
        if flags & _ACK:
            return
        settings = self.peer_settings
        window, table = settings.initial_window_size, settings.header_table_size
        settings.update(body)
        if settings.initial_window_size != window:
            self._change_windows(settings.initial_window_size - window)
        if settings.header_table_size != table:
            self._packer.resize(settings.header_table_size)
        self._send_frame(_SETTINGS, _ACK, 0)
        self._owner.on_window(0)

    def _receive_ping(self, flags: int, stream_id: int, body: bytes) -> None:
        if stream_id:
            raise ConnectionFault("a ping of a stream")
        if len(body) != 8:
            raise ConnectionFault("a ping of another size than 8 bytes", ErrorCodes.FRAME_SIZE_ERROR)
        self._spend(_WORK_FRAME)
        if flags & _ACK:
            self._owner.on_pong()
        else:
            self._send_frame(_PING, _ACK, 0, body)

    def _change_windows(self, count: int) -> None:
        for stream in self.calls.values():
            stream.outbound += count
            if stream.outbound > _MAX_31_BITS:
                raise ConnectionFault("an impossible window", ErrorCodes.FLOW_CONTROL_ERROR)

    def _check_priority(self, stream_id: int, body: bytes) -> None:
        if not stream_id:
            raise ConnectionFault("a priority of no stream")
        if len(body) != 5:
            raise ConnectionFault("a priority of another size than 5 bytes", ErrorCodes.FRAME_SIZE_ERROR)
        if _WORD.unpack_from(body)[0] & _MAX_31_BITS == stream_id:
            raise ConnectionFault("a stream that depends on itself")

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > WORK_AT_ONCE:
            raise ConnectionFault(TOO_MUCH_WORK, ErrorCodes.ENHANCE_YOUR_CALM)

    def _refuse_if_idle(self, stream_id: int) -> None:
        """Frames of a stream that has ended may be late; those of one that never was are a fault."""
        ours = bool(stream_id % 2) == self._is_client
        highest = self.highest_outbound_stream_id if ours else self.highest_inbound_stream_id
        if not stream_id or stream_id > highest:
            raise ConnectionFault(f"a frame for stream {stream_id}, which is not open")

    def _break(self, stream: Any, reason: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        self._spend(_WORK_REFUSAL)
        self.reset(stream.id, code)
        stream.is_sending = stream.is_receiving = False
        self._owner.on_broken(stream, reason)

    @property
    def max_streams(self) -> int:
        """The peer's limit of concurrent streams; before its settings arrive, a number that every peer should allow."""
        most = self.peer_settings.max_concurrent_streams
        if most is None:
            most = _MAX_31_BITS
        return most if self._saw_settings else min(most, _MAX_STREAMS_BEFORE_SETTINGS)

    @property
    def initial_outbound(self) -> int:
        """What the peer lets us send on a new stream."""
        return self.peer_settings.initial_window_size

    @property
    def max_header_list(self) -> int | None:
        """The peer's limit of the size of a header list; None if it has not sent one."""
        return self.peer_settings.max_header_list_size


def _content_length(headers: list[Header]) -> int | None:
    """How much data a request says that it has; ValueError if it says something else, or two things."""
    found: int | None = None
    for name, value in headers:
        if name == "content-length":
            if not (value.isascii() and value.isdecimal()):  # `int` takes more than HTTP does
                raise ValueError(value)
            length = int(value)
            if found not in (None, length):
                raise ValueError(f"{found} and {length}")
            found = length
    return found


def _unpadded(body: bytes, flags: int) -> bytes:
    """What a frame holds besides its padding."""
    if not flags & _PADDED:
        return body
    if not body or body[0] >= len(body):
        raise ConnectionFault("more padding than frame")
    return body[1 : len(body) - body[0]]
