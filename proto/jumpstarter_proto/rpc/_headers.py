"""Header blocks, each packed and unpacked once.

Nearly all blocks of a connection are repetitions: the same call, the same reply, the same trailers. HPACK makes
their bytes the same too, as long as its table does not change, so what was packed or unpacked before is looked up.
Headers whose values differ from call to call, or are secret, are kept out of the table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import hpack
from hpack.table import HeaderTable

from jumpstarter_proto.rpc._header_rules import HeaderBlockKind, HeaderFault, check_headers

__all__ = [
    "REQUEST",
    "RESPONSE",
    "TRAILERS",
    "Header",
    "HeaderBlockKind",
    "HeaderFault",
    "HeaderPacker",
    "HeaderUnpacker",
    "plain",
]

Header: TypeAlias = tuple[str, str]
REQUEST, RESPONSE, TRAILERS = HeaderBlockKind.REQUEST, HeaderBlockKind.RESPONSE, HeaderBlockKind.TRAILERS

# At its debug level hpack writes every header into the log, and with it tokens and passphrases.
logging.getLogger("hpack").setLevel(logging.INFO)

_CACHED_BLOCKS = 256
_CACHED_BYTES = 1024
_CACHED_LISTS_BYTES = 32 * 1024
"""Of the headers that a peer's blocks stand for, which may be many times larger than the blocks."""


def plain(name: str, value: str) -> Header:
    """A header that HPACK's table never holds."""
    header: Header = hpack.NeverIndexedHeaderTuple(name, value)
    return header


class _Entries(list[tuple[bytes, bytes]]):
    """Of a table, the newest first. They are few, and hpack's deque has room for 64."""

    __slots__ = ()

    def appendleft(self, entry: tuple[bytes, bytes]) -> None:
        self.insert(0, entry)


class _Table(HeaderTable):  # type: ignore[misc] # hpack has no types
    """HPACK's table, which says when it has changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self.dynamic_entries = _Entries()
        self._changed = changed

    def add(self, name: bytes, value: bytes) -> None:
        self._changed()
        # hpack gives views of the block, which would be kept as long as they are.
        super().add(bytes(name), bytes(value))

    def _shrink(self) -> None:
        self._changed()
        super()._shrink()

    @property
    def maxsize(self) -> int:
        return int(self._maxsize)

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self._changed()  # hpack empties a table that is to have no size without a word
        # A peer may offer any size; nothing here is worth more than the usual one.
        HeaderTable.maxsize.fset(self, min(size, self.DEFAULT_SIZE))


class HeaderPacker:
    """Headers into blocks, in the order in which the blocks are sent."""

    def __init__(self, encoder: Any) -> None:
        self._blocks: dict[tuple[Header, ...], bytes] = {}
        self._changes = 0
        self._encoder = encoder
        encoder.header_table = _Table(self._on_change)

    def pack(self, headers: Sequence[Header]) -> bytes:
        """The block of these headers."""
        key = tuple(headers)
        block = self._blocks.get(key)
        if block is not None and not self._encoder.header_table.resized:
            return block
        before = self._changes
        # Huffman codes would save a few dozen bytes of a block that is mostly sent once.
        block = bytes(self._encoder.encode(key, huffman=False))
        if self._changes == before and len(block) <= _CACHED_BYTES:
            if len(self._blocks) >= _CACHED_BLOCKS:
                self._blocks.clear()
            self._blocks[key] = block
        return block

    def resize(self, size: int) -> None:
        """Set the peer's table size; the next block announces the size of ours."""
        encoder = self._encoder
        encoder.header_table_size = min(size, HeaderTable.DEFAULT_SIZE)
        changes = encoder.table_size_changes
        if len(changes) > 2:
            # The smallest size and the last one are what a decoder has to know (RFC 7541, section 4.2).
            changes[:] = [min(changes), changes[-1]]
        encoder.header_table.resized = bool(changes)  # hpack forgets it when the last size changed nothing

    def _on_change(self) -> None:
        self._changes += 1
        self._blocks.clear()


class HeaderUnpacker:
    """Blocks into headers, in the order in which the blocks come."""

    def __init__(self, decoder: Any) -> None:
        self._lists: dict[tuple[bytes, HeaderBlockKind], list[Header]] = {}
        self._seen = 0
        """A bit for each block that came before, by its hash: many come once, and are not worth their memory."""
        self._lists_bytes = 0
        self._changes = 0
        self._decoder = decoder
        decoder.header_table = _Table(self._on_change)

    def unpack(self, block: bytes, kind: HeaderBlockKind) -> list[Header]:
        """The headers of a block, checked by HTTP/2's rules. The list is shared: do not change it.

        Raises:
            hpack.HPACKError: no block, or a list that is too long. The connection cannot go on.
            HeaderFault: headers that HTTP/2 does not allow. Only their call is broken.
        """
        key = (block, kind)
        if found := self._lists.get(key):
            return found
        before = self._changes
        raw = self._decoder.decode(block, raw=True)
        if not all(name for name, _ in raw):
            raise hpack.HPACKDecodingError("a header without a name")
        check_headers(raw, kind)
        # Values are ASCII by gRPC's rules; what is not shall not end the connection. A byte of the block may stand for
        # a large value of the table, any number of times: it is kept once.
        values = {value: value.decode("utf-8", "replace") for _, value in raw}
        headers = [(name.decode("ascii", "replace"), values[value]) for name, value in raw]
        if self._changes == before and len(block) <= _CACHED_BYTES and self._was_seen(block):
            size = sum(len(name) + len(value) + 32 for name, value in headers)
            if len(self._lists) >= _CACHED_BLOCKS or self._lists_bytes + size > _CACHED_LISTS_BYTES:
                self._forget()
            if size <= _CACHED_LISTS_BYTES:
                self._lists[key] = headers
                self._lists_bytes += size
        return headers

    def _was_seen(self, block: bytes) -> bool:
        """Whether it came before, or one with the same bit did."""
        before, self._seen = self._seen, self._seen | 1 << (hash(block) & 63)
        return self._seen == before

    def _forget(self) -> None:
        self._lists.clear()
        self._lists_bytes = 0

    def _on_change(self) -> None:
        self._changes += 1
        self._forget()
