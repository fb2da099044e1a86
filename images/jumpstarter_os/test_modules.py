"""A module that the recipe leaves out is missed where a lab needs it, also behind others."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from jumpstarter_os.modules import NEEDED, NEEDED_BY_PI, faults


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kernel/drivers").mkdir(parents=True)
    for names in (*NEEDED.values(), *NEEDED_BY_PI.values()):
        for name in names:
            module(tmp_path, name, "")
    module(tmp_path, "ftdi_sio", "usbserial")
    module(tmp_path, "usbserial", "deep-one")
    module(tmp_path, "deep-one", "")
    (tmp_path / "kernel/drivers/usbserial.ko.xz").rename(tmp_path / "kernel/usbserial.ko.xz")
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4.ko\n")
    return tmp_path


def module(folder: Path, name: str, depends: str) -> None:
    data = f"\0license=GPL\0depends={depends}\0name={name}\0".encode()
    (folder / f"kernel/drivers/{name}.ko.xz").write_bytes(lzma.compress(data))


def test_all_there(folder: Path) -> None:
    assert faults(folder, is_pi=True) == []


def test_what_is_built_in_needs_no_file(folder: Path) -> None:
    (folder / "kernel/drivers/ext4.ko.xz").unlink()
    assert faults(folder, is_pi=True) == []


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("cp210x", "the kernel's module cp210x, for serial adapters, is left out"),
        ("deep-one", "the kernel's module deep_one, for serial adapters, is left out"),
    ],
)
def test_what_is_left_out_is_named_once(folder: Path, gone: str, said: str) -> None:
    (folder / f"kernel/drivers/{gone}.ko.xz").unlink()
    assert faults(folder, is_pi=True) == [said]


def test_a_pi_needs_more_than_its_twin(folder: Path) -> None:
    (folder / "kernel/drivers/vc4.ko.xz").unlink()
    assert faults(folder, is_pi=False) == []
    assert len(faults(folder, is_pi=True)) == 1
