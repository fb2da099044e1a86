"""A folder whose files are named by users and boards, which are not trusted: no path leads out of it.

Every step of a path is opened by itself, without following links, relative to the folder of the step before. So
neither `..` nor a link in the folder leads elsewhere, also if somebody changes the folder meanwhile. Everything here is
blocking.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["FileFolder", "FileFolderError", "NewFile", "PathError", "parts_of"]

MAX_PATH_LENGTH = 1024
MAX_DEPTH = 16
MAX_NAME_BYTES = 200
PARTIAL = ".partial-"
"""Begins the names of files that are being written."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


class PathError(JumpstarterError, ValueError):
    """The path is none of this folder."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class FileFolderError(JumpstarterError):
    """There is no such file, or it cannot be used."""

    status = "FAILED_PRECONDITION"
    exit_code = ExitCode.FAILED


def parts_of(path: str) -> list[str]:
    """The names in a path, without those that mean the same folder; [] is the folder itself.

    Raises:
        PathError: it leads out of the folder, or has an invalid name.
    """
    if len(path) > MAX_PATH_LENGTH:
        raise PathError(f"the path is longer than {MAX_PATH_LENGTH} characters; use a shorter one")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for part in parts:
        too_long = len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES
        if part == ".." or part.startswith((PARTIAL, ".owner")) or too_long or not part.isprintable():
            raise PathError(
                f"{path[:200]!r} is not a path in this folder; use a relative path such as boot/zImage"
            )
    if len(parts) > MAX_DEPTH:
        raise PathError(f"the path has more than {MAX_DEPTH} folders; use a shorter one")
    return parts


class FileFolder:
    """A folder with a limit for the bytes that users write into it."""

    def __init__(self, root: Path, size_limit: int) -> None:
        self.root = root
        self.size_limit = size_limit
        self.created: set[tuple[str, ...]] = set()
        """The files and folders that were made through this object."""
        self._reserved = 0
        """Bytes of files that are being written."""
        self.finished = 0
        """Bytes that were ever written into files that have their name."""
        self._lock = threading.Lock()
        self._numbers = iter(range(1_000_000_000))

    def open_file(self, path: str) -> tuple[int, int]:
        """A descriptor of a regular file, which is the caller's, and its length.

        Raises:
            PathError: See `parts_of`.
            FileFolderError: There is no such file.
        """
        with self._parent(path) as (folder, name), _faults(path):
            descriptor = os.open(name, _READ, dir_fd=folder)
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                os.close(descriptor)
                raise FileFolderError(f"{path!r} is not a file")
            return descriptor, facts.st_size

    def create(self, path: str) -> NewFile:
        """A new file, with the folders on its way; it appears under its name when it is finished."""
        parts = parts_of(path)
        if not parts:
            raise PathError("the path is empty; name a file")
        for count in range(1, len(parts)):
            self._make(parts[:count])
        with self._parent(path) as (folder, name), _faults(path):
            return NewFile(self, os.dup(folder), f"{PARTIAL}{next(self._numbers)}", name, tuple(parts))

    def create_dir(self, path: str) -> None:
        """Make a folder, and those on its way. One that exists is left as it is."""
        parts = parts_of(path)
        for count in range(1, len(parts) + 1):
            self._make(parts[:count])

    def stat(self, path: str) -> os.stat_result:
        """The facts about a file or folder. FileFolderError if there is none; a link is none."""
        parts = parts_of(path)
        if not parts:
            return self.root.stat()
        with self._parent(path) as (folder, name), _faults(path):
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
            raise FileFolderError(f"{path!r} is neither a file nor a folder")
        return facts

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        try:
            self.stat(path)
        except FileFolderError:
            return False
        return True

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; those of folders end in a slash."""
        with self._opened(parts_of(path), path) as folder, os.scandir(folder) as entries:
            found = [
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
            ]
        return sorted(name for name in found if not name.startswith((PARTIAL, ".owner")))

    def hash(self, path: str, algorithm: str) -> str:
        """The hash of a file's content."""
        descriptor, _ = self.open_file(path)
        with open(descriptor, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    def rename(self, source: str, target: str) -> None:
        """Give a file or folder another path, whose folder exists."""
        self.stat(source)
        with (
            self._parent(source) as (from_folder, old),
            self._parent(target) as (to_folder, new),
            _faults(f"{source} -> {target}"),
        ):
            os.rename(old, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)
        before, after = tuple(parts_of(source)), tuple(parts_of(target))
        with self._lock:
            moved = {one for one in self.created if one[: len(before)] == before}
            self.created -= moved
            self.created |= {after + one[len(before) :] for one in moved}

    def delete(self, path: str) -> None:
        """Remove a file or an empty folder. Nothing happens if there is none."""
        with self._parent(path) as (folder, name), _faults(path):
            try:
                os.unlink(name, dir_fd=folder)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=folder)
            except FileNotFoundError:
                return
        self.forget(path)

    def remove_all(self, path: str) -> None:
        """Remove a file, or a folder with its content. Nothing happens if there is none; the folder itself stays."""
        parts = parts_of(path)
        for name in [parts[-1]] if parts else [one.rstrip("/") for one in self.names("")]:
            whole = "/".join([*parts[:-1], name])
            with suppress(FileFolderError), self._parent(whole) as (folder, last), _faults(whole):
                if stat.S_ISDIR(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                    shutil.rmtree(last, dir_fd=folder)
                else:
                    os.unlink(last, dir_fd=folder)
            self.forget(whole)

    def remove_created(self) -> None:
        """Remove what was made through this object; what is not empty or gone stays."""
        with self._lock:
            created, self.created = sorted(self.created, reverse=True), set()
        for parts in created:
            with suppress(JumpstarterError):
                self.delete("/".join(parts))

    def used(self) -> int:
        """Bytes of all files in it, without those that are being written."""
        total = 0
        for _, _, names, folder in os.fwalk(self.root, follow_symlinks=False):
            for name in names:
                if not name.startswith(PARTIAL):
                    with suppress(OSError):
                        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
        return total

    def reserve(self, count: int, used: int) -> None:
        """Take room for so many more bytes; FileFolderError if there is none.

        `used` is what was used when `finished` was 0.
        """
        with self._lock:
            if used + self.finished + self._reserved + count > self.size_limit:
                raise FileFolderError(
                    f"the files would need more than {self.size_limit} bytes; remove some, or raise size_limit"
                )
            self._reserved += count

    def give_back(self, count: int) -> None:
        """Return room."""
        with self._lock:
            self._reserved -= count

    def note(self, parts: tuple[str, ...], size: int = 0) -> None:
        """Remember what was made."""
        with self._lock:
            self.created.add(parts)
            self.finished += size

    def forget(self, path: str) -> None:
        """Forget what was removed."""
        parts = tuple(parts_of(path))
        with self._lock:
            self.created = {one for one in self.created if one[: len(parts)] != parts}

    def _make(self, parts: list[str]) -> None:
        path = "/".join(parts)
        with self._parent(path) as (folder, name), _faults(path):
            try:
                os.mkdir(name, mode=0o755, dir_fd=folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    raise FileFolderError(f"{path!r} is not a folder; choose another path") from None
                return
        self.note(tuple(parts))

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder in which a path ends, and its last name."""
        parts = parts_of(path)
        if not parts:
            raise PathError("the path is the folder itself; name a file")
        with self._opened(parts[:-1], path) as folder:
            yield folder, parts[-1]

    @contextmanager
    def _opened(self, parts: list[str], path: str) -> Iterator[int]:
        with _faults(path):
            descriptor = os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in parts:
                with _faults(path):
                    below = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


class NewFile:
    """A file that is being written. Use it from one thread at a time; `finish` or `discard` ends it."""

    def __init__(
        self, folder: FileFolder, parent: int, partial: str, name: str, parts: tuple[str, ...]
    ) -> None:
        self._folder = folder
        self._parent = parent
        self._partial = partial
        self._name = name
        self._parts = parts
        self._size = 0
        # Others may finish files while this one is written.
        self._used = -folder.finished + folder.used()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(partial, flags, mode=0o644, dir_fd=parent)
        except BaseException:
            os.close(parent)
            raise
        self._is_open = True

    def write(self, data: bytes) -> None:
        """Append. FileFolderError if there is no room; then only `discard` makes sense."""
        self._folder.reserve(len(data), self._used)
        self._size += len(data)
        with _faults(self._name):
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def finish(self) -> None:
        """Give it its name, in place of a file that has it."""
        if self._is_open:
            try:
                with _faults(self._name):
                    os.rename(self._partial, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
                self._folder.note(self._parts, self._size)
            finally:
                self.discard()

    def discard(self) -> None:
        """Throw it away, if it has no name yet."""
        if not self._is_open:
            return
        self._is_open = False
        with suppress(OSError):
            os.unlink(self._partial, dir_fd=self._parent)
        os.close(self._descriptor)
        os.close(self._parent)
        self._folder.give_back(self._size)


@contextmanager
def _faults(path: str) -> Iterator[None]:
    """One sentence for an error of the system."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise FileFolderError(f"{path!r} leads over something that is not a folder") from error
        if error.errno in (errno.ENOENT, errno.ENXIO):
            raise FileFolderError(f"there is no {path!r}; `list` shows what there is") from error
        raise FileFolderError(f"{path!r}: {error.strerror or error}") from error
