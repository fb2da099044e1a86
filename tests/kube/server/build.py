"""Builds a Kubernetes API server, etcd and kubectl from Go modules: `python -m tests.kube.server.build [PROGRAM...]`.

The programs are kept in `$XDG_CACHE_HOME/jumpstarter-kube/HASH`, where the hash is that of `go.mod`, `go.sum` and this
file: another version is another folder. The first build takes 13 minutes of processor time and downloads 94 MB. It runs
at a low priority.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PROGRAMS", "BuildError", "build", "folder", "is_built"]

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}
"""What can be built."""
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
"""What every test needs; the controller manager is built on demand."""
LOWEST_PRIORITY = 15
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")


class BuildError(Exception):
    """A program cannot be built here; says why."""


def folder() -> Path:
    """Where the programs of this version are, or will be."""
    digest = hashlib.sha256(platform.machine().encode())
    for file in (HERE / "go.mod", HERE / "go.sum", Path(__file__)):
        digest.update(file.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "jumpstarter-kube" / digest.hexdigest()[:16]


def is_built(programs: Sequence[str] = PROGRAMS) -> bool:
    """Whether all of them are there."""
    return all(os.access(folder() / name, os.X_OK) for name in programs)


def build(programs: Sequence[str] = PROGRAMS) -> Path:
    """Build those that are missing; their folder. If another process builds, it is waited for.

    Raises:
        BuildError: there is no Go, or no module proxy, or the compiler fails.
    """
    path = folder()
    path.mkdir(parents=True, exist_ok=True)
    with _alone(path / "lock"):
        for name in programs:
            if not os.access(path / name, os.X_OK):
                began = time.monotonic()
                print(f"building {name}, which takes minutes the first time", flush=True)
                unfinished = path / f".{name}.part"
                _go("build", "-ldflags", _linker_flags(), "-o", str(unfinished), PACKAGES[name])
                unfinished.rename(path / name)
                print(f"{path / name} was built in {time.monotonic() - began:.0f} s", flush=True)
    return path


def _linker_flags() -> str:
    """They give the programs their version, which Kubernetes' own build passes in this way, too."""
    version = _go("list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").strip()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "archive"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s", "-w", *(f"-X {one}.{key}={value}" for one in packages for key, value in values.items())]
    )


def _go(*arguments: str) -> str:
    """What `go` printed. A Go that is too old for `go.mod` fetches the one that it names, also where it would not."""
    environment = {"GOTOOLCHAIN": "auto", **os.environ}
    environment |= {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": " ".join(FLAGS)}
    try:
        done = subprocess.run(
            ["nice", "-n", str(LOWEST_PRIORITY), "go", *arguments],
            cwd=HERE,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise BuildError(f"{error.filename}: {error.strerror}") from None
    if done.returncode != 0:
        raise BuildError(f"go {arguments[0]}: {done.stderr.strip()[-2000:]}")
    return done.stdout


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build what the command line names, or else what every test needs."""
    programs = sys.argv[1:] or PROGRAMS
    if unknown := set(programs) - PACKAGES.keys():
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PACKAGES)}", file=sys.stderr)
        return 2
    try:
        print(build(programs))
    except BuildError as error:
        print(f"no Kubernetes API server can be built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
