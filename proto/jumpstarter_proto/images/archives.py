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
from typing import BinaryIO, Self, cast

from jumpstarter_proto.encoding import ContentError
from jumpstarter_proto.images.readers import Read
from jumpstarter_proto.texts import shown

__all__ = ["Member", "tar_members", "zip_members"]

MAX_MEMBERS = 1000
"""Files of one archive that we look at; an image's archive has a handful."""
_MAX_HEADER_BYTES = 1024 * 1024
"""Of a tar member's extended header, which is read into memory: it holds a name and attributes."""
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


class _TarInfo(tarfile.TarInfo):
    """A header whose extensions have a bound."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _HEADER_TYPES and info.size > _MAX_HEADER_BYTES):
            raise ContentError(f"the tar archive has a header of {info.size} bytes; check it with `tar -t`")
        return info


class _File:
    """What tarfile wants of a file that is only read on."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def read(self, count: int) -> bytes:
        parts = []
        while count > 0 and (data := self._read(count)):
            parts.append(data)
            count -= len(data)
        return b"".join(parts)


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
    with _explained("tar"):
        archive = tarfile.open(  # noqa: SIM115 - it holds nothing, and closing it reads on
            fileobj=cast("BinaryIO", _File(read)), mode="r|", tarinfo=_TarInfo
        )
        for number, info in enumerate(archive):
            _check_number(number)
            if not info.isreg() or info.size == 0:
                continue
            file = archive.extractfile(info)
            assert file is not None  # it is a regular file
            yield Member(shown(info.name), info.size, _explained_read("tar", file.read, info.size))


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
