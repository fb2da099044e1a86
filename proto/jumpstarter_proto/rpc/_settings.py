"""HTTP/2's settings (RFC 9113, section 6.5): those of a peer, and the frame that says ours."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping

from jumpstarter_proto.rpc._error_codes import ErrorCodes

__all__ = ["PeerSettings", "SettingCodes", "SettingsFault", "pack_settings"]

_PAIR = struct.Struct(">HL")
MAX_WINDOW = 2**31 - 1
MIN_FRAME_SIZE, MAX_FRAME_SIZE = 2**14, 2**24 - 1


class SettingCodes(enum.IntEnum):
    """Settings that we know. Peers may send any others, which are ignored."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class SettingsFault(Exception):  # noqa: N818 - a fault of the peer's
    """A setting has a value that it must not have."""

    def __init__(self, message: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class PeerSettings:
    """The settings of the peer: HTTP/2's defaults until it sends others."""

    __slots__ = (
        "header_table_size",
        "initial_window_size",
        "max_concurrent_streams",
        "max_frame_size",
        "max_header_list_size",
    )

    def __init__(self) -> None:
        self.header_table_size = 4096
        self.max_concurrent_streams: int | None = None
        """None is any number."""
        self.initial_window_size = 65535
        self.max_frame_size = MIN_FRAME_SIZE
        self.max_header_list_size: int | None = None
        """None is any size."""

    def update(self, body: bytes) -> None:
        """Apply the body of a SETTINGS frame, which has a multiple of 6 bytes.

        Raises:
            SettingsFault: a value is invalid. The settings before it are applied.
        """
        for code, value in _PAIR.iter_unpack(body):
            match code:
                case SettingCodes.HEADER_TABLE_SIZE:
                    self.header_table_size = value
                case SettingCodes.ENABLE_PUSH:
                    if value > 1:
                        raise SettingsFault(f"the setting ENABLE_PUSH is {value}")
                case SettingCodes.MAX_CONCURRENT_STREAMS:
                    self.max_concurrent_streams = value
                case SettingCodes.INITIAL_WINDOW_SIZE:
                    if value > MAX_WINDOW:
                        raise SettingsFault("an impossible window", ErrorCodes.FLOW_CONTROL_ERROR)
                    self.initial_window_size = value
                case SettingCodes.MAX_FRAME_SIZE:
                    if not MIN_FRAME_SIZE <= value <= MAX_FRAME_SIZE:
                        raise SettingsFault(f"the setting MAX_FRAME_SIZE is {value}")
                    self.max_frame_size = value
                case SettingCodes.MAX_HEADER_LIST_SIZE:
                    self.max_header_list_size = value


def pack_settings(values: Mapping[SettingCodes, int]) -> bytes:
    """The body of a SETTINGS frame."""
    return b"".join(_PAIR.pack(code, value) for code, value in values.items())
