"""Block maps of images (bmap-tools' format, versions 1.3 to 2.0): which blocks of an image matter.

The others were never written when the image was made, so that the medium may have anything there. A map may have a
checksum for each of its ranges, over the image's bytes. A map that is damaged, or is one of another image, is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from jumpstarter_proto.encoding import ContentError

__all__ = [
    "MAX_MAP_BYTES",
    "BlockMap",
    "BlockMapError",
    "MappedRange",
    "RangeChecker",
    "find_block_map",
    "parse_block_map",
]

MAX_MAP_BYTES = 64 * 1024 * 1024
"""Of a map; one of a million ranges has as many."""
MAX_IMAGE_BYTES = 1 << 50
_SUFFIX = ".bmap"
_VERSIONS = re.compile(r"(1\.[34]|2\.\d+)")
_CHECKSUMS = ("sha1", "sha256", "sha512")
_HEX = re.compile(r"[0-9a-f]{40,128}")


class BlockMapError(ContentError):
    """A block map is damaged, or does not fit its image."""


@dataclass(frozen=True)
class MappedRange:
    """Bytes of the image that matter."""

    start: int
    end: int
    """The first byte behind it."""
    checksum: str
    """Hexadecimal digits; empty if there is none."""


@dataclass(frozen=True)
class BlockMap:
    """A map that is sound in itself."""

    name: str
    """The name of the file, for messages."""
    image_size: int
    ranges: tuple[MappedRange, ...]
    """In ascending order, without overlaps."""
    checksum_type: str

    @property
    def mapped_bytes(self) -> int:
        """How many bytes matter."""
        return sum(one.end - one.start for one in self.ranges)

    def check_size(self, size: int) -> None:
        """Raise BlockMapError unless the image is that long."""
        if size != self.image_size:
            raise BlockMapError(
                f"{self.name} is the map of an image of {self.image_size} bytes and this one has {size}; "
                "give the right one, or flash without it by --bmap none"
            )


def find_block_map(image: Path) -> Path | None:
    """The map beside an image, as bmaptool finds it: `x.wic.xz.bmap`, `x.wic.bmap`, `x.bmap`."""
    name = image.name
    while name:
        path = image.with_name(name + _SUFFIX)
        if path.is_file():
            return path
        stem = name.rpartition(".")[0]
        if not stem:
            return None
        name = stem
    return None


def parse_block_map(data: bytes, name: str) -> BlockMap:
    """Raises BlockMapError."""
    # With NULs it would be in an encoding in which the declarations look different.
    if len(data) > MAX_MAP_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:
        raise _damaged(name, "it is too large, or has declarations or an encoding that no map has")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - bounded, and without entities
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: its encoding
        raise _damaged(name, str(error)) from None
    version = root.get("version", "")
    if root.tag != "bmap" or not _VERSIONS.fullmatch(version):
        raise BlockMapError(f"{name} is not a block map of a supported version (1.3 to 2.0); create it again")
    _check_own(data, root, name)
    image_size = _number(root, "ImageSize", name, MAX_IMAGE_BYTES)
    block_size = _number(root, "BlockSize", name, MAX_MAP_BYTES)
    if not image_size or not block_size:
        raise _damaged(name, "a size is 0")
    blocks = -(-image_size // block_size)
    if _number(root, "BlocksCount", name, MAX_IMAGE_BYTES) != blocks:
        raise _damaged(name, "its number of blocks is not that of its image's size")
    kind = _text(root, "ChecksumType") or "sha1"
    if kind not in _CHECKSUMS:
        raise _damaged(name, f"its checksums are {kind[:20]!r}")
    ranges = tuple(_ranges(root, name, image_size, block_size))
    mapped = sum(-(-(one.end - one.start) // block_size) for one in ranges)
    if _number(root, "MappedBlocksCount", name, MAX_IMAGE_BYTES) != mapped:
        raise _damaged(name, "its number of mapped blocks is not that of its ranges")
    return BlockMap(name, image_size, ranges, kind)


def _ranges(root: ElementTree.Element, name: str, image_size: int, block_size: int) -> Iterator[MappedRange]:
    behind = 0
    for element in root.iterfind("BlockMap/Range"):
        first_text, _, last_text = (element.text or "").strip().partition("-")
        try:
            first = int(first_text)
            last = int(last_text or first_text)
        except ValueError:
            raise _damaged(name, "a range has no numbers") from None
        checksum = (element.get("chksum") or element.get("sha1") or "").strip()
        if not behind <= first <= last or last * block_size >= image_size:
            raise _damaged(name, f"the range {first}-{last} is out of order, or behind the image's end")
        if checksum and not _HEX.fullmatch(checksum):
            raise _damaged(name, "a range's checksum is none")
        behind = last + 1
        yield MappedRange(first * block_size, min(behind * block_size, image_size), checksum)


def _check_own(data: bytes, root: ElementTree.Element, name: str) -> None:
    """The map's checksum of itself, with zeros in its own place."""
    kind = _text(root, "ChecksumType") or "sha1"
    told = _text(root, "BmapFileChecksum") or _text(root, "BmapFileSHA1")
    if not told:
        return
    if kind not in _CHECKSUMS or data.count(told.encode()) != 1:
        raise _damaged(name, "its checksum is none")
    zeroed = data.replace(told.encode(), b"0" * len(told))
    if hashlib.new(kind, zeroed).hexdigest() != told:
        raise _damaged(name, "its checksum does not fit it")


def _text(root: ElementTree.Element, name: str) -> str:
    return (root.findtext(name) or "").strip()


def _number(root: ElementTree.Element, field: str, name: str, most: int) -> int:
    text = _text(root, field)
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > most:
        raise _damaged(name, f"{field} is not a number, or too large")
    return int(text)


def _damaged(name: str, why: str) -> BlockMapError:
    return BlockMapError(
        f"{name} is not a valid block map: {why}; create it again, or flash without it (--bmap none)"
    )


class RangeChecker:
    """Compares an image with its map while it is read from its begin to its end."""

    def __init__(self, block_map: BlockMap) -> None:
        self._map = block_map
        self._place = 0
        self._waiting = iter(block_map.ranges)
        self._range = next(self._waiting, None)
        self._digest = hashlib.new(block_map.checksum_type)

    def feed(self, data: bytes, step: int) -> int:
        """The mask of those of the next bytes' blocks, of `step` bytes each, that matter, in part or whole.

        Raises BlockMapError for a range that is not what its checksum says.
        """
        start, end, mask = self._place, self._place + len(data), 0
        view = memoryview(data)
        mapped = 0  # the end of what was mapped up to here
        while self._range is not None and self._range.start < end:
            first = max(self._range.start, start) - start
            self._check_hole(view[mapped:first])
            mapped = behind = min(self._range.end, end) - start
            mask |= (1 << -(-behind // step)) - (1 << (first // step))
            self._digest.update(view[first:behind])
            if self._range.end > end:
                break
            if self._range.checksum and self._digest.hexdigest() != self._range.checksum:
                raise BlockMapError(
                    f"{self._map.name} does not fit the image: bytes {self._range.start} to {self._range.end} are not "
                    "what it says; give the right one, or flash without it by --bmap none"
                )
            self._digest = hashlib.new(self._map.checksum_type)
            self._range = next(self._waiting, None)
        # An image that is longer than its map says is found out by its length.
        self._check_hole(view[mapped : max(mapped, self._map.image_size - start)])
        self._place = end
        return mask

    def _check_hole(self, hole: memoryview) -> None:
        """What a sound map leaves out are holes, which read as zeros."""
        if hole.nbytes and hole != memoryview(bytes(hole.nbytes)):
            raise BlockMapError(
                f"{self._map.name} leaves out bytes that the image has; give the right one, or flash without it by "
                "--bmap none"
            )
