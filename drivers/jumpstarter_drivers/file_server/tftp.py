"""TFTP for boards that read files, without I/O (RFC 1350, 2347, 2348, 2349). Writing is refused.

Of the libraries, py3tftp and fbtftp have had no release since 2021, and tftpy has a loop and a folder of its own. The
protocol is smaller than what would connect one of them to trio and to our folder.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

__all__ = [
    "DEFAULT_BLOCK_BYTES",
    "Phase",
    "ReadRequest",
    "ReadTransfer",
    "TftpError",
    "error_packet",
    "parse_request",
]

DEFAULT_BLOCK_BYTES = 512
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 8, 65464
MAX_TIMEOUT_SECONDS = 255
DEFAULT_TIMEOUT_SECONDS = 1.0
MAX_TRIES = 6
"""How often a packet is sent before the board is regarded as gone."""
MAX_REQUEST_BYTES = 2048

_READ, _WRITE, _DATA, _ACK, _ERROR, _OPTIONS = 1, 2, 3, 4, 5, 6


class TftpError(Exception):
    """What the peer is told; `code` is that of RFC 1350."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ReadRequest:
    """What a board asks for."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    """In lower case, in the order of the request."""


def parse_request(packet: bytes) -> ReadRequest:
    """Parse the first packet of a board.

    Raises:
        TftpError: It is not a request to read a file.
    """
    code = int.from_bytes(packet[:2], "big")
    if code == _WRITE:
        raise TftpError(2, "this server does not take files")
    if code != _READ or len(packet) > MAX_REQUEST_BYTES or packet[-1:] != b"\0":
        raise TftpError(4, "this is not a read request")
    try:
        words = packet[2:-1].decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise TftpError(4, "the request is not UTF-8") from None
    if len(words) < 2 or not words[0]:
        raise TftpError(4, "the request has no file name or no mode")
    if words[1].lower() not in ("octet", "netascii"):
        raise TftpError(4, "this mode is not known; use octet")
    pairs = zip(words[2::2], words[3::2], strict=False)
    return ReadRequest(words[0], {name.lower(): value for name, value in pairs})


def error_packet(code: int, message: str) -> bytes:
    """The packet that ends a transfer."""
    return struct.pack("!HH", _ERROR, code) + message.encode("utf-8", "replace")[:200] + b"\0"


class Phase(enum.Enum):
    """What a transfer waits for."""

    OPTIONS = "the acknowledgement of the options"
    DATA = "the acknowledgement of a block"
    DONE = "nothing: the board has all"
    FAILED = "nothing: the board has refused it, or is gone"


class ReadTransfer:
    """One file on its way to a board: what to send, and what the board's packets mean.

    The caller sends `packet` of the current block when it is told to, and passes what it receives.
    """

    def __init__(self, size: int, options: dict[str, str]) -> None:
        """`size` is that of the file; `options` those of the request, of which unknown and invalid ones are ignored."""
        self._size = size
        self._block = 0
        """The number of the current block, from 1, without the wrap at 16 bits; 0 are the options."""
        self._tries = 0
        self.block_bytes = DEFAULT_BLOCK_BYTES
        self.timeout_seconds = DEFAULT_TIMEOUT_SECONDS
        self.reason = ""
        """Why it failed, in the board's words or ours."""
        self._accepted: list[tuple[str, str]] = []
        for name, value in options.items():
            number = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else -1
            if name == "blksize" and number >= MIN_BLOCK_BYTES:
                self.block_bytes = min(number, MAX_BLOCK_BYTES)
                self._accepted.append((name, str(self.block_bytes)))
            elif name == "timeout" and 1 <= number <= MAX_TIMEOUT_SECONDS:
                self.timeout_seconds = float(number)
                self._accepted.append((name, value))
            elif name == "tsize" and number >= 0:
                self._accepted.append((name, str(size)))
        self.phase = Phase.OPTIONS if self._accepted else Phase.DATA
        if self.phase is Phase.DATA:
            self._block = 1

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to send."""
        return self.phase in (Phase.DONE, Phase.FAILED)

    @property
    def wanted(self) -> tuple[int, int]:
        """Where the current block is in the file, and its length."""
        if self._block == 0:
            return 0, 0
        offset = (self._block - 1) * self.block_bytes
        return offset, max(0, min(self.block_bytes, self._size - offset))

    def packet(self, data: bytes) -> bytes:
        """What to send now; `data` is what is at `wanted`."""
        if self.phase is Phase.OPTIONS:
            words = [word for pair in self._accepted for word in pair]
            return struct.pack("!H", _OPTIONS) + b"".join(word.encode() + b"\0" for word in words)
        return struct.pack("!HH", _DATA, self._block & 0xFFFF) + data

    def received(self, packet: bytes) -> bool:
        """Take a packet of the board; whether there is something new to send.

        An acknowledgement of an earlier block is ignored: to answer it would double every packet that follows.
        """
        if self.is_over or len(packet) < 4:
            return False
        code, number = struct.unpack_from("!HH", packet)
        if code == _ERROR:
            message = packet[4:].partition(b"\0")[0][:200].decode("utf-8", "replace")
            self._fail(f"the board says error {number} ({message})")
            return False
        if code != _ACK or number != self._block & 0xFFFF:
            return False
        self._tries = 0
        if self._block and self.wanted[1] < self.block_bytes:
            self.phase = Phase.DONE
            return False
        self._block += 1
        self.phase = Phase.DATA
        return True

    def timed_out(self) -> bool:
        """The board did not acknowledge in time; whether to send again."""
        if self.is_over:
            return False
        self._tries += 1
        if self._tries < MAX_TRIES:
            return True
        self._fail(f"the board does not acknowledge block {self._block}")
        return False

    def _fail(self, reason: str) -> None:
        self.phase = Phase.FAILED
        self.reason = reason
