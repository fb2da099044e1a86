"""Programs run as root of their own namespace, started by the user who runs the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jumpstarter_os import namespace


@pytest.fixture
def allowed() -> None:
    """This machine lets us make such a namespace, else the test is skipped and says why."""
    try:
        namespace.run(["true"], emulated=False)
    except (namespace.NamespaceError, FileNotFoundError) as error:
        pytest.skip(f"missing: {error}")


pytestmark = pytest.mark.usefixtures("allowed")


def test_it_is_root_there_with_many_ids(tmp_path: Path) -> None:
    script = "id -u >user; touch other; chown 1000:1000 other; stat -c %u other >>user; rm other"
    namespace.run(["sh", "-c", f"cd {tmp_path} && {script}"], emulated=False)
    assert (tmp_path / "user").read_text().split() == ["0", "1000"]


def test_what_it_makes_belongs_to_whoever_called(tmp_path: Path) -> None:
    namespace.run(["touch", tmp_path / "made"], emulated=False)
    assert (tmp_path / "made").stat().st_uid == os.geteuid()


def test_a_command_that_fails_is_told_with_its_exit_code() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        namespace.run(["sh", "-c", "exit 7"], emulated=False)
    assert caught.value.returncode == 7


def test_mounts_there_are_nobody_elses(tmp_path: Path) -> None:
    script = f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/inside"
    namespace.run(["sh", "-c", script], emulated=False)
    assert list(tmp_path.iterdir()) == []


def test_processes_end_with_the_first(tmp_path: Path) -> None:
    # The fifo's other end is closed when the last process that has it open has ended.
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        namespace.run(["sh", "-c", f"sleep 1000 >{tmp_path}/fifo & exit 0"], emulated=False)
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_programs_of_arm64_run_there_and_nothing_changes_here() -> None:
    if namespace.emulator() is None:
        pytest.skip("missing: programs of arm64 cannot run here; apt install qemu-user-static")
    here = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
    before = here.exists()
    namespace.run(["grep", "-q", "enabled", "/proc/sys/fs/binfmt_misc/qemu-aarch64"], emulated=True)
    assert here.exists() is before


def test_ids_that_a_user_was_not_given_are_missed_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    with pytest.raises(namespace.NamespaceError, match=r"ann has no 65536 ids .*usermod"):
        namespace._subordinate(file, "ann")
    file.write_text("bob:100000:65536\nann:165536:10\nann:300000:65536\n")
    assert namespace._subordinate(file, "ann") == 300000
