"""A camera that serves MJPEG, or single JPEG pictures, over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from jumpstarter_exporter.driver import DeviceError, DeviceFailed, DeviceMissing
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.video.camera import Show
from jumpstarter_drivers.video.http_server import (
    CameraCredentials,
    HttpResponse,
    HttpServer,
    open_url,
    split_url,
)
from jumpstarter_drivers.video.jpeg import MAX_PICTURE_BYTES
from jumpstarter_drivers.video.multipart import MultipartError, MultipartParser, boundary_of

__all__ = ["HttpCamera", "camera_at"]

_STREAM = "multipart/"


@dataclass
class HttpCamera:
    """The pictures of one URL: a stream of them, or a new one with each request."""

    server: HttpServer
    target: str
    credentials: CameraCredentials
    interval: float
    """Seconds from one request to the next, where each brings one picture."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.server.name

    async def run(self, show: Show) -> None:
        """See `camera.PictureSource`."""
        while True:
            began = trio.current_time()
            async with open_url(self.server, self.target, self.credentials) as response:
                if response.head.content_type.startswith(_STREAM):
                    await self._read_stream(response, show)
                show(await self._read_picture(response))
            await trio.sleep_until(began + self.interval)

    async def fault(self) -> DeviceError | None:
        """Return None: `run` raises every fault."""
        return None

    async def fetch(self, seconds: float) -> bytes:
        """Fetch one picture from a URL that serves single pictures, within so many seconds.

        Raises:
            DeviceError: There is no picture; the message says why.
        """
        with trio.move_on_after(seconds):
            async with open_url(self.server, self.target, self.credentials) as response:
                return await self._read_picture(response)
        raise DeviceMissing(f"{self.name} sent no picture within {seconds:g} s; check the camera")

    async def _read_stream(self, response: HttpResponse, show: Show) -> None:
        try:
            parser = MultipartParser(
                boundary_of(response.head.headers["content-type"]), max_body_bytes=MAX_PICTURE_BYTES
            )
            while data := await response.receive():
                for part in parser.feed(data):
                    show(part.body, is_online=part.headers.get("x-ustreamer-online") != "false")
        except MultipartError as error:
            raise DeviceFailed(
                f"{self.name} does not send a valid MJPEG stream: {error}; check its URL"
            ) from None
        raise DeviceMissing(f"{self.name} ended its stream; check that the camera has power")

    async def _read_picture(self, response: HttpResponse) -> bytes:
        kind = response.head.content_type
        if kind not in ("image/jpeg", "image/jpg", "application/octet-stream", ""):
            raise DeviceFailed(
                f"{self.name} sends {shown(kind, 40)}, and no JPEG pictures; check the URL in the configuration"
            )
        picture = bytearray()
        while data := await response.receive():
            picture += data
            if len(picture) > MAX_PICTURE_BYTES:
                raise DeviceFailed(
                    f"{self.name} sends a picture of more than {MAX_PICTURE_BYTES // 1024**2} MiB; check its URL"
                )
        return bytes(picture)


def camera_at(
    url: str, *, user: str = "", password: str = "", ca_file: str | None = None, interval: float = 0.5
) -> HttpCamera:
    """Return the camera at a URL. `user` and `password` override those in the URL.

    Raises:
        UrlError: It is no URL of a camera.
    """
    server, target, found = split_url(url, ca_file)
    credentials = CameraCredentials(user, password) if user else found
    return HttpCamera(server, target, credentials, interval)
