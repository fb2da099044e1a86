"""`jumpstarter storage inspect`, which says without a board what flashing would do."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import lzma
import os
import termios
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import yaml
from jumpstarter_client.cli.entry import run, start
from jumpstarter_proto.encoding import ContentError
from jumpstarter_proto.images import Verdict

from jumpstarter_drivers.storage.conftest import Web
from jumpstarter_drivers.storage.inspection import inspect_image
from tests.support.images import UNUSABLE, mbr, tar, zipped

IMAGE = mbr() + bytes(300_000)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
STACKS = {
    "gzip": gzip.compress(IMAGE),
    "xz, tar (a/disk.img)": lzma.compress(tar(("README", b"hello\n"), ("a/disk.img", IMAGE))),
    "zip (disk.img.xz), xz": zipped(("disk.img.xz", lzma.compress(IMAGE))),
    "": IMAGE,
}


@pytest.mark.parametrize("layers", STACKS)
async def test_layers_size_and_digest_are_those_of_the_image(tmp_path: Path, layers: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(STACKS[layers])
    facts = await inspect_image(path)
    assert ", ".join(facts.layers) == layers
    assert (facts.bytes, facts.sha256, facts.verdict) == (len(IMAGE), SHA256, Verdict.IMAGE)
    assert facts.content == "a disk with an MBR partition table"
    assert (facts.remarks, facts.advice) == ([], "")


async def test_what_would_be_left_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(gzip.compress(IMAGE) + b"metadata")
    facts = await inspect_image(path)
    assert facts.remarks == ["8 bytes of other data behind the gzip content were left out"]
    assert str(facts).count("8 bytes") == 1


async def test_pipe_that_stalls_holds_up_nobody_who_cancels(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    was_closed = threading.Event()

    def end_it(writer: int) -> None:
        was_closed.set()
        os.close(writer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inspect_image, path)
        writer = await trio.to_thread.run_sync(os.open, path, os.O_WRONLY)
        for start in range(0, len(IMAGE), 4096):
            await trio.to_thread.run_sync(os.write, writer, IMAGE[start : start + 4096])
        unread = bytearray(4)
        while not fcntl.ioctl(writer, termios.FIONREAD, unread) and any(unread):
            await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)  # a thread waits for more now
        timer = threading.Timer(5, end_it, [writer])
        timer.start()
        nursery.cancel_scope.cancel()
    assert not was_closed.is_set()
    timer.cancel()
    timer.join()
    os.close(writer)


async def test_damaged_image_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(gzip.compress(os.urandom(300_000))[:-5000])
    with pytest.raises(ContentError, match="ends too early"):
        await inspect_image(path)


async def test_url_is_fetched_from_here(web: Web) -> None:
    web.body = STACKS["xz, tar (a/disk.img)"]
    facts = await inspect_image(web.url)
    assert (facts.layers, facts.sha256) == (["xz", "tar (a/disk.img)"], SHA256)


def inspect(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The command in this process: how it ended, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jumpstarter_client.cli.entry._exit_on_signal", lambda: None)
        patch.setattr("gc.disable", lambda: None)
        patch.setattr("gc.freeze", lambda: None)
        patch.setattr("sys.argv", ["jumpstarter", "storage", "inspect", *words])
        with pytest.raises(SystemExit) as ended:
            run(start)
    out, err = capfd.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture(autouse=True)
def _no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPSTARTER_HOST", "/nowhere.sock")


def test_command_needs_no_exporter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "image"
    path.write_bytes(STACKS["gzip"])
    code, out, _ = inspect(capfd, str(path))
    assert code == 0
    assert out.splitlines()[-1] == "flash:     yes"
    for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        code, out, _ = inspect(capfd, str(path), "-o", output)
        facts: Any = read(out)
        assert (code, facts["verdict"], facts["layers"], facts["sha256"]) == (0, "image", ["gzip"], SHA256)


@pytest.mark.parametrize("name", UNUSABLE)
def test_command_ends_with_1_for_what_would_not_be_flashed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(UNUSABLE[name])
    code, out, _ = inspect(capfd, str(path))
    assert code == 1
    assert out.splitlines()[-1].startswith("flash:     no, the ")


def test_command_reads_standard_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin:
        os.write(write, STACKS["gzip"])
        os.close(write)
        monkeypatch.setattr("sys.stdin", stdin)
        assert inspect(capfd, "-")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["none.img"], 3, "does not exist"), ([], 2, "FILE"), (["--wrong"], 2, "no option --wrong")],
)
def test_wrong_words_are_one_sentence(
    capfd: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    ended, _, err = inspect(capfd, *words)
    assert ended == code
    assert said in err
    assert len(err.splitlines()) == 1
