"""Why a node cannot be opened, by real nodes, and by the kernel's answers that only special hardware gives."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jumpstarter_exporter.errors import DeviceBusy, DeviceError, DeviceFailed, DeviceMissing
from jumpstarter_exporter.node_errors import explain_open_error


@pytest.fixture
def terminal() -> Iterator[str]:
    board, far = pty.openpty()
    name = os.ttyname(far)
    os.close(far)
    yield name
    os.close(board)


def explained(path: str | Path, number: int) -> DeviceError:
    return explain_open_error(str(path), OSError(number, os.strerror(number)), "a serial port")


def test_the_process_that_has_it_is_named(terminal: str) -> None:
    script = "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, terminal], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with open(terminal) as file, pytest.raises(BlockingIOError) as locked:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        error = explain_open_error(terminal, locked.value, "a serial port")
        other.communicate(b"\n")
    assert isinstance(error, DeviceBusy)
    assert f"(process {other.pid}); end that first" in str(error)
    assert str(error).startswith(f"{terminal} is open in python")


def test_who_has_it_is_not_guessed_where_nobody_can_be_seen(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.touch()
    assert str(explained(node, errno.EBUSY)) == f"another program has {node} open; end it first"


def test_the_group_that_may_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "node"
    node.touch(mode=0o660)
    node.chmod(0o660)
    facts = os.stat_result([*node.stat()[:5], 20, *node.stat()[6:]])
    monkeypatch.setattr(os, "stat", lambda path: facts)
    error = explained(node, errno.EACCES)
    assert isinstance(error, DeviceFailed)
    assert "to the group dialout, and start it again" in str(error)
    monkeypatch.setattr(os, "getgroups", lambda: [20])
    assert "check DeviceAllow= of its unit" in str(explained(node, errno.EPERM))


def test_a_node_of_its_owner_alone_needs_a_rule(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.touch(mode=0o600)
    assert "only its owner may (-rw-------): give it a group" in str(explained(node, errno.EACCES))


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENXIO])
def test_a_node_without_hardware_is_missing(tmp_path: Path, number: int) -> None:
    node = tmp_path / "node"
    gone = explained(node, number)
    node.touch()
    without = explained(node, number)
    assert isinstance(gone, DeviceMissing)
    assert isinstance(without, DeviceMissing)
    assert "went away while it was being opened" in str(gone)
    assert f"no hardware behind it ({errno.errorcode[number]})" in str(without)


def test_a_node_that_no_driver_has_is_missing_when_it_is_really_opened(tmp_path: Path) -> None:
    node = tmp_path / "node"
    try:
        os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(4095, 4095))
    except PermissionError:
        pytest.skip("missing: root, who may make nodes")
    with pytest.raises(OSError, match="No such device") as refused:
        os.open(node, os.O_RDONLY)
    assert isinstance(explain_open_error(str(node), refused.value, "a serial port"), DeviceMissing)
