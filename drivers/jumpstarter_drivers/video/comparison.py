"""How different two pictures are, by Pillow: for waiting until a board shows what it should.

Both are made small, which takes away noise, and compared tile by tile; the largest difference of any tile counts. A
dialog in a corner is seen, the grain of a camera is not.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, cast

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_drivers.video.jpeg import read_jpeg

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DEFAULT_TOLERANCE", "DamagedPicture", "PictureError", "Reference", "open_jpeg"]

DEFAULT_TOLERANCE = 0.1
TILES = (16, 9)
PIXELS_OF_TILE = 4
MAX_PIXELS = 64_000_000
"""Of a picture that is decoded: 192 MB."""


class PictureError(JumpstarterError):
    """A picture cannot be looked into."""

    exit_code = ExitCode.USAGE


class DamagedPicture(PictureError):  # noqa: N818 - what the camera sent
    """The camera sent a picture that cannot be decoded; the next one may be whole."""

    exit_code = ExitCode.FAILED


def open_jpeg(data: bytes) -> Image:
    """Decode a JPEG picture, which is untrusted.

    Raises:
        PictureError: It is too large to be decoded, or Pillow is not installed.
    """
    found = read_jpeg(data)
    if found.width * found.height > MAX_PIXELS:
        raise PictureError(
            f"the picture has {found.width}x{found.height} pixels, which are too many to look into"
        )
    pillow = _pillow()
    too_large = PictureError("the picture has more pixels than it says, which are too many to look into")
    try:
        image: Image = pillow.open(io.BytesIO(found.data), formats=["JPEG"])
    except pillow.DecompressionBombError:
        raise too_large from None
    if image.width * image.height > MAX_PIXELS:  # Pillow has read another header than we have
        raise too_large
    return image


class Reference:
    """What pictures are compared with, or with a region of it."""

    def __init__(self, path: str | os.PathLike[str], region: Sequence[int] | None = None) -> None:
        """`region` is left, top, width and height, in the file's pixels; all of it if left out. Blocking.

        Raises:
            PictureError: The file is not a picture, or does not contain the region.
        """
        pillow = _pillow()
        try:
            image = pillow.open(path)
            image.load()
        except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
            raise PictureError(
                f"{path} cannot be read as a picture ({error}); save one with `video snapshot`"
            ) from None
        self.size = image.size
        self._box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
        if region is not None:
            self._box = self._fractions(region)
        self._small = self._shrunk(image)

    def difference(self, data: bytes) -> float:
        """From 0, the same, to 1: of the tile that differs most, the mean of its pixels. Blocking.

        Raises:
            DamagedPicture: The picture cannot be decoded.
            PictureError: It is too large.
        """
        try:
            image = open_jpeg(data)
            small = self._shrunk(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise DamagedPicture(
                f"a picture of the camera cannot be decoded ({error}); take another one"
            ) from None
        from PIL import Image as Pillow  # noqa: PLC0415
        from PIL import ImageChops  # noqa: PLC0415

        tiles = ImageChops.difference(small, self._small).resize(TILES, Pillow.Resampling.BOX)
        return (
            max(high for band in tiles.split() for _, high in [cast("tuple[int, int]", band.getextrema())])
            / 255
        )

    def _fractions(self, region: Sequence[int]) -> tuple[float, float, float, float]:
        width, height = self.size
        if len(region) != 4:
            raise PictureError(f"region is {list(region)}; it takes left, top, width and height, in pixels")
        left, top, wide, high = region
        if min(left, top) < 0 or min(wide, high) < 1 or left + wide > width or top + high > height:
            raise PictureError(
                f"region is {list(region)}, which is not inside of the reference's {width}x{height} pixels"
            )
        return left / width, top / height, (left + wide) / width, (top + high) / height

    def _shrunk(self, image: Image) -> Image:
        from PIL import Image as Pillow  # noqa: PLC0415

        width, height = image.size
        left, top, right, bottom = self._box
        box = (left * width, top * height, right * width, bottom * height)
        small = (TILES[0] * PIXELS_OF_TILE, TILES[1] * PIXELS_OF_TILE)
        return image.convert("RGB").resize(small, Pillow.Resampling.BOX, box=box)


def _pillow() -> ModuleType:
    try:
        from PIL import Image  # noqa: PLC0415 - a compiled library, for those who look into pictures
    except ImportError:
        raise PictureError(
            "looking into pictures needs Pillow: pip install 'jumpstarter-sbc[video]'; snapshot_bytes() does without"
        ) from None
    return Image
