"""Only a folder of one's own is used for sockets in a place where anybody may make one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jumpstarter_proto import private_runtime
from jumpstarter_proto.private_runtime import is_private, temporary_runtime_folder


def test_it_is_named_for_its_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(private_runtime, "PLACE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert temporary_runtime_folder() == f"{tmp_path}/jumpstarter-1000"


@pytest.mark.parametrize("mode", [0o700, 0o500])
def test_a_folder_of_ones_own_is_private(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert is_private(str(tmp_path))


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o770, 0o777])
def test_a_folder_that_others_may_use_is_not(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert not is_private(str(tmp_path))


def test_neither_is_what_is_not_a_folder_of_this_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch(0o600)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "missing"):
        assert not is_private(str(tmp_path / name)), name
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_private(str(tmp_path))
