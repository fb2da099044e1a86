"""Builds Helm from Go modules: `python -m tests.kube.helm.build`.

It is kept beside the API server (`tests/kube/server/build.py`), in `$XDG_CACHE_HOME/jumpstarter-kube/helm-HASH`. With
what that has left in Go's caches it takes half a minute.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from tests.kube.server.build import FLAGS, LOWEST_PRIORITY, BuildError

__all__ = ["build", "is_built", "program"]

HERE = Path(__file__).resolve().parent
PACKAGE = "helm.sh/helm/v4/cmd/helm"


def program() -> Path:
    """Where this version is, or will be."""
    digest = hashlib.sha256(platform.machine().encode())
    for file in (HERE / "go.mod", HERE / "go.sum", Path(__file__)):
        digest.update(file.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "jumpstarter-kube" / f"helm-{digest.hexdigest()[:16]}" / "helm"


def is_built() -> bool:
    """Whether it is there."""
    return os.access(program(), os.X_OK)


def build() -> Path:
    """Build it if it is missing. If another process builds, it is waited for.

    Raises:
        BuildError: there is no Go, or no module proxy, or the compiler fails.
    """
    path = program()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_built():
            began = time.monotonic()
            print("building Helm, which takes minutes the first time", flush=True)
            unfinished = path.with_name(".helm.part")
            _compile(unfinished)
            unfinished.rename(path)
            print(f"{path} was built in {time.monotonic() - began:.0f} s", flush=True)
    return path


def _compile(target: Path) -> None:
    environment = {"GOTOOLCHAIN": "auto", **os.environ}
    environment |= {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": " ".join(FLAGS)}
    command = [
        "nice",
        "-n",
        str(LOWEST_PRIORITY),
        "go",
        "build",
        "-ldflags=-s -w",
        "-o",
        str(target),
        PACKAGE,
    ]
    try:
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{error.filename}: {error.strerror}") from None
    if done.returncode != 0:
        raise BuildError(f"go build: {done.stderr.strip()[-2000:]}")


def main() -> int:
    """Build it, and say where it is."""
    try:
        print(build())
    except BuildError as error:
        print(f"Helm cannot be built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
