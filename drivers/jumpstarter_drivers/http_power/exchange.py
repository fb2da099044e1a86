"""One HTTP request and its answer over a trio stream, within a time and a size.

So no thread is left behind, and a user who leaves ends it at once.

Redirects are not followed: credentials and switching commands go to the host that the configuration names, and to no
other.
"""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import trio
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.host_names import check_host
from jumpstarter_drivers.http_response import HttpError, ResponseParser
from jumpstarter_drivers.power.outlet import OutletRefused, OutletUnreachable

__all__ = ["HttpAnswer", "HttpOrigin", "HttpRequest", "exchange"]

MAX_ANSWER_BYTES = 64 * 1024
_CHUNK_BYTES = 16 * 1024


@dataclass(frozen=True)
class HttpOrigin:
    """Where a device is."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> HttpOrigin:
        """Parse a URL, or `host` or `host:port` for plain HTTP.

        Raises:
            ValueError: it is invalid. The message does not contain any part of it, which may be a password.
        """
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:  # its text may repeat a part of the password
            parts, port = urllib.parse.urlsplit(""), -1
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or port in (-1, 0)
            or not url.isprintable()
        ):
            raise ValueError("an address such as 10.0.0.7, outlet.lab:8080 or https://outlet.lab is expected")
        check_host(parts.hostname)
        return cls(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))

    @property
    def has_default_port(self) -> bool:
        """Whether it needs no port in its name."""
        return self.port == (443 if self.scheme == "https" else 80)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.has_default_port else f"{host}:{self.port}"


@dataclass(frozen=True)
class HttpRequest:
    """What to ask. Its text names no credentials."""

    method: str
    target: str
    """Path and query."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def __str__(self) -> str:
        """Method and path; a query may have a password in it."""
        return f"{self.method} {shown(self.target.partition('?')[0], 80)}"

    def with_headers(self, headers: Mapping[str, str]) -> HttpRequest:
        """Return a copy with more headers."""
        return replace(self, headers={**self.headers, **headers})

    def encode(self, origin: HttpOrigin, headers: Mapping[str, str]) -> bytes:
        """Return the bytes to send, with more headers."""
        fields = {
            "Host": str(origin),
            "User-Agent": "jumpstarter",
            "Connection": "close",
            **self.headers,
            **headers,
        }
        if self.body is not None or self.method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(self.body or b""))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{self.method} {self.target} HTTP/1.1\r\n{head}\r\n".encode() + (self.body or b"")


@dataclass(frozen=True)
class HttpAnswer:
    """A response, as far as it was read."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case; of several with one name, all, joined by ", "."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8, with replacement characters for invalid bytes."""
        return self.body.decode("utf-8", "replace")


async def exchange(
    origin: HttpOrigin,
    request: HttpRequest,
    headers: Mapping[str, str],
    *,
    seconds: float,
    tls: ssl.SSLContext | None = None,
) -> HttpAnswer:
    """Send a request on a connection of its own, and read the answer. A cancelled one may have arrived.

    Raises:
        OutletUnreachable: no connection, or the answer is late, cut, too large or not HTTP.
        OutletRefused: the certificate is not trusted.
    """
    said = request.encode(origin, headers)
    try:
        with trio.fail_after(seconds):
            stream: trio.abc.Stream = await trio.open_tcp_stream(origin.host, origin.port)
            if origin.scheme == "https":
                context = tls or ssl.create_default_context()
                stream = trio.SSLStream(stream, context, server_hostname=origin.host, https_compatible=True)
            async with stream:
                await stream.send_all(said)
                return await _receive(stream, request)
    except trio.TooSlowError:
        raise OutletUnreachable(
            f"{origin} does not answer {request} within {seconds:g} s; check its network and restart it"
        ) from None
    except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
        cause = _first_cause(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise OutletRefused(
                f"the certificate of {origin} is not trusted ({cause.verify_message}); name its authority in `ca`"
            ) from None
        text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        reason = text.rpartition("): ")[2]  # behind trio's "Error connecting to (..., ...): "
        raise OutletUnreachable(
            f"{origin} cannot be reached ({shown(reason)}); check its address and network"
        ) from None


async def _receive(stream: trio.abc.Stream, request: HttpRequest) -> HttpAnswer:
    parser, body, count = ResponseParser(request.method), bytearray(), 0
    while True:
        piece = await stream.receive_some(_CHUNK_BYTES)
        count += len(piece)
        if not piece:
            _end(parser, request, count)
        try:
            body += parser.feed(piece)
        except HttpError:
            raise OutletUnreachable(
                f"the answer to {request} is not HTTP; check that its web interface is at this address and port"
            ) from None
        if parser.head is not None and parser.has_ended:
            return HttpAnswer(parser.head.status, parser.head.headers, bytes(body))
        if count > MAX_ANSWER_BYTES:
            raise OutletUnreachable(
                f"the answer to {request} is longer than {MAX_ANSWER_BYTES // 1024} KiB; check the address"
            )


def _end(parser: ResponseParser, request: HttpRequest, count: int) -> None:
    """The connection has ended, behind so many bytes. OutletUnreachable if a part of the answer is missing."""
    if not count:
        raise OutletUnreachable(
            f"the connection was closed without an answer to {request}; the device may have been restarted"
        )
    try:
        parser.end()
    except HttpError:
        raise OutletUnreachable(
            f"the answer to {request} was cut after {count} bytes; the device may have been restarted"
        ) from None


def _first_cause(error: BaseException) -> BaseException:
    """Return the first cause: trio raises a group with the error of each address."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error.__cause__, OSError | BaseExceptionGroup):
            error = error.__cause__
        else:
            return error
