"""Packages of two versions, with fast compression, for the tests that install them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_deb import build, roots, source
from jumpstarter_deb.recipe import ARCHITECTURES, PACKAGES, Release

__all__ = ["NEWER", "OLDER", "Packages"]

CHECKOUT = Path(__file__).parents[2]
OLDER, NEWER = "0.0.1", "0.0.2"


@dataclass(frozen=True)
class Packages:
    """The files of one release, by version, package and architecture."""

    release: Release
    folder: Path

    def file(self, package: str, version: str = NEWER, architecture: str | None = None) -> Path:
        """The file of a package; by default for this machine."""
        architecture = architecture or roots.native_architecture()
        return self.folder / f"{package}_{version}+deb{self.release.number}_{architecture}.deb"

    def build(self, version: str, *names: str, foreign: bool = False, output: Path | None = None) -> None:
        """Build the packages of a version; with `foreign` also for other machines."""
        native = roots.native_architecture()
        with tempfile.TemporaryDirectory(prefix="jumpstarter-deb-") as folder:
            build.build(
                source.export(CHECKOUT, Path(folder) / "tree", version),
                [PACKAGES[name] for name in names],
                self.release,
                [item for item in ARCHITECTURES.values() if foreign or item.name == native],
                output=output or self.folder,
                say=print,
                level=0,
            )
