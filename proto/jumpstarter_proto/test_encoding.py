from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jumpstarter_proto.encoding import (
    CHUNK_BYTES,
    MAX_TRAILING_BYTES,
    Codec,
    ContentError,
    Encoding,
    compressor,
    decompressor,
    detect,
)

DATA = random.Random(1).randbytes(100_000) + b"\0" * 300_000


MEMBERED = [encoding for encoding in Encoding if encoding is not Encoding.LZMA]
"""Those whose files may have several members."""


def run(codec: Codec, data: bytes, step: int = 4096) -> bytes:
    parts = [chunk for i in range(0, len(data), step) for chunk in codec.feed(data[i : i + step])]
    return b"".join([*parts, codec.finish()])


@pytest.mark.parametrize("encoding", Encoding)
def test_what_is_compressed_is_detected_and_decompressed(encoding: Encoding) -> None:
    packed = run(compressor(encoding), DATA)
    assert detect(packed) is encoding
    assert run(decompressor(encoding), packed) == DATA


@pytest.mark.parametrize("encoding", MEMBERED)
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
    packed = run(compressor(encoding), b"\0" * (16 * CHUNK_BYTES), step=CHUNK_BYTES)
    sizes = [len(chunk) for chunk in decompressor(encoding).feed(packed)]
    assert sum(sizes) == 16 * CHUNK_BYTES
    assert max(sizes) <= CHUNK_BYTES


@pytest.mark.parametrize("encoding", Encoding)
def test_empty_input_is_empty_output(encoding: Encoding) -> None:
    assert run(decompressor(encoding), b"") == b""
    assert run(decompressor(encoding), run(compressor(encoding), b"")) == b""


def test_the_standard_libraries_read_what_we_write() -> None:
    assert gzip.decompress(run(compressor(Encoding.GZIP), DATA)) == DATA
    assert lzma.decompress(run(compressor(Encoding.XZ), DATA)) == DATA
    assert bz2.decompress(run(compressor(Encoding.BZ2), DATA)) == DATA


@pytest.mark.parametrize("encoding", Encoding)
def test_zeros_behind_the_content_are_padding(encoding: Encoding) -> None:
    codec = decompressor(encoding)
    assert run(codec, run(compressor(encoding), b"x") + b"\0" * 512) == b"x"
    assert codec.trailing == 0


@given(
    st.sampled_from(Encoding),
    st.binary(min_size=1, max_size=300).filter(lambda data: data[0] != 0),
    st.integers(1, 400),
)
def test_other_data_behind_the_content_is_left_out_and_counted(
    encoding: Encoding, other: bytes, step: int
) -> None:
    packed = run(compressor(encoding), b"an image" * 50)
    codec = decompressor(encoding)
    assume(detect(other) is not encoding and other[1:4] != b"\x2a\x4d\x18")
    assert run(codec, packed + other, step) == b"an image" * 50
    assert codec.trailing == len(other)


@pytest.mark.parametrize("encoding", Encoding)
def test_zeros_inside_of_other_data_count(encoding: Encoding) -> None:
    codec = decompressor(encoding)
    assert run(codec, run(compressor(encoding), b"x") + b"\0\0?\0\0?", step=1) == b"x"
    assert codec.trailing == 4


@pytest.mark.parametrize("encoding", MEMBERED)
def test_begin_of_a_member_alone_is_other_data(encoding: Encoding) -> None:
    packed = run(compressor(encoding), b"x")
    codec = decompressor(encoding)
    assert run(codec, packed + packed[:2], step=1) == b"x"
    assert codec.trailing == 2


@pytest.mark.parametrize("encoding", Encoding)
def test_much_other_data_is_a_damaged_file(encoding: Encoding) -> None:
    packed = run(compressor(encoding), b"x")
    with pytest.raises(ContentError, match="other data follow"):
        run(decompressor(encoding), packed + b"?" * (MAX_TRAILING_BYTES + 1), step=100_000)


@pytest.mark.parametrize("encoding", [Encoding.ZSTD, Encoding.LZ4])
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_skippable_frames_are_skipped_wherever_they_are(encoding: Encoding, step: int) -> None:
    frame = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"pzst"
    packed = (
        frame + run(compressor(encoding), b"one") + frame + frame + run(compressor(encoding), b"two") + frame
    )
    codec = decompressor(encoding)
    assert detect(packed) is encoding
    assert run(codec, packed, step) == b"onetwo"
    assert codec.trailing == 0


def test_a_file_that_wants_too_much_memory_is_refused() -> None:
    sound = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 9}])
    assert run(decompressor(Encoding.XZ), sound) == b"x"
    greedy = b"\x5d" + (1 << 30).to_bytes(4, "little") + b"\xff" * 8 + b"\0" * 100
    assert detect(greedy) is Encoding.LZMA
    with pytest.raises(ContentError, match=r"[Mm]emory"):
        run(decompressor(Encoding.LZMA), greedy)


def test_missing_lz4_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(ContentError, match=r"lz4 -d.*jumpstarter-sbc\[lz4\]"):
        decompressor(Encoding.LZ4)


def test_a_plain_file_has_no_encoding() -> None:
    assert detect(b"\x00\x00plain") is None
    assert detect(b"") is None
    assert detect(b"BZhelp is a text") is None


@given(st.sampled_from(Encoding), st.binary(max_size=2000), st.integers(1, 97))
def test_any_fragmentation_gives_the_same_bytes(encoding: Encoding, data: bytes, step: int) -> None:
    assert run(decompressor(encoding), run(compressor(encoding), data, step), step) == data


def test_megabyte_of_empty_members_costs_no_more_at_once_than_in_pieces() -> None:
    data = gzip.compress(b"") * 40_000

    def seconds(step: int) -> float:
        start = time.process_time()
        assert run(decompressor(Encoding.GZIP), data, step) == b""
        return time.process_time() - start

    assert seconds(len(data)) < 3 * seconds(16 * 1024)
