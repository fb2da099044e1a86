"""Files for boards, for the user: `jumpstarter files put zImage`, or `client.http.put_file("zImage", "zImage")`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from urllib.parse import quote

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.twin import twin, twin_iter
from jumpstarter_client.verb import verb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.value import JSON

if TYPE_CHECKING:
    from cyclopts import Parameter

__all__ = ["FileServerClient", "HttpServerClient", "OpendalClient", "TftpServerClient"]

READ_BYTES = 256 * 1024
CLOSE_SECONDS = 10.0
PathLike = str | os.PathLike[str]


class BoardFileError(JumpstarterError):
    """A file of this machine cannot be used."""

    exit_code = ExitCode.NOT_FOUND


class _Bytes:
    """A source in memory."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """Some of the data."""
        await trio.lowlevel.checkpoint()
        piece, self._left = self._left[:READ_BYTES], self._left[READ_BYTES:]
        return bytes(piece)


class _Received:
    """A sink in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def send_all(self, data: bytes, /) -> None:
        """Keep the data."""
        await trio.lowlevel.checkpoint()
        self.data += data


class _Source:
    """A local file that is sent."""

    def __init__(self, file: trio._file_io.AsyncIOWrapper) -> None:  # type: ignore[type-arg] # trio has no public name
        self._file = file

    async def receive_some(self, max_bytes: int | None = None, /) -> bytes:
        """The next piece."""
        return bytes(await self._file.read(READ_BYTES))


class _Target:
    """A local file that is received."""

    def __init__(self, file: trio._file_io.AsyncIOWrapper) -> None:  # type: ignore[type-arg] # trio has no public name
        self._file = file

    async def send_all(self, data: bytes, /) -> None:
        """Write the piece."""
        await self._file.write(data)


class OpendalClient(DriverClient):
    """The files of a server. Paths are relative to its folder."""

    @twin
    async def write_bytes(self, path: PathLike, data: bytes) -> None:
        """Write a file."""
        await self._send(path, _Bytes(data))

    @twin
    async def read_bytes(self, path: PathLike) -> bytes:
        """Read a file."""
        sink = _Received()
        async with self._opened(path, "rb") as fd, self.resource_async(sink) as handle:
            await self.call_async("file_read", fd, handle)
        return bytes(sink.data)

    @verb
    @twin
    async def write_from_path(self, dst: str, src: Path) -> None:
        """Write a file of this machine.

        Parameters
        ----------
        dst
            Its path in the folder.
        src
            The file of this machine.
        """
        await self._copy(dst, src)

    @verb
    @twin
    async def read_into_path(self, src: str, dst: Path) -> None:
        """Read a file into one of this machine.

        Parameters
        ----------
        src
            Its path in the folder.
        dst
            The file of this machine.
        """
        try:
            async with (
                self._opened(src, "rb") as fd,
                await trio.open_file(dst, "wb") as file,
                self.resource_async(_Target(file)) as handle,
            ):
                await self.call_async("file_read", fd, handle)
        except OSError as error:
            raise BoardFileError(f"{dst} cannot be written: {error.strerror}; choose another file") from error

    @verb
    @twin
    async def stat(self, path: str) -> JSON:
        """Length and kind of a file or folder."""
        return await self.call_async("stat", path)

    @verb
    @twin
    async def hash(self, path: str, algo: Literal["md5", "sha256"] = "sha256") -> str:
        """Hash of a file's content."""
        return str(await self.call_async("hash", path, algo))

    @verb
    @twin
    async def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return bool(await self.call_async("exists", path))

    @verb
    @twin_iter
    async def list(self, path: str = "/") -> AsyncIterator[str]:
        """The names in a folder; those of folders end in a slash."""
        async with aclosing(self.streamingcall_async("list", path)) as names:
            async for name in names:
                yield str(name)

    @verb
    @twin
    async def create_dir(self, path: str) -> None:
        """Make a folder, and those on its way."""
        await self.call_async("create_dir", path)

    @verb
    @twin
    async def rename(self, source: str, target: str) -> None:
        """Give a file or folder another path."""
        await self.call_async("rename", source, target)

    @verb
    @twin
    async def delete(self, path: str) -> None:
        """Remove a file or an empty folder."""
        await self.call_async("delete", path)

    @verb
    @twin
    async def remove_all(self, path: str) -> None:
        """Remove a file, or a folder with its content."""
        await self.call_async("remove_all", path)

    async def _copy(self, dst: PathLike, src: PathLike) -> None:
        try:
            async with await trio.open_file(src, "rb") as file:
                await self._send(dst, _Source(file))
        except OSError as error:
            raise BoardFileError(
                f"{os.fspath(src)} cannot be read: {error.strerror}; check its path"
            ) from error

    async def _send(self, path: PathLike, source: _Bytes | _Source) -> None:
        async with self._opened(path, "wb") as fd, self.resource_async(source) as handle:
            await self.call_async("file_write", fd, handle)

    @asynccontextmanager
    async def _opened(self, path: PathLike, mode: str) -> AsyncIterator[str]:
        fd = str(await self.call_async("open", os.fspath(path), mode))
        try:
            yield fd
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self.call_async("file_close", fd)


class FileServerClient(DriverClient):
    """A server from which boards load files; these are its child `storage`."""

    interface: ClassVar[str] = "files"

    @verb
    @twin
    async def start(self) -> None:
        """Start the server, until `stop` or the end of the session."""
        await self.call_async("start")

    @verb
    @twin
    async def stop(self) -> None:
        """Stop the server, and end its transfers."""
        await self.call_async("stop")

    @twin
    async def get_host(self) -> str:
        """The address that boards use."""
        return str(await self.call_async("get_host"))

    @twin
    async def get_port(self) -> int:
        """The port that boards use."""
        return int(float(str(await self.call_async("get_port"))))

    @verb(name="url")
    @twin
    async def get_url(self) -> str:
        """Say the URL of the folder."""
        return str(await self.call_async("get_url"))

    @twin
    async def put_file(self, dst: PathLike, src: PathLike, operator: None = None) -> str:
        """Write a file of this machine into the folder, and return its URL. `operator` must be None."""
        if operator is not None:
            raise ValueError("operators of opendal are not supported; pass the path of a local file")
        storage = self.children["storage"]
        if not isinstance(storage, OpendalClient):
            raise JumpstarterError(f"{self.path} has no folder of files; update the exporter")
        await storage._copy(dst, src)  # noqa: SLF001 - the same module
        return f"{await self.get_url.aio()}/{quote(os.fspath(dst).lstrip('/'))}"

    @verb
    @twin
    async def put(self, file: Path, *, name: Annotated[str | None, Parameter(name=["--as"])] = None) -> str:
        """Write a file into the folder, start the server, and say the file's URL.

        Parameters
        ----------
        file
            A file of this machine.
        name
            Its path in the folder; left out, its name.
        """
        await self.start.aio()  # first, as it may choose the port
        return await self.put_file.aio(name or file.name, file)


class HttpServerClient(FileServerClient):
    """An HTTP server."""


class TftpServerClient(FileServerClient):
    """A TFTP server."""
