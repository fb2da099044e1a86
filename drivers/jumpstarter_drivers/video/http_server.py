"""The servers that cameras are behind: how they are reached, and one GET request to them.

The address is from the exporter's configuration. A redirect is followed on the same host only, so that neither the
user nor the server chooses what else of the exporter's network is asked, and no other host gets the password.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import trio
from jumpstarter_exporter.driver import DeviceError, DeviceFailed, DeviceMissing
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.host_names import check_host
from jumpstarter_drivers.http_response import HttpError, ResponseHead, ResponseParser

if TYPE_CHECKING:
    import ssl

    from jumpstarter_drivers.http_digest import DigestChallenge

__all__ = ["CameraCredentials", "HttpResponse", "HttpServer", "UrlError", "open_url"]

CONNECT_SECONDS = 10.0
HEAD_SECONDS = 10.0
"""From the request to the end of the response's header."""
MAX_REDIRECTS = 3
CHUNK_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class UrlError(ValueError):
    """The URL is invalid; the message says why."""


@dataclass(frozen=True)
class HttpServer:
    """Where requests go: a host and a port, or a unix socket."""

    host: str
    port: int = 80
    is_tls: bool = False
    ca_file: str | None = None
    """The trusted authorities, in place of those of the system."""
    unix_path: str | None = None
    label: str = ""
    """Its name in messages, if that is not the address."""

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.label or self.origin

    @property
    def origin(self) -> str:
        """The URL without a path."""
        return f"{'https' if self.is_tls else 'http'}://{self.host_header}"

    async def connect(self) -> trio.abc.Stream:
        """A new connection.

        Raises:
            DeviceMissing: There is no answer.
            DeviceFailed: Its certificate is not trusted.
        """
        try:
            with trio.fail_after(CONNECT_SECONDS):
                return await self._connect()
        except trio.TooSlowError:
            raise DeviceMissing(
                f"{self.name} does not answer; check that the camera has power and is in the network"
            ) from None
        except OSError as error:
            raise self._unreachable(error) from error

    async def _connect(self) -> trio.abc.Stream:
        if self.unix_path is not None:
            return await trio.open_unix_socket(self.unix_path)
        stream: trio.abc.Stream = await trio.open_tcp_stream(self.host, self.port)
        if not self.is_tls:
            return stream
        try:
            context = _tls_context(self.ca_file)
            secured = trio.SSLStream(stream, context, server_hostname=self.host, https_compatible=True)
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise DeviceFailed(
                f"no secure connection to {self.name}: {error.__cause__ or error}; "
                "name the file with its certificate as ca_file"
            ) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    def _unreachable(self, error: OSError) -> DeviceMissing:
        cause = error.__cause__
        attempt = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause or error
        if isinstance(attempt, socket.gaierror):
            return DeviceMissing(
                f"the exporter does not know the host {self.host}; check the URL of the camera"
            )
        number = getattr(attempt, "errno", None)
        reason = str(attempt) if number is None else os.strerror(number)
        return DeviceMissing(
            f"{self.name} cannot be reached ({reason}); check that the camera has power and is in the network"
        )


@lru_cache(maxsize=16)
def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Read the certificates, once for all connections. DeviceFailed if they cannot be read."""
    from jumpstarter_drivers.power.device_access import DeviceTrust  # noqa: PLC0415 - few cameras speak TLS

    try:
        return DeviceTrust(ca_file).context()
    except OSError as error:
        raise DeviceFailed(
            f"the certificates in ca_file ({ca_file}) cannot be read: {error.strerror or error}; "
            "give the path of a PEM file"
        ) from None


@dataclass
class CameraCredentials:
    """Credentials for one server, and its last challenge, which is used again."""

    user: str = ""
    password: str = field(default="", repr=False)
    _challenge: DigestChallenge | None = None
    _is_basic: bool = False

    def header(self, target: str) -> str | None:
        """The Authorization of a GET request, as far as the server has asked for one."""
        if self._challenge is not None:
            return self._challenge.answer(self.user, self.password, "GET", target)
        if self._is_basic:
            return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return None

    def challenged(self, header: str) -> None:
        """Store the challenge of a WWW-Authenticate header."""
        from jumpstarter_drivers.http_digest import best_challenge  # noqa: PLC0415 - few cameras want it

        self._challenge = best_challenge([header])
        self._is_basic = self._challenge is None and "basic" in header.lower()


@dataclass
class HttpResponse:
    """The response to one GET request; its body is read as it comes."""

    head: ResponseHead
    name: str
    """Whose response it is, for sentences."""
    _stream: trio.abc.Stream
    _parser: ResponseParser
    _first: bytes

    async def receive(self) -> bytes:
        """The next bytes of the body; empty at its end.

        Raises:
            DeviceMissing: The connection broke off.
        """
        data, self._first = self._first, b""
        while not data and not self._parser.has_ended:
            try:
                received = await self._stream.receive_some(CHUNK_BYTES)
                if received:
                    data = self._parser.feed(received)
                else:
                    self._parser.end()
            except (trio.BrokenResourceError, HttpError) as error:
                raise DeviceMissing(
                    f"the connection to {self.name} broke off ({error.__cause__ or error}); check the camera"
                ) from error
        return data


def split_url(url: str, ca_file: str | None = None) -> tuple[HttpServer, str, CameraCredentials]:
    """The server, the target of the request, and the credentials that a URL names.

    Raises:
        UrlError: It is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text repeats parts of the URL, and these may be of the password
        raise UrlError("it takes a URL such as http://camera.lab:8080/stream") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UrlError("it takes a URL such as http://camera.lab/stream")
    if set(url) & set(" \r\n\t") or not url.isascii() or not url.isprintable():
        raise UrlError("it has characters that a URL must not have; write them as %20 and the like")
    try:
        check_host(parts.hostname)
    except ValueError as error:
        raise UrlError(f"its host is invalid: {error}") from None
    is_tls = parts.scheme == "https"
    server = HttpServer(parts.hostname, port or (443 if is_tls else 80), is_tls, ca_file)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return server, target, CameraCredentials(unquote(parts.username or ""), unquote(parts.password or ""))


@asynccontextmanager
async def open_url(
    server: HttpServer, target: str, credentials: CameraCredentials
) -> AsyncIterator[HttpResponse]:
    """Send a GET request; the block's value is a response with status 200. The connection ends with the block.

    Raises:
        DeviceMissing: There is no answer in time.
        DeviceFailed: The answer is an error, a redirect to elsewhere, or no HTTP.
    """
    was_challenged = False
    redirects = 0
    while True:
        stream = await server.connect()
        try:
            response = await _request(stream, server, target, credentials)
            status = response.head.status
            if status == 401 and credentials.user and not was_challenged:
                was_challenged = True
                credentials.challenged(response.head.headers.get("www-authenticate", ""))
            elif status in _REDIRECTS:
                redirects += 1
                server, target = _redirected(server, target, response.head, redirects)
            elif status == 200:
                yield response
                return
            else:
                raise _refusal(server, target, status, bool(credentials.user))
        finally:
            await trio.aclose_forcefully(stream)


async def _request(
    stream: trio.abc.Stream, server: HttpServer, target: str, credentials: CameraCredentials
) -> HttpResponse:
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {server.host_header}",
        "User-Agent: jumpstarter-exporter",
        "Accept: multipart/x-mixed-replace, image/jpeg, */*",
        "Accept-Encoding: identity",
        "Connection: close",
    ]
    if authorization := credentials.header(target):
        lines.append(f"Authorization: {authorization}")
    parser = ResponseParser()
    try:
        with trio.fail_after(HEAD_SECONDS):
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            while True:
                received = await stream.receive_some(CHUNK_BYTES)
                if not received:
                    parser.end()
                first = parser.feed(received)
                if parser.head is not None:
                    return HttpResponse(parser.head, server.name, stream, parser, first)
    except trio.TooSlowError:
        raise DeviceMissing(
            f"{server.name} takes the request and does not answer; switch the camera off and on"
        ) from None
    except HttpError as error:
        raise DeviceFailed(
            f"{server.name} is not a camera: {error}; check the URL in the configuration"
        ) from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise DeviceMissing(
            f"{server.name} ended the connection without an answer ({error.__cause__ or error}); check the camera"
        ) from error


def _redirected(server: HttpServer, target: str, head: ResponseHead, count: int) -> tuple[HttpServer, str]:
    location = head.headers.get("location", "")
    if count > MAX_REDIRECTS:
        raise DeviceFailed(
            f"{server.name} redirects again and again; put the right URL into the configuration"
        )
    try:
        there, path, _ = split_url(urljoin(f"{server.origin}{target}", location), server.ca_file)
    except ValueError:
        raise DeviceFailed(
            f"{server.name} redirects to {shown(location)!r}, which is not a URL; correct the configuration"
        ) from None
    is_upgrade = there.is_tls and not server.is_tls and (server.port, there.port) == (80, 443)
    if there.host != server.host or (
        (there.port, there.is_tls) != (server.port, server.is_tls) and not is_upgrade
    ):
        raise DeviceFailed(
            f"{server.name} redirects to {shown(there.name)}, which the exporter does not follow; "
            "if that is right, put it into the configuration"
        )
    return replace(there, unix_path=server.unix_path, label=server.label), path


def _refusal(server: HttpServer, target: str, status: int, has_user: bool) -> DeviceError:
    path = shown(target.partition("?")[0])
    match status:
        case 401 | 403:
            todo = "check them" if has_user else "add them"
            given = "refuses the user and password of" if has_user else "wants a user and a password in"
            return DeviceFailed(f"{server.name} {given} the configuration ({status}); {todo}")
        case 404 | 410:
            return DeviceFailed(f"{server.name} has no {path} ({status}); check the URL in the configuration")
        case 429 | 503:
            return DeviceMissing(
                f"{server.name} is busy ({status}): some cameras serve one viewer at a time; end the other one"
            )
    return DeviceFailed(f"{server.name} answers {status} to {path}; check the camera and its URL")
