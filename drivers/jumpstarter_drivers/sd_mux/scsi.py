"""Vendor commands to a SCSI device through its node /dev/sgN (SG_IO, linux/include/scsi/sg.h). Blocking."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

from jumpstarter_exporter.driver import DeviceMissing
from jumpstarter_exporter.node_errors import explain_open_error

__all__ = ["ScsiDevice", "ScsiError", "open_scsi"]

_SG_IO = 0x2285
_TO_DEVICE, _FROM_DEVICE = -2, -3
_TIMEOUT_MILLISECONDS = 3000
_GONE = (errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOENT)


class _SgIoHeader(ctypes.Structure):
    """`struct sg_io_hdr`."""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


class ScsiError(Exception):
    """The device rejects a command; the message says how."""


@contextmanager
def open_scsi(node: Path, what: str) -> Iterator[ScsiDevice]:
    """The device behind a node. It is opened for writing: on other descriptors the kernel filters vendor commands.

    Raises:
        DeviceMissing: it is not there, or vanishes in the block.
        DeviceFailed: the exporter may not open it.
    """
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise explain_open_error(str(node), error, f"the control of {what}") from error
    try:
        yield ScsiDevice(descriptor, what)
    finally:
        os.close(descriptor)


class ScsiDevice:
    """An open device."""

    def __init__(self, descriptor: int, what: str) -> None:
        self._descriptor = descriptor
        self._what = what

    def write(self, command: bytes, data: bytes) -> None:
        """A command with data for the device. Raises ScsiError, DeviceMissing."""
        self._transfer(command, ctypes.create_string_buffer(data, len(data)), _TO_DEVICE)

    def read(self, command: bytes, length: int) -> bytes:
        """A command with data from the device. Raises ScsiError, DeviceMissing."""
        data = ctypes.create_string_buffer(length)
        self._transfer(command, data, _FROM_DEVICE)
        return data.raw

    def _transfer(self, command: bytes, data: ctypes.Array[ctypes.c_char], direction: int) -> None:
        given, sense = ctypes.create_string_buffer(command, len(command)), ctypes.create_string_buffer(64)
        header = _SgIoHeader(
            interface_id=ord("S"),
            dxfer_direction=direction,
            cmd_len=len(command),
            mx_sb_len=len(sense),
            dxfer_len=len(data),
            dxferp=ctypes.addressof(data),
            cmdp=ctypes.addressof(given),
            sbp=ctypes.addressof(sense),
            timeout=_TIMEOUT_MILLISECONDS,
        )
        try:
            ioctl(self._descriptor, _SG_IO, header)
        except OSError as error:
            if error.errno in _GONE:
                raise DeviceMissing(f"{self._what} was unplugged; plug it in again") from error
            raise ScsiError(f"{self._what} cannot be talked to: {error.strerror}") from error
        if header.status or header.host_status or header.driver_status:
            raise ScsiError(
                f"{self._what} rejects a command (status {header.status:#x}, "
                f"host {header.host_status:#x}, driver {header.driver_status:#x})"
            )
