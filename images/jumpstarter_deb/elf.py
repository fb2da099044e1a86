"""Read from an extension module for which machine it is, and which versions of the C library it needs."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ElfError", "SharedObject", "read", "shared_objects", "system_depends", "unused"]

_SECTION_DYNAMIC = 6
_SECTION_VERSION_NEEDS = 0x6FFFFFFE
_TAG_NEEDED = 1
C_LIBRARY = re.compile(r"lib(c|m|pthread|dl|rt|util)\.so\.\d+|ld-linux-(x86-64|aarch64)\.so\.\d+")
OTHERS = {"libgcc_s.so.1": "libgcc-s1", "libstdc++.so.6": "libstdc++6"}
"""Libraries of the host, and the packages that contain them in every release."""


class ElfError(Exception):
    """The file is not a 64-bit little-endian ELF file, or is truncated."""


@dataclass(frozen=True)
class SharedObject:
    """A file: its machine, the libraries that it loads, and the symbol versions that it needs from each."""

    machine: int
    needed: tuple[str, ...]
    versions: frozenset[tuple[str, str]]


def shared_objects(folder: Path) -> list[Path]:
    """Extension modules and libraries below a folder, by their names."""
    return sorted(path for path in folder.rglob("*") if ".so" in path.suffixes and path.is_file())


def read(path: Path) -> SharedObject:
    """Parse a file. Raises ElfError."""
    data = path.read_bytes()
    try:
        return _parse(data)
    except (struct.error, IndexError, ValueError) as error:
        raise ElfError(f"{path} is not an ELF file that can be read: {error}") from error


def unused(item: SharedObject) -> list[str]:
    """The libraries of `OTHERS` that a file loads and takes nothing from: all symbols of these have versions."""
    used = {library for library, _version in item.versions}
    return [library for library in item.needed if library in OTHERS and library not in used]


def system_depends(objects: list[SharedObject], bundled: frozenset[str] = frozenset()) -> list[str]:
    """The Debian packages that these files need, with versions. `bundled` are libraries in the same package.

    Raises:
        ElfError: one needs a library that no package is known for.
    """
    wanted: set[str] = set()
    lowest = (2, 17)
    for item in objects:
        for library in item.needed:
            if C_LIBRARY.fullmatch(library):
                wanted.add("libc6")
            elif library in OTHERS:
                wanted.add(OTHERS[library])
            elif library not in bundled:
                raise ElfError(f"no package is known that has {library}; add it to elf.OTHERS")
        for _library, version in item.versions:
            if found := re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", version):
                lowest = max(lowest, (int(found[1]), int(found[2])))
    return [f"libc6 (>= {lowest[0]}.{lowest[1]})" if name == "libc6" else name for name in sorted(wanted)]


def _parse(data: bytes) -> SharedObject:
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it does not begin as one")
    (machine,) = struct.unpack_from("<H", data, 18)
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + number * size) for number in range(count)]
    needed: list[str] = []
    versions: set[tuple[str, str]] = set()
    for section in sections:
        _name, kind, _flags, _address, offset, length, link, entries, _align, _entry = section
        if kind == _SECTION_DYNAMIC:
            texts = sections[link][4]
            for place in range(offset, offset + length, 16):
                tag, value = struct.unpack_from("<QQ", data, place)
                if tag == _TAG_NEEDED:
                    needed.append(_text(data, texts + value))
        elif kind == _SECTION_VERSION_NEEDS:
            versions |= _version_needs(data, offset, entries, sections[link][4])
    return SharedObject(machine, tuple(needed), frozenset(versions))


def _version_needs(data: bytes, place: int, count: int, texts: int) -> set[tuple[str, str]]:
    found = set()
    for _ in range(count):
        _version, entries, file, first, following = struct.unpack_from("<HHIII", data, place)
        library, entry = _text(data, texts + file), place + first
        for _ in range(entries):
            _hash, _flags, _other, name, after = struct.unpack_from("<IHHII", data, entry)
            found.add((library, _text(data, texts + name)))
            entry += after
        place += following
    return found


def _text(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place)].decode()
