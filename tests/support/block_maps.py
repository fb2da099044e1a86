"""Block maps of images, in the format of bmap-tools."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["block_map"]

BLOCK = 4096


def block_map(image: bytes, ranges: Sequence[tuple[int, int]], **changed: str) -> bytes:
    """The map of an image of which ranges of blocks matter, as bmaptool 3 writes it; fields may be `changed`."""
    fields = {
        "version": "2.0",
        "size": str(len(image)),
        "block": str(BLOCK),
        "count": str(-(-len(image) // BLOCK)),
        "mapped": str(sum(last - first + 1 for first, last in ranges)),
        "kind": "sha256",
        "own": "0" * 64,
    } | changed
    lines = []
    for first, last in ranges:
        checksum = hashlib.sha256(image[first * BLOCK : (last + 1) * BLOCK]).hexdigest()
        numbers = str(first) if first == last else f"{first}-{last}"
        lines.append(f'        <Range chksum="{checksum}"> {numbers} </Range>\n')
    text = f"""<?xml version="1.0" ?>
<!-- This file contains the block map for an image file. -->
<bmap version="{fields["version"]}">
    <ImageSize> {fields["size"]} </ImageSize>
    <BlockSize> {fields["block"]} </BlockSize>
    <BlocksCount> {fields["count"]} </BlocksCount>
    <MappedBlocksCount> {fields["mapped"]}       </MappedBlocksCount>
    <ChecksumType> {fields["kind"]} </ChecksumType>
    <BmapFileChecksum> {fields["own"]} </BmapFileChecksum>
    <BlockMap>
{"".join(lines)}    </BlockMap>
</bmap>
"""
    own = hashlib.sha256(text.encode()).hexdigest()
    return text.replace("0" * 64, own, 1).encode() if fields["own"] == "0" * 64 else text.encode()
