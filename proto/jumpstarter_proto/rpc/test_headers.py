from __future__ import annotations

import hpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_proto.rpc._headers import REQUEST, TRAILERS, HeaderFault, HeaderPacker, HeaderUnpacker, plain

names = st.sampled_from(["a", "b", "x_jmp_accept_encoding", "request"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300)
lists = st.lists(st.tuples(names, values, st.booleans()), max_size=8)


ONE, EMPTY = ("a", "0", False), ("a", "", False)


@given(st.lists(lists, min_size=1, max_size=40), st.lists(st.integers(0, 4096), max_size=3))
@example(
    [[], [ONE, EMPTY, ONE, ONE, ONE], [ONE, ("a", "", True), ONE, ONE, ONE]], [0]
)  # a table that is emptied
def test_lists_survive_in_any_order_and_while_the_table_changes(
    blocks: list[list[tuple[str, str, bool]]], table_sizes: list[int]
) -> None:
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    packer, unpacker = HeaderPacker(encoder), HeaderUnpacker(decoder)
    for number, block in enumerate(blocks * 3):
        if table_sizes and number % 7 == 3:
            encoder.header_table_size = table_sizes[number % len(table_sizes)]
        headers = [plain(name, value) if is_plain else (name, value) for name, value, is_plain in block]
        assert unpacker.unpack(packer.pack(headers), TRAILERS) == headers


def test_same_list_is_packed_and_unpacked_once() -> None:
    packer, unpacker = HeaderPacker(hpack.Encoder()), HeaderUnpacker(hpack.Decoder())
    headers = [("a", "b"), plain("secret", "c")]
    blocks = [packer.pack(headers) for _ in range(4)]
    lists = [unpacker.unpack(block, TRAILERS) for block in blocks]
    assert blocks[2] is blocks[3]
    assert lists[2] is lists[3]


def test_plain_headers_never_enter_the_table() -> None:
    encoder = hpack.Encoder()
    HeaderPacker(encoder).pack([plain("authorization", "Bearer secret")])
    assert not encoder.header_table.dynamic_entries


def test_peer_cannot_make_our_table_larger() -> None:
    encoder = hpack.Encoder()
    packer = HeaderPacker(encoder)
    encoder.header_table_size = 1 << 30
    for number in range(1000):
        packer.pack([("name", f"{number:0100}")])
    assert len(encoder.header_table.dynamic_entries) < 100


def test_values_that_are_not_text_end_nothing() -> None:
    block = hpack.Encoder().encode([(b"a", b"\xff\xfe")])
    assert HeaderUnpacker(hpack.Decoder()).unpack(block, TRAILERS) == [("a", "\ufffd\ufffd")]


@pytest.mark.parametrize(
    "headers", [[(":path", "/"), (":method", "POST")], [("Upper", "x")], [(":new", "x")]]
)
def test_headers_that_http2_forbids_are_named(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(HeaderFault):
        HeaderUnpacker(hpack.Decoder()).unpack(hpack.Encoder().encode(headers), REQUEST)


def test_what_is_remembered_is_bounded_in_number_and_size() -> None:
    packer, unpacker = HeaderPacker(hpack.Encoder()), HeaderUnpacker(hpack.Decoder())
    for number in range(1000):
        for _ in range(2):  # what comes once is not remembered
            unpacker.unpack(packer.pack([plain("number", str(number))]), TRAILERS)
        assert 0 < len(packer._blocks) <= 256
        assert 0 < len(unpacker._lists) <= 256
    long = [plain("long", "v" * 2000)]
    for _ in range(2):
        assert unpacker.unpack(packer.pack(long), TRAILERS) == long
    assert tuple(long) not in packer._blocks
    assert long not in unpacker._lists.values()


def test_a_block_that_comes_once_is_not_kept_and_neither_are_views_of_it() -> None:
    decoder = hpack.Decoder()
    unpacker, encoder = HeaderUnpacker(decoder), hpack.Encoder()
    unpacker.unpack(encoder.encode([("name", "value")], huffman=False), TRAILERS)
    assert [tuple(map(type, entry)) for entry in decoder.header_table.dynamic_entries] == [(bytes, bytes)]
    block = encoder.encode([plain("other", "value")], huffman=False)
    first = unpacker.unpack(block, TRAILERS)
    assert not unpacker._lists
    second = unpacker.unpack(block, TRAILERS)
    assert second == first
    assert unpacker.unpack(block, TRAILERS) is second


def test_lists_that_are_kept_are_bounded_in_bytes_however_small_their_blocks() -> None:
    encoder = hpack.Encoder()
    unpacker = HeaderUnpacker(hpack.Decoder())
    unpacker.unpack(encoder.encode([("filler", "x" * 3000)]), TRAILERS)
    for count in range(1, 200):
        block = encoder.encode([("filler", "x" * 3000)] * (count % 15 + 1))
        for _ in range(2):
            unpacker.unpack(block, TRAILERS)
        kept = sum(len(name) + len(value) for found in unpacker._lists.values() for name, value in found)
        assert kept <= 32 * 1024
    assert kept


def test_a_value_that_a_block_repeats_is_kept_once() -> None:
    encoder = hpack.Encoder()
    block = encoder.encode([("large", "v" * 3000)] * 15)
    headers = HeaderUnpacker(hpack.Decoder()).unpack(block, TRAILERS)
    assert headers == [("large", "v" * 3000)] * 15
    assert len({id(value) for _, value in headers}) == 1
