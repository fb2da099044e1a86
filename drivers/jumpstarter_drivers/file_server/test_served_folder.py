"""No path of a user or a board leads out of the folder, and no more is written than is allowed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.file_server.http import RequestError, RequestReader, selected_range
from jumpstarter_drivers.file_server.served_folder import FileFolder, FileFolderError, PathError, parts_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[FileFolder]:
    """With links that lead out of it, and open descriptors counted."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "root" / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    yield FileFolder(tmp_path / "root", 100)
    assert len(os.listdir("/proc/self/fd")) == before


def put(folder: FileFolder, path: str, data: bytes) -> None:
    file = folder.create(path)
    file.write(data)
    file.finish()


def get(folder: FileFolder, path: str) -> bytes:
    descriptor, size = folder.open_file(path)
    with open(descriptor, "rb") as file:
        data = file.read()
    assert len(data) == size
    return data


NAMES = st.sampled_from(
    ["..", ".", "", "link", "up", "secret", "root", "pipe", "a", "b", "\0", ".partial-0", "…", "x" * 300]
)


@given(st.lists(NAMES, max_size=6).map("/".join) | st.text(max_size=20))
def test_no_path_leads_out(path: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "secret").write_text("secret")
        (base / "root" / "a").mkdir(parents=True)
        (base / "root" / "b").write_text("own")
        (base / "root" / "link").symlink_to(base / "secret")
        (base / "root" / "up").symlink_to(base)
        folder = FileFolder(base / "root", 100)
        for use in (get, FileFolder.stat, FileFolder.names, FileFolder.create_dir, FileFolder.remove_all):
            try:
                assert use(folder, path) != b"secret"
            except (FileFolderError, PathError):
                continue
        try:
            put(folder, path, b"new")
            assert get(folder, path) == b"new"
        except (FileFolderError, PathError):
            pass
        assert sorted(os.listdir(base)) == ["root", "secret"]
        assert (base / "secret").read_text() == "secret"


def test_files_are_written_whole_and_listed(folder: FileFolder) -> None:
    put(folder, "boot/zImage", b"kernel")
    assert get(folder, "/boot//zImage") == b"kernel"
    half = folder.create("boot/zImage")
    half.write(b"new")
    assert folder.names("boot") == ["zImage"]
    assert get(folder, "boot/zImage") == b"kernel"
    half.discard()
    half.discard()
    assert folder.names("") == ["boot/"]  # neither links nor pipes
    assert folder.hash("boot/zImage", "md5") == "50484c19f1afdaf3841a0d821ed393d2"
    folder.rename("boot/zImage", "Image")
    assert not folder.exists("boot/zImage")
    with pytest.raises(FileFolderError, match="there is no 'boot/zImage'"):
        folder.rename("boot/zImage", "other")
    folder.remove_created()
    assert folder.names("") == []
    assert (folder.root / "link").is_symlink()


@pytest.mark.parametrize(
    ("path", "reason"), [("link", "leads over"), ("up/secret", "leads over"), ("pipe", "is not a file")]
)
def test_what_is_no_file_is_not_read(folder: FileFolder, path: str, reason: str) -> None:
    with pytest.raises(FileFolderError, match=reason):
        get(folder, path)


def test_no_more_is_written_than_is_allowed(folder: FileFolder) -> None:
    put(folder, "a", b"x" * 60)
    one, other = folder.create("b"), folder.create("c")
    one.write(b"x" * 30)
    with pytest.raises(FileFolderError, match="more than 100 bytes; remove some"):
        other.write(b"x" * 11)
    one.finish()
    with pytest.raises(FileFolderError, match="more than 100 bytes"):
        other.write(b"x" * 11)
    other.write(b"x" * 10)
    other.finish()
    assert folder.used() == 100
    folder.remove_all("")
    put(folder, "a", b"x" * 100)


@pytest.mark.parametrize("path", ["a/../b", "..", "a\nb", "\ud800", "/".join("a" * 17), "a" * 2000, ".owner"])
def test_a_wrong_path_is_refused(path: str) -> None:
    with pytest.raises(PathError):
        parts_of(path)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=30))
def test_a_request_is_read_from_any_pieces(junk: bytes, cuts: list[int]) -> None:
    sent = b"HEAD /a%20b?x HTTP/1.1\r\nRange:  bytes=1-2\r\nHost: x\r\n\r\n"
    reader, place, found = RequestReader(), 0, None
    for cut in [*cuts, len(sent)]:
        found = found or reader.feed(sent[place : place + cut])
        place += cut
    assert found is not None
    assert (found.path, found.is_head, found.range) == ("/a b", True, "bytes=1-2")
    with suppress(RequestError):
        RequestReader().feed(junk + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=2-4", (2, 3)),
        ("bytes=2-", (2, 8)),
        ("bytes=-3", (7, 3)),
        ("bytes=-99", (0, 10)),
        ("bytes=9-99", (9, 1)),
        ("bytes=4-2", None),
        ("bytes=1-2,4-5", None),
        ("bytes=-", None),
        ("", None),
    ],
)
def test_ranges(asked: str, expected: tuple[int, int] | None) -> None:
    assert selected_range(asked, 10) == expected


def test_a_range_behind_the_end_is_refused() -> None:
    for asked in ("bytes=10-", "bytes=-0"):
        with pytest.raises(RequestError) as error:
            selected_range(asked, 10)
        assert error.value.status == 416
