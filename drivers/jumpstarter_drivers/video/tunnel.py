"""The HTTP that users speak on a camera's `connect` stream: as much of it as Jumpstarter's clients and a browser need.

One request, one response, HTTP/1.0, paths of ustreamer. The pictures are the camera's own; all around them is ours, so
that nothing else of what a camera sends reaches a user's browser.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import trio
from jumpstarter_exporter.driver import DeviceError
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.video.camera import Camera, Frame

__all__ = ["BOUNDARY", "STREAM_PATH", "Tunnel"]

STREAM_PATH = "/stream"
BOUNDARY = "jumpstarter-picture"
MAX_REQUEST_BYTES = 16 * 1024
FRAME_BYTES = 64 * 1024
"""Of the pieces that a picture is sent in."""

_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class Tunnel:
    """The camera's end of a user's byte stream."""

    def __init__(
        self,
        camera: Camera,
        snapshot: Callable[[], Awaitable[Frame]],
        state: Callable[[], Awaitable[dict[str, JSON]]],
    ) -> None:
        self._camera, self._snapshot, self._state = camera, snapshot, state
        self._request = bytearray()
        self._has_request = trio.Event()
        self._is_cut = False
        self._response = self._respond()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Receive the request of the user. Later data is ignored."""
        await trio.lowlevel.checkpoint()
        if self._has_request.is_set():
            return
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) > MAX_REQUEST_BYTES:
            self._has_request.set()

    async def send_eof(self) -> None:
        """The user sends no more; an unfinished request is answered as what it is."""
        self._has_request.set()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes of the response; empty at its end."""
        return await anext(self._response, b"")

    async def aclose(self) -> None:
        """Stop being a viewer."""
        await self._response.aclose()

    async def _respond(self) -> AsyncGenerator[bytes, None]:
        await self._has_request.wait()
        words = bytes(self._request.partition(b"\r\n")[0]).decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or b"\r\n\r\n" not in self._request:
            yield _head(400, "text/plain") + b"this is not an HTTP request\n"
            return
        method, target, _ = words
        path, _, query = target.partition("?")
        if method not in ("GET", "HEAD"):
            yield _head(405, "text/plain") + b"only GET and HEAD\n"
            return
        async with aclosing(self._get(path, query)) as pieces:
            async for piece in pieces:
                yield piece.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else piece
                if method == "HEAD":
                    return

    async def _get(self, path: str, query: str) -> AsyncGenerator[bytes, None]:
        if path == "/" and query.startswith("action="):  # as mjpg-streamer has it
            path = "/" + query.removeprefix("action=")
        match path:
            case "/stream":
                async with aclosing(self._stream()) as pieces:
                    async for piece in pieces:
                        yield piece
            case "/snapshot":
                try:
                    frame = await self._snapshot()
                except DeviceError as error:
                    yield _head(503, "text/plain; charset=utf-8") + f"{error}\n".encode()
                    return
                yield _head(200, "image/jpeg", len(frame.data), frame)
                for piece in _pieces(frame.data):
                    yield piece
            case "/state":
                body = json.dumps(await self._state()).encode()
                yield _head(200, "application/json", len(body)) + body
            case _:
                yield _head(404, "text/plain") + b"there are /stream, /snapshot and /state\n"

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        yield _head(200, f"multipart/x-mixed-replace;boundary={BOUNDARY}") + f"--{BOUNDARY}\r\n".encode()
        with self._camera.viewing() as viewer:
            while True:
                frame = await viewer.next()
                yield _part_head(frame)
                for piece in _pieces(frame.data):
                    yield piece
                # At once, as browsers paint a picture when they see what follows it.
                yield f"\r\n--{BOUNDARY}\r\n".encode()


def _pieces(data: bytes) -> list[bytes]:
    return [data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)]


def _head(status: int, content_type: str, length: int | None = None, frame: Frame | None = None) -> bytes:
    lines = [
        f"HTTP/1.0 {status} {_PHRASES[status]}",
        "Server: jumpstarter",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"Content-Type: {content_type}",
    ]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if frame is not None:
        lines += _facts(frame)
    return "\r\n".join([*lines, "", ""]).encode()


def _part_head(frame: Frame) -> bytes:
    lines = ["Content-Type: image/jpeg", f"Content-Length: {len(frame.data)}", *_facts(frame)]
    return "\r\n".join([*lines, "", ""]).encode()


def _facts(frame: Frame) -> list[str]:
    return [
        f"X-Timestamp: {frame.time:.6f}",
        f"X-UStreamer-Online: {'true' if frame.is_online else 'false'}",
        f"X-UStreamer-Width: {frame.width}",
        f"X-UStreamer-Height: {frame.height}",
    ]
