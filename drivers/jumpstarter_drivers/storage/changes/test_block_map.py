"""Block maps: which are honoured, and which are refused because they are damaged or another image's."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from jumpstarter_drivers.storage.changes.block_map import (
    BlockMapError,
    MappedRange,
    RangeChecker,
    find_block_map,
    parse_block_map,
)
from jumpstarter_drivers.storage.client import FlashResult, StorageMuxFlasherClient
from jumpstarter_drivers.storage.driver import FileStorage
from jumpstarter_drivers.testing import serve
from tests.support.block_maps import block_map
from tests.support.images import mbr

BLOCK = 4096
FULL = mbr()[:512] + random.Random(7).randbytes(6 * (1 << 20) - 512 - 100)
BLOCKS = -(-len(FULL) // BLOCK)
RANGES = ((0, 3), (10, 10), (1500, BLOCKS - 1))


def with_holes() -> bytes:
    """Between the ranges, as where a map comes from."""
    image = bytearray(len(FULL))
    for first, last in RANGES:
        image[first * BLOCK : (last + 1) * BLOCK] = FULL[first * BLOCK : (last + 1) * BLOCK]
    return bytes(image)


IMAGE = with_holes()


def bmap(image: bytes = IMAGE, ranges: Sequence[tuple[int, int]] = RANGES, **changed: str) -> bytes:
    return block_map(image, ranges, **changed)


def test_a_map_says_which_bytes_matter() -> None:
    found = parse_block_map(bmap(), "x.bmap")
    assert found.image_size == len(IMAGE)
    assert [(one.start, one.end) for one in found.ranges] == [
        (0, 4 * BLOCK),
        (10 * BLOCK, 11 * BLOCK),
        (1500 * BLOCK, len(IMAGE)),
    ]


def test_an_old_map_is_read_too() -> None:
    sha1 = hashlib.sha1(IMAGE[:BLOCK], usedforsecurity=False).hexdigest()
    text = f"""<bmap version="1.3"><ImageSize>{len(IMAGE)}</ImageSize><BlockSize>4096</BlockSize>
    <BlocksCount>{BLOCKS}</BlocksCount><MappedBlocksCount>1</MappedBlocksCount>
    <BlockMap><Range sha1="{sha1}"> 0 </Range></BlockMap></bmap>"""
    found = parse_block_map(text.encode(), "x.bmap")
    assert found.ranges == (MappedRange(0, BLOCK, sha1),)
    assert RangeChecker(found).feed(IMAGE[:BLOCK] + bytes(len(IMAGE) - BLOCK), BLOCK) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a valid block map"),
        (b"<bmap", "not a valid block map"),
        (b"<html></html>", "not a block map of a supported version"),
        (bmap(version="3.0"), "not a block map of a supported version"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><bmap version="2.0"/>', "declarations"),
        (bmap().replace(b"10 <", b"11 <"), "checksum does not fit"),
        (bmap(own="1" * 64), "checksum does not fit"),
        (bmap(kind="md5"), "checksum"),
        (bmap(size="0"), "a size is 0"),
        (bmap(block="0"), "a size is 0"),
        (bmap(size="-5"), "ImageSize"),
        (bmap(size="9" * 30), "ImageSize"),
        (bmap(count="7"), "number of blocks"),
        (bmap(mapped="7"), "number of mapped blocks"),
        (bmap(ranges=((3, 4), (2, 2))), "out of order"),
        (bmap(ranges=((0, 4), (4, 5))), "out of order"),
        (bmap(ranges=((5, 4),)), "out of order"),
        (bmap(ranges=((0, BLOCKS),)), "behind the image's end"),
        (bmap(ranges=((0, 1 << 60),)), "behind the image's end"),
    ],
)
def test_a_damaged_map_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BlockMapError, match=words):
        parse_block_map(data, "x.bmap")


@pytest.mark.parametrize("step", [BLOCK, 3 * BLOCK, 4 << 20])
def test_masks_are_those_of_the_ranges(step: int) -> None:
    checker = RangeChecker(parse_block_map(bmap(), "x.bmap"))
    blocks: set[int] = set()
    for at in range(0, len(IMAGE), step):
        mask = checker.feed(IMAGE[at : at + step], BLOCK)
        blocks |= {at // BLOCK + place for place in range(mask.bit_length()) if mask >> place & 1}
    assert blocks == {place for first, last in RANGES for place in range(first, last + 1)}


def test_the_map_is_found_as_bmaptool_finds_it(tmp_path: Path) -> None:
    image = tmp_path / "core.image.wic.xz"
    assert find_block_map(image) is None
    for name in ("core.bmap", "core.image.bmap", "core.image.wic.bmap", "core.image.wic.xz.bmap"):
        (tmp_path / name).touch()
        assert find_block_map(image) == tmp_path / name


def flashed(card: Path, image: Path, bmap: str | None = None) -> FlashResult:
    with serve(FileStorage(path=str(card))) as client:
        result = cast("StorageMuxFlasherClient", client).flash(image, bmap=bmap)
    assert isinstance(result, FlashResult)
    return result


@pytest.mark.parametrize("is_packed", [False, True])
def test_only_mapped_blocks_are_read_and_written(tmp_path: Path, is_packed: bool) -> None:
    card, image = tmp_path / "card.img", tmp_path / "image.img.gz"
    before = random.Random(8).randbytes(len(IMAGE))
    card.write_bytes(before)
    image.write_bytes(gzip.compress(IMAGE, 1) if is_packed else IMAGE)
    image.with_name("image.img.bmap").write_bytes(bmap())
    result = flashed(card, image)
    assert result.changes is not None
    mapped = 5 * BLOCK + len(IMAGE) - 1500 * BLOCK
    assert result.changes["written"] == result.changes["read"] == mapped
    assert result.changes["unmapped"] == len(IMAGE) - mapped
    expected = bytearray(before)
    for first, last in RANGES:
        expected[first * BLOCK : (last + 1) * BLOCK] = IMAGE[first * BLOCK : (last + 1) * BLOCK]
    assert card.read_bytes() == expected
    assert flashed(card, image, bmap="none").changes is not None
    assert card.read_bytes() == IMAGE


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_map_of_another_image_is_refused(tmp_path: Path, is_packed: bool) -> None:
    card, image, other = tmp_path / "card.img", tmp_path / "image.img", tmp_path / "other.bmap"
    card.write_bytes(bytes(len(IMAGE)))
    image.write_bytes(gzip.compress(IMAGE, 1) if is_packed else IMAGE)
    other.write_bytes(bmap(IMAGE[:-5000], ranges=((0, 3), (10, 10), (1500, BLOCKS - 2))))
    with pytest.raises(
        BlockMapError, match=f"{len(IMAGE) - 5000} bytes and this one has {len(IMAGE)}.*--bmap none"
    ):
        flashed(card, image, bmap=str(other))
    other.write_bytes(bmap(bytes(len(IMAGE))))
    with pytest.raises(BlockMapError, match="does not fit the image: bytes 0 to 16384"):
        flashed(card, image, bmap=str(other))
    assert card.read_bytes() == bytes(len(IMAGE))


def test_a_map_that_leaves_out_what_the_image_has_is_refused(tmp_path: Path) -> None:
    card, image, other = tmp_path / "card.img", tmp_path / "image.img", tmp_path / "other.bmap"
    card.write_bytes(bytes(len(IMAGE)))
    image.write_bytes(IMAGE)
    for ranges in (RANGES[1:], (RANGES[0], RANGES[2]), RANGES[:2]):
        other.write_bytes(bmap(ranges=ranges))
        with pytest.raises(BlockMapError, match=r"leaves out bytes that the image has.*--bmap none"):
            flashed(card, image, bmap=str(other))


def test_a_map_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    image = tmp_path / "image.img"
    image.write_bytes(IMAGE)
    with pytest.raises(Exception, match=r"none\.bmap does not exist"):
        flashed(tmp_path / "card.img", image, bmap=str(tmp_path / "none.bmap"))


@pytest.mark.parametrize("encoding", ["foo", "hex", "euc-jp", "utf-7", "idna", "utf-16"])
def test_a_map_in_another_encoding_is_one_sentence(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?><bmap version="2.0"/>'
    coded = data.encode("utf-16") if encoding == "utf-16" else data.encode()
    with pytest.raises(BlockMapError, match=r"x.bmap is not a valid block map: .*; create it again"):
        parse_block_map(coded, "x.bmap")
