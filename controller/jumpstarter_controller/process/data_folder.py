"""The controller's data folder: its files, its lock, and access to it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import create_private, write_private

__all__ = ["Addresses", "DataError", "DataFolder", "KubernetesLab", "default_folder"]


class DataError(JumpstarterError):
    """The data folder cannot be used."""

    exit_code = ExitCode.USAGE


class KubernetesLab(msgspec.Struct, frozen=True):
    """Where the records of a lab in Kubernetes are."""

    namespace: str = ""
    """Empty: that of the kubeconfig's context, or of the Pod."""
    kubeconfig: str = ""
    """Its file; empty: the Pod's own account, or else the user's own kubeconfig."""
    tokens: Literal["own", "serviceaccounts"] = "own"
    """The issuer of tokens: the controller with its key, or the API server for ServiceAccounts."""


class Addresses(msgspec.Struct, frozen=True):
    """How this controller is reached. Its tokens are valid for this endpoint only."""

    endpoint: str
    ca: str = ""
    """PEM certificate for users to pin; empty if a CA of the system has issued it."""
    fingerprint: str = ""
    """SHA-256 of its certificate."""
    token_seconds: float | None = None
    """How long its tokens are valid; None: one year."""
    certificate_ends: float = 0.0
    """When its certificate expires, in seconds since the epoch."""
    kubernetes: KubernetesLab | None = None
    """Where its records are; None: in the folder."""


@dataclass(frozen=True)
class DataFolder:
    """The data folder. Only its owner may read it."""

    path: Path

    @property
    def database(self) -> Path:
        """The database of the lab's records."""
        return self.path / "lab.sqlite"

    @property
    def journal(self) -> Path:
        """The file of the audit log."""
        return self.path / "journal.sqlite"

    @property
    def socket(self) -> Path:
        """The administration socket of a running controller."""
        return self.path / "admin.sock"

    @property
    def signing_key(self) -> Path:
        """The key that signs tokens."""
        return self.path / "tokens.key"

    @property
    def router_key(self) -> Path:
        """The key that is shared with routers."""
        return self.path / "router.key"

    def replica(self) -> str:
        """Return the name of this controller in its lab: the host name and the number of the folder.

        The process that has locked the folder is the only one with this name. A copy of the folder gets another name.
        """
        path = self.path / "replica"
        if not path.exists():
            write_private(path, secrets.token_hex(16).encode())
        text = f"{path.read_text()} {self.path.resolve()} {self.path.stat().st_ino}"
        host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:50] or "host"
        return f"{host}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def restoring(self) -> Path:
        """There from the first file that a restore replaces to the last; says where the data from before is."""
        return self.path / "restoring"

    @property
    def has_keys(self) -> bool:
        """Whether a controller has run in the folder: there is the key of its tokens, or its address."""
        return self.signing_key.exists() or (self.path / "addresses.json").exists()

    @property
    def is_in_kubernetes(self) -> bool:
        """Whether the records of the lab were in Kubernetes at its last run."""
        with suppress(DataError):
            return self.addresses().kubernetes is not None
        return False

    def check_whole(self) -> None:
        """DataError if a restore was cut short: the keys may be of one lab, and the database of another."""
        if self.restoring.exists():
            raise DataError(
                f"a restore to {self.path} was cut short; run it again: "
                f"jumpstarter-controller admin restore FILE --data {self.path}"
            )

    @property
    def exists(self) -> bool:
        """Whether there is such a folder. DataError if that is not for this user to know."""
        try:
            return self.path.is_dir()
        except PermissionError:
            raise self._denied() from None

    def check_access(self) -> None:
        """DataError: the folder does not exist, or this user may not administrate it."""
        if not self.exists:
            raise DataError(f"there is no folder {self.path}; choose the lab's with --data")
        if not os.access(self.path, os.R_OK | os.X_OK, effective_ids=True):
            raise self._denied()

    def _denied(self) -> DataError:
        owner = "its owner"
        with suppress(OSError, KeyError):
            owner = pwd.getpwuid(self.path.stat().st_uid).pw_name
        return DataError(
            f"this user may not use {self.path}; do it as {owner} (sudo -u), or choose another with --data"
        )

    def prepare(self) -> None:
        """Create the folder, for its owner only. DataError: that failed."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_mode & 0o077:
                self._close_to_others()
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be the data folder: {error.strerror}; choose another with --data"
            ) from None
        self.check_access()

    def _close_to_others(self) -> None:
        try:
            self.path.chmod(0o700)
        except PermissionError:
            raise self._denied() from None

    @property
    def places(self) -> list[DataFolder]:
        """This folder, and the one where a linked database really is: other controllers may use that one."""
        real = self.database.resolve().parent
        return [self] if real == self.path.resolve() else [self, DataFolder(real)]

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Lock `places` during the block. Yields False if another process holds one of the locks."""
        with ExitStack() as stack:
            yield all(stack.enter_context(_locked(one.path / "lock")) for one in self.places)

    def remember(self, addresses: Addresses) -> None:
        """Store the addresses, for administration while the controller does not run."""
        with suppress(DataError):
            if self.addresses() == addresses:
                return  # a controller starts on a full disk, too
        write_private(self.path / "addresses.json", msgspec.json.encode(addresses))

    def addresses(self) -> Addresses:
        """The addresses of the last run. DataError: the controller has never run, or they cannot be read."""
        file = self.path / "addresses.json"
        try:
            return decode_json(file.read_bytes(), Addresses)
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f"the controller of {self.path} has not run yet, so its address is not known; start it first: "
                f"jumpstarter-controller run --with-router --data {self.path}"
            ) from None
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}; let this user read it") from None
        except ValueError:
            raise DataError(f"{file} is damaged; start the controller, which writes it again") from None


@contextmanager
def _locked(file: Path) -> Iterator[bool]:
    try:
        create_private(file)
        descriptor = os.open(file, os.O_RDWR)
    except OSError as error:
        raise DataError(
            f"{file} cannot be opened: {error.strerror}; see to it that this user may write there"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def default_folder() -> Path:
    """`/var/lib/jumpstarter-controller` for root, else in the user's own data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/jumpstarter-controller")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(base) / "jumpstarter-controller"
