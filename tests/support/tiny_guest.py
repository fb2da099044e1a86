"""A guest for tests: a boot sector that talks on the first serial port of a PC."""

from __future__ import annotations

__all__ = ["tiny_disk"]

BANNER = b"\r\ntiny 1.0\r\ntiny> "
DISK_BYTES = 1024 * 1024


def tiny_disk(banner: bytes = BANNER) -> bytes:
    """A disk whose boot sector prints the banner, echoes what is typed, and prints the banner again after Enter."""
    putc = bytes.fromhex("50 BA FD 03 EC A8 20 74 FB BA F8 03 58 EE C3")  # wait for the port to be free; out
    begin = bytes.fromhex("31 C0 8E D8")  # ds = 0
    start = len(begin)
    # mov si, banner; cld; lodsb; test al, al; jz wait; call putc; jmp lodsb
    size = 3 + 1 + 1 + 2 + 2 + 3 + 2
    putc_at = start + size
    wait_at = putc_at + len(putc)
    # mov dx, 3FD; in; test 1; jz; mov dx, 3F8; in; cmp CR; je start; call putc; jmp wait
    wait = bytes.fromhex("BA FD 03 EC A8 01 74 FB BA F8 03 EC 3C 0D")
    wait_size = len(wait) + 2 + 3 + 2
    banner_at = 0x7C00 + wait_at + wait_size

    def near(after: int, to: int) -> bytes:
        return ((to - after) & 0xFFFF).to_bytes(2, "little")

    def short(after: int, to: int) -> bytes:
        return ((to - after) & 0xFF).to_bytes(1, "little")

    code = begin + b"\xbe" + banner_at.to_bytes(2, "little") + b"\xfc"
    loop = len(code)
    code += b"\xac\x84\xc0"
    code += b"\x74" + short(len(code) + 2, wait_at)
    code += b"\xe8" + near(len(code) + 3, putc_at)
    code += b"\xeb" + short(len(code) + 2, loop)
    assert len(code) == putc_at
    code += putc + wait
    code += b"\x74" + short(len(code) + 2, start)
    code += b"\xe8" + near(len(code) + 3, putc_at)
    code += b"\xeb" + short(len(code) + 2, wait_at)
    code += banner + b"\0"
    assert len(code) <= 446, "the partition table begins there"
    # A partition, so that it is recognised as an image of a disk.
    entry = bytes([0x80, 0, 2, 0, 0x0C, 0, 3, 0]) + (1).to_bytes(4, "little") + (64).to_bytes(4, "little")
    sector = code.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa"
    return sector.ljust(DISK_BYTES, b"\0")
