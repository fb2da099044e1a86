from __future__ import annotations

import bz2
import gzip
import lzma
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.encoding import CHUNK, Codec, ContentError, Encoding, compressor, decompressor, detect

DATA = random.Random(1).randbytes(100_000) + b"\0" * 300_000


def run(codec: Codec, data: bytes, step: int = 4096) -> bytes:
    parts = [chunk for i in range(0, len(data), step) for chunk in codec.feed(data[i : i + step])]
    return b"".join([*parts, codec.finish()])


@pytest.mark.parametrize("encoding", Encoding)
def test_what_is_compressed_is_detected_and_decompressed(encoding: Encoding) -> None:
    packed = run(compressor(encoding), DATA)
    assert detect(packed) is encoding
    assert run(decompressor(encoding), packed) == DATA


@pytest.mark.parametrize("encoding", Encoding)
def test_members_in_a_row_are_one_file(encoding: Encoding) -> None:
    packed = run(compressor(encoding), b"one") + run(compressor(encoding), b"two")
    assert run(decompressor(encoding), packed, step=7) == b"onetwo"
    assert run(decompressor(encoding), packed, step=1 << 20) == b"onetwo"


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_file_cut_short_is_an_error(encoding: Encoding, keep: float) -> None:
    packed = run(compressor(encoding), DATA)
    with pytest.raises(ContentError, match="too early"):
        run(decompressor(encoding), packed[: int(len(packed) * keep)])


@pytest.mark.parametrize("encoding", Encoding)
def test_garbage_is_an_error(encoding: Encoding) -> None:
    with pytest.raises(ContentError, match="not valid"):
        run(decompressor(encoding), b"this is not compressed at all" * 10)


@pytest.mark.parametrize("encoding", Encoding)
def test_a_bomb_comes_out_in_bounded_chunks(encoding: Encoding) -> None:
    packed = run(compressor(encoding), b"\0" * (16 * CHUNK), step=CHUNK)
    sizes = [len(chunk) for chunk in decompressor(encoding).feed(packed)]
    assert sum(sizes) == 16 * CHUNK
    assert max(sizes) <= CHUNK


@pytest.mark.parametrize("encoding", Encoding)
def test_empty_input_is_empty_output(encoding: Encoding) -> None:
    assert run(decompressor(encoding), b"") == b""
    assert run(decompressor(encoding), run(compressor(encoding), b"")) == b""


def test_the_standard_libraries_read_what_we_write() -> None:
    assert gzip.decompress(run(compressor(Encoding.GZIP), DATA)) == DATA
    assert lzma.decompress(run(compressor(Encoding.XZ), DATA)) == DATA
    assert bz2.decompress(run(compressor(Encoding.BZ2), DATA)) == DATA


def test_padding_behind_gzip_and_xz_is_no_error() -> None:
    for encoding in (Encoding.GZIP, Encoding.XZ):
        assert run(decompressor(encoding), run(compressor(encoding), b"x") + b"\0" * 512) == b"x"


def test_a_plain_file_has_no_encoding() -> None:
    assert detect(b"\x00\x00plain") is None
    assert detect(b"") is None


@given(st.sampled_from(Encoding), st.binary(max_size=2000), st.integers(1, 97))
def test_any_fragmentation_gives_the_same_bytes(encoding: Encoding, data: bytes, step: int) -> None:
    assert run(decompressor(encoding), run(compressor(encoding), data, step), step) == data
