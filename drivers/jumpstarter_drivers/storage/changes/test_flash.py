"""Flashing only what changed, through gRPC: what is written, and what happens when an end lies, leaves or breaks."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_proto.encoding import ContentError
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.storage.changes.layout import BlockHasher, WindowHashes
from jumpstarter_drivers.storage.changes.messages import (
    BeginMessage,
    Blocks,
    EndMessage,
    FlashMessageReader,
    Head,
    WantedMessage,
    encode_hashes,
)
from jumpstarter_drivers.storage.client import FlashResult, StorageMuxClient, StorageMuxFlasherClient
from jumpstarter_drivers.storage.conftest import Web, facts, storage
from jumpstarter_drivers.storage.driver import FileStorage, MockStorageMux
from jumpstarter_drivers.testing import serve, serve_async
from tests.support.images import mbr

MIB = 1024 * 1024
BLOCK = 4096
IMAGE = mbr()[:512] + random.Random(3).randbytes(9 * MIB - 512 - 1000)
"""Two windows and a part, whose last block is short."""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE)
    return path


def change(path: Path, *places: int) -> None:
    """Change one byte at each place."""
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 0xFF
    path.write_bytes(data)


def flash(client: StorageMuxFlasherClient, image: Path, **options: Any) -> dict[str, int]:
    result = client.flash(image, **options)
    assert isinstance(result, FlashResult)
    assert (result.bytes, result.sha256) == (len(IMAGE), "")  # the client's word is not repeated
    assert facts(client) == ("dut", "complete")
    assert result.changes is not None
    return dict(result.changes)


def test_only_blocks_that_differ_are_written(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(card, 0, 5 * MIB, 5 * MIB + BLOCK, len(IMAGE) - 1)
    written: list[tuple[int, int]] = []
    real = os.pwritev

    def pwritev(fd: int, buffers: list[memoryview], offset: int) -> int:
        written.append((offset, sum(map(len, buffers))))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    with storage(card) as client:
        found = flash(client, image)
    assert card.read_bytes() == IMAGE
    last = len(IMAGE) // BLOCK * BLOCK
    assert sorted(written) == [(0, BLOCK), (5 * MIB, 2 * BLOCK), (last, len(IMAGE) - last)]
    assert found["written"] == 3 * BLOCK + len(IMAGE) - last
    assert found["skipped"] == len(IMAGE) - found["written"]


def test_nothing_is_written_when_all_is_there(card: Path, image: Path) -> None:
    before = card.stat().st_mtime_ns
    with storage(card) as client:
        assert flash(client, image)["written"] == 0
    assert card.stat().st_mtime_ns == before


def test_what_the_board_wrote_since_is_written_over(card: Path, image: Path) -> None:
    with storage(card) as client:
        flash(client, image)
        for seed in range(3):
            places = random.Random(seed).sample(range(len(IMAGE)), 20)
            change(card, *places)
            written = flash(client, image)["written"]
            assert BLOCK < written <= 20 * BLOCK
            assert card.read_bytes() == IMAGE


def test_verification_reads_back_what_was_written_and_not_all(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(card, 6 * MIB)
    read: list[int] = []
    real = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        read.append(len(data := real(fd, count, offset)))
        return data

    monkeypatch.setattr(os, "pread", pread)
    with storage(card) as client:
        flash(client, image)
        assert sum(read) == len(IMAGE) + BLOCK


def test_card_that_forgets_what_is_written_is_found_out(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(card, 6 * MIB)
    monkeypatch.setattr(os, "pwritev", lambda _fd, buffers, _offset: sum(map(len, buffers)))
    with storage(card) as client:
        with pytest.raises(DriverError, match="not what was written"):
            client.flash(image)
        assert facts(client) == ("off", "incomplete")


@pytest.mark.parametrize("length", [0, 21, 5 * MIB, len(IMAGE) - 1, len(IMAGE) + 1, 12 * MIB])
def test_a_file_gets_the_images_length(card: Path, image: Path, length: int) -> None:
    card.write_bytes((IMAGE + bytes(4 * MIB))[:length])
    with storage(card) as client:
        flash(client, image)
    assert card.read_bytes() == IMAGE


def test_zeros_are_written_and_do_not_travel(card: Path, image: Path, tmp_path: Path) -> None:
    holes = tmp_path / "holes.img"
    holes.write_bytes(IMAGE[:BLOCK] + bytes(8 * MIB) + IMAGE[:BLOCK])
    with storage(card) as client:
        result = client.flash(holes)
        assert isinstance(result, FlashResult)
        assert result.changes is not None
        assert result.changes["written"] >= 8 * MIB
    assert card.read_bytes() == holes.read_bytes()


def test_packed_image_is_compared_plain(card: Path, tmp_path: Path) -> None:
    packed = tmp_path / "image.img.gz"
    packed.write_bytes(gzip.compress(IMAGE, 1))
    change(card, 100)
    with storage(card) as client:
        assert flash(client, packed)["written"] == BLOCK
    assert card.read_bytes() == IMAGE


def test_damaged_packed_image_leaves_nothing_half_written_unnoticed(card: Path, tmp_path: Path) -> None:
    packed = tmp_path / "image.img.gz"
    packed.write_bytes(gzip.compress(IMAGE, 1)[:-10_000])
    change(card, 100)
    before = card.read_bytes()
    with storage(card) as client:
        with pytest.raises(ContentError, match="gzip content ends too early"):
            client.flash(packed)
        for report in client.watch():  # the exporter may not have heard of it yet
            status = cast("dict[str, Any]", report)
            if status["operation"] is None and status["position"] in ("dut", "off"):
                break
    assert (status["position"], status["content"]) in [("dut", "as found"), ("off", "incomplete")]
    assert status["content"] == "incomplete" or card.read_bytes() == before


def test_a_mark_of_an_earlier_write_goes_when_all_is_there(card: Path, image: Path) -> None:
    mark = card.with_name("card.img.incomplete")
    mark.write_text("the exporter stopped while it was written\n")
    with storage(card) as client:
        client.off()
        assert facts(client) == ("off", "incomplete")
        flash(client, image)
    assert not mark.exists()


def test_write_local_file_compares_too(card: Path, image: Path) -> None:
    with serve(MockStorageMux(path=str(card))) as raw:
        client = cast("StorageMuxClient", raw)
        client.host()
        change(card, 200)
        result = cast("dict[str, Any]", client.write_local_file(image))
        assert result["changes"]["written"] == BLOCK
        assert facts(client) == ("host", "complete")
    assert card.read_bytes() == IMAGE


def test_larger_image_than_the_storage_takes_is_refused_before_anything_is_written(
    card: Path, image: Path
) -> None:
    with storage(card, size=MIB) as client:
        with pytest.raises(DriverError, match=f"{len(IMAGE)} bytes and .* takes {MIB}"):
            client.flash(image)
        assert facts(client) == ("dut", "as found")


def test_packed_image_that_is_too_large_ends_at_the_limit(card: Path, tmp_path: Path) -> None:
    packed = tmp_path / "image.img.gz"
    packed.write_bytes(gzip.compress(IMAGE + IMAGE, 1))
    words = f"larger than the {len(IMAGE)} bytes"
    with storage(card, size=len(IMAGE)) as client, pytest.raises(DriverError, match=words):
        client.flash(packed)
    assert card.stat().st_size <= len(IMAGE)


def test_disk_that_fails_in_the_middle_is_named_partly_written(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(card, 100, 6 * MIB)
    real = os.pwritev

    def fail(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset > 2 * MIB:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    with storage(card) as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", fail)
            with pytest.raises(DriverError, match="plugged in"):
                client.flash(image)
        assert facts(client) == ("off", "incomplete")
        with pytest.raises(DriverError, match="incomplete image"):
            client.dut()
        # The block of the other window may have come first; it does not have to.
        assert flash(client, image)["written"] in (BLOCK, 2 * BLOCK)
    assert card.read_bytes() == IMAGE


def test_what_cannot_be_read_any_more_is_written_over(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, damaged = os.pread, [6 * MIB]

    def pread(fd: int, count: int, offset: int) -> bytes:
        if any(offset <= place < offset + count for place in damaged):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, count, offset)

    def pwritev(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = write(fd, buffers, offset)
        damaged[:] = [place for place in damaged if not offset <= place < offset + count]
        return count

    write = os.pwritev
    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(os, "pwritev", pwritev)
    with storage(card) as client:
        assert flash(client, image)["written"] == 4 * MIB
    assert card.read_bytes() == IMAGE


def test_an_image_from_a_url_is_compared_by_the_exporter(card: Path, web: Web) -> None:
    web.body = IMAGE
    with storage(card, hold=True) as client:
        change(card, 100, 5 * MIB)
        result = client.flash(web.url)
        assert isinstance(result, FlashResult)
        assert (result.bytes, result.sha256) == (len(IMAGE), hashlib.sha256(IMAGE).hexdigest())
        assert result.changes is not None
        assert (result.changes["read"], result.changes["written"]) == (len(IMAGE), 2 * BLOCK)
        again = client.flash(web.url)
        assert isinstance(again, FlashResult)
        assert again.changes is not None
        assert (again.changes["read"], again.changes["written"]) == (0, 0)
        assert facts(client) == ("dut", "complete")
    assert card.read_bytes() == IMAGE


def test_an_image_from_a_url_that_is_damaged_behind_what_was_written_leaves_it_incomplete(
    card: Path, web: Web
) -> None:
    web.body = gzip.compress(IMAGE, 1)[:-10_000]
    change(card, 100)
    with storage(card) as client:
        with pytest.raises(DriverError, match="gzip content ends too early"):
            client.flash(web.url)
        assert facts(client) == ("off", "incomplete")
        web.body = gzip.compress(IMAGE, 1)
        result = client.flash(web.url)
        assert isinstance(result, FlashResult)
        assert result.verified
    assert card.read_bytes() == IMAGE


class Raw:
    """A client that says what a test wants it to."""

    def __init__(self) -> None:
        self._to_exporter, self._outward = trio.open_memory_channel[bytes](100)
        self._inward, self._from_exporter = trio.open_memory_channel[Any](100)
        self._reader = FlashMessageReader()

    async def receive_some(self, _max_bytes: int | None = None, /) -> bytes:
        return await anext(self._outward, b"")

    async def send_all(self, data: bytes, /) -> None:
        for message in self._reader.feed(data):
            await self._inward.send(message)

    async def say(self, *messages: bytes) -> None:
        for message in messages:
            await self._to_exporter.send(message)

    async def hear(self) -> Any:
        return await self._from_exporter.receive()

    def end(self) -> None:
        self._to_exporter.close()


@asynccontextmanager
async def raw_flash(client: Any, errors: list[str]) -> AsyncIterator[Raw]:
    raw = Raw()
    options: dict[str, JSON] = {
        "size": None,
        "compression": "none",
        "verify": None,
        "force": False,
        "changes": True,
    }

    async def call() -> None:
        try:
            async with client.resource_async(raw) as handle:
                await client.call_async("flash", handle, None, options)
        except JumpstarterError as error:
            errors.append(str(error))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            yield raw


def hashes(hasher: BlockHasher, index: int) -> bytes:
    data = IMAGE[index * 4 * MIB : (index + 1) * 4 * MIB]
    layout = hasher.layout
    return encode_hashes(
        WindowHashes(index, len(data), layout.everything(len(data)), hasher.hash(data)), layout
    )


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("nothing", "does not begin with the image's head"),
        ("hashes before the head", "does not begin with the image's head"),
        ("an unusable head", "nothing was written"),
        ("a stop in the middle", "ended in the middle"),
        ("an end before the blocks", "ended before it had sent"),
        ("other blocks", "changed meanwhile"),
        ("blocks of another window", "was not asked for"),
        ("what an exporter says", "a message that only exporters send"),
        ("noise", "no message that is known"),
    ],
)
async def test_a_client_that_lies_is_refused_and_the_card_keeps_its_content(
    card: Path, lie: str, words: str
) -> None:
    change(card, 100)
    before = card.read_bytes()
    errors: list[str] = []
    async with serve_async(FileStorage(path=str(card))) as client:
        async with raw_flash(client, errors) as raw:
            begin = await raw.hear()
            assert isinstance(begin, BeginMessage)
            hasher = BlockHasher(begin.key, begin.layout)
            head, first = Head(IMAGE[:1024]).encode(), hashes(hasher, 0)
            match lie:
                case "nothing":
                    pass
                case "hashes before the head":
                    await raw.say(first)
                case "an unusable head":
                    await raw.say(Head(b"<!DOCTYPE html><html>").encode())
                case "a stop in the middle":
                    await raw.say(head, first)
                case "an end before the blocks":
                    await raw.say(head, first)
                    assert await raw.hear() == WantedMessage(0, 1)
                    await raw.say(EndMessage(4 * MIB, "00" * 32).encode())
                case "other blocks":
                    await raw.say(head, first)
                    assert await raw.hear() == WantedMessage(0, 1)
                    await raw.say(Blocks(0, False, b"\1" * BLOCK).encode())
                case "blocks of another window":
                    await raw.say(head, first, Blocks(5, False, b"\1" * BLOCK).encode())
                case "what an exporter says":
                    await raw.say(head, first, WantedMessage(0, 1).encode(4 * MIB, begin.layout))
                case "noise":
                    await raw.say(head, b"\xff" * 100)
            raw.end()
        seen = cast("dict[str, str]", await client.call_async("status"))
        assert (seen["position"], seen["content"]) == ("dut", "as found")
    assert len(errors) == 1
    assert words in errors[0]
    assert card.read_bytes() == before


async def test_a_client_that_leaves_after_the_first_block_leaves_it_partly_written(
    card: Path, image: Path
) -> None:
    change(card, 100, 6 * MIB)
    async with serve_async(FileStorage(path=str(card))) as client:
        storage = cast("StorageMuxFlasherClient", client)
        async with trio.open_nursery() as nursery:
            raw = Raw()

            async def call() -> None:
                async with client.resource_async(raw) as handle:
                    await client.call_async("flash", handle, None, {"changes": True})

            nursery.start_soon(call)
            begin = await raw.hear()
            hasher = BlockHasher(begin.key, begin.layout)
            await raw.say(Head(IMAGE[:1024]).encode(), hashes(hasher, 0))
            assert await raw.hear() == WantedMessage(0, 1)
            await raw.say(Blocks.of(0, IMAGE[:BLOCK]).encode())
            await raw.say(hashes(hasher, 1))
            assert await raw.hear() == WantedMessage(1, 1 << (2 * MIB // BLOCK))
            nursery.cancel_scope.cancel()
        with trio.fail_after(30):
            while (seen := cast("dict[str, Any]", await storage.status.aio()))["operation"] is not None:
                await trio.sleep(0.01)
        assert seen["position"] == "off"
        assert seen["content"] == "incomplete"
        assert "connection was lost" in seen["reason"]
        result = await storage.flash.aio(image)
        assert isinstance(result, FlashResult)
        assert result.changes is not None
        assert result.changes["written"] == BLOCK  # the other one was there already
    assert card.read_bytes() == IMAGE


def test_a_file_that_was_cut_in_between_is_written_again(card: Path, image: Path) -> None:
    with storage(card, hold=True) as client:
        flash(client, image)
        short = image.with_name("short.img")
        short.write_bytes(IMAGE[: 4 * MIB])
        client.flash(short)
        assert card.read_bytes() == IMAGE[: 4 * MIB]
        flash(client, image)
    assert card.read_bytes() == IMAGE
