"""Files on the user's side: nothing partial is kept, nothing is overwritten unasked."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest
from jumpstarter_proto.encoding import Encoding

from jumpstarter_drivers.storage.local import LocalFileError, is_url, open_sink, open_source


class Remote:
    """What opendal's operator and fsspec's file systems have in common."""

    def __init__(self) -> None:
        self.files: dict[str, io.BytesIO] = {}

    def open(self, path: str, mode: str, /) -> io.BytesIO:
        if mode == "wb":
            self.files[path] = Kept()
        return self.files[path]


class Kept(io.BytesIO):
    def close(self) -> None:
        self.seek(0)


async def test_source_gives_every_byte_its_size_and_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "image.gz"
    path.write_bytes(gzip.compress(bytes(3_000_000)) + b"tail")
    seen: list[int] = []
    async with open_source(path) as source:
        source.progress = seen.append
        assert source.encoding is Encoding.GZIP
        assert source.total == path.stat().st_size
        data = b""
        while piece := await source.receive_some(1000):
            assert len(piece) <= 1000
            data += piece
    assert data == path.read_bytes()
    assert seen[-1] == len(data)


async def test_source_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"piped")
    os.close(write)
    with os.fdopen(read, "rb") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        async with open_source("-") as source:
            assert source.total is None
            assert await source.receive_some() == b"piped"
            assert await source.receive_some() == b""


@pytest.mark.parametrize(("name", "words"), [("none.img", "does not exist"), (".", "is a directory")])
async def test_unreadable_source_says_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(LocalFileError, match=words):
        async with open_source(tmp_path / name):
            pass


async def test_sink_has_its_name_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "dump.img"
    async with open_sink(final, force=False) as sink:
        await sink.send_all(b"all ")
        await sink.send_all(b"of it")
        assert not final.exists()
    assert final.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [final]


async def test_failed_dump_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "dump.img"
    final.write_bytes(b"precious")
    with pytest.raises(RuntimeError):  # noqa: PT012
        async with open_sink(final, force=True) as sink:
            await sink.send_all(b"half")
            raise RuntimeError
    assert final.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [final]


async def test_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    final = tmp_path / "dump.img"
    final.write_bytes(b"precious")
    with pytest.raises(LocalFileError, match="--force"):
        async with open_sink(final, force=False):
            pass
    assert final.read_bytes() == b"precious"
    async with open_sink(final, force=True) as sink:
        await sink.send_all(b"new")
    assert final.read_bytes() == b"new"


async def test_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    final = tmp_path / "dump.img"
    with pytest.raises(LocalFileError, match="exists already"):  # noqa: PT012
        async with open_sink(final, force=False) as sink:
            await sink.send_all(b"new")
            final.write_bytes(b"precious")
    assert list(tmp_path.iterdir()) == [final]
    assert final.read_bytes() == b"precious"


async def test_sink_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="does not exist"):
        async with open_sink(tmp_path / "none" / "dump.img", force=False):
            pass


async def test_a_device_or_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        async with open_sink(pipe, force=True) as sink:
            await sink.send_all(b"through")
        assert os.read(reader, 100) == b"through"
        with pytest.raises(RuntimeError):
            async with open_sink(pipe, force=True):
                raise RuntimeError
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


async def test_a_full_device_is_an_error() -> None:
    with pytest.raises(LocalFileError, match="No space left"):
        async with open_sink("/dev/full", force=True) as sink:
            await sink.send_all(b"x")
    assert Path("/dev/full").is_char_device()


async def test_operator_opens_its_own_paths() -> None:
    remote = Remote()
    async with open_sink("bucket/image", remote, force=False) as sink:
        await sink.send_all(b"far away")
    async with open_source("bucket/image", remote) as source:
        assert await source.receive_some() == b"far away"


def test_only_http_is_a_url() -> None:
    assert is_url("https://example.org/a.img")
    assert is_url("HTTP://example.org/a.img")
    assert not is_url("a.img")
    assert not is_url(Path("https:"))
