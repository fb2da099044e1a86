"""The layout of an image: blocks that are compared, and windows of blocks that are requested; no I/O.

A block is what is hashed and written; 4 KiB is what file systems write at least, so that one changed file costs little
more than its own bytes. A window is what is read at a time: large enough for a card's full speed, small enough that a
few of them fit the memory of a small host.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

__all__ = ["DIGEST_BYTES", "KEY_BYTES", "BlockHasher", "Layout", "WindowHashes", "block_count"]

DIGEST_BYTES = 16
"""Of a block. It is enough, because the key is secret before the flash and discarded after the session."""
KEY_BYTES = 16

_SHA256_BLOCK_BYTES = 64


@dataclass(frozen=True)
class Layout:
    """Bytes of a block, and blocks of a window."""

    block_bytes: int = 4096
    window_blocks: int = 1024

    @property
    def window_bytes(self) -> int:
        """Bytes of a window."""
        return self.block_bytes * self.window_blocks

    def blocks_of(self, length: int) -> int:
        """How many blocks so many bytes have; the last one may be short."""
        return -(-length // self.block_bytes)

    def mask_bytes(self, length: int) -> int:
        """Bytes of a mask with a bit for each block of a window of that length."""
        return -(-self.blocks_of(length) // 8)

    def everything(self, length: int) -> int:
        """The mask of all blocks of a window of that length."""
        return (1 << self.blocks_of(length)) - 1

    def runs(self, mask: int, length: int) -> Iterator[tuple[int, int]]:
        """Offset in the window and length, in bytes, of each run of blocks in `mask`."""
        first = 0
        while mask:
            skipped = (mask & -mask).bit_length() - 1
            mask >>= skipped
            first += skipped
            count = (~mask & (mask + 1)).bit_length() - 1
            start = first * self.block_bytes
            yield start, min(count * self.block_bytes, length - start)
            mask >>= count
            first += count

    def size_of(self, mask: int, length: int) -> int:
        """Bytes of the blocks in `mask`, of a window of that length."""
        return sum(size for _, size in self.runs(mask, length))


def block_count(mask: int) -> int:
    """How many blocks a mask has."""
    return mask.bit_count()


class BlockHasher:
    """SHA-256 of each block behind a key, cut to `DIGEST_BYTES`. It may be used from several threads."""

    def __init__(self, key: bytes, layout: Layout) -> None:
        self.key = key
        self.layout = layout
        self._keyed = hashlib.sha256(key.ljust(_SHA256_BLOCK_BYTES, b"\0"))

    def hash(self, data: bytes | bytearray | memoryview) -> bytes:
        """The digests of all blocks of `data`, one behind the other."""
        view, step = memoryview(data), self.layout.block_bytes
        digests = []
        for start in range(0, len(view), step):
            digest = self._keyed.copy()
            digest.update(view[start : start + step])
            digests.append(digest.digest()[:DIGEST_BYTES])
        return b"".join(digests)

    @cached_property
    def of_zeros(self) -> bytes:
        """The digest of a whole block of zeros."""
        return self.hash(bytes(self.layout.block_bytes))


@dataclass(frozen=True)
class WindowHashes:
    """The hashes of one window of the image, as the client sent them."""

    index: int
    length: int
    """Bytes; only the image's last window is shorter than the others."""
    mapped: int
    """The mask of the blocks that matter; the medium may have anything in the others."""
    digests: bytes
    """The digests of the blocks in `mapped`, concatenated."""

    @cached_property
    def digest(self) -> bytes:
        """The digest of the whole window."""
        mask = self.mapped.to_bytes((self.mapped.bit_length() + 7) // 8, "little")
        return hashlib.sha256(struct.pack("!II", self.length, len(mask)) + mask + self.digests).digest()

    def differing(self, found: bytes) -> int:
        """Return the mask of the blocks whose digest differs in `found`, which may be shorter."""
        if found == self.digests:
            return 0
        differs, rest, place = 0, self.mapped, 0
        while rest:
            block = rest & -rest
            if found[place : place + DIGEST_BYTES] != self.digests[place : place + DIGEST_BYTES]:
                differs |= block
            rest ^= block
            place += DIGEST_BYTES
        return differs

    def digests_in(self, mask: int) -> bytes:
        """The digests of the blocks in `mask`, all of which are mapped."""
        if mask == self.mapped:
            return self.digests
        picked, rest, place = [], self.mapped, 0
        while rest:
            block = rest & -rest
            if mask & block:
                picked.append(self.digests[place : place + DIGEST_BYTES])
            rest ^= block
            place += DIGEST_BYTES
        return b"".join(picked)

    def blocks_with(self, digest: bytes, among: int) -> int:
        """The mask of those of `among` that have this digest."""
        if digest not in self.digests:
            return 0
        found, rest, place = 0, self.mapped, 0
        while rest:
            block = rest & -rest
            if among & block and self.digests[place : place + DIGEST_BYTES] == digest:
                found |= block
            rest ^= block
            place += DIGEST_BYTES
        return found
