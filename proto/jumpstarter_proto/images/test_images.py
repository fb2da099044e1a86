"""Images as people have them: packed in any way, named in any way, and what is no image at all."""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.encoding import ContentError, Encoding, compressor
from jumpstarter_proto.images import (
    Content,
    ImageRefused,
    Verdict,
    check_content,
    check_growth,
    identify,
    open_image,
    open_image_file,
)
from jumpstarter_proto.images.admission import FREE_GROWTH_BYTES
from jumpstarter_proto.images.archives import MAX_MEMBERS
from jumpstarter_proto.images.unpack import MAX_LAYERS
from tests.support.images import UNUSABLE, USABLE, mbr, tar, zipped

IMAGE = mbr() + bytes(200_000)


def pack(encoding: Encoding, data: bytes) -> bytes:
    codec = compressor(encoding)
    return b"".join(codec.feed(data)) + codec.finish()


def drain(read: Callable[[int], bytes], step: int = 100_000) -> bytes:
    return b"".join(iter(lambda: read(step), b""))


def stream(data: bytes, step: int = 50_000) -> Callable[[int], bytes]:
    """A source that gives less than it is asked for, as networks do."""
    file = io.BytesIO(data)
    return lambda count: file.read(min(count, step))


@pytest.mark.parametrize("name", USABLE)
def test_what_a_board_boots_from_is_recognised(name: str) -> None:
    content = identify(USABLE[name])
    assert content.verdict is Verdict.IMAGE
    assert name in content.name
    check_content(content)


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_no_board_boots_from_is_refused_by_name_with_a_way_out(name: str) -> None:
    content = identify(UNUSABLE[name])
    assert content.verdict is Verdict.UNUSABLE
    assert name.strip() in content.name
    with pytest.raises(ImageRefused, match="nothing was written") as refused:
        check_content(content)
    assert content.advice in str(refused.value)


@pytest.mark.parametrize("data", [b"\1\2\3" * 5000, bytes(100_000)])
def test_what_nobody_knows_needs_somebody_who_insists(data: bytes) -> None:
    content = identify(data)
    with pytest.raises(ImageRefused, match=r"without a known partition table.*--force"):
        check_content(content)
    check_content(content, force=True)


def test_nobody_can_insist_on_nothing() -> None:
    with pytest.raises(ImageRefused, match="empty"):
        check_content(identify(b""), force=True)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=6000))
def test_no_text_is_an_image(text: str) -> None:
    assert identify(text.encode()).verdict is not Verdict.IMAGE


def _wrap(layer: str, data: bytes, trailing: bytes) -> bytes:
    if layer == "tar":
        return tar(("README", b"Read me first\n"), ("disk.bin", data))
    return pack(Encoding(layer), data) + trailing


@given(
    st.sampled_from([*USABLE.values(), *UNUSABLE.values(), b"\1\2\3" * 5000]),
    st.lists(st.sampled_from([*Encoding, "tar"]), max_size=MAX_LAYERS),
    st.sampled_from([b"", b"some metadata\0FWx0", bytes(600)]),
    st.integers(1, 100_000),
)
def test_any_stack_of_layers_comes_off_or_is_refused(
    data: bytes, layers: list[str], trailing: bytes, step: int
) -> None:
    packed = data
    for layer in reversed(layers):
        packed = _wrap(layer, packed, trailing)
    plain = identify(data)
    if plain.verdict is Verdict.UNUSABLE and "tar" in layers:
        with pytest.raises(ContentError, match=r"no (image|file)"):
            open_image(stream(packed, step))
        return
    opened = open_image(stream(packed, step))
    assert [layer.kind for layer in opened.layers] == layers
    assert opened.content.verdict is plain.verdict
    assert drain(opened.read, step) == data
    left_out = sum(layer != "tar" for layer in layers) if trailing.strip(b"\0") else 0
    assert len(opened.remarks()) == left_out


def test_too_many_layers_are_refused() -> None:
    packed = IMAGE
    for _ in range(MAX_LAYERS + 1):
        packed = pack(Encoding.GZIP, packed)
    with pytest.raises(ContentError, match=r"more than 5 layers .*unpack it"):
        open_image(stream(packed))


def test_named_compression_is_all_that_comes_off() -> None:
    packed = pack(Encoding.XZ, pack(Encoding.GZIP, IMAGE))
    opened = open_image(stream(packed), compression="xz")
    assert (opened.content.name, opened.content.verdict) == ("still packed (gzip)", Verdict.UNUSABLE)
    assert drain(opened.read) == pack(Encoding.GZIP, IMAGE)
    assert open_image(stream(packed), compression="none").content.name == "still packed (xz)"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_with_one_image_is_unpacked(compression: int) -> None:
    file = io.BytesIO(zipped(("notes.txt", b"hello"), ("a/b.img", IMAGE), compression=compression))
    opened = open_image_file(file)
    assert [str(layer) for layer in opened.layers] == ["zip (a/b.img)"]
    assert opened.size == len(IMAGE)
    assert drain(opened.read) == IMAGE


def test_image_packed_again_inside_of_an_archive_is_unpacked() -> None:
    opened = open_image_file(io.BytesIO(zipped(("b.img.xz", pack(Encoding.XZ, IMAGE)))))
    assert [layer.kind for layer in opened.layers] == ["zip", "xz"]
    assert opened.size is None
    assert drain(opened.read) == IMAGE


ARCHIVES: dict[str, Callable[..., bytes]] = {
    "zip": zipped,
    "tar": tar,
    "tar.xz": lambda *files: pack(Encoding.XZ, tar(*files)),
}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("one.img", IMAGE), ("two.img", IMAGE)], "several images: one.img .*two.img .*extract it"),
        ([("a.txt", b"hello\n"), ("b.txt", b"hello\n")], "no image .*a.txt .text., b.txt"),
        ([("a\x1b]0;x\x07.txt", b"hello\n"), ("b", b"hello\n")], r"a\\x1b\]0;x\\x07\.txt"),
        ([("empty.img", b"")], "no file"),
    ],
)
def test_archive_without_exactly_one_image_is_refused_by_name(
    kind: str, files: list[tuple[str, bytes]], words: str
) -> None:
    with pytest.raises(ContentError, match=words):
        open_image_file(io.BytesIO(ARCHIVES[kind](*files)))


def test_second_image_of_a_streamed_archive_is_an_error_at_the_end_of_the_first() -> None:
    opened = open_image(stream(tar(("one.img", IMAGE), ("sum", b"0123\n"), ("two.img", IMAGE))))
    with pytest.raises(ContentError, match=r"several images: one\.img .*two\.img"):
        drain(opened.read)


def test_zip_in_a_stream_is_refused_with_a_way_out() -> None:
    with pytest.raises(ContentError, match=r"unpack it into a file"):
        open_image(stream(zipped(("b.img", IMAGE))))
    with pytest.raises(ContentError, match=r"zip archive in gzip .*unpack it into a file"):
        open_image_file(io.BytesIO(pack(Encoding.GZIP, zipped(("b.img", IMAGE)))))


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_archive_cut_short_is_an_error(kind: str, keep: float) -> None:
    noise = mbr() + random.Random(1).randbytes(300_000)
    packed = ARCHIVES[kind](("b.img", noise))
    with pytest.raises(ContentError):
        drain(open_image_file(io.BytesIO(packed[: int(len(packed) * keep)])).read)


def test_damaged_zip_member_is_an_error() -> None:
    packed = bytearray(zipped(("b.img", IMAGE), compression=zipfile.ZIP_STORED))
    packed[len(IMAGE) // 2] ^= 0xFF
    with pytest.raises(ContentError, match="zip archive is damaged"):
        drain(open_image_file(io.BytesIO(packed)).read)


def test_tar_header_does_not_decide_how_much_memory_it_takes() -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(ContentError, match="header of 1099511627776 bytes"):
        open_image(stream(info.tobuf(tarfile.GNU_FORMAT) + bytes(2000)))


def test_archive_of_very_many_files_is_refused() -> None:
    with pytest.raises(ContentError, match="more than 1000 files"):
        open_image(stream(tar(*((f"{number}", b"x") for number in range(MAX_MEMBERS + 1)))))


def test_growth_out_of_all_proportion_is_refused() -> None:
    check_growth(10, FREE_GROWTH_BYTES)
    check_growth(100 * 1024**2, 16 * 1024**3)
    with pytest.raises(ContentError, match=r"decompression bomb.*`size`"):
        check_growth(98_000, FREE_GROWTH_BYTES + 1)


def test_source_of_single_bytes_is_looked_at_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def counted(head: bytes) -> Content:
        looks.append(len(head))
        return identify(head)

    monkeypatch.setattr("jumpstarter_proto.images.unpack.identify", counted)
    open_image(stream(b"\1\2\3" * 50_000, step=1))
    assert len(looks) < 20


def test_slow_source_is_not_waited_for_once_it_is_known() -> None:
    begin = io.BytesIO(mbr()[:600])

    def read(count: int) -> bytes:
        data = begin.read(count)
        assert data, "it waits for more"
        return data

    assert open_image(read).content.verdict is Verdict.IMAGE


@given(
    st.sampled_from(sorted(ARCHIVES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20)
)
def test_damaged_archive_is_an_image_or_an_error_that_says_so(
    kind: str, damage: list[tuple[float, int]]
) -> None:
    packed = bytearray(ARCHIVES[kind](("notes.txt", b"hello\n" * 20), ("b.img", mbr() + bytes(2000))))
    for where, value in damage:
        packed[int(where * (len(packed) - 1))] = value
    # A real file refuses to seek where one in memory does not.
    with tempfile.TemporaryFile(buffering=0) as file, suppress(ContentError):
        file.write(packed)
        file.seek(0)
        drain(open_image_file(file).read)


def test_zip_directory_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    packed = bytearray(zipped(("b.img", IMAGE)))
    directory = packed.index(b"PK\x01\x02")
    packed[directory + 42 : directory + 46] = b"\x01\xff\xff\xff"  # the member's offset
    (tmp_path / "image").write_bytes(packed)
    with (tmp_path / "image").open("rb", buffering=0) as file, pytest.raises(ContentError, match="damaged"):
        open_image_file(file)
    end = packed.index(b"PK\x05\x06")
    packed[end + 12 : end + 16] = b"\xff\xff\0\0"  # the directory's length
    (tmp_path / "image").write_bytes(packed)
    with (tmp_path / "image").open("rb", buffering=0) as file, pytest.raises(ContentError, match="damaged"):
        open_image_file(file)


def test_zip_member_without_a_name_is_an_error_or_an_image() -> None:
    packed = bytearray(zipped(("b", IMAGE)))
    directory = packed.index(b"PK\x01\x02")
    packed[directory + 28] = 0
    with pytest.raises(ContentError, match="damaged"):
        open_image_file(io.BytesIO(packed))


def test_zip_member_that_is_shorter_than_it_says_is_an_error() -> None:
    packed = bytearray(zipped(("b.img", IMAGE)))
    size = packed.index(b"PK\x01\x02") + 24
    packed[size : size + 4] = (len(IMAGE) + 10).to_bytes(4, "little")
    with pytest.raises(ContentError, match="ends too early"):
        drain(open_image_file(io.BytesIO(packed)).read)


@pytest.mark.parametrize("encoding", Encoding)
def test_compressed_stream_cut_short_is_an_error(encoding: Encoding) -> None:
    packed = pack(encoding, mbr() + random.Random(1).randbytes(300_000))
    with pytest.raises(ContentError, match="ends too early"):
        drain(open_image(stream(packed[:-1000])).read)


def _sparse_map_without_end() -> Iterator[bytes]:
    info = tarfile.TarInfo("disk.img")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1  # isextended
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    yield bytes(head)
    yield from repeat((b"000000001000" * 42 + b"\1" + bytes(7)) * 100)


def _newer_sparse_map_without_end() -> Iterator[bytes]:
    info = tarfile.TarInfo("disk.img")
    info.size = 10**12
    info.pax_headers = {
        f"GNU.sparse.{key}": value
        for key, value in {"major": "1", "minor": "0", "name": "disk.img", "realsize": "9"}.items()
    }
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield b"999999999\n"
    yield from repeat(b"1\n" * 25_600)


def _global_headers_without_end() -> Iterator[bytes]:
    for number in count():
        yield tarfile.TarInfo.create_pax_global_header({f"key{number}": "x" * 500_000})
        yield tarfile.TarInfo(f"empty{number}").tobuf()


@pytest.mark.parametrize(
    "endless", [_sparse_map_without_end, _newer_sparse_map_without_end, _global_headers_without_end]
)
def test_headers_without_end_are_refused_before_they_fill_the_memory(
    endless: Callable[[], Iterator[bytes]],
) -> None:
    pieces, rest, taken = endless(), b"", 0

    def read(size: int) -> bytes:
        nonlocal rest, taken
        rest = rest or next(pieces)
        piece, rest = rest[:size], rest[size:]
        taken += len(piece)
        assert taken < 20 * 1024 * 1024
        return piece

    with pytest.raises(ContentError, match="more headers"):
        open_image(read)


def test_sparse_file_in_a_tar_archive_is_an_image() -> None:
    info = tarfile.TarInfo("disk.img")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (0, 512)  # one piece, at its begin
    head[483:495] = b"%011o\0" % 4096
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    boot = mbr()[:512]
    image = open_image(io.BytesIO(bytes(head) + boot + bytes(1024)).read)
    assert image.content.verdict is Verdict.IMAGE
    assert b"".join(iter(lambda: image.read(1000), b"")) == boot + bytes(4096 - 512)
