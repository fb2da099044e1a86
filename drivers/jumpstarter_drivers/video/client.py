"""A board's pictures for the user: `jumpstarter video snapshot`, or `client.video.snapshot()`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError
from jumpstarter_client.twin import twin, twin_iter
from jumpstarter_client.verb import verb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.video.jpeg import JpegError, read_jpeg

if TYPE_CHECKING:
    from cyclopts import Parameter
    from jumpstarter_proto.duration_parameter import Seconds
    from PIL.Image import Image

    from jumpstarter_drivers.video.comparison import Reference
    from jumpstarter_drivers.video.pictures import Picture
    from jumpstarter_drivers.video.state import VideoState

__all__ = ["PictureMatch", "Recording", "SavedPicture", "UStreamerClient", "VideoClient"]

DEFAULT_TOLERANCE = 0.1
FIRST_PICTURE_SECONDS = 20.0
LOOK_SECONDS = 0.5
"""From one picture that is compared to the next."""


class PictureFileError(JumpstarterError):
    """A picture or a film cannot be written where the user wants it."""


class NoMatchError(JumpstarterError):
    """The board did not show the expected picture in time."""

    status = "DEADLINE_EXCEEDED"
    exit_code = ExitCode.TIMEOUT


@dataclass(frozen=True)
class SavedPicture:
    """A picture that was saved."""

    path: str
    width: int
    height: int
    bytes: int

    def __str__(self) -> str:
        """One line for people."""
        return f"saved {self.path}: {self.width}x{self.height}, {self.bytes} bytes"


@dataclass(frozen=True)
class Recording:
    """A film that was saved."""

    path: str
    pictures: int
    seconds: float
    begin: float
    """When its first picture was taken, in seconds since 1970, by the clock of the consoles' recordings."""

    def __str__(self) -> str:
        """One line for people."""
        since = datetime.fromtimestamp(self.begin).astimezone().isoformat(timespec="milliseconds")
        return f"saved {self.path}: {self.pictures} pictures in {self.seconds:.1f} s, from {since}"


@dataclass(frozen=True)
class PictureMatch:
    """A picture that was waited for."""

    data: bytes
    """JPEG."""
    difference: float
    """From the reference: 0 is the same, 1 the opposite."""


class VideoClient(DriverClient):
    """Looks at a board through its camera or capture stick."""

    interface: ClassVar[str] = "video"

    @twin
    async def snapshot_bytes(self) -> bytes:
        """A picture of now, as JPEG.

        Raises:
            DriverError: The camera brings no picture, or no whole one.
        """
        try:
            return read_jpeg(b64decode(cast("str", await self.call_async("snapshot")), validate=True)).data
        except (JpegError, ValueError, TypeError) as error:
            raise DriverError(
                f"{self.path} sent no whole picture ({error}); try again", code=StatusCode.UNAVAILABLE
            ) from None

    @twin
    async def snapshot(self) -> Image:
        """A picture of now, as an image of Pillow, which `jumpstarter-sbc[video]` installs."""
        from jumpstarter_drivers.video.comparison import open_jpeg  # noqa: PLC0415 - see there

        return open_jpeg(await self.snapshot_bytes.aio())

    @verb(name="snapshot")
    @twin
    async def save_snapshot(
        self, *, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("snapshot.jpg")
    ) -> SavedPicture:
        """Save the current picture as JPEG.

        Parameters
        ----------
        output
            The file.
        """
        picture = read_jpeg(await self.snapshot_bytes.aio())
        try:
            await trio.Path(output).write_bytes(picture.data)
        except OSError as error:
            raise _cannot_write(output, error) from error
        return SavedPicture(str(output), picture.width, picture.height, len(picture.data))

    @verb
    @twin
    async def state(self) -> VideoState:
        """Show whether the camera sends pictures, their size, or why it sends none."""
        import msgspec  # noqa: PLC0415 - a snapshot needs none of it

        from jumpstarter_drivers.video.state import VideoState  # noqa: PLC0415

        said = await self.call_async("state")
        try:
            return msgspec.convert(_whole(said), VideoState).completed()
        except msgspec.ValidationError as error:
            raise DriverError(f"{self.path} sent a state that cannot be read: {error}") from None

    @twin_iter
    async def pictures(self) -> AsyncGenerator[Picture, None]:
        """The camera's pictures from now on: `data` (JPEG), `width`, `height`, `time`. Who is slow misses some."""
        from jumpstarter_drivers.video.pictures import pictures  # noqa: PLC0415 - a snapshot needs none of it

        async with aclosing(pictures(self)) as found:
            async for picture in found:
                yield picture

    @verb(name="stream")
    def show_stream(
        self, *, port: Annotated[int, Parameter(name=["--port", "-p"])] = 0, browser: bool = True
    ) -> None:
        """Show the camera in the browser, on a private page of this machine, until Ctrl-C.

        Parameters
        ----------
        port
            Port of 127.0.0.1; 0 uses any free port.
        browser
            Open the page if there is a display. Its address is always printed.
        """
        from jumpstarter_drivers.video.page import open_browser, serve_page  # noqa: PLC0415 - it is a server

        try:
            with self.portal.context(serve_page(self, port)) as url:
                print_line(url, flush=True)
                if browser:
                    open_browser(url)
                self.portal.call(self.wait_closed_async)
        except KeyboardInterrupt:
            return  # the documented way to end
        raise DriverError(
            "the connection to the exporter is gone, and the page with it; connect again",
            code=StatusCode.UNAVAILABLE,
        )

    @verb
    @twin
    async def record(
        self,
        seconds: Seconds = 10.0,
        *,
        output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("clip.mkv"),
    ) -> Recording:
        """Record a video: Matroska with Motion JPEG, for VLC, mpv and ffmpeg.

        Date and times are from the clock of the console recordings. Ctrl-C ends the recording early.

        Parameters
        ----------
        seconds
            Duration from the first picture.
        output
            The file.
        """
        from jumpstarter_drivers.video.film import record  # noqa: PLC0415 - a snapshot needs none of it

        if not 0 < seconds < float("inf"):
            raise ValueError(f"seconds is {seconds:g}; it takes more than 0")
        try:
            return await record(self, seconds, output, FIRST_PICTURE_SECONDS)
        except OSError as error:
            raise _cannot_write(output, error) from error

    @twin
    async def wait_like(
        self,
        reference: str | Path,
        *,
        timeout: float = 60.0,
        tolerance: float = DEFAULT_TOLERANCE,
        region: Sequence[int] | None = None,
    ) -> PictureMatch:
        """Wait until the board's picture is like that of a file, or of a region (left, top, width, height) of it.

        Raises:
            NoMatchError: It is not within `timeout` seconds; says how far it was.
        """
        return await self._wait(reference, timeout, tolerance, region, wants_like=True)

    @twin
    async def wait_unlike(
        self,
        reference: str | Path,
        *,
        timeout: float = 60.0,
        tolerance: float = DEFAULT_TOLERANCE,
        region: Sequence[int] | None = None,
    ) -> PictureMatch:
        """Wait until the board's picture differs from that of a file, or of a region of it.

        Raises:
            NoMatchError: It does not within `timeout` seconds.
        """
        return await self._wait(reference, timeout, tolerance, region, wants_like=False)

    @verb
    @twin
    async def compare(self, reference: Path, /, *, region: tuple[int, int, int, int] | None = None) -> float:
        """Compare the board's picture with a file: from 0, the same, to 1.

        Parameters
        ----------
        reference
            A picture, for example from `snapshot`.
        region
            Left, top, width and height of the compared part of the picture, in pixels.
        """
        from jumpstarter_drivers.video.comparison import Reference  # noqa: PLC0415 - see there

        wanted = await trio.to_thread.run_sync(Reference, reference, region)
        data = await self.snapshot_bytes.aio()
        return round(await trio.to_thread.run_sync(wanted.difference, data), 4)

    async def _wait(
        self,
        path: str | Path,
        timeout: float,
        tolerance: float,
        region: Sequence[int] | None,
        *,
        wants_like: bool,
    ) -> PictureMatch:
        from jumpstarter_drivers.video.comparison import DamagedPicture, Reference  # noqa: PLC0415 - see there

        if not 0 <= tolerance <= 1:
            raise ValueError(f"tolerance is {tolerance:g}; it takes 0 (the same) to 1")
        wanted = await trio.to_thread.run_sync(Reference, path, region)
        last = "no picture came"
        with trio.move_on_after(timeout):
            while True:
                began = trio.current_time()
                try:
                    found = await self._compared(wanted)
                except DriverError as error:
                    if error.code is not StatusCode.UNAVAILABLE:
                        raise
                    last = error.details  # it may be switched on only now
                except DamagedPicture as error:
                    last = str(error)
                else:
                    if (found.difference <= tolerance) == wants_like:
                        return found
                    last = f"the last picture differs by {found.difference:.3f}, and the tolerance is {tolerance:g}"
                await trio.sleep_until(began + LOOK_SECONDS)
        what = "like" if wants_like else "other than"
        raise NoMatchError(f"{self.path} showed nothing {what} {path} within {timeout:g} s: {last}")

    async def _compared(self, wanted: Reference) -> PictureMatch:
        data = await self.snapshot_bytes.aio()
        return PictureMatch(data, await trio.to_thread.run_sync(wanted.difference, data))


class UStreamerClient(VideoClient):
    """The same, by the name that Jumpstarter 0.9 has for it."""


def _cannot_write(path: Path, error: OSError) -> PictureFileError:
    return PictureFileError(
        f"{path} cannot be written: {error.strerror or error}; name another file with --output"
    )


def _whole(said: JSON) -> JSON:
    """Numbers come as floats."""
    match said:
        case float() if said.is_integer():
            return int(said)
        case dict():
            return {key: _whole(value) for key, value in said.items()}
        case _:
            return said
