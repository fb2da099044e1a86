"""The controller's data folder: what is in it, and who may use it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import write_private

__all__ = ["Addresses", "DataError", "DataFolder", "default_folder"]


class DataError(JumpstarterError):
    """The data folder cannot be used."""

    exit_code = ExitCode.USAGE


class Addresses(msgspec.Struct, frozen=True):
    """How others reach this controller; tokens are for it alone."""

    endpoint: str
    ca: str = ""
    """PEM, for users to pin; empty when the system's authorities vouch for it."""
    fingerprint: str = ""
    """SHA-256 of the certificate that it shows."""
    token_seconds: float | None = None
    """How long its tokens are good, if not for a year."""
    certificate_ends: float = 0.0
    """Of the certificate that it shows, in seconds since the epoch."""


@dataclass(frozen=True)
class DataFolder:
    """Only its owner may look into it."""

    path: Path

    @property
    def database(self) -> Path:
        """Everything that the lab consists of."""
        return self.path / "lab.sqlite"

    @property
    def socket(self) -> Path:
        """Where a running controller is administrated."""
        return self.path / "admin.sock"

    @property
    def signing_key(self) -> Path:
        """Of tokens."""
        return self.path / "tokens.key"

    @property
    def router_key(self) -> Path:
        """Shared with routers."""
        return self.path / "router.key"

    @property
    def exists(self) -> bool:
        """Whether there is such a folder."""
        return self.path.is_dir()

    def prepare(self) -> None:
        """Make the folder, for its owner only. DataError if that cannot be."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o700)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be the data folder: {error.strerror}; choose another with --data"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether we are the only one; while the block lasts, nobody else becomes it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def remember(self, addresses: Addresses) -> None:
        """For who administrates while the controller does not run."""
        with suppress(DataError):
            if self.addresses() == addresses:
                return  # a controller starts on a full disk, too
        write_private(self.path / "addresses.json", msgspec.json.encode(addresses))

    def addresses(self) -> Addresses:
        """As of the last run. DataError if it never ran."""
        try:
            return decode_json((self.path / "addresses.json").read_bytes(), Addresses)
        except (OSError, ValueError):
            raise DataError(
                f"the controller of {self.path} has not run yet, so nobody knows its address; start it first: "
                f"jumpstarter-controller run --with-router --data {self.path}"
            ) from None


def default_folder() -> Path:
    """`/var/lib/jumpstarter-controller` for root, else in the user's own data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/jumpstarter-controller")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(base) / "jumpstarter-controller"
