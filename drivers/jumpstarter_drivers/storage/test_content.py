"""What is written, and what is not, over gRPC: the check of the content at the client and again at the exporter."""

from __future__ import annotations

import gzip
import io
import logging
import lzma
import os
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_exporter.resources import Source
from jumpstarter_exporter.threads import DeviceThreads
from jumpstarter_proto.encoding import ContentError, Encoding, compressor
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.images import ImageRefused, admission
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.storage import driver as storage_driver
from jumpstarter_drivers.storage.client import FlashResult, StorageMuxFlasherClient
from jumpstarter_drivers.storage.conftest import Web, storage
from jumpstarter_drivers.storage.content import ImageStream
from jumpstarter_drivers.storage.driver import FileStorage
from jumpstarter_drivers.storage.state import Position
from jumpstarter_drivers.testing import serve_async
from tests.support.images import UNUSABLE, mbr, tar, zipped

IMAGE = mbr() + bytes(300_000) + mbr()
BEFORE = b"what was there before"
UNKNOWN = b"\1\2\3" * 50_000


def pack(encoding: Encoding, data: bytes) -> bytes:
    codec = compressor(encoding)
    return b"".join(codec.feed(data)) + codec.finish()


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0\x10\x27\0\0"

PACKED = {
    "image.img.zst": SKIPPABLE + pack(Encoding.ZSTD, IMAGE[:9000]) + pack(Encoding.ZSTD, IMAGE[9000:]),
    "image.img": pack(Encoding.LZMA, IMAGE),
    "image.iso": pack(Encoding.LZ4, IMAGE),
    "image.gz": zipped(("a/image.img", IMAGE), ("a/README", b"Read me.\n")),
    "image.zip": lzma.compress(tar(("image.img", IMAGE), ("image.sha256", b"00 image.img\n"))),
    "image": gzip.compress(lzma.compress(IMAGE)),
}
"""By a name that says something else."""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card"
    path.write_bytes(BEFORE)
    return path


def untouched(client: StorageMuxFlasherClient, card: Path) -> bool:
    status = cast("dict[str, str]", client.status())
    return (status["position"], status["content"], card.read_bytes()) == ("dut", "as found", BEFORE)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_image_is_unpacked_whatever_its_name_says(card: Path, tmp_path: Path, name: str, whole: bool) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[name])
    with storage(card) as client:
        client.flash(path, whole=whole)
        assert card.read_bytes() == IMAGE
        card.write_bytes(BEFORE)
        if not name.endswith(".gz"):  # zip comes only from a file
            client.flash("a stream", operator=_Service(PACKED[name]), whole=whole)
            assert card.read_bytes() == IMAGE


class _Service:
    """A storage service, whose files are streams to us."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self, _path: str, _mode: str, /) -> BinaryIO:
        return io.BytesIO(self.data)


@pytest.mark.parametrize(("whole", "where"), [(False, "gzip"), (True, "compressed")])
def test_what_trails_is_left_out_and_named_once(card: Path, tmp_path: Path, whole: bool, where: str) -> None:
    path = tmp_path / "openwrt.img.gz"
    path.write_bytes(gzip.compress(IMAGE) + b'{"metadata_version": "1.1"}' + b"FWx0" + b"\1" * 12)
    with storage(card) as client:
        result = client.flash(path, whole=whole)
    assert card.read_bytes() == IMAGE
    remark = f"43 bytes of OpenWrt's metadata behind the {where} content were left out"
    assert str(result).count(remark) == 1


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_no_board_boots_from_changes_nothing(card: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "image.img"
    path.write_bytes(UNUSABLE[name])
    with storage(card) as client:
        with pytest.raises(ImageRefused, match="nothing was written"):
            client.flash(path)
        with pytest.raises(JumpstarterError, match="nothing was written"):
            client.write_local_file(path)
        assert untouched(client, card)


def test_archive_of_two_images_changes_nothing(card: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.img"
    for archive in (tar, zipped):
        path.write_bytes(archive(("one.img", IMAGE), ("two.img", IMAGE)))
        with storage(card) as client:
            with pytest.raises(ContentError, match=r"one\.img .*two\.img .*extract it"):
                client.flash(path)
            assert untouched(client, card)


def test_unknown_content_is_written_when_the_user_insists(card: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.img"
    path.write_bytes(UNKNOWN)
    with storage(card) as client:
        with pytest.raises(ImageRefused, match="--force"):
            client.flash(path)
        assert untouched(client, card)
        result = client.flash(path, force=True)
        assert isinstance(result, FlashResult)
        assert card.read_bytes() == UNKNOWN


def test_users_word_counts_where_no_client_is_trusted(card: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.img"
    path.write_bytes(UNKNOWN)
    with storage(card, content_check="refuse") as client:
        client.flash(path, force=True)
        client.host()
        client.write_local_file(path, force=True)
    assert card.read_bytes() == UNKNOWN


def test_what_a_url_gives_is_looked_at_before_anything_is_switched(
    card: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    switched: list[Position] = []

    async def switch(_storage: FileStorage, position: Position) -> None:
        switched.append(position)

    monkeypatch.setattr(FileStorage, "switch", switch)
    with storage(card) as client:
        for body, words in (
            (UNUSABLE["HTML"], r"an HTML page; it is what a server shows"),
            (b"", "empty"),
            (UNKNOWN, "--force"),
            (zipped(("image.img", IMAGE)), "unpack it into a file"),
        ):
            web.body = body
            with pytest.raises(DriverError, match=words):
                client.flash(web.url)
        assert untouched(client, card)
        assert switched == []
        web.body = UNKNOWN
        client.flash(web.url, force=True)
        assert card.read_bytes() == UNKNOWN
        web.body = PACKED["image.zip"]
        client.flash(web.url)
        assert card.read_bytes() == IMAGE


def test_second_image_of_a_streamed_archive_does_not_reach_the_board(
    card: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.body = tar(("one.img", IMAGE), ("two.img", IMAGE))
    with storage(card) as client:
        with pytest.raises(DriverError, match=r"several images: one\.img"):
            client.flash(web.url)
        assert untouched(client, card)


class _Memory:
    """A file that a client of any kind offers."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def receive_some(self, _max_bytes: int | None = None, /) -> bytes:
        await trio.lowlevel.checkpoint()
        data, self.data = self.data[:50_000], self.data[50_000:]
        return data


async def flash_as(
    card: Path, data: bytes, options: dict[str, JSON] | None, encoding: str | None = None, **config: str
) -> None:
    """The driver call as another client makes it."""
    driver = FileStorage(path=str(card), **config)  # type: ignore[arg-type]
    async with serve_async(driver) as client, client.resource_async(_Memory(data), encoding) as handle:
        await client.call_async("flash", handle, None, *([] if options is None else [options]))


async def test_client_that_cannot_be_asked_gets_a_warning(
    card: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await flash_as(card, UNKNOWN, None)
    assert card.read_bytes() == UNKNOWN
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "of no known kind" in warning


async def test_client_that_cannot_be_asked_is_refused_what_no_board_boots_from(card: Path) -> None:
    for options in (None, cast("dict[str, JSON]", {"size": None, "compression": "none", "verify": None})):
        with pytest.raises(DriverError, match=r"an HTML page; .*`content_check: off`"):
            await flash_as(card, UNUSABLE["HTML"], options)
    assert card.read_bytes() == BEFORE


async def test_storage_may_be_strict_with_all_clients_or_with_none(card: Path) -> None:
    with pytest.raises(DriverError, match="of no known kind"):
        await flash_as(card, UNKNOWN, None, content_check="refuse")
    assert card.read_bytes() == BEFORE
    await flash_as(card, UNUSABLE["UF2"], None, content_check="off")
    assert card.read_bytes() == UNUSABLE["UF2"]


async def test_the_exporter_does_not_take_a_clients_word(card: Path) -> None:
    options: dict[str, JSON] = {"compression": "none", "force": False}
    for data in (UNKNOWN, gzip.compress(IMAGE), UNUSABLE["text"]):
        with pytest.raises(DriverError, match="nothing was written"):
            await flash_as(card, data, options)
    assert card.read_bytes() == BEFORE


async def test_jumpstarter_09s_client_has_its_trailing_data_in_the_log(
    card: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await flash_as(card, gzip.compress(IMAGE) + b"metadata", None, "gzip")
    assert card.read_bytes() == IMAGE
    assert [record.getMessage()[:27] for record in caplog.records if record.levelno == logging.WARNING] == [
        "8 bytes of other data behin"
    ]


@pytest.mark.parametrize("encoding", [None, "zstd"])
async def test_bomb_does_not_fill_a_disk_without_a_size(
    card: Path, monkeypatch: pytest.MonkeyPatch, encoding: str | None
) -> None:
    monkeypatch.setattr(admission, "FREE_GROWTH_BYTES", 20_000_000)
    bomb = pack(Encoding.ZSTD, IMAGE + bytes(60_000_000))
    with pytest.raises(DriverError, match=r"decompression bomb.*`size`"):
        await flash_as(card, bomb, None, encoding)
    assert card.stat().st_size <= 30_000_000


async def test_medium_with_a_size_takes_what_fits(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "FREE_GROWTH_BYTES", 1_000_000)
    image = IMAGE + bytes(4_000_000)
    await flash_as(card, pack(Encoding.ZSTD, image), None, size=5_000_000)  # type: ignore[arg-type]
    assert card.read_bytes() == image


def test_file_without_a_size_has_a_bound(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_driver, "DEFAULT_SIZE_BYTES", 100_000)
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE)
    with storage(card) as client:
        with pytest.raises(DriverError, match="takes 100000"):
            client.flash(path)
        assert untouched(client, card)


def test_the_last_of_a_disk_is_left_to_others(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 200_000
    real = os.fstatvfs

    def nearly_full(fd: int) -> os.statvfs_result:
        found = list(real(fd))
        found[:5] = [1, 1, 20_000_000, free, free]  # 5 % of it is more than what is free
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE[:100_000])
    with storage(card) as client:
        with pytest.raises(DriverError, match=r"100000 bytes and .* takes"):
            client.flash(path)
        assert untouched(client, card)


async def test_cancelled_look_at_an_image_ends_at_once() -> None:
    async def never() -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    image = ImageStream(Source(never, None), "auto", DeviceThreads())
    with trio.move_on_after(0.05) as scope:
        await image.start()
    assert scope.cancelled_caught
