"""A camera's pictures at the user's end of its `connect` stream, which is HTTP; only whole pictures are passed on."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.http_response import HttpError, ResponseParser
from jumpstarter_drivers.video.jpeg import MAX_PICTURE_BYTES, JpegError, read_jpeg
from jumpstarter_drivers.video.multipart import MultipartError, MultipartParser, boundary_of

__all__ = ["Picture", "pictures"]

DEFAULT_STREAM_PATH = "/stream"
"""Of exporters of Jumpstarter 0.9, which do not say it."""


@dataclass(frozen=True)
class Picture:
    """One picture."""

    data: bytes
    """JPEG."""
    width: int
    height: int
    time: float
    """When it was taken, in seconds since 1970, by the clock of the exporter, which also records the consoles."""


async def pictures(client: DriverClient) -> AsyncGenerator[Picture, None]:
    """The camera's pictures from now on, until the iteration is left; none twice, some not at all if it is slow.

    Raises:
        DriverError: The camera cannot be used, the connection ended, or it is not a stream of pictures.
    """
    path = await _stream_path(client)
    async with client.stream_async("connect") as stream:
        await stream.send_all(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        response = ResponseParser()
        parts: MultipartParser | None = None
        try:
            while received := await stream.receive_some():
                data = response.feed(received)
                if response.head is None:
                    continue
                if response.head.status != 200:
                    raise _error(
                        client,
                        f"answers {response.head.status}: {shown(data.decode('utf-8', 'replace').strip())}",
                    )
                if parts is None:
                    content_type = response.head.headers.get("content-type", "")
                    parts = MultipartParser(boundary_of(content_type), max_body_bytes=MAX_PICTURE_BYTES)
                for part in parts.feed(data):
                    try:
                        jpeg = read_jpeg(part.body)
                    except JpegError:
                        continue  # the next one may be whole
                    yield Picture(*jpeg, _time_of(part.headers.get("x-timestamp", "")))
        except (HttpError, MultipartError) as error:
            raise _error(client, f"sends no stream of pictures: {error}") from None
    raise _error(client, "has ended its stream; look again with `jumpstarter video state`")


async def _stream_path(client: DriverClient) -> str:
    try:
        path = str(await client.call_async("stream_path"))
    except DriverMethodNotImplemented:
        return DEFAULT_STREAM_PATH
    # It becomes a line of a request.
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise _error(client, f"names a stream that has no valid path: {shown(path)}")
    return path


def _time_of(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return time.time()
    return found if 0 < found < 1e11 else time.time()


def _error(client: DriverClient, what: str) -> DriverError:
    return DriverError(f"{client.path or client.name} {what}", code=StatusCode.UNAVAILABLE)
