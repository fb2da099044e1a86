"""Virtual environments for the software we are compared with, built once and kept between runs.

A peer is a requirements file and the constraints that pin everything below it. Its environment lives in a
folder named after the hash of both and of the interpreter, so a changed pin is a new environment and an old
one is never half-upgraded. Environments cannot be moved: each is built where it stays and counts only once
its marker is written; a build that was killed is thrown away and done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARKER = ".ready"


VERSION = ROOT / "tests" / "previous" / "version.txt"
PREVIOUS_EXTRAS = "[exporter,controller,pexpect]"


class PeerUnavailableError(RuntimeError):
    """A peer's environment could not be built. Tests that need it are skipped, as missing what they need."""

    @property
    def summary(self) -> str:
        """One line of what was said: the last that has the reason, in pip's or in npm's words."""
        lines = str(self).rstrip().splitlines()
        return next((line for line in reversed(lines) if "ERROR:" in line or "reason:" in line), lines[-1])


@dataclass(frozen=True)
class Environment:
    """A finished virtual environment."""

    path: Path

    @property
    def bin(self) -> Path:
        return self.path / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.path / "lib" / version / "site-packages"


def cache() -> Path:
    """Where environments are kept: $JUMPSTARTER_TEST_CACHE, else `.cache` in the checkout."""
    return Path(os.environ.get("JUMPSTARTER_TEST_CACHE") or ROOT / ".cache")


def jumpstarter() -> Environment:
    """Jumpstarter 0.9.0 with the drivers we have counterparts for, from the package index."""
    folder = ROOT / "tests" / "interop"
    return environment("jumpstarter", folder / "requirements.txt", folder / "constraints.txt")


def environment(name: str, requirements: Path, constraints: Path) -> Environment:
    """The environment with `requirements` installed, built on first use.

    Safe to call from several processes at once: one builds, the others wait for it.
    """
    arguments = ["--requirement", str(requirements), "--constraint", str(constraints)]
    with build_lock(name):
        return _build(name, requirements.read_text() + constraints.read_text(), arguments)


@dataclass(frozen=True)
class Version:
    """A version of ours that was."""

    name: str
    commit: str


def previous_version(file: Path = VERSION) -> Version:
    """The version before, as the project's file names it."""
    [line] = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return Version(*line.split())


def previous(repository: Path = ROOT, file: Path = VERSION) -> Environment:
    """The version before as a user installs it, from the history of this clone.

    Raises:
        PeerUnavailableError: the history lacks its commit, or it cannot be installed.
    """
    version = previous_version(file)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "source.tar"
        # Root may read a clone that belongs to somebody else; nothing of it is executed.
        git = ["git", "-c", "safe.directory=*", "-C", str(repository)]
        try:
            run([*git, "archive", "--prefix=source/", "--output", str(archive), version.commit])
        except (OSError, PeerUnavailableError) as error:
            # Also where the environment is there already: without the history nobody knows what it is.
            raise PeerUnavailableError(
                f"the history of this checkout lacks {version.name} ({version.commit}), which a complete clone has "
                f"(`git fetch --unshallow`): {str(error).splitlines()[-1]}"
            ) from error
        with build_lock("previous"):
            return _build("previous", version.commit + PREVIOUS_EXTRAS, [f"{archive}{PREVIOUS_EXTRAS}"])


@contextmanager
def ourselves(extras: str) -> Iterator[Environment]:
    """This checkout as a user installs it: its wheel with `extras` ("[exporter]") in a fresh environment.

    The key is the wheel's content. Environments of older wheels that nobody is using are removed.
    """
    with tempfile.TemporaryDirectory() as folder:
        run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(ROOT)])
        (wheel,) = Path(folder).glob("*.whl")
        name = f"ourselves-{hashlib.sha256(extras.encode()).hexdigest()[:4]}"
        content = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with build_lock(name):
            built = _build(name, content, [f"{wheel}{extras}"])
            used = os.open(built.path, os.O_RDONLY)
            fcntl.flock(used, fcntl.LOCK_SH)
            for other in cache().glob(f"peers/{name}-*/"):
                if other != built.path:
                    _remove_unused(other)
    try:
        yield built
    finally:
        os.close(used)


def with_libraries(name: str, requirements: list[str], below: Environment | None = None) -> Environment:
    """An environment with these libraries of the package index and none of ours; it also sees those of `below`."""
    content = "\n".join([*requirements, str(below.path) if below else ""])
    with build_lock(name):
        return _build(name, content, requirements, below)


def _remove_unused(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    except BlockingIOError:
        return
    finally:
        os.close(held)


def _build(name: str, content: str, arguments: list[str], below: Environment | None = None) -> Environment:
    """The environment of that name and content; the caller holds the name's lock."""
    tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    digest = hashlib.sha256(f"{tag}\n{content}".encode()).hexdigest()[:16]
    path = cache() / "peers" / f"{name}-{digest}"
    if not (path / MARKER).exists():
        _install(name, path, arguments, below)
    return Environment(path)


def _install(name: str, path: Path, arguments: list[str], below: Environment | None) -> None:
    print(f"Installing {name} into {path} (once)", file=sys.stderr, flush=True)
    shutil.rmtree(path, ignore_errors=True)
    # Without a pip of its own: ours fills it from outside, quicker, and also where ensurepip is missing.
    run([sys.executable, "-m", "venv", "--without-pip", str(path)])
    if below is not None:
        (Environment(path).site_packages / "below.pth").write_text(f"{below.site_packages}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(path / "bin" / "python")]
    run([*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments])
    (path / MARKER).touch()


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-20:])
        raise PeerUnavailableError(f"{' '.join(command)} exited with {result.returncode}:\n{tail}")


@contextmanager
def build_lock(name: str) -> Iterator[None]:
    """One process at a time builds environments of that name; the others wait for it."""
    home = cache() / "peers"
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
