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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARKER = ".ready"


class PeerUnavailableError(RuntimeError):
    """A peer's environment could not be built. Tests that need it fail with this; none skip."""


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
    return _build(name, requirements.read_text() + constraints.read_text(), arguments)


def ourselves(extras: str) -> Environment:
    """This checkout as a user installs it: its wheel with `extras` ("[exporter]") in a fresh environment.

    The key is the wheel's content; environments of older wheels are removed.
    """
    folder = cache() / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    _run(pip)
    (wheel,) = folder.glob("*.whl")
    name = f"ourselves-{hashlib.sha256(extras.encode()).hexdigest()[:4]}"
    built = _build(name, hashlib.sha256(wheel.read_bytes()).hexdigest(), [f"{wheel}{extras}"])
    for other in (cache() / "peers").glob(f"{name}-*"):
        if other.is_dir() and other != built.path:
            shutil.rmtree(other)
    return built


def _build(name: str, content: str, arguments: list[str]) -> Environment:
    tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    digest = hashlib.sha256(f"{tag}\n{content}".encode()).hexdigest()[:16]
    home = cache() / "peers"
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{name}-{digest}"
    if not (path / MARKER).exists():
        with _locked(home / f"{name}-{digest}.lock"):
            if not (path / MARKER).exists():
                _install(name, path, arguments)
    return Environment(path)


def _install(name: str, path: Path, arguments: list[str]) -> None:
    print(f"Installing {name} into {path} (once)", file=sys.stderr, flush=True)
    shutil.rmtree(path, ignore_errors=True)
    # Without a pip of its own: ours fills it from outside, quicker, and also where ensurepip is missing.
    _run([sys.executable, "-m", "venv", "--without-pip", str(path)])
    pip = [sys.executable, "-m", "pip", "--python", str(path / "bin" / "python")]
    _run([*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments])
    (path / MARKER).touch()


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-20:])
        raise PeerUnavailableError(f"{' '.join(command)} exited with {result.returncode}:\n{tail}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
