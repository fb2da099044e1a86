"""An image in a file or stream: the layers that it is packed in, and what it is once they are off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from jumpstarter_proto.encoding import ContentError, Encoding, detect
from jumpstarter_proto.images.readers import DecompressingReader, PeekReader, Read, read_rest
from jumpstarter_proto.images.signatures import HEAD_BYTES, Content, Verdict, identify, is_tar, is_zip

if TYPE_CHECKING:
    from jumpstarter_proto.images.archives import Member

__all__ = ["MAX_LAYERS", "ImageReader", "Layer", "open_image", "open_image_file"]

MAX_LAYERS = 5
"""Of compression and archives around one image; people need two."""

_OPENWRT_TRAILER = b"FWx0"  # fwtool's fwimage_trailer, the last 16 bytes
_NAMED = 5
"""Files that a message about an archive names."""


@dataclass(frozen=True)
class Layer:
    """One way in which the image is packed."""

    kind: str
    """An encoding's name, tar or zip."""
    member: str = ""
    """The file in the archive, printable."""

    def __str__(self) -> str:
        """For people: the kind, and what was taken out of it."""
        return f"{self.kind} ({self.member})" if self.member else self.kind


@dataclass(frozen=True)
class ImageReader:
    """An image without its layers. Blocking, and not safe for use from two threads at a time."""

    layers: tuple[Layer, ...]
    """From the outermost."""
    content: Content
    head: bytes
    """Its first bytes, which `read` gives again."""
    size: int | None
    """Bytes, where an archive says it."""
    read: Read
    """The plain bytes. The end comes only after the layers' own checks. Raises ContentError."""
    remarks: Callable[[], tuple[str, ...]]
    """At the end: what was left out, in sentences without a stop."""


def open_image(read: Read, *, compression: str = "auto") -> ImageReader:
    """Look at an image in a stream, which is read as far as needed to tell what it is.

    `compression` is auto (all layers come off, told by the content), none, or the name of the one that comes off.
    Of a tar archive the first file that may be an image is taken, and another one behind it is an error when it is
    met, at the end of the first.

    Raises:
        ContentError: damaged, packed in too many layers, or an archive of no image, or of several.
    """
    source = PeekReader(read)
    if compression == "none":
        return _plain(source, (), None, _no_remarks)
    if compression == "auto":
        return _unpack(source, (), None, _no_remarks)
    return _decode(source, Encoding(compression), (), _no_remarks, is_last=True)


def open_image_file(file: BinaryIO) -> ImageReader:
    """The same for a file that can seek, where an archive is looked through before anything is read.

    That is the only way for zip, and reads a tar archive twice.
    """
    start = file.tell()
    if is_zip(PeekReader(file.read).peek(HEAD_BYTES)):
        file.seek(start)
        return _from_zip(file)
    file.seek(start)
    opened = open_image(file.read)
    if not any(layer.kind == "tar" for layer in opened.layers):
        return opened
    while opened.read(1024 * 1024):
        pass  # raises where another image follows
    file.seek(start)
    return open_image(file.read)


def _no_remarks() -> tuple[str, ...]:
    return ()


def _unpack(
    source: PeekReader, layers: tuple[Layer, ...], size: int | None, remarks: Callable[[], tuple[str, ...]]
) -> ImageReader:
    head = source.peek(HEAD_BYTES, _tells_enough)
    encoding = detect(head)
    if not _is_packed(head):
        return _plain(source, layers, size, remarks)
    if len(layers) >= MAX_LAYERS:
        raise ContentError(
            f"the image is packed in more than {MAX_LAYERS} layers ({', '.join(map(str, layers))}...); "
            "unpack it, then flash what is in it"
        )
    if encoding is not None:
        return _decode(source, encoding, layers, remarks, is_last=False)
    if is_zip(head):
        where = f" in {layers[-1].kind}" if layers else " that comes as a stream"
        raise ContentError(
            f"a zip archive{where} cannot be unpacked on the way; "
            "unpack it into a file, then flash the image that is in it"
        )
    return _from_tar(source, layers, remarks)


def _tells_enough(head: bytes) -> bool:
    """Whether a slow source need not be waited for: what has come is packed, or an image whatever follows."""
    return _is_packed(head) or identify(head).verdict is Verdict.IMAGE


def _is_packed(head: bytes) -> bool:
    return detect(head) is not None or is_tar(head) or is_zip(head)


def _plain(
    source: PeekReader, layers: tuple[Layer, ...], size: int | None, remarks: Callable[[], tuple[str, ...]]
) -> ImageReader:
    head = source.peek(HEAD_BYTES, _tells_enough)
    return ImageReader(layers, _describe(head), head, size, source.read, remarks)


def _describe(head: bytes) -> Content:
    """What content is that is not unpacked any further."""
    encoding = detect(head)
    kind = str(encoding) if encoding else "tar" if is_tar(head) else "zip" if is_zip(head) else ""
    if not kind:
        return identify(head)
    return Content(
        f"still packed ({kind})",
        Verdict.UNUSABLE,
        "leave --compression out, and what it is packed in comes off",
    )


def _decode(
    source: PeekReader,
    encoding: Encoding,
    layers: tuple[Layer, ...],
    remarks: Callable[[], tuple[str, ...]],
    *,
    is_last: bool,
) -> ImageReader:
    reader = DecompressingReader(source.read, encoding)

    def with_trailing() -> tuple[str, ...]:
        return remarks() + trailing_remark(reader.trailing, encoding, reader.trailing_end)

    inner = PeekReader(reader.read)
    layers = (*layers, Layer(str(encoding)))
    return (_plain if is_last else _unpack)(inner, layers, None, with_trailing)


def trailing_remark(count: int, what: str, end: bytes = b"") -> tuple[str, ...]:
    """The remark about other data behind `what`, if there is any; its last bytes may tell what it is."""
    kind = "OpenWrt's metadata" if end.startswith(_OPENWRT_TRAILER) else "other data"
    return (f"{count} bytes of {kind} behind the {what} content were left out",) if count else ()


@dataclass
class _Found:
    """A file of an archive, looked at."""

    member: Member
    image: ImageReader | None
    problem: str

    @classmethod
    def look(
        cls, kind: str, member: Member, layers: tuple[Layer, ...], remarks: Callable[[], tuple[str, ...]]
    ) -> _Found:
        around = (*layers, Layer(kind, member.name))
        try:
            image = _unpack(PeekReader(member.read), around, member.size, remarks)
        except ContentError as error:
            return cls(member, None, str(error))
        return cls(member, image, "")

    @property
    def rank(self) -> int:
        """2 for an image, 1 for what may be one, 0 for what is none."""
        ranks = {Verdict.IMAGE: 2, Verdict.UNKNOWN: 1, Verdict.UNUSABLE: 0}
        return ranks[self.image.content.verdict] if self.image else 0

    def __str__(self) -> str:
        what = self.image.content.name if self.image else "damaged"
        return f"{self.member.name} ({what})"


def _refuse(kind: str, found: list[_Found]) -> ContentError:
    """Why an archive's image cannot be told."""
    if not found:
        return ContentError(f"the {kind} archive has no file with content; check it with `{kind} -t`")
    if len(found) == 1 and found[0].problem:
        return ContentError(found[0].problem)
    names = ", ".join(map(str, found[:_NAMED])) + ("..." if len(found) > _NAMED else "")
    which = "several images" if max(one.rank for one in found) else "no image that could be flashed"
    return ContentError(f"the {kind} archive has {which}: {names}; extract it, then flash the right file")


def _from_zip(file: BinaryIO) -> ImageReader:
    from jumpstarter_proto.images.archives import zip_members  # noqa: PLC0415 - most images are in no archive

    found = [_Found.look("zip", member, (), _no_remarks) for member in zip_members(file)]
    best = max((one.rank for one in found), default=0)
    chosen = [one for one in found if one.rank == best]
    if len(chosen) != 1 or chosen[0].image is None:
        raise _refuse("zip", chosen if best else found)
    return chosen[0].image


def _from_tar(
    source: PeekReader, layers: tuple[Layer, ...], remarks: Callable[[], tuple[str, ...]]
) -> ImageReader:
    from jumpstarter_proto.images.archives import tar_members  # noqa: PLC0415 - the same

    passed: list[_Found] = []
    members = tar_members(source.read)
    trailing = 0

    def with_trailing() -> tuple[str, ...]:
        return remarks() + trailing_remark(trailing, "tar")

    for member in members:
        found = _Found.look("tar", member, layers, with_trailing)
        if not found.rank:
            passed.append(found)
            continue
        chosen = found
        break
    else:
        raise _refuse("tar", passed)
    image = chosen.image
    assert image is not None  # it has a rank

    def until_the_end() -> Iterator[bytes]:
        nonlocal trailing
        while data := image.read(1024 * 1024):
            yield data
        for member in members:
            other = _Found.look("tar", member, layers, with_trailing)
            if other.rank >= chosen.rank:
                raise _refuse("tar", [chosen, other])
        trailing = read_rest(source.read, "the tar archive")

    pieces = until_the_end()
    rest = memoryview(b"")

    def read(count: int) -> bytes:
        nonlocal rest
        if not rest:
            rest = memoryview(next(pieces, b""))
        taken, rest = rest[:count], rest[count:]
        return bytes(taken)

    return ImageReader(image.layers, image.content, image.head, image.size, read, image.remarks)
