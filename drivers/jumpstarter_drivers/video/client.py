"""A board's pictures for the user: `jumpstarter video snapshot`, or `client.video.snapshot()`."""

from __future__ import annotations

import io
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError
from jumpstarter_client.twin import twin
from jumpstarter_client.verb import verb
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.video.jpeg import JpegError, read_jpeg

if TYPE_CHECKING:
    from cyclopts import Parameter
    from PIL.Image import Image

    from jumpstarter_drivers.video.state import VideoState

__all__ = ["Snapshot", "UStreamerClient", "VideoClient"]


class PictureFileError(JumpstarterError):
    """A picture cannot be written where the user wants it."""


@dataclass(frozen=True)
class Snapshot:
    """A picture that was saved."""

    path: str
    width: int
    height: int
    bytes: int

    def __str__(self) -> str:
        """One line for people."""
        return f"saved {self.path}: {self.width}x{self.height}, {self.bytes} bytes"


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
            raise DriverError(f"{self.path} sent no whole picture ({error}); try again") from None

    @twin
    async def snapshot(self) -> Image:
        """A picture of now, as an image of Pillow, which `jumpstarter-sbc[video]` installs."""
        data = await self.snapshot_bytes.aio()
        return _opened(data)

    @verb(name="snapshot")
    @twin
    async def save_snapshot(
        self, *, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("snapshot.jpg")
    ) -> Snapshot:
        """Save a picture of now, as JPEG.

        Parameters
        ----------
        output
            The file.
        """
        picture = read_jpeg(await self.snapshot_bytes.aio())
        try:
            await trio.Path(output).write_bytes(picture.data)
        except OSError as error:
            raise PictureFileError(
                f"{output} cannot be written: {error.strerror or error}; name another file with --output"
            ) from error
        return Snapshot(str(output), picture.width, picture.height, len(picture.data))

    @verb
    @twin
    async def state(self) -> VideoState:
        """Say whether the camera brings pictures, of which size, and why not if it brings none."""
        import msgspec  # noqa: PLC0415 - a snapshot needs none of it

        from jumpstarter_drivers.video.state import VideoState  # noqa: PLC0415

        said = await self.call_async("state")
        try:
            return msgspec.convert(_whole(said), VideoState).completed()
        except msgspec.ValidationError as error:
            raise DriverError(f"{self.path} said of its state what cannot be read: {error}") from None


class UStreamerClient(VideoClient):
    """The same, by the name that Jumpstarter 0.9 has for it."""


def _whole(said: JSON) -> JSON:
    """Numbers come as floats."""
    match said:
        case float() if said.is_integer():
            return int(said)
        case dict():
            return {key: _whole(value) for key, value in said.items()}
        case _:
            return said


def _opened(data: bytes) -> Image:
    try:
        from PIL import Image  # noqa: PLC0415 - a compiled library, for those who look into pictures
    except ImportError:
        raise JumpstarterError(
            "images need Pillow: pip install 'jumpstarter-sbc[video]'; snapshot_bytes() does without"
        ) from None
    return Image.open(io.BytesIO(data))
