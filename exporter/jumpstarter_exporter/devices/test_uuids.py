"""UUIDs of devices: the same at each start, whatever happens to their file."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jumpstarter_exporter.devices import uuids as module
from jumpstarter_exporter.devices.uuids import device_uuids


def test_they_are_the_same_at_the_next_start_and_new_devices_get_new_ones(tmp_path: Path) -> None:
    first = device_uuids(["a", "a.power"], directory=tmp_path, board="lab")
    second = device_uuids(["a", "b", "a.power"], directory=tmp_path, board="lab")
    assert {path: second[path] for path in first} == first
    assert len(set(second.values())) == 3
    assert device_uuids(["b"], directory=tmp_path, board="other")["b"] != second["b"]
    (kept, _) = sorted((tmp_path / "devices").iterdir())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_device_that_comes_back_is_the_same(tmp_path: Path) -> None:
    (before,) = device_uuids(["a"], directory=tmp_path, board="lab").values()
    device_uuids(["b"], directory=tmp_path, board="lab")
    assert device_uuids(["a"], directory=tmp_path, board="lab") == {"a": before}


def test_what_is_remembered_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DEVICES", 3)
    (first,) = device_uuids(["0"], directory=tmp_path, board="lab").values()
    for number in range(1, 4):
        device_uuids([str(number)], directory=tmp_path, board="lab")
    assert device_uuids(["0"], directory=tmp_path, board="lab")["0"] != first


def test_a_copy_of_a_file_is_another_board_and_a_moved_one_is_the_same(tmp_path: Path) -> None:
    file, copy, moved = tmp_path / "lab.yaml", tmp_path / "copy.yaml", tmp_path / "moved.yaml"
    file.touch()
    copy.touch()

    def uuid(source: Path) -> object:
        return device_uuids(["a"], directory=tmp_path, board="lab", file=source)["a"]

    first, second = uuid(file), uuid(copy)
    assert first != second
    assert (uuid(file), uuid(copy)) == (first, second)
    file.rename(moved)
    assert uuid(copy) == second
    assert uuid(moved) == first


@settings(max_examples=30)
@given(content=st.binary() | st.sampled_from([b"{}", b"[]", b'{"uuids": {"a": 1}}', b"null"]))
@example(b'{"file": "\xff"}')
@example(b'{"x": ' + b"[" * 100_000)
def test_a_damaged_file_is_set_aside(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("state")
    (before,) = device_uuids(["a"], directory=directory, board="lab").values()
    place = directory / "devices" / "lab.json"
    place.write_bytes(content)
    (after,) = device_uuids(["a"], directory=directory, board="lab").values()
    assert before != after
    assert device_uuids(["a"], directory=directory, board="lab") == {"a": after}
    assert (directory / "devices" / "lab.broken").read_bytes() == content
    place.write_bytes(b"again")
    assert device_uuids(["a"], directory=directory, board="lab") != {"a": after}
    assert (directory / "devices" / "lab.broken").read_bytes() == content
    assert (directory / "devices" / "lab.broken-2").read_bytes() == b"again"


def test_nested_lists_without_end_are_damage(tmp_path: Path) -> None:
    place = tmp_path / "devices" / "lab.json"
    place.parent.mkdir()
    place.write_bytes(b'{"later": ' + b"[" * 100_000)
    first = device_uuids(["a"], directory=tmp_path, board="lab")
    assert place.with_suffix(".broken").exists()
    assert device_uuids(["a"], directory=tmp_path, board="lab") == first


def test_a_pipe_in_place_of_the_file_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "devices" / "lab.json"
    place.parent.mkdir()
    os.mkfifo(place)
    assert device_uuids(["a"], directory=tmp_path, board="lab")
    assert (
        "cannot be read: it is a pipe, a socket or a device, not a file; its devices get new UUIDs"
        in caplog.text
    )
    assert place.with_suffix(".broken").is_fifo()


def test_what_can_be_neither_read_nor_set_aside_is_not_written_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "devices" / "lab.json"
    place.parent.mkdir()
    place.write_bytes(b"{")

    def refuse(path: Path) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module, "set_aside", refuse)
    assert device_uuids(["a"], directory=tmp_path, board="lab")
    assert place.read_bytes() == b"{"
    assert "it cannot be set aside: Read-only file system; make it readable, or remove it" in caplog.text


@settings(max_examples=30)
@given(name=st.binary(min_size=1, max_size=200))
def test_any_name_of_a_configuration_will_do(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    directory = tmp_path_factory.mktemp("state")
    file = directory / os.fsdecode(name.translate(None, b"/\0") + b".yaml")
    first = device_uuids(["a"], directory=directory, board="lab", file=file)
    assert device_uuids(["a"], directory=directory, board="lab", file=file) == first


@pytest.mark.parametrize("kept", ["/" + 5000 * "a", "/a\0b", "/nowhere/a.yaml"])
def test_a_configuration_that_cannot_be_looked_for_is_one_that_was_moved(tmp_path: Path, kept: str) -> None:
    (uuid,) = device_uuids(["a"], directory=tmp_path, board="lab").values()
    place = tmp_path / "devices" / "lab.json"
    place.write_text(json.dumps({"file": kept, "uuids": {"a": str(uuid)}}))
    assert device_uuids(["a"], directory=tmp_path, board="lab", file=tmp_path / "lab.yaml") == {"a": uuid}


def test_two_devices_with_one_uuid_are_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (one,) = device_uuids(["a"], directory=tmp_path, board="lab").values()
    (tmp_path / "devices" / "lab.json").write_text(f'{{"uuids": {{"a": "{one}", "b": "{one}"}}}}')
    both = device_uuids(["a", "b"], directory=tmp_path, board="lab")
    assert len(set(both.values())) == 2
    assert "is damaged (two devices have one UUID)" in caplog.text


def test_a_place_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    assert list(device_uuids(["a"], directory=tmp_path / "state", board="lab")) == ["a"]
    assert "the UUIDs of lab's devices cannot be kept in" in caplog.text
    assert "set JUMPSTARTER_STATE_DIRECTORY" in caplog.text
