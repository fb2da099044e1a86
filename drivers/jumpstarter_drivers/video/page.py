"""The page on which a user's browser shows a camera: an HTTP server on 127.0.0.1, for this user alone.

Other sites' scripts, and other people of the machine, can reach the port. They do not know the token that is in each
path; a name that was made to lead to 127.0.0.1 is not accepted as Host; and no other site may embed what is sent.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.tasks import collapsed, first_of

from jumpstarter_drivers.video.pictures import Picture, pictures

if TYPE_CHECKING:
    from jumpstarter_drivers.video.client import VideoClient

__all__ = ["PageError", "open_browser", "serve_page"]

ADDRESS = "127.0.0.1"
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 10.0
SEND_SECONDS = 30.0
"""For a browser to take one picture."""
MAX_CONNECTIONS = 16
BOUNDARY = "jumpstarter-picture"

_PAGE = Path(__file__).with_name("page.html")
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
_log = logging.getLogger(__name__)


class PageError(JumpstarterError):
    """The page cannot be served."""

    exit_code = ExitCode.FAILED


@asynccontextmanager
async def serve_page(client: VideoClient, port: int = 0) -> AsyncIterator[str]:
    """Serve the page during the block; its value is the URL, with the token. Port 0 takes any free one.

    Raises:
        PageError: The port is taken.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=ADDRESS)
    except (OSError, OverflowError) as error:
        raise PageError(
            f"cannot listen on {ADDRESS}:{port}: {getattr(error, 'strerror', None) or error}; choose another port"
        ) from error
    bound = listeners[0].socket.getsockname()[1]
    page = _Page(client, bound)
    with collapsed():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, page.serve, listeners)
            yield f"http://{ADDRESS}:{bound}/{page.token}/"
            nursery.cancel_scope.cancel()


class _Page:
    def __init__(self, client: VideoClient, port: int) -> None:
        self._client = client
        self.token = secrets.token_urlsafe(16)
        self._hosts = {f"{ADDRESS}:{port}", f"localhost:{port}"}
        self._connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the one request of a connection. An error ends only this connection."""
        self._connections += 1
        try:
            async with stream:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    if self._connections > MAX_CONNECTIONS:
                        with trio.move_on_after(
                            1
                        ):  # a connection that is closed unread is reset, and its answer lost
                            await _read_request(stream)
                        await _send(stream, _text(503, "there are too many viewers; close some pages"))
                    else:
                        await self._answer(stream)
        except Exception:  # one connection's fault must not end the page for all others
            _log.exception("a connection to the page ended with an error")
        finally:
            self._connections -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        request = await _read_request(stream)
        if request is None:
            await _send(stream, _text(400, "this is not an HTTP request"))
            return
        method, target, host = request
        token, _, rest = target.partition("?")[0].removeprefix("/").partition("/")
        if host not in self._hosts:
            await _send(stream, _text(403, "this page is at the address that the command has printed"))
        elif not secrets.compare_digest(token.encode(), self.token.encode()):
            await _send(
                stream, _text(404, "there is nothing here; the command has printed the whole address")
            )
        elif method != "GET":
            await _send(stream, _text(405, "only GET"))
        else:
            await self._get(stream, rest)

    async def _get(self, stream: trio.SocketStream, what: str) -> None:
        try:
            match what:
                case "":
                    await _send(stream, await _page())
                case "stream":
                    await first_of(lambda: self._stream(stream), lambda: _until_gone(stream))
                case "snapshot":
                    data = await self._client.snapshot_bytes.aio()
                    await _send(stream, _head(200, "image/jpeg", length=len(data)) + data)
                case "state":
                    body = json.dumps(await self._state()).encode()
                    await _send(stream, _head(200, "application/json", length=len(body)) + body)
                case _:
                    await _send(stream, _text(404, "there are stream, snapshot and state"))
        except JumpstarterError as error:
            _log.info("%s", error)
            await _send(stream, _text(503, str(error)))

    async def _stream(self, stream: trio.SocketStream) -> None:
        async with aclosing(pictures(self._client)) as found:
            first = await anext(found)
            head = _head(200, f"multipart/x-mixed-replace;boundary={BOUNDARY}")
            await _send(stream, head + f"--{BOUNDARY}\r\n".encode() + _part(first))
            with suppress(JumpstarterError):  # the page sees that it ended, and asks for the state
                async for picture in found:
                    await _send(stream, _part(picture))

    async def _state(self) -> dict[str, Any]:
        state = await self._client.state.aio()
        return {name: getattr(state, name) for name in ("online", "width", "height", "fps", "reason")}


async def _read_request(stream: trio.SocketStream) -> tuple[str, str, str] | None:
    """Read method, target and Host; None if it is not a request. TooSlowError if it is late."""
    data = b""
    with trio.fail_after(REQUEST_SECONDS):
        while b"\r\n\r\n" not in data:
            received = await stream.receive_some()
            data += received
            if not received or len(data) > MAX_REQUEST_BYTES:
                return None
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = first.split(" ")
    hosts = [
        value.strip().lower()
        for name, _, value in (line.partition(":") for line in lines)
        if name.lower() == "host"
    ]
    if len(words) != 3 or len(hosts) != 1 or not words[2].startswith("HTTP/1."):
        return None
    return words[0], words[1], hosts[0]


async def _until_gone(stream: trio.SocketStream) -> None:
    """A browser that closes its page would be noticed only when the next picture is sent, which may never come."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # who sends says so as well
        while await stream.receive_some():
            pass


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    with trio.fail_after(SEND_SECONDS):
        await stream.send_all(data)


async def _page() -> bytes:
    nonce = secrets.token_urlsafe(16)
    body = (await trio.Path(_PAGE).read_bytes()).replace(b"NONCE", nonce.encode())
    return _head(200, "text/html; charset=utf-8", length=len(body), nonce=nonce) + body


def _part(picture: Picture) -> bytes:
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.data)}\r\nX-Timestamp: {picture.time:.6f}\r\n\r\n"
    # The boundary goes with it: browsers paint a picture when they see what follows.
    return head.encode() + picture.data + f"\r\n--{BOUNDARY}\r\n".encode()


def _text(status: int, text: str) -> bytes:
    body = f"{text}\n".encode()
    return _head(status, "text/plain; charset=utf-8", length=len(body)) + body


def _head(status: int, content_type: str, *, length: int | None = None, nonce: str = "") -> bytes:
    own = (
        f"img-src 'self'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        if nonce
        else ""
    )
    lines = [
        f"HTTP/1.1 {status} {_PHRASES[status]}",
        f"Content-Type: {content_type}",
        f"Content-Security-Policy: default-src 'none'; {own}frame-ancestors 'none'; base-uri 'none'",
        "X-Content-Type-Options: nosniff",
        "Cross-Origin-Resource-Policy: same-origin",
        "Cross-Origin-Opener-Policy: same-origin",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def open_browser(url: str) -> None:
    """Open it in the user's browser, if there is a display. Blocking; nothing is said if it does not work."""
    import webbrowser  # noqa: PLC0415 - half of its users want none

    # Without a display a browser of the terminal would take the terminal.
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
