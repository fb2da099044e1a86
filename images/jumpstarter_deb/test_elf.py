"""The interpreter's own extension modules are read as the system's tools would."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

import pytest

from jumpstarter_deb import elf
from jumpstarter_deb.recipe import ARCHITECTURES

OWN = next(iter(sorted(Path(sysconfig.get_path("platlib")).rglob("*.so"))))


def test_an_extension_module_says_its_machine_and_its_libraries() -> None:
    found = elf.read(OWN)
    machines = {item.machine: item.elf_machine for item in ARCHITECTURES.values()}
    assert found.machine == machines[platform.machine()]
    assert any(name.startswith("libc.so") for name in found.needed)
    assert any(library == "libc.so.6" and version.startswith("GLIBC_") for library, version in found.versions)


@pytest.mark.parametrize("size", [0, 3, 64, 1000])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "cut.so").write_bytes(OWN.read_bytes()[:size])
    with pytest.raises(elf.ElfError, match=r"cut\.so"):
        elf.read(tmp_path / "cut.so")


def test_packages_are_named_for_what_is_needed() -> None:
    old = elf.SharedObject(62, ("libc.so.6", "libm.so.6"), frozenset({("libc.so.6", "GLIBC_2.4")}))
    new = elf.SharedObject(62, ("libstdc++.so.6", "libown.so"), frozenset({("libc.so.6", "GLIBC_2.34")}))
    assert elf.system_depends([old]) == ["libc6 (>= 2.17)"]
    assert elf.system_depends([old, new], frozenset({"libown.so"})) == ["libc6 (>= 2.34)", "libstdc++6"]
    with pytest.raises(elf.ElfError, match=r"libown\.so"):
        elf.system_depends([new])


def test_a_library_that_is_loaded_for_nothing_is_found() -> None:
    cpp = "libstdc++.so.6"
    libraries, of_c = ("libc.so.6", "libm.so.6", cpp, "libown.so"), ("libc.so.6", "GLIBC_2.34")
    assert elf.unused(elf.SharedObject(62, libraries, frozenset({of_c}))) == [cpp]
    assert elf.unused(elf.SharedObject(62, libraries, frozenset({of_c, (cpp, "GLIBCXX_3.4")}))) == []
