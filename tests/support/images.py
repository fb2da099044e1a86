"""Begins of images as tools make them."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile

__all__ = ["UNUSABLE", "USABLE", "mbr", "tar", "zipped"]


def mbr() -> bytes:
    """A disk with one Linux partition."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", 2048, 100_000)
    return (bytes(446) + entry).ljust(510, b"\0") + b"\x55\xaa" + b"\xa5" * 5000


def _at(offset: int, magic: bytes) -> bytes:
    return b"\0" * offset + magic + b"\xee\0" * 3000


def _ext4() -> bytes:
    block = struct.pack("<IIIIIII", 1000, 4000, 200, 3000, 900, 0, 2).ljust(0x38, b"\0") + b"\x53\xef"
    return bytes(0x400) + block.ljust(0x4C, b"\0") + struct.pack("<I", 1) + b"\x01\0" * 3000


USABLE = {
    "an MBR partition": mbr(),
    "a GPT partition": _at(512, b"EFI PART"),
    "ext2/3/4": _ext4(),
    "btrfs": _at(0x10040, b"_BHRfS_M"),
    "ISO 9660": _at(0x8001, b"CD001"),
    "squashfs": _at(0, b"hsqs"),
    "F2FS": _at(0x400, b"\x10\x20\xf5\xf2"),
    "FAT": _at(82, b"FAT32   "),
    "U-Boot FIT": _at(0, b"\xd0\x0d\xfe\xed"),
    "U-Boot legacy": _at(0, b"\x27\x05\x19\x56"),
    "Allwinner": _at(0x2004, b"eGON.BT0"),
    "Rockchip": _at(0x8000, b"RKNS"),
    "i.MX": _at(0x400, b"\xd1\x00\x20\x40"),
    "Linux kernel": _at(0x38, b"ARM\x64"),
    "Android boot": _at(0, b"ANDROID!"),
    "EFI program": (b"MZ".ljust(0x3C, b"\0") + b"\x80\0\0\0").ljust(0x80, b"\0") + b"PE\0\0",
    "boot sector": _at(510, b"\x55\xaa"),
    "UBI": _at(0, b"UBI#"),
}
"""Part of the name, and the begin."""

UNUSABLE = {
    "HTML": b"\n<!DOCTYPE html>\n<html><body>404 not found</body></html>\n",
    "text": "Gerät nicht gefunden\n".encode() * 500,
    "text ": "Windows says hello\r\n".encode("utf-16"),
    " text": "Gerät nicht gefunden\n".encode("latin-1") * 500,
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "sparse": b"\x3a\xff\x26\xed\x01\0\0\0" + bytes(100),
    "UF2": b"UF2\n\x57\x51\x5d\x9e" + bytes(504),
    "qcow2": b"QFI\xfb\0\0\0\3" + bytes(500),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
    "lzop": b"\x89LZO\0\r\n\x1a\n" + bytes(100),
    "legacy format": b"\x02\x21\x4c\x18" + bytes(100),
    "cpio": b"070701" + b"00\0" * 100,
    "empty": b"",
}


def tar(*files: tuple[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(*files: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()
