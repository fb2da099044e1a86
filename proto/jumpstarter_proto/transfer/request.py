"""What to fetch or upload, and how its server is asked. Messages are free of what a signed URL keeps secret."""

from __future__ import annotations

import base64
import http.client
import socket
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from jumpstarter_proto.reach import Reach
from jumpstarter_proto.transfer.proxy import proxy_for

__all__ = ["TransferRequest"]

_SECRET = ("authorization", "cookie", "proxy-authorization", "x-amz-", "x-ms-", "x-goog-")
"""Headers that begin so stay with the server that they were meant for."""
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F))


@dataclass(frozen=True)
class TransferRequest:
    """What to do with which URL."""

    method: Literal["GET", "PUT"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ValueError unless its URL is one."""
        parts = urllib.parse.urlsplit(self.url)
        try:
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{self.redacted!r} is not an http or https URL")

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

    def redirected(self, location: str) -> TransferRequest:
        """The request that follows a redirect, without secrets if it goes elsewhere."""
        url = urllib.parse.urljoin(self.url, location)
        headers = self.headers
        if _origin(url) != _origin(self.url):
            headers = {name: value for name, value in headers.items() if not name.lower().startswith(_SECRET)}
        request = replace(self, url=url, headers=headers)
        request.check()
        return request

    def all_headers(self) -> dict[str, str]:
        """The headers, with the credentials that the URL names."""
        parts = urllib.parse.urlsplit(self.url)
        headers = {"User-Agent": "jumpstarter", "Accept-Encoding": "identity"}
        if parts.username is not None:
            user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        return headers | dict(self.headers)

    def connection(
        self, reach: Reach, seconds: float, on_connect: Callable[[socket.socket], None]
    ) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """A connection to the server or its proxy, not connected yet; the target and headers of its requests.

        `seconds` is for each wait. `on_connect` gets its socket before anything is said on it, and may raise OSError.
        Blocking. Raises ProxyError; connecting raises AddressRefused, too.
        """
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname is not None
        is_secure = parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        proxy = proxy_for(parts.scheme, parts.hostname, port)
        kind = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        if proxy is None:
            connection = kind(parts.hostname, port, timeout=seconds)
            _connect_by(connection, lambda: reach.connect(parts.hostname or "", port, seconds), on_connect)
            return connection, self.target, self.all_headers()

        def by_proxy() -> socket.socket:
            reach.check_behind_proxy(parts.hostname or "", port)
            return Reach().connect(proxy.host, proxy.port, seconds)  # the host's own choice

        connection = kind(proxy.host, proxy.port, timeout=seconds)
        _connect_by(connection, by_proxy, on_connect)
        if is_secure:
            connection.set_tunnel(parts.hostname, port, proxy.headers)
            return connection, self.target, self.all_headers()
        host = parts.netloc.rpartition("@")[2]
        return (
            connection,
            f"http://{host}{self.target}",
            {"Host": host, **self.all_headers(), **proxy.headers},
        )


def _connect_by(
    connection: http.client.HTTPConnection,
    connect: Callable[[], socket.socket],
    on_connect: Callable[[socket.socket], None],
) -> None:
    """Have it connect to what was checked; its own way would resolve the name once more."""

    def create(*_: object, **__: object) -> socket.socket:
        connected = connect()
        on_connect(connected)
        return connected

    connection._create_connection = create  # type: ignore[attr-defined]  # noqa: SLF001


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
