"""One gRPC connection without I/O: bytes in, events out, and bytes to send.

HTTP/2 below it is `Http2`. Calls may end without a body or be reset, a GOAWAY lets running calls finish, windows bound
memory, and errors of one call stay errors of that call.
"""

from __future__ import annotations

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
    WindowOpened,
)
from jumpstarter_proto.rpc._headers import Header, plain
from jumpstarter_proto.rpc._http2 import MAX_FRAME, ConnectionFault, Http2, Http2Stream
from jumpstarter_proto.rpc._messages import FramingError, MessageReader, frame_header
from jumpstarter_proto.rpc._metadata import (
    decode_metadata,
    decode_timeout,
    encode_details,
    encode_metadata,
    encode_timeout,
)
from jumpstarter_proto.rpc._send_buffer import SendBuffer
from jumpstarter_proto.rpc._settings import SettingCodes
from jumpstarter_proto.rpc._status import RESET_CODES, status_of_http, status_of_trailers
from jumpstarter_proto.rpc._types import Metadata, Options, RpcError, StatusCode

__all__ = ["CallStream", "ConnectionFault", "GrpcConnection"]

_CONTENT_TYPE = ("content-type", "application/grpc")
_TE = ("te", "trailers")
_POST = (":method", "POST")
_HTTP_OK = (":status", "200")
_STARTED = (_HTTP_OK, _CONTENT_TYPE)
_OK = (("grpc-status", "0"),)
CALL_BYTES = 1024
"""The cost of a call of an unauthenticated caller besides its headers and messages."""
_NOT_GRPC = b"This server speaks gRPC; use a client for it.\n"
_OTHER_ANSWER = ((":status", "415"), ("content-type", "text/plain"))
_MAX_OTHER_REQUESTS = 16
"""Requests of an unauthenticated peer that are not gRPC and that it takes no answer to."""
TOO_MANY_RESETS = "the peer cancels too many calls"
_MAX_DETAILS_BYTES = 4096
"""Bytes of a status message. Peers take 8 KiB of headers in all, and a status must arrive."""


class CallStream(Http2Stream):
    """One open call."""

    __slots__ = ("besides", "body", "is_confined", "reader", "status", "unread")

    def __init__(self, stream_id: int, outbound: int, options: Options) -> None:
        super().__init__(stream_id, outbound, options.stream_window)
        self.reader = MessageReader(options.max_receive)
        self.unread = 0
        """Bytes of whole messages that were not acknowledged."""
        self.besides = 0
        """What an unauthenticated caller's call holds besides its messages, in bytes."""
        self.body: memoryview | None = None
        """What is still to be sent of the answer to a request that is not gRPC; None for a call."""
        self.is_confined = False
        """Its caller is not authenticated, and may not send large messages."""
        self.status: CallEnded | None = None
        """A client's call has its trailers; the end of the stream is next."""


class GrpcConnection:
    """Either end of a connection. Only `receive` raises for what the peer does; the rest queues bytes in `send_buffer`.

    Sending on a call that has ended raises nothing and sends nothing: its owner learns of the end by an event.
    """

    def __init__(self, *, client: bool, options: Options) -> None:
        self._options = options
        self._client = client
        self._events: list[Event] = []
        self._open: dict[int, CallStream] = {}
        self._new: dict[int, int] = {}
        """Calls that the bytes which are being received opened, and where in `_events` their requests are."""
        self._resets = 0
        """How many calls the same bytes have ended."""
        self.confined: int | None = None
        """What an unauthenticated peer may make us hold, in bytes."""
        self._others: dict[int, None] = {}
        """Requests that are not gRPC, whose answers wait for the peer's window."""
        self._besides = 0
        """The sum of it over all calls."""
        self._http2 = self._new_http2()
        self.send_buffer: SendBuffer = self._http2.send_buffer

    def _new_http2(self) -> Http2:
        options = self._options
        values: dict[SettingCodes, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: options.max_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: options.stream_window,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
            SettingCodes.MAX_HEADER_LIST_SIZE: options.max_header_list,
        }
        if self._client:
            values[SettingCodes.ENABLE_PUSH] = 0
        http2 = Http2(
            self,
            client=self._client,
            settings=values,
            max_header_list=options.max_header_list,
            window=options.connection_window,
        )
        http2.calls = self._open
        return http2

    # --- the connection

    def start(self, confined: int | None = None) -> None:
        """Queue the preface and our settings, which are sent first.

        An unauthenticated peer may send at most `confined` bytes until `release`.
        """
        self.confined = confined
        self._http2.start(confined)

    def release(self) -> None:
        """The peer is authenticated: its window grows to what our options say."""
        if self.confined is not None:
            self.confined = None
            self._http2.widen()

    def confine(self, stream_id: int) -> None:
        """Take no large message on this call: it is an unauthenticated caller's, and the server waits for it.

        Raises:
            RpcError: RESOURCE_EXHAUSTED, one has begun.
        """
        if (call := self._open.get(stream_id)) and self.confined is not None:
            call.is_confined = True
            if details := self._why_too_large(call):
                raise RpcError(StatusCode.RESOURCE_EXHAUSTED, details)

    def receive(self, data: bytes) -> list[Event]:
        """Return the events of received bytes.

        Raises:
            ConnectionFault: they are not HTTP/2; a GOAWAY is queued. Earlier events of these bytes are lost, as all
                calls of the connection fail.
        """
        events: list[Event] = []
        self._events = events
        self._new.clear()
        self._resets = 0
        self._http2.receive(data)
        return events

    @property
    def has_begun(self) -> bool:
        """Whether the peer has sent what an HTTP/2 connection begins with."""
        return self._http2.has_begun

    def take(self) -> bytes:
        """All bytes to send now, in one piece."""
        return self.send_buffer.take()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._http2.ping(b"jmpalive")

    def goodbye(self, code: ErrorCodes = ErrorCodes.NO_ERROR, reason: str = "") -> None:
        """Send GOAWAY: new calls are rejected, and running calls continue."""
        self._http2.say_goodbye(code, reason)

    @property
    def held_in_all(self) -> int:
        """Bytes that have arrived on all calls and were not acknowledged, pieces of messages too.

        Frames that have come in part, and of a confined peer headers of open calls, too.
        """
        http2 = self._http2
        return http2.inbound.unread + http2.inbound.partial + http2.incomplete + self._besides

    def take_work(self) -> int:
        """What the peer made us do since the last time that serves no call, in about microseconds; negative for none.

        Windows and pings that answer what we have sent are honest.
        """
        http2 = self._http2
        work = http2.work - 4 * http2.frames_sent
        http2.work = http2.frames_sent = 0
        return work

    @property
    def has_room_for_a_call(self) -> bool:
        """Whether the peer takes one more call now."""
        return len(self._open) < self._http2.max_streams

    # --- calls of a client

    def start_call(
        self, path: str, *, scheme: str, authority: str, timeout: float | None, metadata: Metadata
    ) -> int:
        """Queue a call's headers.

        Raises:
            RpcError: RESOURCE_EXHAUSTED, the metadata is too large for the peer; or UNAVAILABLE, this
                connection has no stream ids left.
        """
        headers: list[Header] = [
            _POST,
            (":scheme", scheme),
            (":path", path),
            (":authority", authority),
            _TE,
            _CONTENT_TYPE,
        ]
        if timeout is not None:
            headers.append(plain("grpc-timeout", encode_timeout(timeout)))
        if metadata:
            headers += encode_metadata(metadata)
            self._check_size(headers)
        stream_id = self._http2.new_stream_id()
        if stream_id is None:
            raise RpcError(StatusCode.UNAVAILABLE, "this connection is used up; connect again")
        self._open[stream_id] = call = CallStream(stream_id, self._http2.initial_outbound, self._options)
        self._http2.send_headers(call, headers)
        return stream_id

    # --- calls of a server

    def send_headers(self, stream_id: int, metadata: Metadata) -> None:
        """Queue initial metadata, once. Raises RpcError(RESOURCE_EXHAUSTED) if it is too large for the peer."""
        call = self._open.get(stream_id)
        if call is None or call.started:
            return
        headers: list[Header] = [*_STARTED, *encode_metadata(metadata)] if metadata else [*_STARTED]
        if metadata:
            self._check_size(headers)
        call.started = True
        self._http2.send_headers(call, headers)

    def end_call(self, stream_id: int, code: StatusCode, details: str, metadata: Metadata) -> None:
        """Queue the status: as trailers, or as all there is when no headers were sent. Ends the stream.

        A status arrives: metadata that the peer does not take is left out.
        """
        call = self._open.get(stream_id)
        if call is None:
            return
        trailers: list[Header] = [] if call.started else [*_STARTED]
        if code is StatusCode.OK:
            trailers += _OK
        else:
            trailers.append(("grpc-status", str(int(code))))
        if details:
            trailers.append(plain("grpc-message", encode_details(details, _MAX_DETAILS_BYTES)))
        if metadata:
            more = encode_metadata(metadata)
            if self._fits([*trailers, *more]):
                trailers += more
        self._http2.send_headers(call, trailers, end=True)
        if call.is_receiving:
            # The peer may still be sending; nobody reads it any more.
            self._http2.reset(stream_id, ErrorCodes.NO_ERROR)
        self._forget(call)

    # --- both

    def sendable(self, stream_id: int) -> int:
        """Bytes of data that may be queued for this call now; 0 when it has ended."""
        call = self._open.get(stream_id)
        return 0 if call is None else self._http2.sendable(call)

    def send_data(self, stream_id: int, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue up to `sendable` bytes of framed messages, which must not change, and our half-close."""
        if call := self._open.get(stream_id):
            self._http2.send_data(call, data, end=end)

    def send_message(self, stream_id: int, message: bytes, *, end: bool = False) -> None:
        """Queue one message, with its header no more than `sendable` bytes, and our half-close."""
        if call := self._open.get(stream_id):
            self._http2.send_data(call, frame_header(len(message)), message, end=end)

    def is_open(self, stream_id: int) -> bool:
        """Whether the call's last event is still to come."""
        return stream_id in self._open

    def held(self, stream_id: int) -> int:
        """Bytes that have arrived on this call and were not acknowledged, pieces of messages too."""
        call = self._open.get(stream_id)
        return 0 if call is None else call.unread + call.reader.held

    def acknowledge(self, stream_id: int, credit: int) -> None:
        """A message was read: let the peer send as much again."""
        call = self._open.get(stream_id)
        if call is None:
            return  # what it held was given back when it ended
        call.unread -= credit
        self._http2.inbound.unread -= credit
        if call.is_receiving and (count := call.inbound.read(credit)):
            self._http2.open_window(call, count)
        self._http2.open_connection_window()

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End a call at once, whatever its state. No event follows."""
        if call := self._open.get(stream_id):
            if call.is_sending or call.is_receiving:
                self._http2.reset(stream_id, code)
            self._forget(call)

    def _forget(self, call: CallStream) -> None:
        if self._open.pop(call.id, None) is None:
            return
        self._others.pop(call.id, None)
        call.is_sending = call.is_receiving = False
        inbound = self._http2.inbound
        inbound.partial -= call.reader.held
        inbound.unread -= call.unread
        call.unread = 0
        self._besides -= call.besides
        if call.inbound.extended:
            self._end_extension(call)
        self._http2.open_connection_window()

    def _fits(self, headers: list[Header]) -> bool:
        limit = self._http2.max_header_list
        return limit is None or _size(headers) <= limit

    def _check_size(self, headers: list[Header]) -> None:
        if not self._fits(headers):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the call's metadata has {_size(headers)} bytes and the peer takes"
                f" {self._http2.max_header_list}; send less of it",
            )

    # --- what HTTP/2 reports

    def on_open(self, stream_id: int, headers: list[Header], end: bool) -> None:
        """A server's new call."""
        found = dict(headers)
        if len(self._open) >= self._options.max_streams:
            self._http2.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            self._report_reset(stream_id, "too many calls")
            return
        call = CallStream(stream_id, self._http2.initial_outbound, self._options)
        call.is_receiving = not end
        self._open[stream_id] = call
        if not found.get("content-type", "").startswith("application/grpc"):
            call.body = memoryview(b"" if found[":method"] == "HEAD" else _NOT_GRPC)
        if self.confined is not None and not self._has_room(call, headers, self.confined):
            return
        if call.body is not None:
            return
        try:
            timeout = decode_timeout(found["grpc-timeout"]) if "grpc-timeout" in found else None
            metadata = decode_metadata(headers)
        except ValueError as error:
            self.end_call(stream_id, StatusCode.INTERNAL, str(error), ())
            return
        authority = found.get(":authority", "")
        self._new[stream_id] = len(self._events)
        self._events.append(RequestReceived(stream_id, found.get(":path", ""), authority, metadata, timeout))

    def _has_room(self, call: CallStream, headers: list[Header], confined: int) -> bool:
        size = CALL_BYTES + _size(headers)
        if call.body is not None and len(self._others) >= _MAX_OTHER_REQUESTS:
            self.reset(call.id, ErrorCodes.REFUSED_STREAM)
            return False
        if self.held_in_all + size > confined:
            details = "too many calls at once on a connection that is not authenticated yet; try again"
            self.end_call(call.id, StatusCode.UNAVAILABLE, details, ())
            return False
        call.besides = size
        self._besides += size
        return True

    def _answer_other(self, call: CallStream) -> None:
        """As far as the peer's window goes."""
        body = call.body
        while body and (size := min(len(body), self._http2.sendable(call))):
            self._http2.send_data(call, body[:size], end=size == len(body))
            call.body = body = body[size:]
        if not body:
            self._forget(call)

    def on_headers(self, call: CallStream, headers: list[Header], end: bool) -> None:
        """A client's reply or trailers; a server's caller has none to send, and is not listened to."""
        if not self._client:
            return
        if call.started:
            if end:
                call.status = self._read_status(call, headers)
            else:
                self._fail(call, StatusCode.INTERNAL, "the peer sent headers twice")
            return
        found = dict(headers)
        http_status = found[":status"]
        if http_status.startswith("1") and not end:
            return  # more is to come
        if http_status != "200" or not found.get("content-type", "").startswith("application/grpc"):
            self._fail(call, *status_of_http(http_status))
            return
        if end:
            call.status = self._read_status(call, headers)
            return
        call.started = True
        try:
            self._events.append(ResponseStarted(call.id, decode_metadata(headers)))
        except ValueError as error:
            self._fail(call, StatusCode.INTERNAL, str(error))

    def _read_status(self, call: CallStream, headers: list[Header]) -> CallEnded:
        code, details, metadata = status_of_trailers(headers)
        if code is StatusCode.OK and not call.reader.is_between_messages:
            code, details = StatusCode.INTERNAL, "the peer ended the call in the middle of a message"
        return CallEnded(call.id, code, details, metadata)

    def on_data(self, call: CallStream, data: bytes, start: int, stop: int, padding: int) -> None:
        """Messages, or pieces of them."""
        if call.body is not None:
            self._http2.open_window(call, call.inbound.read(stop - start + padding))
            return
        inbound = self._http2.inbound
        reader = call.reader
        held = reader.held
        try:
            messages = reader.feed(data, start, stop)
        except FramingError as error:
            inbound.partial += reader.held - held
            code = StatusCode.RESOURCE_EXHAUSTED if error.too_large else StatusCode.INTERNAL
            self._fail(call, code, str(error))
            return
        if padding:
            self._http2.open_window(call, call.inbound.read(padding))
        for message, credit in messages:
            call.unread += credit
            inbound.unread += credit
            self._events.append(MessageReceived(call.id, message, credit))
        if held or reader.held:
            inbound.partial += reader.held - held
            if details := self._why_too_large(call):
                self._fail(call, StatusCode.RESOURCE_EXHAUSTED, details)
                return
            self._read_on(call, is_new=bool(messages) or not held)

    def _why_too_large(self, call: CallStream) -> str:
        """For an unauthenticated caller; empty if it is not."""
        size = call.reader.held + call.reader.needs
        if not call.is_confined or self.confined is None or size <= self.confined // 2:
            return ""
        return (
            f"the message has {size} bytes, and at most {self.confined // 2} are taken from an unauthenticated caller; "
            "authenticate"
        )

    def _read_on(self, call: CallStream, *, is_new: bool) -> None:
        """A message has arrived in part: see that the peer can send the rest."""
        if is_new and call.inbound.extended:
            self._end_extension(call)
        inbound = self._http2.inbound
        if inbound.is_full:
            self._fail(call, StatusCode.RESOURCE_EXHAUSTED, "too many large messages at a time; try again")
        elif call.reader.needs > call.inbound.left:
            if inbound.may_extend(call.inbound.shortfall(call.reader.needs)):
                self._extend(call)
            elif call.id not in inbound.waiting:
                inbound.waiting.append(call.id)

    def _extend(self, call: CallStream) -> None:
        needs = call.reader.needs
        self._http2.inbound.extended(call.inbound.shortfall(needs))
        self._http2.open_window(call, call.inbound.extend(needs))

    def _end_extension(self, call: CallStream) -> None:
        inbound = self._http2.inbound
        inbound.extended(-call.inbound.extended)
        call.inbound.extended = 0
        while inbound.waiting:
            waiting = self._open.get(inbound.waiting[0])
            if waiting is not None:
                if not inbound.may_extend(waiting.inbound.shortfall(waiting.reader.needs)):
                    return
                self._extend(waiting)
            del inbound.waiting[0]

    def _fail(self, call: CallStream, code: StatusCode, details: str) -> None:
        """End one call for what its peer did."""
        if self._client:
            self.reset(call.id)
            self._events.append(CallEnded(call.id, code, details, ()))
        else:
            self.end_call(call.id, code, details, ())
            self._report_reset(call.id, details)

    def _report_reset(self, stream_id: int, reason: str) -> None:
        """A server's call has ended for what its peer did.

        A peer may open and end any number of calls in one piece of bytes, each with headers that are many times larger
        than what it sends. So the requests of such calls are not kept, and their number is limited here.
        """
        self._resets += 1
        if self._resets > self._options.resets_at_once:
            raise ConnectionFault(TOO_MANY_RESETS, ErrorCodes.ENHANCE_YOUR_CALM)
        event = CallReset(stream_id, reason)
        if (place := self._new.pop(stream_id, None)) is None:
            self._events.append(event)
        else:
            self._events[place] = event

    def on_end(self, call: CallStream) -> None:
        """The peer sends no more."""
        if call.body is not None:
            self._others[call.id] = None
            self._http2.send_headers(call, _OTHER_ANSWER, end=not call.body)
            self._answer_other(call)
        elif self._client:
            status = call.status or CallEnded(
                call.id, StatusCode.INTERNAL, "the peer ended the call without a status", ()
            )
            self.reset(call.id, ErrorCodes.NO_ERROR)  # in case that we have not ended our half
            self._events.append(status)
        elif call.reader.is_between_messages:
            self._events.append(HalfClosed(call.id))
        else:
            self._fail(call, StatusCode.INTERNAL, "the call ended in the middle of a message")

    def on_reset(self, call: CallStream, code: int) -> None:
        """The peer ended the call at once."""
        self._forget(call)
        if self._client:
            status, details = RESET_CODES.get(
                code, (StatusCode.INTERNAL, f"the peer reset the call (HTTP/2 error {code})")
            )
            self._events.append(CallEnded(call.id, status, details, ()))
        else:
            self._report_reset(call.id, "the caller cancelled the call")

    def on_broken(self, call: CallStream, reason: str) -> None:
        """The peer broke HTTP/2's rules on this call alone."""
        self._forget(call)
        details = f"the peer broke the HTTP/2 protocol: {reason}"
        if self._client:
            self._events.append(CallEnded(call.id, StatusCode.INTERNAL, details, ()))
        else:
            self._report_reset(call.id, details)

    def on_window(self, stream_id: int) -> None:
        """More may be sent, or another number of calls."""
        for other in [stream_id] if stream_id else list(self._others):
            if other in self._others:
                self._answer_other(self._open[other])
        self._events.append(WindowOpened(stream_id))

    def on_going_away(self, last_stream_id: int, reason: str) -> None:
        """The peer takes no new calls."""
        self._events.append(GoingAway(last_stream_id, reason))

    def on_pong(self) -> None:
        """The peer is alive."""
        self._events.append(PongReceived())


def _size(headers: list[Header]) -> int:
    """Return the size of a header list as defined by HTTP/2."""
    return sum(len(name) + len(value) + 32 for name, value in headers)
