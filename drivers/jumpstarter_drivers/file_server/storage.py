"""The files of a server, for users: Jumpstarter 0.9's calls for a folder, on `FileFolder`."""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from uuid import uuid4

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing, Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_exporter.paths import state_directory
from jumpstarter_proto.run_folders import RunFolder
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.file_server.served_folder import FileFolder, NewFile

__all__ = ["FilesCore", "ServedFiles"]

MAX_OPEN_FILES = 16
READ_BYTES = 256 * 1024


class FilesCore(Core["ServedFiles"]):
    """The folder: a configured one, or a private one that is there as long as the exporter."""

    def __init__(self, config: ServedFiles) -> None:
        super().__init__(config)
        self._private: RunFolder | None = None
        self._folder: FileFolder | None = None

    @property
    def folder(self) -> FileFolder:
        """The folder. DeviceMissing while it is closed."""
        if self._folder is None:
            raise DeviceMissing("the folder is closed; use it through its session")
        return self._folder

    async def open(self) -> None:
        """Make the folder if there is none."""
        self._folder = await self.in_thread(self._make)

    async def close(self) -> None:
        """Leave a configured folder; remove a private one."""
        self._folder = None
        private, self._private = self._private, None
        if private is not None:
            await self.in_thread(private.remove)

    async def restore(self) -> None:
        """Remove the files of the session that has ended."""
        if self.config.remove_created_on_close:
            await self.in_thread(self.folder.remove_created)

    def _make(self) -> FileFolder:
        config = self.config
        if config.root_dir is None:
            self._private = _private_folder()
            return FileFolder(self._private.path, config.size_limit)
        root = Path(config.root_dir)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceFailed(
                f"the folder {root} cannot be made: {error.strerror}; check root_dir, or leave it out"
            ) from error
        return FileFolder(root, config.size_limit)


@dataclass(kw_only=True, eq=False)
class ServedFiles(Driver):
    """The files of a server, its child `storage`."""

    client: ClassVar[str] = "jumpstarter_driver_opendal.client.OpendalClient"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("file_folder"),)
    core_of: ClassVar[type[FilesCore]] = FilesCore

    root_dir: str | None
    size_limit: int
    remove_created_on_close: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self._written: dict[str, NewFile | None] = {}
        """None: a write has failed."""
        self._read: dict[str, int] = {}
        self._complete: set[str] = set()
        """Files of `_written` into which something was written."""

    async def close(self) -> None:
        """Close the session's files; those that are not complete are thrown away."""
        for fd in [*self._written, *self._read]:
            await self.in_thread(self._end, fd, False)

    @export(name="open")
    def open_file(self, path: str, mode: Literal["rb", "wb"]) -> str:
        """Open a file to read or to write; the result stands for it in other calls."""
        if len(self._written) + len(self._read) >= MAX_OPEN_FILES:
            raise DeviceFailed(f"{MAX_OPEN_FILES} files are open already; close one")
        fd = str(uuid4())
        if mode == "wb":
            self._written[fd] = self._folder.create(path)
        else:
            self._read[fd] = self._folder.open_file(path)[0]
        return fd

    @export
    async def file_write(self, fd: str, handle: dict[str, JSON]) -> None:
        """Append what the user sends. If it is cut, the file is thrown away when it is closed."""
        file = self._written.get(fd)
        if file is None:
            raise ValueError("the file is not open for writing; open it anew")
        self._written[fd] = None
        is_complete = False
        try:
            async with self.read_resource(handle) as source:
                async for piece in source:
                    await self.in_thread(file.write, piece)
            is_complete = True
        finally:
            if is_complete:
                self._written[fd] = file
                self._complete.add(fd)
            else:
                with trio.CancelScope(shield=True):  # an unlink
                    await self.in_thread(file.discard)

    @export
    async def file_read(self, fd: str, handle: dict[str, JSON]) -> None:
        """Send the file to the user."""
        if (descriptor := self._read.get(fd)) is None:
            raise ValueError("the file is not open for reading; open it anew")
        async with self.write_resource(handle) as sink:
            offset = 0
            while piece := await self.in_thread(os.pread, descriptor, READ_BYTES, offset):
                await sink.send_all(piece)
                offset += len(piece)

    @export
    def file_close(self, fd: str) -> None:
        """Close it. A written file then has its name.

        One of which a write has failed, or has not begun, is gone: the file that had the name stays.
        """
        self._end(fd, True)

    @export
    def stat(self, path: str) -> JSON:
        """Length and kind, as Jumpstarter's clients expect them."""
        facts = self._folder.stat(path)
        is_file = stat_module.S_ISREG(facts.st_mode)
        return {
            "content_disposition": None,
            "content_length": facts.st_size if is_file else 0,
            "content_md5": None,
            "content_type": None,
            "etag": None,
            "mode": {"entry_is_file": is_file, "entry_is_dir": not is_file},
        }

    @export
    def hash(self, path: str, algo: Literal["md5", "sha256"] = "sha256") -> str:
        """Hash of a file's content, in hexadecimal digits."""
        return self._folder.hash(path, algo)

    @export
    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return self._folder.exists(path)

    @export
    async def list(self, path: str) -> AsyncIterator[str]:
        """The names in a folder; those of folders end in a slash."""
        for name in await self.in_thread(self._folder.names, path):
            yield name

    @export
    def create_dir(self, path: str) -> None:
        """Make a folder, and those on its way."""
        self._folder.create_dir(path)

    @export
    def rename(self, source: str, target: str) -> None:
        """Give a file or folder another path."""
        self._folder.rename(source, target)

    @export
    def delete(self, path: str) -> None:
        """Remove a file or an empty folder."""
        self._folder.delete(path)

    @export
    def remove_all(self, path: str) -> None:
        """Remove a file, or a folder with its content."""
        self._folder.remove_all(path)

    @property
    def _folder(self) -> FileFolder:
        folder = self.core.folder
        assert isinstance(folder, FileFolder)
        return folder

    def _end(self, fd: str, is_complete: bool) -> None:
        if (descriptor := self._read.pop(fd, None)) is not None:
            os.close(descriptor)
        file = self._written.pop(fd, None)
        if file is not None:
            (file.finish if is_complete and fd in self._complete else file.discard)()
        self._complete.discard(fd)


def _private_folder() -> RunFolder:
    """A folder on the disk with the exporter's state, as temporary files may be in memory; else one of those."""
    place = state_directory(os.environ) / "files"
    try:
        place.mkdir(parents=True, exist_ok=True)
        return RunFolder("jumpstarter-files-", str(place))
    except OSError:
        return RunFolder("jumpstarter-files-")
