"""Outlets with a web interface, on loopback: they answer with the messages of the real ones, and misbehave on demand.

A `WebOutlets` is one device with several outlets. What it does next can be said in `faults`: each entry is for one
request.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_plus, urlsplit

__all__ = ["Asked", "Reply", "WebOutlets", "serve_outlets"]


@dataclass(frozen=True)
class Asked:
    """A request, as a device sees it."""

    method: str
    path: str
    query: dict[str, str]
    body: str
    headers: dict[str, str]
    target: str


@dataclass(frozen=True)
class Reply:
    """What a device answers."""

    body: str
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


REALM = "shellyplus1-a8032abe54dc"
Model = Callable[["WebOutlets", Asked], Reply]


class WebOutlets(ThreadingHTTPServer):
    """One device. `model` is what answers, as the brand does; its state is here."""

    daemon_threads = False
    block_on_close = True

    def __init__(
        self, model: Model, *, outlets: int, first: int, login: str, user: str, password: str
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.login, self.user, self.password = model, login, user, password
        self.is_on = dict.fromkeys(range(first, first + outlets), False)
        self.watts = 0.0
        self.asked: list[Asked] = []
        self.faults: list[str] = []
        self.nonces: dict[str, int] = {}
        self.algorithm = "SHA-256"
        self.released = threading.Event()
        """Ends what hangs."""
        self.log: list[bytes] = []
        """Each Authorization header that came."""
        self.session: str | None = None
        """Of devices with a page to log in."""
        self.stuck: set[int] = set()
        """Outlets whose relay does nothing, while the device says that it does."""

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.server_address[1]}"

    def switch(self, outlet: int, *, on: bool) -> None:
        """What the relay does."""
        if outlet not in self.stuck:
            self.is_on[outlet] = on

    def paths(self) -> list[str]:
        """What was asked: method and path."""
        return [f"{one.method} {one.path}" for one in self.asked]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no fault."""


class _Handler(BaseHTTPRequestHandler):
    server: WebOutlets
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def _handle(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        parts = urlsplit(self.path)
        query = dict(re.findall(r"(?:^|&)([^=&]+)=([^&]*)", parts.query))
        asked = Asked(
            self.command,
            parts.path,
            {name: unquote_plus(value) for name, value in query.items()},
            self.rfile.read(size).decode(),
            {name.lower(): value for name, value in self.headers.items()},
            self.path,
        )
        device = self.server
        device.asked.append(asked)
        fault = device.faults.pop(0) if device.faults else ""
        kind, _, rest = fault.partition(" ")
        if fault and getattr(self, f"_{kind}")(rest):
            return
        if self._is_let_in(asked):
            reply = device.model(device, asked)
            if kind == "forget":  # restarted behind the answer, with its outlets as configured for that
                device.is_on = dict.fromkeys(device.is_on, False)
            self._say(reply)

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 - names that the base looks for

    def _say(self, reply: Reply) -> None:
        data = reply.body.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    # --- faults; True if the request is answered with them

    def _ok(self, _: str) -> bool:
        return False

    def _forget(self, _: str) -> bool:
        return False

    def _hang(self, _: str) -> bool:
        self.server.released.wait(30)
        self.close_connection = True
        return True

    def _reset(self, _: str) -> bool:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close_connection = True
        return True

    def _cut(self, _: str) -> bool:
        self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"ison":')
        self.close_connection = True
        return True

    def _endless(self, _: str) -> bool:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not self.server.released.is_set():
                self.wfile.write(b" " * 4096)
        return True

    def _drip(self, _: str) -> bool:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self.server.released.wait(0.05):
                self.wfile.write(b"x")
        return True

    def _garbage(self, _: str) -> bool:
        self.wfile.write(b"\xff\xfb\x01login: ")
        self.close_connection = True
        return True

    def _status(self, rest: str) -> bool:
        status, _, location = rest.partition(" ")
        self._say(Reply("", int(status), "text/html", (("Location", location),) if location else ()))
        return True

    # --- who may ask

    def _is_let_in(self, asked: Asked) -> bool:
        device, said = self.server, asked.headers.get("authorization", "")
        device.log.append(said.encode())
        match device.login:
            case "basic":
                wanted = base64.b64encode(f"{device.user}:{device.password}".encode()).decode()
                is_good, challenge = said == f"Basic {wanted}", 'Basic realm="outlets"'
            case "digest":
                is_good = self._digest_fits(asked, said)
                nonce = secrets.token_hex(8)
                device.nonces[nonce] = 0
                challenge = (
                    f'Digest qop="auth", realm="{REALM}", nonce="{nonce}", algorithm={device.algorithm}'
                )
            case "bearer":
                is_good, challenge = said == f"Bearer {device.password}", "Bearer"
            case _:
                return True
        if not is_good:
            self._say(Reply("401 Unauthorized", 401, "text/plain", (("WWW-Authenticate", challenge),)))
        return is_good

    def _digest_fits(self, asked: Asked, said: str) -> bool:
        device = self.server
        told: dict[str, str] = {
            name: quoted or plain
            for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))', said)
        }

        def hashed(text: str) -> str:
            return hashlib.new(device.algorithm.lower().replace("-", ""), text.encode()).hexdigest()

        count = int(told.get("nc", "0"), 16)
        if not said.startswith("Digest ") or count <= device.nonces.get(told.get("nonce", ""), 1 << 40):
            return False  # an unknown nonce, or a repetition
        device.nonces[told["nonce"]] = count
        first = hashed(f"{device.user}:{REALM}:{device.password}")
        second = hashed(f"{asked.method}:{asked.target}")
        wanted = hashed(f"{first}:{told['nonce']}:{told['nc']}:{told['cnonce']}:{told['qop']}:{second}")
        return told["response"] == wanted and told["uri"] == asked.target and told["username"] == device.user


@contextmanager
def serve_outlets(
    model: Model,
    *,
    outlets: int = 2,
    first: int = 1,
    login: str = "",
    user: str = "admin",
    password: str = "",
) -> Iterator[WebOutlets]:
    """A device for a block."""
    device = WebOutlets(model, outlets=outlets, first=first, login=login, user=user, password=password)
    thread = threading.Thread(target=device.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield device
    finally:
        device.released.set()
        device.shutdown()
        thread.join()
        device.server_close()
