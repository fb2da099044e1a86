"""One API server for all processes of a test session: the first that asks starts it, and it ends with the last.

Who uses it holds a shared lock on a file, which the kernel takes away with its process however that ends. The process
that keeps the server (`python -m tests.kube.server.hold STATE PROGRAMS`) waits for that lock alone: when it has it,
nobody uses the server, so it stops it and removes its folder.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.kube.server.cluster import ApiServer, Cluster

__all__ = ["shared"]

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def shared(programs: Path) -> Iterator[Cluster]:
    """The session's server. RuntimeError: it does not start; says why."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    # Not in the folder for temporary files: with pytest-xdist each process has one of its own.
    state = Path("/tmp") / f"js-kube-{os.geteuid()}-{session[:12]}"
    keeper = None
    with (programs / "start.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        users = _use(state)
        if not (state / "keeper").exists():
            try:
                keeper = _start(state, programs)
            except BaseException:
                os.close(users)
                raise
    try:
        yield Cluster(state / "kubeconfig", programs)
    finally:
        _leave(state, users, keeper)


def _use(state: Path) -> int:
    """The users' file, locked; waits for a server that is just ending."""
    while True:
        state.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            users = os.open(state / "users", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(users), os.stat(state / "users")):
                    return users
            os.close(users)


def _start(state: Path, programs: Path) -> subprocess.Popen[bytes]:
    with tempfile.TemporaryFile() as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.kube.server.hold", str(state), str(programs)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert keeper.stdout is not None
        with keeper.stdout as words:
            if words.readline().strip() != b"ready":
                keeper.wait()
                log.seek(0)
                raise RuntimeError(log.read().decode(errors="replace").strip())
    return keeper


def _leave(state: Path, users: int, keeper: subprocess.Popen[bytes] | None) -> None:
    """Nobody else uses it: wait for its end."""
    number = int((state / "keeper").read_text())
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(users)
        if keeper is not None:
            keeper.returncode = 0  # somebody else waits for it
        return
    with suppress(ProcessLookupError):
        ended = os.pidfd_open(number)
        try:
            os.close(users)
            select.select([ended], [], [])
        finally:
            os.close(ended)
    if keeper is not None:
        keeper.wait()


def _keep(state: Path, programs: Path) -> None:
    """Keep a server until nobody uses it."""
    server = ApiServer(programs, state)
    users = os.open(state / "users", os.O_RDWR)
    try:
        server.start()
        (state / "keeper").write_text(str(os.getpid()))
        print("ready", flush=True)
        fcntl.flock(users, fcntl.LOCK_EX)
    finally:
        server.stop()
        gone = state.with_suffix(".gone")
        state.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), Path(sys.argv[2]))
