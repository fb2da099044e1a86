"""A kernel's own file tells of a change, as sysfs does: by POLLPRI, until it is read again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from jumpstarter_exporter.host_health.alarm import until_undervoltage
from jumpstarter_exporter.host_health.host_files import HostFiles

PLACE = "sys/class/hwmon/hwmon3"


@pytest.fixture
def files(tmp_path: Path) -> HostFiles:
    """A host whose third sensor is the supply's."""
    for name, number in (("cpu_thermal", 0), ("rpi_volt", 3)):
        folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
    return HostFiles(tmp_path)


@pytest.fixture
def mounts() -> Iterator[subprocess.Popen[bytes]]:
    """A program with mounts of its own, which it changes for each line that it reads; it has told that it is ready."""
    script = "echo ready; while read -r _; do mount -t tmpfs tmpfs /mnt && echo mounted; done"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        if program.stdout.readline() != b"ready\n":
            pytest.skip("no user namespaces: this machine does not allow them")
        yield program
        assert program.stdin is not None
        program.stdin.close()


async def test_it_returns_when_the_kernel_says_that_the_file_has_changed_and_not_before(
    files: HostFiles, mounts: subprocess.Popen[bytes]
) -> None:
    # The one file of a kernel that can be changed here and tells of it in the same way.
    (files.path(PLACE) / "in0_lcrit_alarm").symlink_to(f"/proc/{mounts.pid}/mountinfo")
    assert mounts.stdin is not None
    ended = trio.Event()

    async def wait() -> None:
        await until_undervoltage(files)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not ended.is_set()
        mounts.stdin.write(b"\n")
        mounts.stdin.flush()
        with trio.fail_after(30):
            await ended.wait()


async def test_what_it_says_already_is_not_waited_for(files: HostFiles) -> None:
    (files.path(PLACE) / "in0_lcrit_alarm").write_text("1\n")
    with trio.fail_after(30):
        await until_undervoltage(files)


async def test_where_no_kernel_tells_it_waits_until_it_is_cancelled(files: HostFiles, tmp_path: Path) -> None:
    (files.path(PLACE) / "in0_lcrit_alarm").write_text("0\n")
    for root in (files, HostFiles(tmp_path / "none")):
        with trio.move_on_after(0.05) as scope:
            await until_undervoltage(root)
        assert scope.cancelled_caught


async def test_a_file_that_cannot_be_read_is_an_error(files: HostFiles) -> None:
    with pytest.raises(FileNotFoundError):
        await until_undervoltage(files)
