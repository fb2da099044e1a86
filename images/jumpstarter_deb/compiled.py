"""Build libraries for which the index has no wheel, from their sources in a root of the release. Each is built once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jumpstarter_deb import roots
from jumpstarter_deb.lock import LockError
from jumpstarter_deb.recipe import Architecture, Release, SourcePin

__all__ = ["wheel"]

TOOLS = ("gcc", "libc6-dev", "libpython3-dev", "python3", "python3-setuptools", "python3-wheel", "swig")
BUILD = """
import pathlib, sys
unsorted = pathlib.Path.glob
pathlib.Path.glob = lambda self, pattern: iter(sorted(unsorted(self, pattern)))  # in the order of no file system
sys.argv = ["setup.py", "-q", "bdist_wheel"]
exec(compile(open("setup.py").read(), "setup.py", "exec"))
"""


def wheel(pin: SourcePin, release: Release, architecture: Architecture, cache: Path) -> Path:
    """The wheel, from the cache or built now.

    Raises:
        LockError: the sources cannot be had, or are not those of the recipe, or it is for another machine than this.
        BuildRootError: they do not build.
    """
    folder = cache / f"built-{architecture.name}-{pin.name}-{pin.sha256[:16]}"
    if not folder.exists():
        if architecture.name != roots.native_architecture():
            raise LockError(
                f"{pin.name} is built from source for {architecture.name}; build on such a machine"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            made = _build(pin, release, Path(name))
            (Path(name) / "built").mkdir()
            made.rename(Path(name) / "built" / made.name)
            (Path(name) / "built").rename(folder)
    return next(folder.glob("*.whl"))


def _build(pin: SourcePin, release: Release, work: Path) -> Path:
    (work / "lock").write_text(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"),
            *("--require-hashes", "--dest", work, "-r", work / "lock"),
        ],
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=False,
    )
    archives = list(work.glob("*.tar.gz"))
    if done.returncode or not archives:
        raise LockError(f"pip could not fetch the sources of {pin.name}; see what it says above")
    if hashlib.sha256(archives[0].read_bytes()).hexdigest() != pin.sha256:
        raise LockError(f"{archives[0].name} is not what the recipe has")
    root = roots.unpacked(release, TOOLS, work / "root")
    (root / "source").mkdir()
    # Not tarfile's filter, which Debian 12's Python does not have yet; the archive is the one that the recipe names.
    subprocess.run(["tar", "-x", "-f", archives[0], "-C", root / "source", "--no-same-owner"], check=True)
    [tree] = (root / "source").iterdir()
    command = ["sh", "-c", 'cd "$0" && exec python3 -c "$1"', f"/source/{tree.name}", BUILD]
    roots.enter(root, command, PYPI="1", SOURCE_DATE_EPOCH="315532800", PYTHONHASHSEED="0")
    return next((tree / "dist").glob("*.whl"))
