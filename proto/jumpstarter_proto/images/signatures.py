"""What the first bytes of an unpacked image say it is: tables of magic numbers, and three checks beside them.

An offset is where the format puts its magic number, counted from the begin of the medium. Sources are the formats'
own documents and the headers of Linux, U-Boot and barebox.
"""

from __future__ import annotations

import codecs
import enum
from dataclasses import dataclass

__all__ = ["HEAD_BYTES", "Content", "Verdict", "identify", "is_tar", "is_zip"]

HEAD_BYTES = 0x10048 + 0x10
"""How much of the begin `identify` looks at: the magic number of btrfs is the farthest."""

_TEXT_BYTES = 4096
_SECTOR = 512


class Verdict(enum.StrEnum):
    """Whether content may go onto a medium from which a board boots."""

    IMAGE = "image"
    UNKNOWN = "unknown"
    """Nothing that we know; a user may know better."""
    UNUSABLE = "unusable"
    """Known, and nothing that a board boots from as it is."""


@dataclass(frozen=True)
class Content:
    """What content is."""

    name: str
    """For people, after "the content is"."""
    verdict: Verdict
    advice: str = ""
    """What to do instead, for what is unusable."""


EMPTY = Content("empty", Verdict.UNUSABLE, "check the file")
_UNKNOWN = Content("of no known kind", Verdict.UNKNOWN)
_ZEROS = Content("nothing but zeros at its start", Verdict.UNKNOWN)

_RAW = "convert it with `qemu-img convert -O raw FILE disk.img`, then flash disk.img"
_EXTRACT = "extract it, then flash the image that is in it"

_UNUSABLE: tuple[tuple[int, bytes, str, str], ...] = (
    (
        0,
        b"\x3a\xff\x26\xed",
        "an Android sparse image",
        "convert it with `simg2img FILE disk.img`, then flash disk.img",
    ),
    (
        0,
        b"UF2\n\x57\x51\x5d\x9e",
        "a UF2 file",
        "copy it onto the drive that the board's boot loader shows, or convert it with `uf2conv.py`",
    ),
    (0, b"QFI\xfb", "a QEMU disk (qcow2)", _RAW),
    (0, b"KDMV", "a VMware disk", _RAW),
    (0, b"# Disk DescriptorFile", "a VMware disk's description", _RAW),
    (0, b"vhdxfile", "a Hyper-V disk (VHDX)", _RAW),
    (0, b"conectix", "a Virtual PC disk (VHD)", _RAW),
    (0x40, b"\x7f\x10\xda\xbe", "a VirtualBox disk", _RAW),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _EXTRACT),
    (0, b"Rar!\x1a\x07", "a RAR archive", _EXTRACT),
    (0, b"MSCF\0\0\0\0", "a cabinet archive", _EXTRACT),
    (0, b"MSWIM\0\0\0", "a WIM archive", _EXTRACT),
    (0, b"070701", "a cpio archive", _EXTRACT),
    (0, b"070702", "a cpio archive", _EXTRACT),
    (0, b"070707", "a cpio archive", _EXTRACT),
    (0, b"!<arch>\n", "a package or archive (ar)", _EXTRACT),
    (0, b"\xed\xab\xee\xdb", "an RPM package", _EXTRACT),
    (0, b"CrAU", "an Android update (payload.bin)", "extract its partitions, then flash one of them"),
    (0, b"\x1f\x9d", "packed by compress", "unpack it with `uncompress`"),
    (0, b"\x89LZO\0\r\n\x1a\n", "packed by lzop", "unpack it with `lzop -d`"),
    (0, b"LZIP\x01", "packed by lzip", "unpack it with `lzip -d`"),
    (0, b"\x02\x21\x4c\x18", "packed by lz4 in its legacy format", "unpack it with `lz4 -d`"),
    (0, b"\xff\x06\0\0sNaPpY", "packed by snappy", "unpack it with `snzip -d`"),
    (0, b"%PDF-", "a PDF document", "check the file"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", "check the file"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "check the file"),
)

_IMAGES: tuple[tuple[tuple[int, ...], bytes, str], ...] = (
    # Partition tables and volumes.
    ((512, 4096), b"EFI PART", "a disk with a GPT partition table"),
    ((0,), b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    ((512,), b"LABELONE", "an LVM volume"),
    ((4086,), b"SWAPSPACE2", "swap space"),
    # File systems.
    ((0x8001, 0x8801), b"CD001", "an ISO 9660 file system"),
    ((0x10040,), b"_BHRfS_M", "a btrfs file system"),
    ((0,), b"XFSB", "an XFS file system"),
    ((0x400,), b"\x10\x20\xf5\xf2", "an F2FS file system"),
    ((0x400,), b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    ((0,), b"hsqs", "a squashfs file system"),
    ((0,), b"sqsh", "a squashfs file system"),
    ((0, 0x200), b"\x45\x3d\xcd\x28", "a cramfs file system"),
    ((0,), b"-rom1fs-", "a romfs file system"),
    ((0,), b"\x85\x19\x03\x20", "a JFFS2 file system"),
    ((0,), b"\x85\x19\x01\xe0", "a JFFS2 file system"),
    ((0,), b"\x85\x19\x02\xe0", "a JFFS2 file system"),
    ((0,), b"UBI#", "a UBI volume"),
    ((0,), b"\x31\x18\x10\x06", "a UBIFS file system"),
    ((3,), b"NTFS    ", "an NTFS file system"),
    ((3,), b"EXFAT   ", "an exFAT file system"),
    ((54,), b"FAT12   ", "a FAT file system"),
    ((54,), b"FAT16   ", "a FAT file system"),
    ((82,), b"FAT32   ", "a FAT file system"),
    # Kernels and what boot loaders load.
    ((0,), b"\xd0\x0d\xfe\xed", "a U-Boot FIT image or device tree"),
    ((0,), b"\x27\x05\x19\x56", "a U-Boot legacy image"),
    ((0,), b"ANDROID!", "an Android boot image"),
    ((0,), b"VNDRBOOT", "an Android vendor boot image"),
    ((0,), b"AVB0", "an Android verified boot image"),
    ((0,), b"CHROMEOS", "a ChromeOS kernel"),
    ((0,), b"HDR0", "a TRX firmware image"),
    ((0x38,), b"ARM\x64", "a Linux kernel (arm64)"),
    ((0x38,), b"RSC\x05", "a Linux kernel (RISC-V)"),
    ((0x24,), b"\x18\x28\x6f\x01", "a Linux kernel (ARM zImage)"),
    ((0x202,), b"HdrS", "a Linux kernel (x86)"),
    ((0,), b"\x7fELF", "an ELF program"),
    ((0x20,), b"barebox\0", "a barebox boot loader"),
    # What the first stage of a system on a chip looks for.
    ((0x4, 0x2004, 0x20004), b"eGON.BT", "an Allwinner boot image"),
    ((0x0, 0x2000, 0x20000), b"TOC0.GLH", "an Allwinner boot image"),
    ((0x0, 0x8000), b"RKNS", "a Rockchip boot image"),
    ((0x0, 0x8000), b"\x3b\x8c\xdc\xfc\xbe\x9f\x9d\x51", "a Rockchip boot image"),
    ((0x10, 0x210), b"@AML", "an Amlogic boot image"),
    ((0x0, 0x400, 0x8400), b"\xd1\x00\x20\x40", "an i.MX boot image"),
    ((0x0, 0x400, 0x8400), b"\xd1\x00\x20\x41", "an i.MX boot image"),
    ((0x0, 0x400, 0x8400), b"\xd1\x00\x20\x43", "an i.MX boot image"),
    ((0x14,), b"CHSETTINGS", "a TI boot image"),
    ((0x20,), b"\x66\x55\x99\xaaXNLX", "a Zynq boot image"),
    ((0x0,), b"STM2", "an STM32MP boot image"),
    ((0x0,), b"\x55\xaa\xf0\x0f", "a Raspberry Pi boot loader (EEPROM)"),
    ((0x10,), b"\x5a\xa5\xf0\x0f", "an Intel flash image"),
    ((0x28,), b"_FVH", "a UEFI firmware volume"),
)


def identify(head: bytes) -> Content:
    """Tell what unpacked content is from its first `HEAD_BYTES`, or from all of it if it is shorter."""
    if not head:
        return EMPTY
    if known := next((row for row in _UNUSABLE if head.startswith(row[1], row[0])), None):
        return Content(known[2], Verdict.UNUSABLE, known[3])
    if text := _text(head):
        return text
    for offsets, magic, name in _IMAGES:
        if any(head.startswith(magic, offset) for offset in offsets):
            return Content(name, Verdict.IMAGE)
    if name := _boot_sector(head) or _ext(head) or _efi(head):
        return Content(name, Verdict.IMAGE)
    return _UNKNOWN if any(head) else _ZEROS


def _boot_sector(head: bytes) -> str:
    """A PC's first sector: what its four partition entries say, or that it is one."""
    if head[510:512] != b"\x55\xaa":
        return ""
    entries = [head[offset : offset + 16] for offset in range(446, 510, 16)]
    used = [entry for entry in entries if entry[4]]
    fits = all(entry[0] in (0, 0x80) for entry in entries) and all(any(entry[12:16]) for entry in used)
    return "a disk with an MBR partition table" if used and fits else "a boot sector"


def _ext(head: bytes) -> str:
    """The superblock of ext2, ext3 and ext4; its magic number is too short to go by alone."""
    block = head[0x400 : 0x400 + 0x60]
    if block[0x38:0x3A] != b"\x53\xef":
        return ""
    inodes, block_size, revision = (int.from_bytes(block[at : at + 4], "little") for at in (0x0, 0x18, 0x4C))
    return "an ext2/3/4 file system" if inodes and block_size <= 6 and revision <= 1 else ""


def _efi(head: bytes) -> str:
    """A PE program, as EFI boot loaders and kernels are."""
    if head[:2] != b"MZ":
        return ""
    return "an EFI program" if head.startswith(b"PE\0\0", int.from_bytes(head[0x3C:0x40], "little")) else ""


_LINE_BYTES = b"\t\n\r"
_ASCII_SHARE = 0.8
"""Of the bytes of a text in such an encoding; random ones have 0.4 and control characters."""


def _text(head: bytes) -> Content | None:
    """HTML, or any other text in UTF-8, UTF-16, or an encoding of Western languages."""
    begin = head[:_TEXT_BYTES]
    wide = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}.get(begin[:2])
    try:
        # Incremental: a character may be cut at the end of what we look at.
        text = codecs.getincrementaldecoder(wide or "utf-8-sig")().decode(begin, len(head) < _TEXT_BYTES)
    except UnicodeDecodeError:
        if sum(0x20 <= byte < 0x7F or byte in _LINE_BYTES for byte in begin) < _ASCII_SHARE * len(begin):
            return None
        text = begin.decode("latin-1")  # or a relative of it; what is no text has control characters too
    if any(ord(one) < ord(" ") and one not in "\t\n\r\f\b\x1b" for one in text) or not text.strip():
        return None
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body", "<!-- ")) or "<html" in start[:1000]:
        return Content(
            "an HTML page",
            Verdict.UNUSABLE,
            "it is what a server shows for an error or a login, so open the URL in a browser",
        )
    if start.startswith("version https://git-lfs"):
        return Content("a Git LFS pointer", Verdict.UNUSABLE, "get the file itself with `git lfs pull`")
    return Content("text", Verdict.UNUSABLE, "check that it is the right file")


def is_tar(head: bytes) -> bool:
    """Whether a tar archive begins so (POSIX and GNU; not the format of 1979, which has no magic number)."""
    return head[257:262] == b"ustar"


def is_zip(head: bytes) -> bool:
    """Whether a zip archive begins so, with or without a file in it."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")
