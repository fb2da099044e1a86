"""The files of an SQLite database while a process has it open: whether they are still those that it opened.

SQLite itself never asks. It goes on writing to a file that was deleted or replaced, and whoever opens the name next
finds nothing of that. While a connection is open, SQLite keeps all three files: it resets and truncates the log, but
it never replaces it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["OpenFiles", "beside", "check_access", "is_denied", "real_path", "reason_of", "sqlite_errors"]

LOG_SUFFIX = "-wal"
_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_HEADER_BYTES = 32
_SALTS = slice(16, 24)
"""The numbers in the log's header that are other ones whenever the log is written from its beginning again."""


def beside(path: Path, suffix: str) -> Path:
    """The file with a suffix added to its name."""
    return path.with_name(path.name + suffix)


def real_path(path: Path) -> Path:
    """The file that SQLite opens: it follows a symbolic link, and has the log beside the link's target."""
    return path.resolve() if path.is_symlink() else path


def check_access(path: Path) -> None:
    """Check that this process may read and write a database and what is beside it.

    SQLite opens a file for reading only if it may not write there, or does not say why it cannot be opened.

    Raises:
        OSError: it may not; says which file.
    """
    for file in (path, *(beside(real_path(path), suffix) for suffix in (LOG_SUFFIX, "-shm"))):
        if file.exists() and not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
            code = errno.EROFS if os.statvfs(file).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code), str(file))


def is_denied(error: Exception) -> bool:
    """Whether this process may not do that with the file."""
    return getattr(error, "errno", None) in {errno.EACCES, errno.EPERM, errno.EROFS} or getattr(
        error, "sqlite_errorcode", 0
    ) & 0xFF in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}


def reason_of(error: Exception) -> str:
    """What is wrong, for a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error)


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Raise `sqlite3.DatabaseError` for text in a damaged schema that is not UTF-8.

    sqlite3 raises UnicodeDecodeError instead, as it cannot make its message.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        damaged = sqlite3.DatabaseError("its schema has text that is not UTF-8")
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        damaged.sqlite_errorname = "SQLITE_CORRUPT"
        raise damaged from error


class OpenFiles:
    """The database, its log (WAL) and the log's index, as they were when they were opened.

    A connection in WAL mode must be open before this is created, and until it is closed.
    """

    def __init__(self, path: Path) -> None:
        """OSError: one of the files is not there."""
        self.path = path
        self.log = beside(real_path(path), LOG_SUFFIX)
        files = (path, self.log, beside(real_path(path), "-shm"))
        self._opened = [(file, _identity(file)) for file in files]
        # SQLite has its locks on the other two files; closing a descriptor of those would release them.
        self._file = self.log.open("rb", buffering=0)
        self._seen = (b"", 0)
        """The salts of the log, and its size with them."""

    def changed(self) -> str:
        """Which file was removed or replaced, as the beginning of a sentence; empty: none."""
        for file, identity in self._opened:
            try:
                if _identity(file) != identity:
                    return f"{file} was replaced"
            except OSError as error:
                return f"{file} does not exist any more ({error.strerror})"
        return ""

    def emptied(self, db: sqlite3.Connection) -> str:
        """Whether somebody else than SQLite has emptied the log, as `changed`.

        What is written behind its end then would never be read, and a checkpoint would write zeros into the database.
        The connection must have no transaction.
        """
        if self._size():
            return ""
        try:
            _, frames, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:  # as it reads what is not there any more
            return "" if is_denied(error) else f"{self.log} was shortened"
        return f"{self.log} was shortened" if frames > 0 and not self._size() else ""

    def cut(self) -> str:
        """Whether somebody else than SQLite has shortened the log, as `changed`.

        Call it when nobody can write: when a transaction that writes has begun, and when it is committed. In between
        SQLite may have written more than it leaves there: with `journal_size_limit` a commit shortens the log.
        """
        header = os.pread(self._file.fileno(), _HEADER_BYTES, 0)
        size = self._size()
        salts, least = self._seen
        if not size:  # as after a checkpoint that truncates
            self._seen = (b"", 0)
        elif header[:4] not in _MAGIC or (header[_SALTS] == salts and size < least):
            return f"{self.log} was shortened"
        else:
            self._seen = (header[_SALTS], size)
        return ""

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the descriptor. Once more is allowed."""
        self._file.close()


def _identity(path: Path) -> tuple[int, int]:
    """Of the file that has that name now."""
    found = path.stat()
    return found.st_dev, found.st_ino
