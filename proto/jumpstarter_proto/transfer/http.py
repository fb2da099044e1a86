"""Fetching and uploading: blocking HTTP in worker threads, which are left behind where somebody cancels."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

import trio

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.reach import EVERYWHERE, Reach
from jumpstarter_proto.texts import shown
from jumpstarter_proto.transfer.request import TransferRequest

__all__ = ["TransferError", "TransferLimits", "TransferTimeout", "get", "put"]

T = TypeVar("T")

MAX_REDIRECTS = 10
CHUNK_BYTES = 1024 * 1024
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_PARTIAL = 206

_http_threads = trio.CapacityLimiter(16)
"""For the whole process. A thread waits for one server at most `idle_seconds`."""


class TransferError(JumpstarterError):
    """The server refused, or the connection to it failed."""


class TransferTimeout(JumpstarterError, TimeoutError):  # noqa: N818 - as Python's own
    """The server took too long."""

    status = "DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class TransferLimits:
    """What bounds a transfer."""

    reach: Reach = EVERYWHERE
    total_seconds: float = 7200.0
    """For one file."""
    idle_seconds: float = 60.0
    """A server that says nothing for so long has gone."""
    label: str = "HTTP"
    """How its errors begin."""


class _Transfer:
    """One connection at a time, used from worker threads one call after the other."""

    def __init__(self, request: TransferRequest, limits: TransferLimits) -> None:
        self.request = request
        self._limits = limits
        self._deadline = trio.current_time() + limits.total_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._lock = threading.Lock()
        """Holds what `close` and a thread both use: what follows."""
        self._grip: socket.socket | None = None
        """The connection's socket once more: `http.client` has none to shut down while it connects or agrees on TLS."""
        self._is_busy = self._is_closed = False

    def _open(self) -> http.client.HTTPConnection:
        """Blocking: it reads the system's certificate authorities."""
        self._connection, self._target, self._headers = self.request.connection(
            self._limits.reach, self._limits.idle_seconds, self._hold
        )
        return self._connection

    def _hold(self, connected: socket.socket) -> None:
        with self._lock:
            if self._is_closed:
                connected.close()
                raise OSError("the caller has stopped waiting")
            if self._grip is not None:
                self._grip.close()
            self._grip = connected.dup()

    async def run(self, function: Callable[[], T]) -> T:
        """Run a blocking step in a thread; a cancel leaves the thread to `close`."""
        try:
            with trio.fail_at(self._deadline):
                return await trio.to_thread.run_sync(
                    self._step, function, abandon_on_cancel=True, limiter=_http_threads
                )
        except (trio.TooSlowError, TimeoutError):
            raise TransferTimeout(f"{self._what()} timed out; check the server, then try again") from None
        except (OSError, http.client.HTTPException) as error:
            self.fail(shown(str(error)) or type(error).__name__)

    def _step(self, function: Callable[[], T]) -> T:
        with self._lock:
            if self._is_closed:
                raise OSError("the caller has stopped waiting")
            self._is_busy = True
        try:
            return function()
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._is_busy = False
        if self._is_closed:
            self._drop()

    def fail(self, why: str) -> NoReturn:
        """Raise TransferError."""
        raise TransferError(
            f"{self._what()} failed: {why}, url={self.request.redacted}; check the URL and the server"
        )

    def _what(self) -> str:
        return f"{self._limits.label} {self.request.method} request"

    def close(self) -> None:
        """Break the connection off; a thread that is still in it wakes up with an error that nobody sees.

        One that has none yet gets none.
        """
        with self._lock:
            self._is_closed = True
            is_busy, grip, self._grip = self._is_busy, self._grip, None
        if grip is not None:
            with suppress(OSError):  # it may not be connected any more
                grip.shutdown(socket.SHUT_RDWR)
            grip.close()
        if not is_busy:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._response is not None:
            self._response.close()  # it holds the socket of a connection that the server is about to close

    def _receive(self) -> http.client.HTTPResponse:
        assert self._connection is not None
        self._response = self._connection.getresponse()
        return self._response

    def fetch(self) -> http.client.HTTPResponse:
        """Blocking: GET, after redirects."""
        for _ in range(MAX_REDIRECTS + 1):
            self._open().request("GET", self._target, headers=self._headers)
            response = self._receive()
            location = response.getheader("Location")
            if response.status not in _REDIRECT or location is None:
                return response
            self._drop()
            self.request = self.request.redirected(location)
        raise http.client.HTTPException(f"more than {MAX_REDIRECTS} redirects")

    def start_upload(self) -> None:
        """Blocking: PUT, up to its body."""
        connection = self._open()
        connection.putrequest(
            "PUT", self._target, skip_host="host" in map(str.lower, self._headers), skip_accept_encoding=True
        )
        for name, value in self._headers.items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()

    def upload(self, data: bytes) -> None:
        """Blocking: one chunk of the body; none ends it."""
        assert self._connection is not None
        try:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses may answer and hang up before it has read everything.
            response = self._receive()
            raise http.client.HTTPException(
                f"status={response.status}, reason={shown(response.reason)!r}"
            ) from None

    def answer(self) -> http.client.HTTPResponse:
        """Blocking: the server's answer, with its body read."""
        response = self._receive()
        response.read(CHUNK_BYTES)
        return response


@asynccontextmanager
async def get(
    request: TransferRequest, limits: TransferLimits = TransferLimits()
) -> AsyncIterator[tuple[Callable[[], Awaitable[bytes]], int | None]]:
    """Fetch: a function that gives the next chunk (b"" at the end), and the length if the server told it.

    Raises, also from that function:
        TransferError: the server refused, broke off or sent less than it had announced.
        TransferTimeout: it took too long.
    """
    transfer = _Transfer(request, limits)
    try:
        response = await transfer.run(transfer.fetch)
        if not 200 <= response.status < 300:
            transfer.fail(f"status={response.status}, reason={shown(response.reason)!r}")
        if response.status == _PARTIAL and "range" not in {name.lower() for name in request.headers}:
            transfer.fail("the server sent a partial response that was not requested")
        length = response.length
        missing = length

        async def receive() -> bytes:
            nonlocal missing
            data = await transfer.run(partial(response.read, CHUNK_BYTES))
            if missing is not None:
                missing -= len(data)
                if not data and missing:
                    transfer.fail(f"the server broke off {missing} bytes before the end")
            return data

        yield receive, length
    finally:
        transfer.close()


@asynccontextmanager
async def put(
    request: TransferRequest, limits: TransferLimits = TransferLimits()
) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """Upload: a function that sends a chunk. Leaving the block with an exception breaks the upload off.

    Raises, also from that function and at the block's end:
        TransferError: the server refused or broke off.
        TransferTimeout: it took too long.
    """
    transfer = _Transfer(request, limits)
    try:
        await transfer.run(transfer.start_upload)

        async def send(data: bytes) -> None:
            if data:
                await transfer.run(partial(transfer.upload, data))

        yield send
        await transfer.run(partial(transfer.upload, b""))
        response = await transfer.run(transfer.answer)
        if not 200 <= response.status < 300:
            transfer.fail(f"status={response.status}, reason={shown(response.reason)!r}")
    finally:
        transfer.close()
