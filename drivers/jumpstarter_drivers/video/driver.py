"""Cameras on the host: V4L2 devices, and servers of pictures over HTTP."""

from __future__ import annotations

import re
from abc import abstractmethod
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import msgspec
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceError, DeviceFailed, Driver, export, export_stream
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_exporter.node_errors import explain_open_error
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.video.camera import Camera, Frame, PictureSource
from jumpstarter_drivers.video.http_camera import HttpCamera, camera_at
from jumpstarter_drivers.video.http_server import UrlError
from jumpstarter_drivers.video.state import (
    Resolution,
    UStreamerResult,
    UStreamerSource,
    VideoState,
)
from jumpstarter_drivers.video.tunnel import STREAM_PATH, Tunnel
from jumpstarter_drivers.video.ustreamer import UStreamerCamera, find_executable
from jumpstarter_drivers.video.v4l2 import sends_jpeg

__all__ = ["HttpVideo", "UStreamer", "VideoCore", "VideoInterface"]

DEFAULT_INTERVAL_SECONDS = 0.5
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
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("video"),)
    core_of: ClassVar[type[VideoCore]] = VideoCore
    waits_for_hardware: ClassVar[bool] = True
    core: VideoCore = field(init=False, repr=False)

    idle_timeout: float = 10.0
    """Seconds from the last viewer until the camera is released."""
    stall_timeout: float = 10.0
    """Seconds without a whole picture until the camera is started again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.idle_timeout < float("inf"):
            raise ValueError(f"idle_timeout is {self.idle_timeout}; it takes seconds, 0 or more")
        if not 0 < self.stall_timeout < float("inf"):
            raise ValueError(f"stall_timeout is {self.stall_timeout}; it takes seconds, more than 0")

    @abstractmethod
    def make_source(self, core: VideoCore) -> PictureSource:
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

        tunnel = Tunnel(self.core.camera, self.take_picture, state)
        try:
            yield tunnel
        finally:
            await tunnel.aclose()

    async def take_picture(self) -> Frame:
        """Return a current picture. Raises DeviceError if there is none."""
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

    url: str = field(repr=False)
    snapshot_url: str | None = field(default=None, repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str | None = None
    """The certificates (PEM) that an https:// camera is trusted by, in the place of the system's."""
    interval: float | None = None
    """Seconds between two pictures, if `url` serves single ones; 0.5 if left out."""

    def __post_init__(self) -> None:
        """Parse the URLs. ValueError for an invalid one."""
        super().__post_init__()
        if self.interval is None:
            self._interval = min(DEFAULT_INTERVAL_SECONDS, self.stall_timeout / 2)
        elif 0 < self.interval < self.stall_timeout:
            self._interval = self.interval
        else:
            raise ValueError(
                f"interval is {self.interval}; it takes seconds, more than 0 and less than `stall_timeout` "
                f"({self.stall_timeout:g})"
            )
        self._camera = self._at("url", self.url)
        self._single = None if self.snapshot_url is None else self._at("snapshot_url", self.snapshot_url)

    def make_source(self, core: VideoCore) -> PictureSource:
        """The camera at `url`."""
        return self._camera

    async def take_picture(self) -> Frame:
        """Take a picture of the stream if it has viewers or there is no `snapshot_url`; else of `snapshot_url`."""
        camera = self.core.camera
        if self._single is None or camera.latest is not None:
            return await super().take_picture()
        return camera.still(await self._single.fetch(self.stall_timeout), self._single.name)

    def _at(self, key: str, url: str) -> HttpCamera:
        try:
            return camera_at(
                url, user=self.user, password=self.password, ca_file=self.ca_file, interval=self._interval
            )
        except UrlError as error:
            raise ValueError(f"{key}: {error}") from None


_DEFAULT_DEVICE = "/dev/video0"
_OWN_OPTIONS = frozenset(
    {"unix", "unix-rm", "unix-mode", "host", "port", "user", "passwd", "systemd", "static", "allow-origin"}
)
"""Where it listens, and for whom, is the driver's."""
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_RESOLUTION = re.compile(r"\d{2,5}x\d{2,5}")


@dataclass(kw_only=True, eq=False)
class UStreamer(VideoInterface):
    """A camera or capture stick of the host (V4L2), through ustreamer, which Debian has as a package.

        export:
          video:
            type: video.UStreamer
            config:
              device: /dev/v4l/by-id/usb-MACROSILICON_USB_Video-video-index0
              resolution: 1280x720
              # fps: 15
              # args: {brightness: 50}   # more options of ustreamer

    `jumpstarter_driver_ustreamer.driver.UStreamer` is the same, with `device` among `args`. Opening and closing it do
    nothing to the board. ustreamer runs while somebody looks.
    """

    device: str | None = None
    """The device node, or a link to it; /dev/video0 if left out."""
    resolution: str | None = None
    """Such as 1280x720; ustreamer's 640x480 if left out."""
    fps: int | None = None
    """Pictures per second at most; all that the camera has if left out."""
    args: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """More options of ustreamer, without their dashes; true for one without a value."""
    executable: str | None = None
    """The program, if it is not the `ustreamer` of the exporter's PATH."""

    def __post_init__(self) -> None:
        """Check the options. ValueError for one that is not the configuration's."""
        super().__post_init__()
        for name in self.args:
            if name in _OWN_OPTIONS:
                raise ValueError(f"args has {name!r}, which is the driver's; leave it out")
            if not _OPTION.fullmatch(name):
                raise ValueError(
                    f"args has {name!r}, which is not an option; write it without dashes in front of it"
                )
        given = {"device": self.device, "resolution": self.resolution, "desired-fps": self.fps}
        if self.resolution is not None and not _RESOLUTION.fullmatch(self.resolution):
            raise ValueError(f"resolution is {self.resolution!r}; it takes one such as 1280x720")
        if self.fps is not None and not 0 < self.fps < 1000:
            raise ValueError(f"fps is {self.fps}; it takes 1 or more")
        for name, value in given.items():
            if value is not None and name in self.args:
                raise ValueError(f"args has {name!r}, which has its own key; remove it from args")
        options = self.args | {name: value for name, value in given.items() if value is not None}
        self._device = str(options.pop("device", _DEFAULT_DEVICE))
        self._options = options

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The camera's node, or the link to it."""
        return [str(values.get("device") or (values.get("args") or {}).get("device", _DEFAULT_DEVICE))]

    def make_source(self, core: VideoCore) -> PictureSource:
        """The device."""
        return UStreamerCamera(core, self._device, self._options, self.executable)

    def describe_hardware(self) -> str:
        """The node and the program. DeviceFailed without it."""
        program = find_executable(self.executable)
        try:
            form = "JPEG" if sends_jpeg(self._device) else "raw pictures, which ustreamer encodes"
        except OSError as error:
            raise explain_open_error(self._device, error, "a camera") from error
        return f"{self._device} by {program}; it sends {form}"
