"""Cameras without hardware: a server on the loopback interface that says what a test wants, byte by byte."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache, partial

import trio
from PIL import Image

BOUNDARY = "camera-boundary"
STREAM_HEAD = (
    f"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={BOUNDARY}\r\n\r\n".encode()
)
Answer = Callable[["Request"], Awaitable[None]]


@cache
def jpeg(color: str = "red", size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "JPEG")
    return file.getvalue()


def part(picture: bytes, length: int | None = -1) -> bytes:
    """A part of a stream; with `length` -1 it says its own, with None it says none."""
    said = "" if length is None else f"Content-Length: {len(picture) if length < 0 else length}\r\n"
    return f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n{said}\r\n".encode() + picture + b"\r\n"


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Request:
    """A request that came, and the connection to answer it on."""

    def __init__(self, stream: trio.SocketStream, text: str) -> None:
        first, *lines = text.split("\r\n")
        _, self.target, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self.stream = stream

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)


class ScriptedCamera:
    """Answers requests by their path."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.open = 0
        """Connections now."""
        self.released = trio.Event()
        """Set when a connection has ended, and replaced by a new one then."""

    async def serve(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            async with stream:
                text = b""
                while b"\r\n\r\n" not in text:
                    received = await stream.receive_some()
                    if not received:
                        return
                    text += received
                request = Request(stream, text.decode())
                self.requests.append(request)
                await self.answers[request.target](request)
        except trio.BrokenResourceError:
            pass  # the exporter has left
        finally:
            self.open -= 1
            self.released.set()
            self.released = trio.Event()

    async def until_unused(self) -> None:
        while self.open:
            await self.released.wait()


@asynccontextmanager
async def scripted_camera(**answers: Answer) -> AsyncIterator[ScriptedCamera]:
    """By name of the path, without its slash."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    camera = ScriptedCamera(listeners[0].socket.getsockname()[1])
    camera.answers = {f"/{name}": answer for name, answer in answers.items()}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, camera.serve, listeners))
        yield camera
        nursery.cancel_scope.cancel()


def says(data: bytes) -> Answer:
    """An answer of these bytes, behind which the connection ends."""
    return lambda request: request.send(data)


def one_picture(picture: bytes) -> Answer:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return says(head.encode() + picture)


def streams(*parts: bytes, head: bytes = STREAM_HEAD) -> Answer:
    """An answer of these parts, behind which nothing comes."""

    async def answer(request: Request) -> None:
        await request.send(head, *parts)
        await hears_no_more(request)

    return answer


def films(*pictures: bytes) -> Answer:
    """A stream of these pictures, over and over, until the exporter leaves."""

    async def answer(request: Request) -> None:
        await request.send(STREAM_HEAD)
        while True:
            for picture in pictures:
                await request.send(part(picture))
                await trio.sleep(0.02)

    return answer


async def hears_no_more(request: Request) -> None:
    """Keep the connection until the exporter ends it."""
    while await request.stream.receive_some():
        pass
