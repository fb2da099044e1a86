"""Locks the board of a configuration file: for one daemon, or shared by commands with built-in exporters.

It is a lock on a file in a folder that all users of the host can reach, so that nobody switches a board that another
exporter uses. The file's name is made from the configuration's path; its content says who has the board, for the error
message. The kernel releases the lock when the process ends, in whatever way.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.forks import hold_lock, release_lock
from jumpstarter_proto.json_texts import parse_json

__all__ = [
    "BoardTakenError",
    "Holder",
    "claim_holder",
    "exclusive_claim",
    "remove_stale_claims",
    "shared_claim",
]

FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - the file's owner is checked
_PREFIX = "jumpstarter-board-"
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Any user can put a link or a pipe there."""
WAIT_SECONDS = 3.0
"""A daemon waits this long for commands to end; then it serves the board beside them."""
_LOOK_SECONDS = 0.2
_MAX_TEXT = 4096
_log = logging.getLogger(__name__)


class BoardTakenError(JumpstarterError):
    """Another exporter of this host serves the board."""

    status = "FAILED_PRECONDITION"
    exit_code = ExitCode.DENIED

    def __init__(self, message: str, socket: str = "") -> None:
        super().__init__(message)
        self.socket = socket
        """The socket where it serves users of the host; empty if there is none or the file's owner is not trusted."""


@contextmanager
def shared_claim(file: Path) -> Iterator[None]:
    """Use a file's board in the block, unless a daemon has it.

    Raises:
        BoardTakenError: a daemon has it; the message says how to use the board.
    """
    path = _place(file)
    descriptor = _locked(path, fcntl.LOCK_SH)
    if descriptor is None:
        raise _taken(file, path)
    try:
        yield
    finally:
        _leave(descriptor, path)


@dataclass(frozen=True)
class Holder:
    """The daemon that has a board."""

    process: str
    """Its process number; empty if it is unknown or the file's owner is not trusted."""
    error: BoardTakenError
    """Return the error for other processes that try to use the board."""


def claim_holder(file: Path) -> Holder | None:
    """Return the daemon that serves the board of a file; None if it is free or used by commands.

    The lock is taken for an instant; nothing else changes.
    """
    path = _place(file)
    process = _told(path).get("process", "")
    error = _taken(file, path)
    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Holder(process if process.isdecimal() else "", error)
    finally:
        os.close(descriptor)
    return None


class _Claim:
    """A daemon's lock on the board of one file."""

    def __init__(self, file: Path, told: dict[str, str]) -> None:
        self._path = _place(file)
        self._told = told
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Try to take the lock; True if this process has it."""
        if self._descriptor is None:
            self._descriptor = _locked(self._path, fcntl.LOCK_EX)
            if self._descriptor is not None:
                with suppress(OSError):  # the error message for others has less detail then
                    told = {"process": str(os.getpid()), **self._told}
                    _write(self._path, self._descriptor, json.dumps(told).encode())
        return self._descriptor is not None

    async def keep_trying(self) -> None:
        """Wait until this process has the lock."""
        while not self.take():  # noqa: ASYNC110 - the kernel sends no event when a lock is released
            await trio.sleep(_LOOK_SECONDS)

    def leave(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            _leave(self._descriptor, self._path)


@asynccontextmanager
async def exclusive_claim(
    file: Path, *, socket: str = "", endpoint: str = "", exporter: str = ""
) -> AsyncIterator[None]:
    """Hold a file's board in the block.

    The block begins when no command uses the board, or after `WAIT_SECONDS`. `socket`, or the controller's `endpoint`
    and the name of the `exporter` there, go to the error message for others.

    Raises:
        BoardTakenError: another daemon has it.
    """
    claim = _Claim(file, {"socket": socket, "endpoint": endpoint, "exporter": exporter})
    try:
        with trio.move_on_after(WAIT_SECONDS):
            await claim.keep_trying()
        if not claim.take():
            # Only a daemon's lock excludes commands; the text may be left from a daemon that was killed.
            if (held := claim_holder(file)) is not None and held.process:
                raise held.error
            _log.warning(
                "commands of this host are still using the board of %s; it is served beside them", file
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim.keep_trying)
            yield
            nursery.cancel_scope.cancel()
    finally:
        claim.leave()


def remove_stale_claims() -> None:
    """Remove lock files that killed processes of this user left behind."""
    for folder in FOLDERS:
        for path in folder.glob(f"{_PREFIX}*"):
            with suppress(OSError):
                if path.lstat().st_uid == os.getuid() and (held := _locked(path, fcntl.LOCK_EX)) is not None:
                    _leave(held, path)


def _place(file: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:24]
    folder = next((one for one in FOLDERS if os.access(one, os.W_OK | os.X_OK)), FOLDERS[-1])
    return folder / f"{_PREFIX}{digest}"


def _locked(path: Path, kind: int) -> int | None:
    """The lock's descriptor; None if others have the lock."""
    while True:
        try:
            descriptor = os.open(path, _OPEN)
        except FileNotFoundError:
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(path, flags, 0o644)
                # Other users must be able to open it, whatever the service's umask is.
                os.fchmod(descriptor, 0o644)
            except FileExistsError:
                continue
        except OSError as error:  # something else is in its place, which must not lock anybody out
            _log.warning(
                "%s is not a lock file (%s), so other exporters may use this board at the same time; remove it",
                path,
                error.strerror,
            )
            return os.open(os.devnull, _OPEN)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            hold_lock(descriptor)
            return descriptor
        os.close(descriptor)  # the process that had it has removed the file


def _write(path: Path, lock: int, text: bytes) -> None:
    """Write only to a regular file of this user with a single name: a link could lead to any other file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        is_ours = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid == os.getuid()
        if is_ours and os.path.samestat(facts, os.fstat(lock)):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, text)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _leave(descriptor: int, path: Path) -> None:
    """Release the lock; the last one removes the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError):  # another user's file, in a folder where only its owner may remove it
            path.unlink()
    except BlockingIOError:
        pass
    finally:
        release_lock(descriptor)


def _taken(file: Path, path: Path) -> BoardTakenError:
    told = _told(path)
    who = f"process {told['process']}" if told.get("process", "").isdecimal() else "another exporter"
    sentence = f"the board of {file} is served by {who} on this host"
    if endpoint := told.get("endpoint"):
        name = told.get("exporter") or file.stem
        sentence += (
            f", for the leases of {endpoint}; lease it from there, such as with "
            f"`jumpstarter shell --exporter-name {name}`"
        )
        if socket := told.get("socket", ""):
            return BoardTakenError(f"{sentence}, or use it between leases: --host {socket}", socket)
        return BoardTakenError(f"{sentence}, or stop that exporter")
    if socket := told.get("socket", ""):
        return BoardTakenError(f"{sentence}; use that: --host {socket}", socket)
    return BoardTakenError(f"{sentence}; use or stop that")


def _told(path: Path) -> dict[str, str]:
    """The text that the holder has written, if root or this user owns the file."""
    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return {}
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.getuid()):
            return {}
        told = parse_json(os.read(descriptor, _MAX_TEXT))
    except (OSError, ValueError):
        return {}
    finally:
        os.close(descriptor)
    if not isinstance(told, dict):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, str)}
