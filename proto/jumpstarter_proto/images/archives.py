"""The files in a tar or zip archive, by the standard library's readers, with bounds on what an archive may ask."""

from __future__ import annotations

import errno
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Self, cast

from jumpstarter_proto.encoding import ContentError
from jumpstarter_proto.images.readers import Read
from jumpstarter_proto.texts import shown

__all__ = ["Member", "tar_members", "zip_members"]

MAX_MEMBERS = 1000
"""Files of one archive that we look at; an image's archive has a handful."""
_MAX_HEADER_BYTES = 1024 * 1024
"""Of a tar member's extended header, which is read into memory: it holds a name and attributes."""
_MAX_BYTES_BEFORE_MEMBER = _MAX_HEADER_BYTES + 64 * 1024
"""Of all that stands in front of a tar member's content. Maps of sparse files, and headers that follow each other, have
no bound in the format, and take several times their size in memory."""
_MAX_BYTES_OF_HEADERS = 16 * 1024 * 1024
"""The same for all members together: global headers are kept."""
_HEADER_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_ENCRYPTED = 1
_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
    EOFError,
)
"""What the two readers raise for archives that are none."""


@dataclass(frozen=True)
class Member:
    """A file in an archive, as it comes by."""

    name: str
    """Printable."""
    size: int
    read: Read
    """Of a tar archive, good until the next member is asked for."""


class _File:
    """What tarfile wants of a file that is only read on; it counts what headers take."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left: int | None = None
        """Of the headers of a member; None while none are read."""
        self._left_in_all = _MAX_BYTES_OF_HEADERS

    def read(self, count: int) -> bytes:
        parts = []
        while count > 0 and (data := self._read(count)):
            parts.append(data)
            count -= len(data)
            self._count(len(data))
        return b"".join(parts)

    def _count(self, size: int) -> None:
        if self._left is None:
            return
        self._left -= size
        self._left_in_all -= size
        if self._left < 0 or self._left_in_all < 0:
            raise ContentError(
                "the tar archive has more headers than an image's has; extract it, then flash the image that is in it"
            )

    @contextmanager
    def reading_headers(self) -> Iterator[None]:
        """Limit the reading of the headers of one member."""
        if self._left is not None:  # those of an extension, in front of the member's own
            yield
            return
        self._left = _MAX_BYTES_BEFORE_MEMBER
        try:
            yield
        finally:
            self._left = None


class _TarInfo(tarfile.TarInfo):
    """A header whose extensions have a bound."""

    file: ClassVar[_File]

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        with cls.file.reading_headers():
            return super().fromtarfile(tarfile)

    def _proc_member(self, tarfile: tarfile.TarFile) -> Self:
        """What each Python does with a header before it reads on; newer ones do not call `frombuf` any more."""
        if self.size < 0 or (self.type in _HEADER_TYPES and self.size > _MAX_HEADER_BYTES):
            raise ContentError(f"the tar archive has a header of {self.size} bytes; check it with `tar -t`")
        found: Self = super()._proc_member(tarfile)  # type: ignore[misc]
        return found


@contextmanager
def _explained(kind: str) -> Iterator[None]:
    """Errors of a damaged archive as ContentError."""
    try:
        yield
    except ContentError:
        raise
    except OSError as error:
        # A damaged directory leads before the begin of the file; all else is the disk's.
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(kind, error) from error
    except _DAMAGES as error:
        raise _damaged(kind, error) from error


def _damaged(kind: str, error: Exception) -> ContentError:
    why = shown(str(error)) or type(error).__name__
    return ContentError(f"the {kind} archive is damaged: {why}; check it with `{kind} -t`")


def tar_members(read: Read) -> Iterator[Member]:
    """The files that are not empty, in their order. Raises ContentError, also from a member's `read`."""
    file = _File(read)
    counted = cast("type[_TarInfo]", type("_CountedTarInfo", (_TarInfo,), {"file": file}))
    with _explained("tar"):
        archive = tarfile.open(  # noqa: SIM115 - it holds nothing, and closing it reads on
            fileobj=cast("BinaryIO", file), mode="r|", tarinfo=counted
        )
        for number, info in enumerate(archive):
            _check_number(number)
            if not info.isreg() or info.size == 0:
                continue
            content = archive.extractfile(info)
            assert content is not None  # it is a regular file
            yield Member(shown(info.name), info.size, _explained_read("tar", content.read, info.size))


def zip_members(file: BinaryIO) -> Iterator[Member]:
    """The same of a zip archive in a file that can seek; a member stays readable while the file is open."""
    with _explained("zip"):
        archive = zipfile.ZipFile(file)
        for number, info in enumerate(archive.infolist()):
            _check_number(number)
            if info.is_dir() or info.file_size == 0:
                continue
            if info.flag_bits & _ENCRYPTED or info.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):
                how = "encrypted" if info.flag_bits & _ENCRYPTED else "packed in a way that we do not know"
                raise ContentError(
                    f"{shown(info.filename)} in the zip archive is {how}; extract it, then flash the image"
                )
            member = archive.open(info)
            yield Member(
                shown(info.filename), info.file_size, _explained_read("zip", member.read, info.file_size)
            )


def _explained_read(kind: str, read: Read, size: int) -> Read:
    left = size

    def explained(count: int) -> bytes:
        nonlocal left
        with _explained(kind):
            data = read(count)
        left -= len(data)
        if not data and count and left:
            raise ContentError(f"the {kind} archive ends too early; the file is cut short, so fetch it again")
        return data

    return explained


def _check_number(number: int) -> None:
    if number >= MAX_MEMBERS:
        raise ContentError(
            f"the archive has more than {MAX_MEMBERS} files; extract it, then flash the image that is in it"
        )
