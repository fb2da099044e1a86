"""Storage end to end over gRPC: what a user sees when all goes well, and when it does not."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import pytest
import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_exporter.devices import udev_monitor
from jumpstarter_exporter.devices.udev_device import DeviceTree
from jumpstarter_exporter.devices.udev_monitor import watch_devices
from jumpstarter_exporter.paths import state_directory
from jumpstarter_proto.encoding import Encoding, compressor
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.images import ImageRefused

from jumpstarter_drivers.storage import blocks
from jumpstarter_drivers.storage import driver as module
from jumpstarter_drivers.storage.blocks import StorageError
from jumpstarter_drivers.storage.client import (
    ArgumentError,
    FlasherClient,
    FlashResult,
    StorageMuxClient,
    StorageMuxFlasherClient,
)
from jumpstarter_drivers.storage.conftest import facts, storage
from jumpstarter_drivers.storage.driver import BlockStorage, FileStorage, MockFlasher, MockStorageMux
from jumpstarter_drivers.storage.mux import StorageCore
from jumpstarter_drivers.storage.state import Position
from jumpstarter_drivers.testing import host, serve, serve_async
from tests.support.images import mbr

IMAGE = mbr()[:512] + random.Random(2).randbytes(5_000_000 - 512)
SMALL = IMAGE[:1_000_000]


def zstd(data: bytes) -> bytes:
    codec = compressor(Encoding.ZSTD)
    return b"".join(codec.feed(data)) + codec.finish()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zstd": zstd,
}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(b"what was there before")
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE)
    return path


def test_flash_writes_verifies_and_switches_to_the_board(card: Path, image: Path) -> None:
    with storage(card) as client:
        result = client.flash(image)
        assert isinstance(result, FlashResult)
        assert (result.bytes, result.verified) == (len(IMAGE), True)
        assert "5000000 bytes" in str(result)
        assert str(result).endswith("verified")
        assert facts(client) == ("dut", "complete")
    assert card.read_bytes() == IMAGE


@pytest.mark.parametrize("encoding", PACKERS)
def test_packed_image_is_unpacked_by_its_content(card: Path, tmp_path: Path, encoding: str) -> None:
    packed = tmp_path / "image.packed"
    packed.write_bytes(PACKERS[encoding](SMALL))
    with storage(card) as client:
        client.flash(packed)
        assert card.read_bytes() == SMALL
        with pytest.raises(ImageRefused, match="still packed"):
            client.flash(packed, compression="none")
        client.flash(packed, compression="none", force=True)
        assert card.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("encoding", PACKERS)
def test_damaged_packed_image_is_an_error_and_the_board_does_not_get_it(
    card: Path, tmp_path: Path, encoding: str
) -> None:
    packed = tmp_path / "image.packed"
    packed.write_bytes(PACKERS[encoding](SMALL)[:-10_000])
    with storage(card) as client:
        with pytest.raises(DriverError, match=f"{encoding} content ends too early"):
            client.flash(packed, whole=True)
        assert facts(client) == ("off", "incomplete")
        with pytest.raises(DriverError, match=r"incomplete image .* ends too early.*--force"):
            client.dut()
        client.dut(force=True)
        assert facts(client) == ("dut", "incomplete")


def test_incomplete_outlives_the_exporter_and_ends_with_a_good_flash(
    card: Path, image: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gz"
    bad.write_bytes(gzip.compress(IMAGE)[:-1000])
    with storage(card) as client, pytest.raises(DriverError):
        client.flash(bad, whole=True)
    with storage(card) as client:
        client.off()
        with pytest.raises(DriverError, match="incomplete image"):
            client.dut()
        client.flash(image)
        assert facts(client) == ("dut", "complete")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.gz", "card.img", "image.img"]


@pytest.mark.parametrize(
    ("content", "config", "words"),
    [(b"", {}, "empty"), (IMAGE, {"size": 1_000_000}, "5000000 bytes and .* takes 1000000")],
)
def test_what_cannot_work_changes_nothing(
    card: Path, tmp_path: Path, content: bytes, config: dict[str, object], words: str
) -> None:
    bad = tmp_path / "bad.img"
    bad.write_bytes(content)
    with storage(card, **config) as client:
        with pytest.raises(JumpstarterError, match=words):
            client.flash(bad)
        assert facts(client) == ("dut", "as found")
    assert card.read_bytes() == b"what was there before"


async def test_image_that_is_not_as_long_as_announced_is_an_error(card: Path) -> None:
    class Short:
        left = 2

        async def receive_some(self, _max_bytes: int | None = None, /) -> bytes:
            await trio.lowlevel.checkpoint()
            self.left -= 1
            return IMAGE[:600] if self.left > 0 else b""

    async with serve_async(FileStorage(path=str(card))) as client:
        options = {"size": 1000, "compression": "none", "verify": None}
        with pytest.raises(DriverError, match="1000 bytes long and 600 arrived"):
            async with client.resource_async(Short()) as handle:
                await client.call_async("flash", handle, None, options)
        assert cast("dict[str, str]", await client.call_async("status"))["content"] == "incomplete"


def test_image_is_on_the_device_when_flash_says_so(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with storage(card) as client:
        client.flash(image, verify=False)
    assert card.stat().st_ino in synced


def test_missing_local_file_is_told_before_anything_is_asked(card: Path) -> None:
    with storage(card) as client:
        with pytest.raises(JumpstarterError, match=r"none\.img does not exist"):
            client.flash(card.with_name("none.img"))
        assert facts(client) == ("dut", "as found")


def test_packed_image_beyond_the_size_stops_at_the_limit(card: Path, tmp_path: Path) -> None:
    packed = tmp_path / "image.gz"
    packed.write_bytes(gzip.compress(IMAGE[:512] + bytes(50_000_000)))
    with storage(card, size=10_000_000) as client:
        with pytest.raises(DriverError, match="larger than the 10000000 bytes"):
            client.flash(packed, whole=True)
        assert facts(client) == ("off", "incomplete")
    assert card.stat().st_size <= 10_000_000


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "is full"), (errno.EIO, "plugged in"), (errno.ENODEV, "plugged in")]
)
def test_disk_that_fails_in_the_middle(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    monkeypatch.setattr(blocks, "WRITE_BYTES", 1_000_000)
    real = os.pwritev

    def fail(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset > 2_000_000:
            raise OSError(code, os.strerror(code))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", fail)
    with storage(card) as client:
        with pytest.raises(DriverError, match=words):
            client.flash(image, whole=True)
        assert facts(client) == ("off", "incomplete")


def test_card_that_vanishes_in_the_middle(card: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WRITE_BYTES", 1_000_000)
    real = os.pwritev

    def pull(fd: int, buffers: list[memoryview], offset: int) -> int:
        card.unlink(missing_ok=True)
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", pull)
    with storage(card) as client:
        with pytest.raises(DriverError, match="does not exist"):
            client.flash(image, whole=True)
        assert facts(client) == ("off", "incomplete")


@pytest.mark.parametrize("whole", [False, True])
def test_verification_finds_what_the_card_forgot(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: bytes(len(real(fd, count, offset))))
    with storage(card) as client:
        with pytest.raises(DriverError, match="not what was written"):
            client.flash(image, whole=whole)
        assert facts(client) == ("off", "incomplete")
        result = client.flash(image, verify=False, whole=whole)
        assert isinstance(result, FlashResult)
        assert not result.verified
        assert facts(client) == ("dut", "complete")


async def test_cancelled_flash_leaves_a_known_state(card: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as slow, os.fdopen(write, "wb") as feed:
        feed.write(IMAGE[:1000])
        feed.flush()
        async with serve_async(FileStorage(path=str(card))) as client:
            storage = cast("StorageMuxFlasherClient", client)
            async with trio.open_nursery() as nursery:
                operator = _Only(cast("BinaryIO", slow))
                nursery.start_soon(lambda: storage.flash.aio("slow", operator=operator, whole=True))
                await wait_for(storage, "content", "writing")
                nursery.cancel_scope.cancel()
            seen = await wait_for(storage, "position", "off")
            assert seen["content"] == "incomplete"
            assert "cancelled" in seen["reason"]
            feed.close()


async def wait_for(storage: StorageMuxClient, key: str, value: str) -> dict[str, str]:
    with trio.fail_after(30):
        async with aclosing(storage.watch.aio()) as reports:
            async for report in reports:
                seen = cast("dict[str, str]", report)
                if seen[key] == value:
                    return seen
    raise AssertionError


class _Only:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def open(self, path: str, mode: str, /) -> BinaryIO:
        return self.file


@dataclass(kw_only=True, eq=False)
class _Mux(FileStorage):
    """A multiplexer that obeys when it is told to, and does not go back if it is `stuck`."""

    stuck: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked: list[Position] = []
        self.obeys = trio.Event()
        self.begun = trio.Event()
        self.back = trio.Event()
        self.back.set()

    async def switch(self, position: Position) -> None:
        self.asked.append(position)
        self.begun.set()
        await (self.obeys if position is Position.HOST else self.back).wait()
        if position is Position.HOST:
            return
        if self.stuck:
            raise StorageError("the multiplexer does not answer; plug it in again")


@pytest.mark.parametrize("method", ["flash", "dump"])
async def test_cancelled_while_it_is_switched_the_storage_goes_back_to_the_board(
    card: Path, image: Path, tmp_path: Path, method: str
) -> None:
    mux = _Mux(path=str(card))
    async with serve_async(mux) as client:
        storage = cast("StorageMuxFlasherClient", client)
        async with trio.open_nursery() as nursery:
            file = image if method == "flash" else tmp_path / "dump.img"
            nursery.start_soon(getattr(storage, method).aio, file)
            await mux.begun.wait()
            nursery.cancel_scope.cancel()
        seen = await wait_for(storage, "position", "dut")
        assert seen["content"] == "as found"
    assert mux.asked == [Position.HOST, Position.DUT]


@pytest.mark.parametrize("method", ["flash", "dump"])
async def test_without_an_operation_the_next_call_is_taken(
    card: Path, image: Path, tmp_path: Path, method: str
) -> None:
    """A dump goes on until the storage is back, a flash until the board has it: nobody is told that it is over then."""
    mux = _Mux(path=str(card))
    async with serve_async(mux) as client:
        storage = cast("StorageMuxFlasherClient", client)
        file = image if method == "flash" else tmp_path / "dump.img"
        mux.obeys.set()
        back = mux.back = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(storage, method).aio, file)
            while len(mux.asked) < 2:
                await mux.begun.wait()
                mux.begun = trio.Event()
            assert cast("dict[str, object]", await storage.status.aio())["operation"] is not None
            with pytest.raises(JumpstarterError, match="the device is being"):
                await storage.off.aio()
            back.set()
            with trio.fail_after(30):
                async with aclosing(storage.watch.aio()) as reports:
                    async for report in reports:
                        if cast("dict[str, object]", report)["operation"] is None:
                            break
            await storage.off.aio()


@pytest.mark.parametrize("method", ["flash", "dump"])
async def test_what_went_wrong_first_is_told_and_not_that_the_storage_did_not_go_back(
    card: Path, image: Path, tmp_path: Path, method: str
) -> None:
    mux = _Mux(path=str(card), stuck=True)
    mux.obeys.set()
    async with serve_async(mux) as client:
        storage = cast("StorageMuxFlasherClient", client)
        await storage.status.aio()  # it is open now
        await trio.Path(card).unlink()
        await trio.Path(card).mkdir()
        with pytest.raises(DriverError) as caught:
            await getattr(storage, method).aio(image if method == "flash" else tmp_path / "dump.img")
        assert "multiplexer" not in str(caught.value)
        assert cast("dict[str, str]", await storage.status.aio())["position"] == "unknown"


def test_dump_gives_every_byte_and_goes_back_where_it_was(card: Path, image: Path, tmp_path: Path) -> None:
    with storage(card) as client:
        client.flash(image)
        client.off()
        result = client.dump(tmp_path / "dump.img")
        assert result.bytes == len(IMAGE)
        assert facts(client) == ("off", "complete")
        client.dump(tmp_path / "dump.gz", compression="gzip")
    assert (tmp_path / "dump.img").read_bytes() == IMAGE
    assert gzip.decompress((tmp_path / "dump.gz").read_bytes()) == IMAGE


def test_a_dump_of_a_card_that_fails_says_so_and_not_that_the_stream_broke(
    card: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "READ_BYTES", 65536)
    real = os.pread

    def fail(fd: int, size: int, offset: int) -> bytes:
        if offset > 1_000_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, size, offset)

    with storage(card) as client:
        client.flash(image)
        monkeypatch.setattr(os, "pread", fail)
        for _ in range(5):  # the stream and the call may end in any order
            with pytest.raises(DriverError, match="plugged in"):
                client.dump(tmp_path / "dump.img")


def test_dump_that_lost_bytes_on_the_way_is_not_kept(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = blocks.StorageDevice.read

    async def read(*args: Any, **options: Any) -> int:
        return await real(*args, **options) + 1

    monkeypatch.setattr(blocks.StorageDevice, "read", read)
    with storage(card) as client, pytest.raises(JumpstarterError, match="nothing was kept"):
        client.dump(tmp_path / "dump.img")
    assert list(tmp_path.iterdir()) == [card]


def test_a_dump_goes_back_to_a_board_that_has_an_incomplete_image(card: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gz"
    bad.write_bytes(gzip.compress(IMAGE)[:-1000])
    with storage(card) as client:
        with pytest.raises(DriverError, match="ends too early"):
            client.flash(bad, whole=True)
        assert cast("dict[str, object]", client.status())["image"] is None
        client.dut(force=True)
        client.dump(tmp_path / "dump.img")
        assert facts(client) == ("dut", "incomplete")


@pytest.mark.parametrize(
    ("configured", "asked", "verified"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_what_the_user_says_of_verification_counts_before_the_configuration(
    card: Path, tmp_path: Path, configured: bool, asked: bool | None, verified: bool
) -> None:
    small = tmp_path / "small.img"
    small.write_bytes(SMALL)
    with storage(card, verify=configured) as client:
        result = cast("FlashResult", client.flash(small, verify=asked))
        assert result.verified is verified
        assert result.sha256 == ""  # the exporter has compared blocks, and has not hashed the image
        image = cast("dict[str, dict[str, object]]", client.status())["image"]
        assert (image["bytes"], image["verified"]) == (len(SMALL), verified)


def test_private_card_goes_with_the_session() -> None:
    driver = FileStorage()
    with serve(driver) as client:
        cast("StorageMuxFlasherClient", client).dut()
        file = driver.file
        assert file.exists()
    assert not file.parent.exists()


def test_dump_verb_replaces_a_file_only_by_force(card: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    with storage(card) as client:
        with pytest.raises(JumpstarterError, match="--force"):
            client.dump_verb(str(there))
        assert there.read_bytes() == b"precious"
        client.dump_verb(str(there), force=True)
        assert there.read_bytes() == b"what was there before"


def test_write_and_read_need_the_storage_at_the_host(card: Path, image: Path, tmp_path: Path) -> None:
    with serve(MockStorageMux()) as raw:
        client = cast("StorageMuxClient", raw)
        with pytest.raises(DriverError, match="connected to dut, not to the host"):
            client.write_local_file(image)
        client.host()
        client.write_local_file(image)
        client.read_local_file(tmp_path / "back.img")
        client.dut()
    assert (tmp_path / "back.img").read_bytes() == IMAGE


class _Folder:
    """A storage service, as fsspec and opendal have them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, path: str, mode: str) -> BinaryIO:
        return cast("BinaryIO", (self._path / path.lstrip("/")).open(mode))


def test_files_of_a_storage_service_are_written_and_read(card: Path, image: Path, tmp_path: Path) -> None:
    service = _Folder(tmp_path)
    with serve(MockStorageMux()) as raw:
        mux = cast("StorageMuxClient", raw)
        mux.host()
        mux.write_file(service, image.name)
        mux.read_file(service, "back.img")
    assert (tmp_path / "back.img").read_bytes() == IMAGE
    with serve(MockFlasher()) as raw:
        flasher = cast("FlasherClient", raw)
        flasher.flash({"boot": image.name, "root": str(image)}, operator={"boot": service})
        flasher.dump("boot.img", target="boot", operator=service)
        for wrong in ({"target": "boot"}, {"operator": service, "target": "x"}):
            with pytest.raises(ArgumentError, match="leave `target` out"):
                flasher.flash({"boot": image}, **wrong)
        with pytest.raises(ArgumentError, match="pass one operator"):
            flasher.flash(image, operator={"boot": service})
    assert (tmp_path / "boot.img").read_bytes() == IMAGE


def test_flash_verb_takes_a_file_or_targets(card: Path, image: Path, tmp_path: Path) -> None:
    small, junk = tmp_path / "small:1.img", tmp_path / "junk.img"
    small.write_bytes(SMALL)
    junk.write_bytes(b"junk" * 1000)
    with serve(MockFlasher()) as raw:
        flasher = cast("FlasherClient", raw)
        flasher.flash_verb(target=(f"boot:{image}", f"root:{small}"))
        flasher.dump_verb(str(tmp_path / "boot"), target="boot")
        flasher.dump_verb(str(tmp_path / "root"), target="root")
        for wrong in ("boot", ":x", "boot:"):
            with pytest.raises(ArgumentError, match="is not NAME:FILE"):
                flasher.flash_verb(target=(wrong,))
        with pytest.raises(ArgumentError, match="not both"):
            flasher.flash_verb(str(image), target=("boot:x",))
        with pytest.raises(ArgumentError, match="which image"):
            flasher.flash_verb()
    assert (tmp_path / "boot").read_bytes() == IMAGE
    assert (tmp_path / "root").read_bytes() == SMALL
    with storage(card) as client:
        result = cast("FlashResult", client.flash_verb(str(small), verify=False))
        assert str(result).endswith(", not verified")
        with pytest.raises(ImageRefused):
            client.flash_verb(str(junk))
        client.flash_verb(str(junk), force=True)
        client.dump_verb(str(tmp_path / "dump.xz"), compression="xz")
    assert lzma.decompress((tmp_path / "dump.xz").read_bytes()) == card.read_bytes() == junk.read_bytes()


def test_target_stays_as_it_is_until_all_of_another_image_has_arrived(image: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gz"
    bad.write_bytes(gzip.compress(IMAGE + IMAGE)[:-1000])
    with serve(MockFlasher()) as raw:
        flasher = cast("FlasherClient", raw)
        flasher.flash(image, target="boot")
        with pytest.raises(DriverError, match="ends too early"):
            flasher.flash(bad, target="boot")
        flasher.dump(tmp_path / "boot", target="boot")
    assert (tmp_path / "boot").read_bytes() == IMAGE


def test_second_user_is_told_what_the_storage_is_busy_with(
    card: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    real = os.pwritev

    def slow(fd: int, buffers: list[memoryview], offset: int) -> int:
        writing.set()
        go_on.wait(30)
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", slow)
    with storage(card) as client:
        thread = threading.Thread(target=client.flash, args=(image,))
        thread.start()
        try:
            assert writing.wait(30)
            with pytest.raises(DriverError, match="being flashed"):
                client.dut()
        finally:
            go_on.set()
            thread.join(30)
        assert facts(client) == ("dut", "complete")


class _Files(BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + (1000 if self.path == "/cut.img" else 0)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    _Files.files = {"/image.img": SMALL, "/image.xz": lzma.compress(SMALL), "/cut.img": SMALL}
    _Files.files["/damaged.xz"] = lzma.compress(SMALL)[:-10_000]
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["image.img", "image.xz"])
def test_url_is_fetched_by_the_exporter_and_unpacked(card: Path, web: str, name: str) -> None:
    with storage(card) as client:
        client.flash(f"{web}/{name}")
    assert card.read_bytes() == SMALL


def test_url_that_is_not_there_changes_nothing(card: Path, web: str) -> None:
    with storage(card) as client:
        with pytest.raises(DriverError, match="404"):
            client.flash(f"{web}/none.img")
        assert facts(client) == ("dut", "as found")


def test_url_that_is_cut_short_is_an_error(card: Path, web: str) -> None:
    with storage(card) as client:
        with pytest.raises(DriverError):
            client.flash(f"{web}/cut.img")
        assert facts(client) == ("dut", "as found")  # less than a window came
    assert card.read_bytes() == b"what was there before"


def test_url_of_a_damaged_packed_image_is_an_error(card: Path, web: str) -> None:
    with storage(card) as client:
        with pytest.raises(DriverError, match="xz content ends too early"):
            client.flash(f"{web}/damaged.xz")
        assert facts(client) == ("dut", "as found")
    assert card.read_bytes() == b"what was there before"


def test_targets_are_for_flashers_that_have_them(card: Path, image: Path, tmp_path: Path) -> None:
    with storage(card) as client, pytest.raises(JumpstarterError, match="as a whole"):
        client.flash(image, target="boot")
    other = tmp_path / "other.img"
    other.write_bytes(b"hsqs\0other")
    with serve(MockFlasher()) as raw:
        flasher = cast("FlasherClient", raw)
        flasher.flash({"boot": image, "root": other})
        flasher.dump(tmp_path / "boot", target="boot")
        flasher.dump(tmp_path / "root", target="root")
        with pytest.raises(DriverError, match="does not exist"):
            flasher.dump(tmp_path / "none", target="none")
        with pytest.raises(JumpstarterError, match="is not a valid target name"):
            flasher.flash(image, target="../escape")
    assert (tmp_path / "boot").read_bytes() == IMAGE
    assert (tmp_path / "root").read_bytes() == b"hsqs\0other"
    assert not (tmp_path / "none").exists()


def test_block_storage_runs_the_multiplexers_commands(tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = {name: ["sh", "-c", f"echo {name} >> {log}"] for name in ("host", "dut")}
    commands["off"] = ["sh", "-c", "echo the relay is stuck >&2; exit 3"]
    with serve(
        BlockStorage(path="/dev/none", commands=commands, state_dir=str(tmp_path), storage_timeout=5)
    ) as raw:
        client = cast("StorageMuxFlasherClient", raw)
        assert facts(client)[0] == "unknown"
        client.host()
        client.dut()
        with pytest.raises(DriverError, match="exit code 3: the relay is stuck"):
            client.off()
        assert facts(client)[0] == "unknown"
    assert log.read_text().split() == ["host", "dut"]


async def test_who_watches_hears_of_a_switch_that_failed(tmp_path: Path) -> None:
    driver = BlockStorage(path="/dev/none", commands={"host": ["true"]}, state_dir=str(tmp_path))
    with trio.fail_after(30):
        async with serve_async(driver) as raw:
            client = cast("StorageMuxFlasherClient", raw)
            await client.host.aio()
            async with aclosing(client.watch.aio()) as reports:
                assert cast("dict[str, str]", await anext(reports))["position"] == "host"
                with pytest.raises(DriverError, match=r"no command switches to off; add commands\.off"):
                    await client.off.aio()
                assert cast("dict[str, str]", await anext(reports))["position"] == "unknown"


def test_unfinished_writes_are_noted_in_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, name = "/dev/disk/by-path/usb-1:2", "dev-disk-by-path-usb-1"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JUMPSTARTER_STATE_DIRECTORY")
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert BlockStorage(path=path).incomplete_marker().path.parent == tmp_path / "one"
    assert BlockStorage(path=path).incomplete_marker().path.name.startswith(name)
    assert BlockStorage(path=path, state_dir="~/own").incomplete_marker().path.parent == tmp_path / "own"
    monkeypatch.delenv("STATE_DIRECTORY")
    assert BlockStorage(path=path).incomplete_marker().path.parent == state_directory(os.environ)
    assert (
        BlockStorage(path=path).incomplete_marker().path
        != BlockStorage(path=f"{path}:3").incomplete_marker().path
    )


def test_block_storage_says_when_no_card_appears(tmp_path: Path, image: Path) -> None:
    driver = BlockStorage(path=str(tmp_path / "none"), state_dir=str(tmp_path), storage_timeout=0.2)
    with serve(driver) as raw:
        client = cast("StorageMuxFlasherClient", raw)
        with pytest.raises(DriverError, match=r"did not appear at the host within 0\.2 s"):
            client.flash(image)
        assert facts(client) == ("host", "as found")
    with serve(BlockStorage(path=str(image), state_dir=str(tmp_path))) as raw:
        client = cast("StorageMuxFlasherClient", raw)
        with pytest.raises(DriverError, match="not a block device"):
            client.flash(image)
    assert image.read_bytes() == IMAGE


async def test_block_storage_waits_for_udevs_word_where_there_is_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    path = tmp_path / "card"

    def is_ready(_: Path) -> bool:
        nonlocal looked
        looked += 1
        return path.exists()

    monkeypatch.setattr(module, "_is_ready", is_ready)
    monkeypatch.setattr(module, "_LINK_SECONDS", 3600.0)
    monkeypatch.setattr(udev_monitor, "enumerate_devices", lambda: DeviceTree(()))
    driver = BlockStorage(path=str(path), state_dir=str(tmp_path))
    with trio.fail_after(10):
        async with watch_devices(trio.CapacityLimiter(2)) as watch:
            watch.hears_events = watch.has_nodes = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.device)
                while looked < 2:  # at once, and with the tree that there is
                    await trio.sleep(0.001)
                watch.show(DeviceTree(()))  # something else has changed
                while looked < 3:
                    await trio.sleep(0.001)
                path.touch()
                watch.show(DeviceTree(()))
            assert looked == 4
        # Where nobody tells, it is looked for.
        looked = 0
        path.unlink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.device)
            while looked < 3:
                await trio.sleep(0.001)
            path.touch()


@pytest.mark.parametrize(
    ("config", "words"),
    [({"size": 0}, "at least one byte"), ({"storage_timeout": 0}, "seconds above 0")],
)
def test_invalid_configuration_is_rejected(config: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FileStorage(**config)  # type: ignore[arg-type]


def test_commands_for_unknown_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="takes dut, host, off"):
        BlockStorage(path="/dev/sdx", commands={"left": ["true"]})


async def test_storage_stays_where_a_session_left_it_with_its_content(image: Path) -> None:
    async with host(FileStorage, size=10_000_000) as devices:
        async with serve_async(devices) as client:
            await cast("StorageMuxFlasherClient", client).flash.aio(image)
            await cast("StorageMuxFlasherClient", client).off.aio()
        async with serve_async(devices) as client:
            status = await cast("StorageMuxFlasherClient", client).status.aio()
            assert isinstance(status, dict)
            assert (status["position"], status["content"]) == ("off", "complete")


@pytest.mark.parametrize(("release", "position"), [("host", "host"), (False, "off"), ("leave", "dut")])
async def test_release_switches_storage_at_the_end_of_a_session(release: Any, position: str) -> None:
    async with host(FileStorage, release=release) as devices:
        async with serve_async(devices) as client:
            await cast("StorageMuxFlasherClient", client).dut.aio()
        core = devices.slots[""].core
        assert core is not None
        assert cast("StorageCore", core.core).state.position == position
    with pytest.raises(ValueError, match="release is on"):
        FileStorage(release=True)
