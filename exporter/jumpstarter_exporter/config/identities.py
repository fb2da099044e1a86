"""The identities of the boards' exporters: one file per board in the state directory, for its owner only.

So the configuration of a board contains no secret, and may be read-only and public. A configuration with an identity,
as in Jumpstarter 0.9, works as well; if there are two, the stored one is used, because `enrol` writes it.

A host can have an identity as well. Then each board without one gets it from the controller, and it is stored here.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
from jumpstarter_proto.file_names import path_text, safe_name
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.regular_files import open_regular
from jumpstarter_proto.yaml_files import MAX_BYTES, ConfigError, Document, read_struct

from jumpstarter_exporter.config.model import Enrolment, ExporterConfig, Metadata, Tls, check_endpoint
from jumpstarter_exporter.paths import state_directory

__all__ = [
    "CachedIdentities",
    "Identities",
    "StoredIdentity",
    "exporter_of_board",
    "is_readable_by_others",
    "token_place",
    "with_identity",
]

SUFFIX = ".yaml"
HOST_FILE = "host.yaml"
HEADER = "# Written by `jumpstarter-exporter enrol`. The token in it is a secret.\n"
SPACE_BYTES = 64 * 1024
"""Larger than any identity."""

_log = logging.getLogger(__name__)


class _File(msgspec.Struct, frozen=True, rename="camel"):
    """The keys of an identity file."""

    board: str
    metadata: Metadata
    endpoint: str
    token: str
    tls: Tls = Tls()
    config: str = ""
    host: str = ""
    api_version: Literal["jumpstarter.dev/v1alpha1"] = "jumpstarter.dev/v1alpha1"
    kind: Literal["ExporterIdentity"] = "ExporterIdentity"

    def __post_init__(self) -> None:
        """Check the controller's address. FieldError shows the format."""
        check_endpoint(self.endpoint)


class _HostFile(msgspec.Struct, frozen=True, rename="camel"):
    """The keys of a host's identity file."""

    metadata: Metadata
    endpoint: str
    token: str
    tls: Tls = Tls()
    api_version: Literal["jumpstarter.dev/v1alpha1"] = "jumpstarter.dev/v1alpha1"
    kind: Literal["HostIdentity"] = "HostIdentity"

    def __post_init__(self) -> None:
        """Check the controller's address. FieldError shows the format."""
        check_endpoint(self.endpoint)


@dataclass(frozen=True)
class StoredIdentity:
    """The identity of one board."""

    board: str
    enrolment: Enrolment
    config: Path | None
    """The board's configuration when it was enrolled."""
    host: str = ""
    """The host that registered it; empty if a person enrolled the board."""

    def belongs_to(self, file: Path) -> bool:
        """Whether it belongs to this configuration: not if it was made for another one that still exists."""
        try:
            return self.config is None or self.config.samefile(file)
        except OSError:
            return True  # it was moved, or this user may not see it


class Identities:
    """The identities of a state directory.

    Blocking, but short; for the main thread before there is a loop, or a worker thread.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = state_directory(os.environ) / "identities" if folder is None else folder

    def path(self, board: str) -> Path:
        """The path of a board's identity."""
        return self.folder / safe_name(board, SUFFIX)

    def find(self, board: str) -> StoredIdentity | None:
        """Read the identity of a board. If other users can read the file, its mode is changed, with a warning.

        Raises:
            ConfigError: it cannot be read, or is invalid.
        """
        return _read(self.path(board))

    @property
    def host_path(self) -> Path:
        """The path of the host's own identity."""
        return self.folder.parent / HOST_FILE

    def find_host(self) -> Enrolment | None:
        """The host's own identity; None if it is not enrolled. ConfigError as in `find`."""
        return _read_host(self.host_path)

    def every(self) -> dict[Path, StoredIdentity | ConfigError]:
        """All that there are, by file.

        Raises:
            PrivateFileError: this user may not look into the folder.
        """
        try:
            files = sorted(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise PrivateFileError(
                f"{self.folder} cannot be read: {error.strerror}; "
                f"{_cure(error, 'another JUMPSTARTER_STATE_DIRECTORY')}"
            ) from None
        found: dict[Path, StoredIdentity | ConfigError] = {}
        for file in files:
            if file.suffix != SUFFIX or file.name.startswith("."):
                continue
            try:
                identity = _read(file)
            except ConfigError as error:
                found[file] = error
            else:
                if identity is not None:
                    found[file] = identity
        return found

    def prepare(self) -> None:
        """Make the folder, and make sure that there is room for one more.

        Raises:
            PrivateFileError: there is not, or this user may not write there.
        """
        probe = self.folder / safe_name(f"probe-{secrets.token_hex(4)}")
        try:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except FileExistsError:
                self.folder.stat()  # for a loop of links it says so
                raise
            if stat.S_IMODE(self.folder.stat().st_mode) & 0o077:
                self.folder.chmod(0o700)
            self._give_away(self.folder)
            try:
                descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(bytes(SPACE_BYTES))
                    file.flush()
                    os.fsync(descriptor)
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise PrivateFileError(
                f"identities cannot be kept in {self.folder}: {error.strerror}; "
                f"{_cure(error, 'name another JUMPSTARTER_STATE_DIRECTORY')}"
            ) from None

    def save(self, board: str, enrolment: Enrolment, config: Path | None) -> Path:
        """Write a board's identity, completely or not at all, and never readable by others.

        PrivateFileError if that fails.
        """
        import yaml  # noqa: PLC0415 - only enrolment needs it

        self.prepare()
        path = self.path(board)
        content = {
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": "ExporterIdentity",
            "board": board,
            **({} if config is None else {"config": path_text(config)}),
            **({} if enrolment.host is None else {"host": enrolment.host.name}),
            **_written(enrolment),
        }
        write_private(path, (HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).encode())
        self._give_away(path)
        return path

    def save_host(self, enrolment: Enrolment) -> Path:
        """Write the host's own identity, as `save` does."""
        import yaml  # noqa: PLC0415 - only enrolment needs it

        self.prepare()
        content = {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "HostIdentity", **_written(enrolment)}
        text = HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_private(self.host_path, text.encode())
        self._give_away(self.host_path)
        return self.host_path

    def remove(self, board: str) -> None:
        """Remove a board's identity, if there is one. PrivateFileError if that fails."""
        path = self.path(board)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise PrivateFileError(f"{path} cannot be removed: {error.strerror}; remove it by hand") from None

    def _give_away(self, path: Path) -> None:
        """Files that root creates get the owner of the state directory: the service, which must read them."""
        if os.geteuid() == 0:
            owner = self.folder.parent.stat()
            try:
                os.chown(path, owner.st_uid, owner.st_gid)
            except OSError as error:
                raise PrivateFileError(
                    f"{path} cannot be given to the owner of {self.folder.parent}: {error.strerror}"
                ) from None


class CachedIdentities(Identities):
    """The same for frequent use: a file is read again only if it has changed. For one thread at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._known: dict[Path, tuple[object, Any]] = {}
        """The content or error of each file, with its identity on disk."""

    def find(self, board: str) -> StoredIdentity | None:
        """See `Identities`."""
        found: StoredIdentity | None = self._read_once(self.path(board), _read)
        return found

    def find_host(self) -> Enrolment | None:
        """See `Identities`."""
        found: Enrolment | None = self._read_once(self.host_path, _read_host)
        return found

    def _read_once(self, path: Path, read: Callable[[Path], object]) -> Any:
        try:
            status = path.stat()
        except OSError:
            self._known.pop(path, None)
            return read(path)
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._known.get(path)
        if known is None or known[0] != version:
            try:
                found: object = read(path)
            except ConfigError as error:
                found = error
            known = self._known[path] = version, found
        if isinstance(known[1], ConfigError):
            raise known[1]
        return known[1]


def with_identity(
    config: ExporterConfig, identities: Identities | None = None, *, say: bool = False
) -> ExporterConfig:
    """Return the configuration with the stored identity of its board, instead of one in the file.

    With `say`, an unused identity causes a warning.

    Raises:
        ConfigError: the stored identity is invalid.
    """
    identities = identities or Identities()
    stored = identities.find(config.board_name)
    host = identities.find_host() if stored is None or stored.host else None
    if stored is not None and stored.host and host is not None:
        if not stored.belongs_to(config.file) or not _is_of(stored, host):
            stored = None  # it belongs to another file's board, or to the host's previous identity
        else:
            return replace(config, enrolment=replace(stored.enrolment, host=host))
    if stored is None:
        if config.enrolment is not None or host is None:
            return config
        local = "" if config.discovered is None else config.discovered.host
        name = exporter_of_board(host.name, config.board_name, local)
        return replace(config, enrolment=replace(host, name=name, token="", host=host))
    if not stored.belongs_to(config.file):
        if say:
            _log.warning(
                "%s is not used: it is for the board of %s; give one of the two another `metadata.name`",
                stored.enrolment.file,
                stored.config,
            )
        return config
    if config.enrolment is not None and say:
        _log.warning(
            "%s is not used, because %s takes precedence; remove it",
            token_place(config),
            stored.enrolment.file,
        )
    return replace(config, enrolment=stored.enrolment)


def exporter_of_board(host: str, board: str, local: str = "") -> str:
    """Return the exporter name of a board: the host, or the host, a dash and the board.

    If the board's name begins with the local host name `local`, this prefix is replaced by the host.
    """
    if local and _is_below(board, local):
        return host + board[len(local) :]
    return board if _is_below(board, host) else f"{host}-{board}"


def _is_below(board: str, host: str) -> bool:
    return board == host or board.startswith(f"{host}-")


def _is_of(stored: StoredIdentity, host: Enrolment) -> bool:
    kept = stored.enrolment
    return (stored.host, kept.endpoint, kept.namespace) == (host.name, host.endpoint, host.namespace)


def token_place(config: ExporterConfig) -> str:
    """The position of a configuration's token, as the subject of a sentence."""
    place = config.document.error(("token",), "")
    return f"the token at {place.file}:{place.line}:{place.column}"


def is_readable_by_others(status: os.stat_result) -> bool:
    """Whether others can read such a file: a group may if root owns it for us."""
    allowed = 0o700 if status.st_uid == os.geteuid() else 0o740
    return bool(stat.S_IMODE(status.st_mode) & ~allowed & 0o777)


def _read(path: Path) -> StoredIdentity | None:
    if (raw := _raw(path)) is None:
        return None
    with _explained(path, "the board"):
        document = Document(path, "token", raw)
        content = read_struct(document, _File, document.data)
        _check_filled(document, content.metadata, "board", "token")
    return StoredIdentity(
        content.board,
        _enrolment(content, path),
        Path(content.config) if content.config else None,
        content.host,
    )


def _read_host(path: Path) -> Enrolment | None:
    if (raw := _raw(path)) is None:
        return None
    with _explained(path, "the host"):
        document = Document(path, "token", raw)
        content = read_struct(document, _HostFile, document.data)
        _check_filled(document, content.metadata, "token")
    return _enrolment(content, path)


def _raw(path: Path) -> bytes | None:
    try:
        with open_regular(path) as stream:
            _close_to_others(path, stream.fileno())
            return stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(
            f"this identity cannot be read: {error.strerror}; {_cure(error, 'run as its owner')}", file=path
        ) from None


def _cure(error: OSError, otherwise: str) -> str:
    """What to do about a path that cannot be read or written."""
    if error.errno == errno.ELOOP:
        return "a link on the way leads to itself: remove that, or name another JUMPSTARTER_STATE_DIRECTORY"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"use sudo, or {otherwise}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or name another JUMPSTARTER_STATE_DIRECTORY"
    return "see what is there and move it away, or name another JUMPSTARTER_STATE_DIRECTORY"


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Add what to do about an invalid file."""
    try:
        yield
    except ConfigError as error:
        place = None if error.line is None or error.column is None else (error.line, error.column)
        raise ConfigError(
            f"{error.message} (or delete the file and enrol {what} again)",
            file=path,
            path=error.path,
            place=place,
        ) from None


def _check_filled(document: Document, metadata: Metadata, *keys: str) -> None:
    for key in keys:
        if not document.data[key]:
            raise document.error((key,), "there is nothing behind it; add it")
    if not metadata.name:
        raise document.error(("metadata",), "'name' is missing; add it")


def _enrolment(content: _File | _HostFile, path: Path) -> Enrolment:
    metadata = content.metadata
    return Enrolment(
        content.endpoint, metadata.namespace or "", metadata.name or "", content.token, content.tls, path
    )


def _written(enrolment: Enrolment) -> dict[str, object]:
    return {
        "metadata": {"namespace": enrolment.namespace, "name": enrolment.name},
        "endpoint": enrolment.endpoint,
        "tls": {"ca": enrolment.tls.ca, "insecure": enrolment.tls.insecure},
        "token": enrolment.token,
    }


def _close_to_others(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not is_readable_by_others(status):
        return
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.fchmod(descriptor, 0o600)
    except OSError:
        _log.warning(
            "%s can be read by others (mode %o); run: chmod 600 %s, and enrol again if they may have",
            path,
            mode,
            path,
        )
    else:
        _log.warning(
            "%s could be read by others (mode %o), and is closed to them now; enrol again if they may have read it",
            path,
            mode,
        )
