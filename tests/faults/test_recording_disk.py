"""A console whose recording has no room: it goes on live, and the recording when there is room again."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_recording import CONFIG, Cable, cable, daemon, follow, jumpstarter, read_until
from tests.faults.disks import fill, fill_with_files, small_disk
from tests.interop import exporters

__all__ = ["cable"]

pytestmark = pytest.mark.timeout(120)
PIECE = b"0123456789abcde\n" * 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where the exporter keeps its state."""
    state = tmp_path / ".local" / "state" / "jumpstarter"
    otherwise = "recording/test_recording.py has a disk that says that it is full"
    with small_disk(state, otherwise=otherwise, mebibytes=40) as path:
        yield path


def watch_live(home: Path) -> subprocess.Popen[bytes]:
    """What the console says now, whatever becomes of its recording."""
    return subprocess.Popen(
        [exporters.scripts() / "jumpstarter", "serial", "pipe", "console"],
        env=exporters.clean_environment(home) | {"JUMPSTARTER_HOST": str(home / "s")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def say(cable: Cable, data: bytes) -> None:
    while data:
        data = data[os.write(cable.board, data) :]


def test_a_console_goes_on_live_while_its_recording_has_no_room(
    tmp_path: Path, disk: Path, cable: Cable
) -> None:
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    with daemon(tmp_path) as running:
        with follow(tmp_path) as watching:
            read_until(watching, b"the port was opened")
            say(cable, b"before\r\n")
            read_until(watching, b"before")
        with watch_live(tmp_path) as live:
            try:
                assert live.stdout is not None
                while not select.select([live.stdout], [], [], 0.2)[0]:
                    say(cable, b"are you there?\r\n")
                filler = fill(disk)
                for number in range(160):  # more than waits for the disk
                    say(cable, PIECE)
                    word = b"piece %d\n" % number
                    say(cable, word)
                    read_until(live, word)
            finally:
                live.kill()
        jumpstarter(tmp_path, "power", "on")
        filler.unlink()
        with follow(tmp_path) as watching:
            read_until(watching, b"bytes are missing here: the disk did not take them")
            say(cable, b"after\r\n")
            read_until(watching, b"after")
        assert running.process.poll() is None
        log = running.log.read_text()
        assert (
            len(re.findall(r"recording into .* pauses: No space left on device; make room on its disk", log))
            == 1
        )
        assert len(re.findall(r"recording into .* continues", log)) == 1
        assert "Traceback" not in log


def test_a_daemon_that_starts_on_a_full_disk_serves_and_records_when_there_is_room(
    tmp_path: Path, disk: Path, cable: Cable
) -> None:
    (tmp_path / "lab.yaml").write_text(CONFIG.format(port=cable.path))
    files = fill_with_files(disk / "files")
    with daemon(tmp_path) as running:
        jumpstarter(tmp_path, "power", "on")
        say(cable, b"lost\r\n")
        shutil.rmtree(files)
        with follow(tmp_path) as watching:
            read_until(watching, b"bytes are missing here: the disk did not take them")
            say(cable, b"after\r\n")
            read_until(watching, b"after")
        assert "Traceback" not in running.log.read_text()
