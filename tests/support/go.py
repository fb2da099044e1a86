"""Programs in Go that tests run, built once and kept between runs, beside the peers' environments.

A program is a folder with a module: what it needs is pinned by its `go.mod` and `go.sum`. The executable's name has the
hash of that folder and of the compiler's version.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.support.peers import PeerUnavailableError, build_lock, cache


def program(folder: Path, package: str = ".") -> Path:
    """The executable of a package that the module in that folder has or requires, built on first use.

    Raises:
        PeerUnavailableError: there is no Go, or it cannot be built with what can be reached.
    """
    environment = os.environ | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "CGO_ENABLED": "0",
        "GOWORK": "off",
    }
    version = _run(["go", "version"], folder, environment)
    digest = hashlib.sha256(f"{version}{package}".encode())
    for file in sorted(folder.iterdir()):
        digest.update(file.read_bytes())
    name = f"go-{folder.name}"
    path = cache() / "peers" / f"{name}-{digest.hexdigest()[:16]}"
    with build_lock(name):
        if not path.exists():
            unfinished = path.with_suffix(".part")
            _run(["go", "build", "-trimpath", "-o", str(unfinished), package], folder, environment)
            unfinished.rename(path)
    return path


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
        )
    except FileNotFoundError:
        raise PeerUnavailableError("Go is not installed; install golang-go") from None
    if done.returncode != 0:
        raise PeerUnavailableError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
