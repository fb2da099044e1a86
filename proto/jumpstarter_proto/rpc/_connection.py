"""One gRPC connection without I/O: bytes in, events out, and bytes to send.

It stands on purerpc's `GRPCConnection` for the HTTP/2 machinery and its settings, and replaces what that leaves
out: calls that end without a body, resets, GOAWAY that lets running calls finish, windows that bound memory, and
errors of one call that stay errors of that call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, WindowUpdateFrame

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
    WindowOpened,
)
from jumpstarter_proto.rpc._grpclib import GRPCConfiguration, GRPCConnection
from jumpstarter_proto.rpc._messages import FramingError, MessageReader
from jumpstarter_proto.rpc._metadata import (
    decode_details,
    decode_metadata,
    decode_timeout,
    encode_details,
    encode_metadata,
    encode_timeout,
)
from jumpstarter_proto.rpc._types import Metadata, Options, RpcError, StatusCode

__all__ = ["Connection", "ConnectionFault"]

_HTTP_CODES = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}
"""Status for a reply that is not gRPC's (the specification's http-grpc-status-mapping.md)."""

_RESET_CODES = {
    ErrorCodes.NO_ERROR: (StatusCode.INTERNAL, "the peer ended the call without a status"),
    ErrorCodes.REFUSED_STREAM: (
        StatusCode.UNAVAILABLE,
        "the peer refused the call, it has too many; try again",
    ),
    ErrorCodes.CANCEL: (StatusCode.CANCELLED, "the peer cancelled the call"),
    ErrorCodes.ENHANCE_YOUR_CALM: (
        StatusCode.RESOURCE_EXHAUSTED,
        "the peer wants fewer calls; try again later",
    ),
    ErrorCodes.INADEQUATE_SECURITY: (StatusCode.PERMISSION_DENIED, "the peer wants a safer connection"),
}
_CONTENT_TYPE = ("content-type", "application/grpc")


class ConnectionFault(Exception):  # noqa: N818 - a fault of the peer's
    """The peer broke HTTP/2; the connection is lost. What is left to send tells it why."""


class _Stream:
    """What one call needs while it is open."""

    __slots__ = ("granted", "reader", "started", "status", "unread")

    def __init__(self, max_receive: int) -> None:
        self.reader = MessageReader(max_receive)
        self.started = False
        """Headers were sent (by a server) or received (by a client)."""
        self.granted = 0
        """Window beyond the usual, given for the one large message that is being read."""
        self.unread = 0
        """Window that arrived and was not given back."""
        self.status: CallEnded | None = None


class Connection(GRPCConnection):  # type: ignore[misc] # purerpc has no types
    """Either end of a connection. `receive` may raise; everything else only queues bytes for `take`.

    Sending on a stream that has ended raises nothing and sends nothing: its owner learns of the end by an event.
    """

    def __init__(self, *, client: bool, options: Options) -> None:
        self._options = options
        self._client = client
        super().__init__(GRPCConfiguration(client_side=client, max_message_length=options.max_receive))
        h2_connection = self.h2_connection
        # What we send is made here and needs no second look; what the peer sends is validated.
        h2_connection.config.validate_outbound_headers = False
        h2_connection.config.normalize_outbound_headers = False
        h2_connection.decoder.max_header_list_size = options.max_header_list
        # h2 takes a GOAWAY for the end of the connection; gRPC lets running calls finish.
        h2_connection._frame_dispatch_table[GoAwayFrame] = self._receive_goaway  # noqa: SLF001
        self._open: dict[int, _Stream] = {}
        self._handlers: dict[type[Any], Callable[[Any], list[Event]]] = {
            h2.events.RequestReceived: self._on_request,
            h2.events.ResponseReceived: self._on_response,
            h2.events.TrailersReceived: self._on_trailers,
            h2.events.DataReceived: self._on_data,
            h2.events.StreamEnded: self._on_ended,
            h2.events.StreamReset: self._on_reset,
            h2.events.WindowUpdated: self._on_window,
            h2.events.RemoteSettingsChanged: self._on_settings,
            h2.events.PingAcknowledged: self._on_pong,
            h2.events.ConnectionTerminated: self._on_terminated,
        }

    def _set_h2_connection_local_settings(self) -> None:
        options = self._options
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: options.max_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: options.stream_window,
            SettingCodes.MAX_FRAME_SIZE: min(max(options.stream_window, 2**14), 2**24 - 1),
            SettingCodes.MAX_HEADER_LIST_SIZE: options.max_header_list,
        }
        if self._client:
            values[SettingCodes.ENABLE_PUSH] = 0
        self.h2_connection.local_settings = Settings(client=self._client, initial_values=values)
        self.h2_connection.max_inbound_frame_size = values[SettingCodes.MAX_FRAME_SIZE]

    # --- the connection

    def start(self) -> None:
        """Queue the preface and our settings, which go out before anything else."""
        self.h2_connection.initiate_connection()
        self.h2_connection.increment_flow_control_window(self._options.connection_window - 65535)

    @property
    def pending(self) -> int:
        """Bytes that wait for `take`."""
        return len(self.h2_connection._data_to_send)  # noqa: SLF001 - h2 tells it no other way

    def take(self) -> bytes:
        """All bytes to send now."""
        data: bytes = self.h2_connection.data_to_send()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """What the peer's bytes mean.

        Raises:
            ConnectionFault: they are not HTTP/2; queues the GOAWAY that says so.
        """
        try:
            h2_events = self.h2_connection.receive_data(data)
        except Exception as error:
            # Whatever h2, hpack or hyperframe raise for hostile bytes ends this connection and nothing else.
            reason = str(error) or type(error).__name__
            raise ConnectionFault(f"the peer broke the HTTP/2 protocol: {reason}") from error
        # h2 looks at a frame's length once all of it has come, which may be 16 MiB.
        begun = self.h2_connection.incoming_buffer.data[:3]
        if len(begun) == 3 and begun != b"PRI":
            announced = int.from_bytes(begun, "big")
            if announced > self.h2_connection.max_inbound_frame_size:
                raise ConnectionFault(f"the peer announced a frame of {announced} bytes, which is too large")
        events: list[Event] = []
        for event in h2_events:
            handler = self._handlers.get(type(event))
            if handler is not None:
                events += handler(event)
        return events

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.h2_connection.ping(b"jmpalive")

    def goodbye(self, code: ErrorCodes = ErrorCodes.NO_ERROR, reason: str = "") -> None:
        """Take no new calls from the peer, and say so. Running calls go on."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = self.h2_connection.highest_inbound_stream_id
        frame.error_code = code
        frame.additional_data = reason.encode()
        self.h2_connection._prepare_for_sending([frame])  # noqa: SLF001 - h2's own would end the connection

    @property
    def has_room_for_a_call(self) -> bool:
        """Whether the peer takes one more call now."""
        return bool(
            self.h2_connection.open_outbound_streams
            < self.h2_connection.remote_settings.max_concurrent_streams
        )

    # --- calls of a client

    def start_call(
        self, path: str, *, scheme: str, authority: str, timeout: float | None, metadata: Metadata
    ) -> int:
        """Queue a call's headers.

        Raises:
            RpcError: RESOURCE_EXHAUSTED, the peer does not take so much metadata; or UNAVAILABLE, this
                connection has used up its streams.
        """
        headers = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            _CONTENT_TYPE,
        ]
        if timeout is not None:
            headers.append(("grpc-timeout", encode_timeout(timeout)))
        headers += encode_metadata(metadata)
        self._check_size(headers)
        try:
            stream_id: int = self.h2_connection.get_next_available_stream_id()
        except h2.exceptions.NoAvailableStreamIDError:
            raise RpcError(StatusCode.UNAVAILABLE, "this connection is used up; connect again") from None
        self._open[stream_id] = _Stream(self._options.max_receive)
        self.h2_connection.send_headers(stream_id, headers)
        return stream_id

    # --- calls of a server

    def send_headers(self, stream_id: int, metadata: Metadata) -> None:
        """Queue initial metadata, once."""
        stream = self._open.get(stream_id)
        if stream is None or stream.started:
            return
        headers = [(":status", "200"), _CONTENT_TYPE, *encode_metadata(metadata)]
        self._check_size(headers)
        stream.started = True
        self.h2_connection.send_headers(stream_id, headers)

    def end_call(self, stream_id: int, code: StatusCode, details: str, metadata: Metadata) -> None:
        """Queue the status: as trailers, or as all there is when no headers were sent. Ends the stream."""
        stream = self._open.get(stream_id)
        if stream is None:
            return
        trailers = [("grpc-status", str(int(code)))]
        if details:
            # A status must arrive: what does not fit into the peer's header list is cut.
            trailers.append(("grpc-message", encode_details(details[:8192])))
        if not stream.started:
            trailers = [(":status", "200"), _CONTENT_TYPE, *trailers]
        trailers += encode_metadata(metadata)
        self.h2_connection.send_headers(stream_id, trailers, end_stream=True)
        if not self.h2_connection._get_stream_by_id(stream_id).closed:  # noqa: SLF001
            # The peer may still be sending; nobody reads it any more.
            self.h2_connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self._forget(stream_id)

    # --- both

    def sendable(self, stream_id: int) -> int:
        """Bytes of data that may be queued for this stream now; 0 when it has ended."""
        if stream_id not in self._open:
            return 0
        try:
            window: int = self.h2_connection.local_flow_control_window(stream_id)
        except h2.exceptions.StreamClosedError:
            return 0
        return max(0, min(window, int(self.h2_connection.max_outbound_frame_size)))

    def send_data(self, stream_id: int, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue up to `sendable` bytes of framed messages, and our half-close."""
        if stream_id in self._open:
            self.h2_connection.send_data(stream_id, data, end_stream=end)

    def is_open(self, stream_id: int) -> bool:
        """Whether the stream's last event is still to come."""
        return stream_id in self._open

    def acknowledge(self, stream_id: int, credit: int) -> None:
        """A message was read: let the peer send as much again."""
        stream = self._open.get(stream_id)
        if stream is None:
            return  # what it held was given back when it ended
        stream.unread -= credit
        self._give_back(stream_id, credit, credit)

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End a stream at once, whatever its state. No event follows."""
        if stream_id not in self._open:
            return
        # A stream that has ended meanwhile is what was wanted.
        with suppress(h2.exceptions.ProtocolError):
            self.h2_connection.reset_stream(stream_id, code)
        self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        stream = self._open.pop(stream_id)
        if stream.unread:
            self._give_back(stream_id, stream.unread, 0)

    def _give_back(self, stream_id: int, on_connection: int, on_stream: int) -> None:
        if on_stream == on_connection:
            self.h2_connection.acknowledge_received_data(on_stream, stream_id)
            return
        if on_stream:
            self.h2_connection.acknowledge_received_data(on_stream, stream_id)
        manager = self.h2_connection._inbound_flow_control_window_manager  # noqa: SLF001
        if increment := manager.process_bytes(on_connection - on_stream):
            frame = WindowUpdateFrame(0)
            frame.window_increment = increment
            self.h2_connection._prepare_for_sending([frame])  # noqa: SLF001

    def _check_size(self, headers: list[tuple[str, str]]) -> None:
        size = sum(len(name) + len(value) + 32 for name, value in headers)
        limit = self.h2_connection.remote_settings.max_header_list_size
        if limit is not None and size > limit:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the call's metadata has {size} bytes and the peer takes {limit}; send less of it",
            )

    # --- what h2 reports

    def _on_request(self, event: h2.events.RequestReceived) -> list[Event]:
        headers = event.headers
        found = dict(headers)
        stream_id = event.stream_id
        self._open[stream_id] = _Stream(self._options.max_receive)
        if not found.get("content-type", "").startswith("application/grpc"):
            self.h2_connection.send_headers(stream_id, [(":status", "415")], end_stream=True)
            self.reset(stream_id, ErrorCodes.NO_ERROR)
            return []
        try:
            timeout = decode_timeout(found["grpc-timeout"]) if "grpc-timeout" in found else None
            metadata = decode_metadata(headers)
        except ValueError as error:
            self.end_call(stream_id, StatusCode.INTERNAL, str(error), ())
            return []
        authority = found.get(":authority", "")
        return [RequestReceived(stream_id, found.get(":path", ""), authority, metadata, timeout)]

    def _on_response(self, event: h2.events.ResponseReceived) -> list[Event]:
        stream = self._open.get(event.stream_id)
        if stream is None:
            return []
        headers = event.headers
        found = dict(headers)
        http_status = found.get(":status", "")
        if http_status != "200" or not found.get("content-type", "").startswith("application/grpc"):
            code = _HTTP_CODES.get(int(http_status) if http_status.isdecimal() else 0, StatusCode.UNKNOWN)
            return self._fail(
                event.stream_id, code, f"the peer answered HTTP {http_status}, which is not gRPC"
            )
        if "grpc-status" in found:
            return self._read_status(event.stream_id, headers)
        stream.started = True
        try:
            return [ResponseStarted(event.stream_id, decode_metadata(headers))]
        except ValueError as error:
            return self._fail(event.stream_id, StatusCode.INTERNAL, str(error))

    def _on_trailers(self, event: h2.events.TrailersReceived) -> list[Event]:
        if self._client and event.stream_id in self._open:
            return self._read_status(event.stream_id, event.headers)
        return []

    def _read_status(self, stream_id: int, headers: list[tuple[str, str]]) -> list[Event]:
        found = dict(headers)
        text = found.get("grpc-status", "")
        try:
            code = StatusCode(int(text))
        except ValueError:
            code = StatusCode.UNKNOWN
        try:
            metadata = decode_metadata(headers)
        except ValueError:
            metadata = []
        details = decode_details(found.get("grpc-message", ""))
        if not text:
            details = details or "the peer ended the call without a status"
        stream = self._open[stream_id]
        if code is StatusCode.OK and not stream.reader.is_between_messages:
            code, details = StatusCode.INTERNAL, "the peer ended the call in the middle of a message"
        stream.status = CallEnded(stream_id, code, details, metadata)
        return []

    def _on_data(self, event: h2.events.DataReceived) -> list[Event]:
        stream_id = event.stream_id
        stream = self._open.get(stream_id)
        length: int = event.flow_controlled_length
        if stream is None:
            # Data that was under way when the stream ended.
            self._give_back(stream_id, length, 0)
            return []
        stream.unread += length
        reader = stream.reader
        try:
            messages = reader.feed(event.data)
        except FramingError as error:
            code = StatusCode.RESOURCE_EXHAUSTED if error.too_large else StatusCode.INTERNAL
            return self._fail(stream_id, code, str(error))
        padding = length - len(event.data)
        if padding:
            stream.unread -= padding
            self._give_back(stream_id, padding, padding)
        events: list[Event] = []
        for data, framed_length in messages:
            credit = framed_length
            if stream.granted:
                # This message's window was extended when it began, so only the connection's is due.
                stream.unread -= stream.granted
                self._give_back(stream_id, stream.granted, 0)
                credit -= stream.granted
                stream.granted = 0
            events.append(MessageReceived(stream_id, data, credit))
        if reader.needs and not stream.granted and reader.length > self._options.stream_window // 2:
            stream.granted = reader.needs
            self.h2_connection.increment_flow_control_window(reader.needs, stream_id)
        return events

    def _fail(self, stream_id: int, code: StatusCode, details: str) -> list[Event]:
        """End one call for what its peer did."""
        if self._client:
            self.reset(stream_id)
            return [CallEnded(stream_id, code, details, ())]
        self.end_call(stream_id, code, details, ())
        return [CallReset(stream_id, details)]

    def _on_ended(self, event: h2.events.StreamEnded) -> list[Event]:
        stream_id = event.stream_id
        stream = self._open.get(stream_id)
        if stream is None:
            return []
        if self._client:
            status = stream.status or CallEnded(
                stream_id, StatusCode.INTERNAL, "the peer ended the call without a status", ()
            )
            self.reset(stream_id, ErrorCodes.NO_ERROR)  # in case that we have not ended our half
            return [status]
        if not stream.reader.is_between_messages:
            return self._fail(stream_id, StatusCode.INTERNAL, "the call ended in the middle of a message")
        return [HalfClosed(stream_id)]

    def _on_reset(self, event: h2.events.StreamReset) -> list[Event]:
        stream_id = event.stream_id
        stream = self._open.get(stream_id)
        if stream is None:
            return []
        self._forget(stream_id)
        if not self._client:
            return [CallReset(stream_id, "the caller cancelled the call")]
        if stream.status is not None:
            return [stream.status]
        code, details = _RESET_CODES.get(
            event.error_code,
            (StatusCode.INTERNAL, f"the peer reset the call (HTTP/2 error {event.error_code})"),
        )
        return [CallEnded(stream_id, code, details, ())]

    def _on_window(self, event: h2.events.WindowUpdated) -> list[Event]:
        return [WindowOpened(event.stream_id)]

    def _on_settings(self, event: h2.events.RemoteSettingsChanged) -> list[Event]:
        return [WindowOpened(0)]

    def _on_pong(self, event: h2.events.PingAcknowledged) -> list[Event]:
        return [PongReceived()]

    def _receive_goaway(self, frame: GoAwayFrame) -> tuple[list[Any], list[Any]]:
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or b""
        return [], [event]

    def _on_terminated(self, event: h2.events.ConnectionTerminated) -> list[Event]:
        reason = event.additional_data.decode("utf-8", "replace")
        return [GoingAway(event.last_stream_id, reason)]
