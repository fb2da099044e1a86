"""Images to flash as a fuzzer's target: what they are packed in, and what is inside."""

from __future__ import annotations

import io
from collections.abc import Iterator

from jumpstarter_proto.encoding import ContentError, Encoding, compressor
from jumpstarter_proto.images import ImageReader, check_content, check_growth, open_image, open_image_file

from tests.support.images import UNUSABLE, USABLE, mbr, tar, zipped

__all__ = ["image", "images"]

_PIECE = 64 * 1024
_MOST = 4 * 1024 * 1024
"""Bytes read of one image: a few of a bomb are enough."""
_BLOCK = 512
_SUM = slice(148, 156)


def image(data: bytes) -> None:
    """The first byte says how the others are packed, so that changes are not all found by the outer checksum."""
    packed = _packed(data[0] if data else 0, data[1:])
    for read in (_stream, _file):
        refusal = ""
        try:
            opened = read(packed)
            _look_at(opened, len(packed))
        except ContentError as error:
            refusal = str(error)
        assert refusal.isprintable()  # as an empty one is


def _stream(packed: bytes) -> ImageReader:
    source = io.BytesIO(packed)
    return open_image(lambda count: source.read(min(count, 700)))


def _file(packed: bytes) -> ImageReader:
    return open_image_file(io.BytesIO(packed))


def _look_at(opened: ImageReader, packed: int) -> None:
    assert all(str(layer).isprintable() for layer in opened.layers)
    assert opened.content.name.isprintable()
    size, begin = 0, b""
    while size < _MOST and (piece := opened.read(_PIECE)):
        assert len(piece) <= _PIECE
        begin += piece[: len(opened.head) - len(begin)]
        size += len(piece)
        check_growth(packed, size)
    assert begin == opened.head[:size]
    if size < _MOST:
        assert opened.size is None or size == opened.size
        assert all(remark.isprintable() for remark in opened.remarks())
    check_content(opened.content)


def _packed(how: int, data: bytes) -> bytes:
    match how % 10:
        case 0 | 1 | 2:
            return data
        case 3:
            return tar(("a.img", data))
        case 4:
            return zipped(("a.img", data))
        case 5 | 6:
            return b"".join(_with_sum(data[at : at + _BLOCK]) for at in range(0, len(data), _BLOCK))
        case _:
            codec = compressor(list(Encoding)[how % len(Encoding)])
            return b"".join(codec.feed(data)) + codec.finish()


def _with_sum(block: bytes) -> bytes:
    """A tar header that a change has not made invalid."""
    if len(block) < _BLOCK or block[257:262] != b"ustar":
        return block
    blank = bytearray(block)
    blank[_SUM] = b" " * 8
    blank[_SUM] = b"%06o\0 " % sum(blank)
    return bytes(blank)


def images() -> list[bytes]:
    """What a target begins with: small, as changes are."""
    return [bytes([how]) + data for how, data in _seeds()]


def _seeds() -> Iterator[tuple[int, bytes]]:
    small = mbr()[:600]
    for begin in (*USABLE.values(), *UNUSABLE.values()):
        if len(begin) < 4000:
            yield 0, begin
        else:
            yield from ((how, begin[:1100]) for how in (0, 3))
    for encoding in Encoding:
        codec = compressor(encoding)
        packed = b"".join(codec.feed(small)) + codec.finish()
        yield 0, packed
        yield 0, packed + packed + b"FWx0" + bytes(12)
        yield 3, packed
    for kind in range(3):
        yield 5, tar(("a.img", small), ("b.txt", b"text"), kind=kind)[:4000]
    yield 5, tar(("a" * 200 + ".img", small))[:4000]
    yield 0, zipped(("a.img", small), ("b.txt", b"text"))
    yield 7, zipped(("a.img", small), compression=0)
