"""Cameras on the host: one that serves its pictures over HTTP."""

from __future__ import annotations

from abc import abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, cast

import msgspec
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceError, DeviceFailed, Driver, export, export_stream
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.video.camera import Camera, Frame, Source
from jumpstarter_drivers.video.http_camera import HttpCamera, camera_at
from jumpstarter_drivers.video.http_server import UrlError
from jumpstarter_drivers.video.state import (
    Resolution,
    UStreamerResult,
    UStreamerSource,
    VideoState,
)
from jumpstarter_drivers.video.tunnel import STREAM_PATH, Tunnel

__all__ = ["HttpVideo", "VideoCore", "VideoInterface"]

MAX_SNAPSHOT_BYTES = 3_000_000
"""Of one that is the result of a call, as text; the stream takes larger ones."""


class VideoCore(Core["VideoInterface"]):
    """The camera, which sessions share."""

    camera: Camera

    async def open(self) -> None:
        """Wait for viewers; nothing of the camera is used before one comes."""
        self.camera = Camera(
            self.config.make_source(self),
            idle_seconds=self.config.idle_timeout,
            stall_seconds=self.config.stall_timeout,
            logger=self.logger,
            on_missing=self.missing,
            on_ready=self.ready,
        )
        self.nursery.start_soon(self.camera.run)


@dataclass(kw_only=True, eq=False)
class VideoInterface(Driver):
    """A camera. Opening and closing it do nothing to the board.

    Its pictures are taken from the first viewer on, a snapshot counts as one, until `idle_timeout` seconds after the
    last; all viewers of all sessions share them.
    """

    client: ClassVar[str] = "jumpstarter_driver_ustreamer.client.UStreamerClient"
    interface: ClassVar[str] = "video"
    core_of: ClassVar[type[VideoCore]] = VideoCore
    waits_for_hardware: ClassVar[bool] = True
    core: VideoCore = field(init=False, repr=False)

    idle_timeout: float = 10.0
    """Seconds from the last viewer until the camera is let go."""
    stall_timeout: float = 10.0
    """Seconds without a whole picture until the camera is started again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.idle_timeout < float("inf"):
            raise ValueError(f"idle_timeout is {self.idle_timeout}; it takes seconds, 0 or more")
        if not 0 < self.stall_timeout < float("inf"):
            raise ValueError(f"stall_timeout is {self.stall_timeout}; it takes seconds, more than 0")

    @abstractmethod
    def make_source(self, core: VideoCore) -> Source:
        """What the pictures come from; nothing is started yet."""

    @export(reads=True)
    async def snapshot(self) -> str:
        """A picture of now: JPEG, in base64."""
        data = (await self.take_picture()).data
        if len(data) > MAX_SNAPSHOT_BYTES:
            raise DeviceFailed(
                f"the picture has {len(data)} bytes, more than the result of a call; set a smaller resolution"
            )
        return b64encode(data).decode()

    @export(reads=True)
    async def state(self) -> VideoState:
        """Whether the camera brings pictures, of which size and how many; why not, if it brings none."""
        camera, reason, frame = self.core.camera, "", None
        try:
            frame = await self.take_picture()
        except DeviceError as error:
            reason = str(error)
        fps = camera.fps
        width, height = (frame.width, frame.height) if frame is not None else (None, None)
        peers_source = UStreamerSource(
            online=frame is not None,
            captured_fps=round(fps or 0),
            resolution=Resolution(width=width or 0, height=height or 0),
        )
        return VideoState(
            online=frame is not None,
            width=width,
            height=height,
            fps=None if fps is None else round(fps, 2),
            reason=reason,
            viewers=camera.viewers,
            source=camera.source.name,
            result=UStreamerResult(source=peers_source),
        )

    @export(reads=True)
    async def stream_path(self) -> str:
        """What to GET on `connect` for a stream of pictures."""
        return STREAM_PATH

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Tunnel]:
        """HTTP with the paths of ustreamer: one request for /stream, /snapshot or /state."""

        async def state() -> dict[str, JSON]:
            return cast("dict[str, JSON]", msgspec.to_builtins(await self.state()))

        yield Tunnel(self.core.camera, self.take_picture, state)

    async def take_picture(self) -> Frame:
        """A picture of now. Raises DeviceError if there is none."""
        with self.core.camera.viewing() as viewer:
            return await viewer.fresh(self.stall_timeout + 1)


@dataclass(kw_only=True, eq=False)
class HttpVideo(VideoInterface):
    """A camera, or a capture stick's server, that serves MJPEG or JPEG pictures over HTTP.

        export:
          video:
            type: video.HttpVideo
            config:
              url: http://camera.lab:8080/stream   # MJPEG, or a JPEG picture, which is then fetched every `interval`
              # snapshot_url: http://camera.lab:8080/snapshot   # single pictures, for when nobody looks at the stream
              # user: lab                          # and password: for cameras that want to know
              # ca_file: /etc/jumpstarter/camera.pem

    Opening and closing it do nothing to the board, nor to the camera.
    """

    url: str
    snapshot_url: str | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str | None = None
    """The certificates (PEM) that an https:// camera is trusted by, in the place of the system's."""
    interval: float = 0.5
    """Seconds between two pictures, if `url` serves single ones."""

    def __post_init__(self) -> None:
        """Read the URLs. ValueError for one that is none."""
        super().__post_init__()
        if not 0 < self.interval < float("inf"):
            raise ValueError(f"interval is {self.interval}; it takes seconds, more than 0")
        self._camera = self._at("url", self.url)
        self._single = None if self.snapshot_url is None else self._at("snapshot_url", self.snapshot_url)

    def make_source(self, core: VideoCore) -> Source:
        """The camera at `url`."""
        return self._camera

    async def take_picture(self) -> Frame:
        """Of the stream, if somebody looks at it or there is nothing else; of `snapshot_url` otherwise."""
        camera = self.core.camera
        if self._single is None or camera.latest is not None:
            return await super().take_picture()
        return camera.still(await self._single.fetch(self.stall_timeout), self._single.name)

    def _at(self, key: str, url: str) -> HttpCamera:
        try:
            return camera_at(
                url, user=self.user, password=self.password, ca_file=self.ca_file, interval=self.interval
            )
        except UrlError as error:
            raise ValueError(f"{key}: {error}") from None
