"""What a forked child has not."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from jumpstarter_proto.forks import hold_lock, keep_from_children, release_lock


def in_child(descriptors: list[int]) -> list[bool]:
    """Whether each is still the same file in a child, which ends by itself."""
    reading, writing = os.pipe()
    before = [os.fstat(one) for one in descriptors]
    if (child := os.fork()) == 0:
        try:
            same = [
                os.path.samestat(os.fstat(one), was) for one, was in zip(descriptors, before, strict=True)
            ]
            os.write(writing, bytes(same))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return list(map(bool, told))


def test_a_child_has_no_lock_and_no_socket_but_all_else(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with socket.socket() as ours, socket.socket() as theirs, socket.socket() as closed:
        closed.close()
        hold_lock(lock)
        keep_from_children(ours)
        keep_from_children(closed)
        found = in_child([lock, ours.fileno(), other, theirs.fileno()])
    assert found == [False, False, True, True]
    release_lock(lock)
    assert in_child([other]) == [True]
    os.close(other)


def test_a_released_lock_is_free_whoever_has_a_copy(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    copy, again = os.dup(lock), os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    release_lock(lock)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(copy)
    os.close(again)
