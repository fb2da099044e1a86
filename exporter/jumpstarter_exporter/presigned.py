"""Files behind URLs, which the exporter fetches or uploads itself, so that they do not pass through the user.

Blocking HTTP in worker threads. Everything that reaches a message is free of what a signed URL keeps secret.
"""

from __future__ import annotations

import base64
import http.client
import socket
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NoReturn, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.value import JSON

__all__ = ["PresignedError", "PresignedTimeout", "Request", "get", "put"]

T = TypeVar("T")

TOTAL_SECONDS = 7200.0
"""For one file."""
IDLE_SECONDS = 60.0
"""A server that says nothing for so long has gone."""
REDIRECTS = 10
CHUNK = 1024 * 1024

_REDIRECT = frozenset({301, 302, 303, 307, 308})
_SECRET = ("authorization", "cookie", "proxy-authorization", "x-amz-", "x-ms-", "x-goog-")
"""Headers that begin so stay with the server that they were meant for."""
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F))

_http_threads = trio.CapacityLimiter(16)
"""For the whole process. A thread waits for one server at most `IDLE_SECONDS`."""


class PresignedError(JumpstarterError):
    """The server refused, or the connection to it failed."""


class PresignedTimeout(JumpstarterError, TimeoutError):  # noqa: N818 - as Python's own
    """The server took too long."""

    status = "DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class Request:
    """What to do with which URL."""

    method: Literal["GET", "PUT"]
    url: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, handle: Mapping[str, JSON], method: Literal["GET", "PUT"]) -> Request:
        """Read a handle. ValueError for one that is not made for `method` or is no http(s) URL."""
        url, headers, wanted = handle.get("url"), handle.get("headers") or {}, handle.get("method")
        if wanted != method:
            raise ValueError(f"the resource is made for {wanted!r}; this call needs {method}")
        if not isinstance(url, str) or not isinstance(headers, Mapping):
            raise ValueError("a presigned resource has a `url` and a dict of `headers`")  # noqa: TRY004
        return cls(method, url, {str(name): str(value) for name, value in headers.items()}).checked()

    def checked(self) -> Request:
        """This request, if its URL is one. ValueError otherwise."""
        parts = urllib.parse.urlsplit(self.url)
        try:
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{self.redacted!r} is no http or https URL")
        return self

    @property
    def redacted(self) -> str:
        """The URL without what may be secret."""
        parts = urllib.parse.urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}" + ("?<redacted>" if parts.query else "")

    @property
    def target(self) -> str:
        """Path and query, each byte as it was given."""
        parts = urllib.parse.urlsplit(self.url)
        # Signatures cover the exact text; only what HTTP cannot carry at all is encoded.
        return urllib.parse.quote(
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PLAIN
        )

    def redirected(self, location: str) -> Request:
        """The request that follows a redirect, without secrets if it goes elsewhere."""
        url = urllib.parse.urljoin(self.url, location)
        headers = self.headers
        if _origin(url) != _origin(self.url):
            headers = {name: value for name, value in headers.items() if not name.lower().startswith(_SECRET)}
        return replace(self, url=url, headers=headers).checked()

    def all_headers(self) -> dict[str, str]:
        """The headers, with the credentials that the URL names."""
        parts = urllib.parse.urlsplit(self.url)
        headers = {"User-Agent": "jumpstarter", "Accept-Encoding": "identity"}
        if parts.username is not None:
            user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        return headers | dict(self.headers)

    def connection(self) -> http.client.HTTPConnection:
        """A connection to the server, not connected yet."""
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname is not None
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname, parts.port, timeout=IDLE_SECONDS)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


class _Transfer:
    """One connection at a time, used from worker threads one call after the other."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._connection = request.connection()
        self._deadline = trio.current_time() + TOTAL_SECONDS

    async def run(self, function: Callable[[], T]) -> T:
        """Run a blocking step in a thread; a cancel leaves the thread to `close`."""
        try:
            with trio.fail_at(self._deadline):
                return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=_http_threads)
        except (trio.TooSlowError, TimeoutError):
            raise PresignedTimeout(f"{self._what()} timed out; check the server, then try again") from None
        except (OSError, http.client.HTTPException) as error:
            self.fail(f"{str(error) or type(error).__name__}")

    def fail(self, why: str) -> NoReturn:
        """Raise PresignedError."""
        raise PresignedError(
            f"{self._what()} failed: {why}, url={self.request.redacted}; check the URL and the server"
        )

    def _what(self) -> str:
        return f"Presigned HTTP {self.request.method} request"

    def close(self) -> None:
        """Drop the connection; a thread that is still in it wakes up with an error that nobody sees."""
        if self._connection.sock is not None:
            with suppress(OSError):  # it may not be connected any more
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def fetch(self) -> http.client.HTTPResponse:
        """Blocking: GET, after redirects."""
        for _ in range(REDIRECTS + 1):
            self._connection.request("GET", self.request.target, headers=self.request.all_headers())
            response = self._connection.getresponse()
            location = response.getheader("Location")
            if response.status not in _REDIRECT or location is None:
                return response
            self.close()
            self.request = self.request.redirected(location)
            self._connection = self.request.connection()
        raise http.client.HTTPException(f"more than {REDIRECTS} redirects")

    def start_upload(self) -> None:
        """Blocking: PUT, up to its body."""
        connection = self._connection
        connection.putrequest("PUT", self.request.target, skip_accept_encoding=True)
        for name, value in self.request.all_headers().items():
            if name.lower() not in ("content-length", "transfer-encoding"):
                connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()

    def upload(self, data: bytes) -> None:
        """Blocking: one chunk of the body; none ends it."""
        try:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses may answer and hang up before it has read everything.
            response = self._connection.getresponse()
            raise http.client.HTTPException(f"status={response.status}, reason={response.reason!r}") from None

    def answer(self) -> http.client.HTTPResponse:
        """Blocking: the server's answer, with its body read."""
        response = self._connection.getresponse()
        response.read(CHUNK)
        return response


@asynccontextmanager
async def get(request: Request) -> AsyncIterator[tuple[Callable[[], Awaitable[bytes]], int | None]]:
    """Fetch: a function that gives the next chunk (b"" at the end), and the length if the server told it.

    Raises, also from that function:
        PresignedError: the server refused, broke off or sent less than it had announced.
        PresignedTimeout: it took too long.
    """
    transfer = _Transfer(request)
    try:
        response = await transfer.run(transfer.fetch)
        if not 200 <= response.status < 300:
            transfer.fail(f"status={response.status}, reason={response.reason!r}")
        length = response.length
        missing = length

        async def receive() -> bytes:
            nonlocal missing
            data = await transfer.run(partial(response.read, CHUNK))
            if missing is not None:
                missing -= len(data)
                if not data and missing:
                    transfer.fail(f"the server broke off {missing} bytes before the end")
            return data

        yield receive, length
    finally:
        transfer.close()


@asynccontextmanager
async def put(request: Request) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """Upload: a function that sends a chunk. Leaving the block with an exception breaks the upload off.

    Raises, also from that function and at the block's end:
        PresignedError: the server refused or broke off.
        PresignedTimeout: it took too long.
    """
    transfer = _Transfer(request)
    try:
        await transfer.run(transfer.start_upload)

        async def send(data: bytes) -> None:
            if data:
                await transfer.run(partial(transfer.upload, data))

        yield send
        await transfer.run(partial(transfer.upload, b""))
        response = await transfer.run(transfer.answer)
        if not 200 <= response.status < 300:
            transfer.fail(f"status={response.status}, reason={response.reason!r}")
    finally:
        transfer.close()
