"""Who serves the board of a configuration file: one daemon alone, or commands with a built-in exporter, side by side.

A lock says it, of a file in a folder that every user of the host can reach, so that nobody switches a board beside an
exporter that has it. Its name is made of the configuration's path; what is in it is for the sentence of those who
find it taken. The kernel lets the lock go with its process, however that ends.
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
from jumpstarter_proto.json_texts import parse_json

__all__ = ["BoardTakenError", "Holder", "beside_others", "claimed", "holder", "sweep"]

FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - whose file it is is looked at
_PREFIX = "jumpstarter-board-"
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Anybody can put a link or a pipe there."""
WAIT_SECONDS = 3.0
"""A daemon waits so long for commands to end, and then serves the board beside them until they do."""
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
        """Where it serves the users of this host; empty where it does not, or nobody says so who can be believed."""


@contextmanager
def beside_others(file: Path) -> Iterator[None]:
    """Use the board of a file for the block, unless a daemon has it.

    Raises:
        BoardTakenError: one has it; says how to get at the board.
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
    """Its number; empty if nobody who can be believed says so."""
    error: BoardTakenError
    """What those are told who would use the board while it has it."""


def holder(file: Path) -> Holder | None:
    """Who has the board of a file, at this moment; None if it is free, or commands use it.

    Nothing is changed, but the lock is taken for an instant.
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
    """A daemon's hold on the board of one file."""

    def __init__(self, file: Path, told: dict[str, str]) -> None:
        self._path = _place(file)
        self._told = told
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is ours."""
        if self._descriptor is None:
            self._descriptor = _locked(self._path, fcntl.LOCK_EX)
            if self._descriptor is not None:
                with suppress(OSError):  # whoever finds it taken is told less
                    told = {"process": str(os.getpid()), **self._told}
                    _write(self._path, self._descriptor, json.dumps(told).encode())
        return self._descriptor is not None

    async def keep_trying(self) -> None:
        """Until it is ours."""
        while not self.take():  # noqa: ASYNC110 - nothing tells when another process lets a lock go
            await trio.sleep(_LOOK_SECONDS)

    def leave(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            _leave(self._descriptor, self._path)


@asynccontextmanager
async def claimed(
    file: Path, *, socket: str = "", endpoint: str = "", exporter: str = ""
) -> AsyncIterator[None]:
    """Have the board of a file for the block, which begins when no command has it any more, or after `WAIT_SECONDS`.

    `socket`, or the controller's `endpoint` and the name of the `exporter` there, are what others are told.

    Raises:
        BoardTakenError: another daemon has it.
    """
    claim = _Claim(file, {"socket": socket, "endpoint": endpoint, "exporter": exporter})
    try:
        with trio.move_on_after(WAIT_SECONDS):
            await claim.keep_trying()
        if not claim.take():
            # Only a daemon's lock shuts out a command's; one that was killed may have left its words there.
            if (held := holder(file)) is not None and held.process:
                raise held.error
            _log.warning("commands of this host use the board of %s, too, until they end", file)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim.keep_trying)
            yield
            nursery.cancel_scope.cancel()
    finally:
        claim.leave()


def sweep() -> None:
    """Remove the files of those that were killed, as far as they are ours to remove."""
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
    """The descriptor of the lock; None if others have it."""
    while True:
        try:
            descriptor = os.open(path, _OPEN)
        except FileNotFoundError:
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(path, flags, 0o644)
                # Others have to see the lock, whatever the umask of a service is.
                os.fchmod(descriptor, 0o644)
            except FileExistsError:
                continue
        except OSError as error:  # somebody has put something else there, which must lock out nobody
            _log.warning(
                "%s is no lock (%s): nothing keeps others from this board; remove it", path, error.strerror
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
            return descriptor
        os.close(descriptor)  # whoever had it has removed it meanwhile


def _write(path: Path, lock: int, text: bytes) -> None:
    """Only into a file of ours that has no other name: a link there could lead to any file that we may write."""
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
    """Let it go; the last one removes the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError):  # another user's, in a folder where only they may
            path.unlink()
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


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
    """What the holder has written, if it is root or ourselves: anybody can make a file there."""
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
