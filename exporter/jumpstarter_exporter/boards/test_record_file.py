"""The record survives what its process does not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from jumpstarter_exporter.boards.record_file import RecordFile


async def test_what_was_written_is_read_by_the_next_and_by_nobody_else(tmp_path: Path) -> None:
    record = RecordFile(tmp_path, "rpi4", tmp_path / "one.yaml")
    assert await record.read() is None
    await record.write({"lease": "a"})
    await record.write({"lease": "b"})
    assert await RecordFile(tmp_path, "rpi4", tmp_path / "one.yaml").read() == {"lease": "b"}
    assert await RecordFile(tmp_path, "rpi4", tmp_path / "two.yaml").read() is None
    (file,) = (tmp_path / "occupancy").iterdir()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff", b"NaN"])
async def test_what_is_not_a_record_is_said_and_kept_aside(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    record = RecordFile(tmp_path, "rpi4", tmp_path / "one.yaml")
    await record.write({})
    (file,) = (tmp_path / "occupancy").iterdir()
    file.write_bytes(text)
    assert await record.read() == {}, "which is no record, where None would say that nobody had the board"
    assert "the controller is asked for the board's lease" in caplog.text
    await record.write({"lease": "a"})
    assert file.with_suffix(".broken").read_bytes() == text


async def test_a_disk_that_takes_nothing_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "occupancy").write_text("in the way")
    record = RecordFile(tmp_path, "rpi4", tmp_path / "one.yaml")
    await record.write({"lease": "a"})
    await record.write({"lease": "b"})
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(said) == 1
    assert "after a restart, a running lease begins again. Make room there" in said[0]
    os.remove(tmp_path / "occupancy")
    await record.write({"lease": "c"})
    assert await record.read() == {"lease": "c"}
    (tmp_path / "occupancy").rename(tmp_path / "aside")
    (tmp_path / "occupancy").write_text("in the way again")
    await record.write({"lease": "d"})
    await record.write({"lease": "e"})
    assert caplog.text.count("Make room there") == 2, "it had been well in between"
