"""The daemon's unix socket: its path, its permissions, and the lock that makes it exclusive.

A lock file beside the socket decides which exporter has it, and is held for as long as the process lives, however that
ends. Whoever holds the lock may replace a socket that a dead process left behind.
"""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.forks import hold_lock, release_lock
from jumpstarter_proto.private_runtime import is_private, temporary_runtime_folder
from jumpstarter_proto.rpc import socket_address

__all__ = [
    "GROUP",
    "MODE",
    "SYSTEM",
    "SocketError",
    "board_socket_path",
    "claimed_socket",
    "default_path",
    "path_to_ask",
    "shared_group",
]

SYSTEM = Path("/run/jumpstarter/exporter.sock")
GROUP = "jumpstarter"
MODE = 0o660
"""The socket's permissions are the access control."""


class SocketError(JumpstarterError):
    """The socket cannot be created; the message says who has it or what is in its place."""

    status = "FAILED_PRECONDITION"
    exit_code = ExitCode.FAILED


def default_path() -> Path:
    """JUMPSTARTER_RUNTIME_DIRECTORY's; else the system's where this process may make it, else the user's.

    A user without a runtime directory gets a private folder in /tmp.

    Raises:
        SocketError: there is no place for any of them.
    """
    if chosen := os.environ.get("JUMPSTARTER_RUNTIME_DIRECTORY"):
        return Path(chosen).absolute() / SYSTEM.name
    if os.access(SYSTEM.parent if SYSTEM.parent.exists() else SYSTEM.parent.parent, os.W_OK | os.X_OK):
        return SYSTEM
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "jumpstarter" / SYSTEM.name
    folder = temporary_runtime_folder()
    with suppress(OSError):
        os.mkdir(folder, 0o700)
    if not is_private(folder):
        raise SocketError(
            f"neither {SYSTEM.parent} nor {runtime} is writable, and {folder} is not a private folder of this user; "
            "name a folder, for `jumpstarter` as well: export JUMPSTARTER_RUNTIME_DIRECTORY=FOLDER"
        )
    return Path(folder) / SYSTEM.name


def path_to_ask() -> Path:
    """Where the exporter of this host is asked: at the service's socket, if this process may use it; else at its own.

    As `jumpstarter` does. SocketError: there is no place for either.
    """
    if not os.environ.get("JUMPSTARTER_RUNTIME_DIRECTORY") and os.access(SYSTEM, os.W_OK):
        return SYSTEM
    return default_path()


def board_socket_path(host_socket: Path, name: str) -> Path:
    """The path of a board's own socket, on a host with several."""
    return host_socket.parent / "boards" / safe_name(name, ".sock")


def shared_group() -> int | None:
    """Id of the group that may use the socket, if it exists and this process may set it."""
    try:
        found = grp.getgrnam(GROUP)
    except KeyError:
        return None
    mine = os.geteuid() == 0 or found.gr_gid in (os.getegid(), *os.getgroups())
    return found.gr_gid if mine else None


COPY_SECONDS = 0.3
"""A program that another thread starts has a copy of the lock between fork and exec."""


@contextmanager
def claimed_socket(path: Path, *, is_inherited: bool = False) -> Iterator[None]:
    """Have the path for oneself for the block, with nothing there at its start and nothing left at its end.

    A socket that `is_inherited`, from systemd, is there before and after.

    Raises:
        SocketError: another exporter has it, something else is in the way, or it cannot be made there.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The lock file stays: a lock on a removed file locks nothing.
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SocketError(
            f"no socket can be made at {path}: {error.strerror}; choose another with --socket"
        ) from None
    try:
        _lock(lock, path)
        if is_inherited:
            yield
            return
        _remove_stale(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        release_lock(lock)


def _lock(lock: int, path: Path) -> None:
    end = time.monotonic() + COPY_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
            if owner == str(os.getpid()) and time.monotonic() < end:
                time.sleep(0.005)
                continue
            who = f" (process {owner})" if owner.isdecimal() else ""
            raise _taken(path, who) from None
    hold_lock(lock)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _remove_stale(path: Path) -> None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise SocketError(f"{path} exists and is not a socket; choose another path with --socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            with socket_address(path) as address:
                probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # nobody listens on it any more
        except OSError as error:
            raise SocketError(
                f"{path} cannot be replaced: {error}; choose another path with --socket"
            ) from None
        else:
            raise _taken(path, "")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SocketError(
            f"{path} cannot be replaced: {error.strerror}; remove it, or use --socket"
        ) from None


def _taken(path: Path, who: str) -> SocketError:
    return SocketError(
        f"another exporter{who} listens on {path}; stop it, or choose another path with --socket"
    )
