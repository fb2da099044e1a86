"""Images that the virtual board boots, and how it tells them from anything else.

An image of ours begins with one 512-byte sector: a text header of `key: value` lines, zeros, and the boot
signature 55 AA that a PC partition table carries at offset 510. Any disk with that signature boots too, so
that a real card image can be tried. The header adds a name, a version and the full size, by which the board
notices an image cut short. Run as a program it makes one:

    python -m jumpstarter_drivers.virtual.image hello.img --name hello --size 64
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.encoding import detect
from jumpstarter_proto.terminal import print_line

__all__ = ["MIB", "BadImage", "BootImage", "make_image", "parse", "read_image"]

SECTOR_BYTES = 512
MIB = 1024 * 1024
_FIRST_LINE = b"# jumpstarter virtual image"
_SIGNATURE = b"\x55\xaa"
_SIGNATURE_OFFSET = 510


@dataclass(frozen=True)
class BootImage:
    """What a boot loader found on the storage."""

    name: str
    version: str
    size: int
    """Bytes on the storage."""
    digest: str
    """SHA-256 of all bytes, 64 hexadecimal digits; empty if it was not computed."""


class BadImage(ValueError):  # noqa: N818 - the boot loader's words
    """The storage holds nothing that boots; the text is what the boot loader prints."""


def parse(first: bytes, size: int, digest: str = "") -> BootImage:
    """Tell what the first sector of a storage of `size` bytes announces. Raises BadImage."""
    if size == 0:
        raise BadImage("the card is empty")
    encoding = detect(first)
    if encoding is not None:
        raise BadImage(f"the card holds a {encoding} file, not what is in it")
    if len(first) < SECTOR_BYTES or first[_SIGNATURE_OFFSET:SECTOR_BYTES] != _SIGNATURE:
        raise BadImage("no boot signature")
    if not first.startswith(_FIRST_LINE):
        return BootImage("disk", "unknown", size, digest)
    fields = _fields(first)
    try:
        announced = int(fields["size"])
    except (KeyError, ValueError) as error:
        raise BadImage("damaged header") from error
    if size < announced:
        raise BadImage(f"image cut short, {size} of {announced} bytes")
    return BootImage(fields.get("name", "unnamed"), fields.get("version", "0"), size, digest)


def _fields(sector: bytes) -> dict[str, str]:
    text = sector[:_SIGNATURE_OFFSET].rstrip(b"\0").decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.splitlines()[1:])
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def read_image(path: Path, known_digest: str = "") -> BootImage:
    """Read the storage at `path` as a boot loader does; blocking, all of it unless the digest is known.

    Raises BadImage, OSError.
    """
    with path.open("rb") as storage:
        first = storage.read(SECTOR_BYTES)
        size = storage.seek(0, os.SEEK_END)
        parse(first, size)
        digest = known_digest
        if not digest:
            storage.seek(0)
            digest = hashlib.file_digest(storage, "sha256").hexdigest()
    return parse(first, size, digest)


def content(name: str, version: str = "1.0", size: int = 4 * MIB) -> Iterator[bytes]:
    """The bytes of an image, in pieces, the same for the same arguments. Raises ValueError for a bad size.

    Three quarters of it are zeros, as in a root file system with free space, so that it compresses like one.
    """
    if size < SECTOR_BYTES:
        raise ValueError(f"an image takes at least {SECTOR_BYTES} bytes, not {size}")
    header = _FIRST_LINE + f"\nname: {name}\nversion: {version}\nsize: {size}\n".encode()
    if len(header) > _SIGNATURE_OFFSET:
        raise ValueError("the name and version together take more than one sector; shorten them")
    yield header.ljust(_SIGNATURE_OFFSET, b"\0") + _SIGNATURE
    noise = random.Random(f"{name} {version}")  # noqa: S311 - filler, the same every time
    left = size - SECTOR_BYTES
    while left > 0:
        piece = noise.randbytes(min(left, MIB // 4)).ljust(min(left, MIB), b"\0")
        yield piece
        left -= len(piece)


def make_image(path: Path, name: str, version: str = "1.0", size: int = 4 * MIB) -> BootImage:
    """Write an image file and say what it is. Raises OSError, ValueError."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in content(name, version, size):
            digest.update(piece)
            file.write(piece)
    return BootImage(name, version, size, digest.hexdigest())


def main(path: Path, /, *, name: str = "hello", version: str = "1.0", size: int = 64) -> None:
    """Make an image that the virtual board boots; `size` in MiB."""
    image = make_image(path, name, version, size * MIB)
    print_line(f"{path}: {image.name} {image.version}, {image.size} bytes, sha256 {image.digest}")


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
