"""What a server needs to send files to boards."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import trio

from jumpstarter_drivers.file_server.served_folder import FileFolder

__all__ = ["FileReading"]


@dataclass(frozen=True)
class FileReading:
    """The files, who may read them, and the threads in which they are read."""

    folder: FileFolder
    is_allowed: Callable[[str], bool]
    """By the address of the board."""
    log: logging.Logger
    threads: trio.CapacityLimiter

    async def open(self, path: str) -> tuple[int, int]:
        """See `FileFolder.open_file`."""
        return await trio.to_thread.run_sync(self.folder.open_file, path, limiter=self.threads)

    async def read(self, descriptor: int, count: int, offset: int) -> bytes:
        """Some bytes of an open file; not fewer than there are."""
        return await trio.to_thread.run_sync(os.pread, descriptor, count, offset, limiter=self.threads)
