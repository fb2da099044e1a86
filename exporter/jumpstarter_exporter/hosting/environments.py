"""Finds Python environments with Jumpstarter 0.9, without running them: by the files of installed distributions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Environment", "find_environment"]

USUAL_ENVIRONMENTS = ("/opt/jumpstarter", "/opt/jmp")
_DISTRIBUTION = "jumpstarter-*.dist-info"
_COMMAND = "jmp"
_SITES = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages")


@dataclass(frozen=True)
class Environment:
    """A Python interpreter."""

    python: str
    """Its path; not the target of a link, which is another environment."""

    @property
    def site_packages(self) -> list[Path]:
        """The folders with its packages."""
        prefix = Path(self.python).parent.parent
        return [folder for pattern in _SITES for folder in sorted(prefix.glob(pattern))]

    @property
    def has_jumpstarter(self) -> bool:
        """Whether Jumpstarter is installed in it."""
        return any(True for folder in self.site_packages for _ in folder.glob(_DISTRIBUTION))

    def has_module(self, name: str) -> bool:
        """Whether it seems to have a top-level module; False also for packages that are installed in another way."""
        return any(
            (folder / name).is_dir() or (folder / f"{name}.py").is_file() for folder in self.site_packages
        )

    def fingerprint(self) -> str:
        """A text that changes when packages are installed or removed."""
        parts = [self.python, os.path.realpath(self.python)]
        for place in (*self.site_packages, Path(self.python).parent.parent / "pyvenv.cfg"):
            try:
                parts.append(f"{place}:{place.stat().st_mtime_ns}")
            except OSError:
                continue
        return "\n".join(parts)


def find_environment(type_name: str, variables: Mapping[str, str] | None = None) -> Environment | None:
    """An environment that has Jumpstarter and the module of a driver class. `variables` are those of the process."""
    module = type_name.partition(".")[0]
    if not module.isidentifier():
        return None
    for python in _candidates(os.environ if variables is None else variables):
        environment = Environment(python)
        if environment.has_module(module) and environment.has_jumpstarter:
            return environment
    return None


def _candidates(variables: Mapping[str, str]) -> Iterator[str]:
    """Interpreters, each once: of the usual folders, beside the command `jmp`, and on the PATH."""
    path = variables.get("PATH", os.defpath)
    found = [f"{prefix}/bin/python" for prefix in USUAL_ENVIRONMENTS]
    if (command := shutil.which(_COMMAND, path=path)) is not None:
        found += [str(Path(place).parent / "python") for place in (command, os.path.realpath(command))]
    found += [str(Path(folder) / "python3") for folder in path.split(os.pathsep) if os.path.isabs(folder)]
    seen = set()
    for python in found:
        if python not in seen and os.access(python, os.X_OK):
            seen.add(python)
            yield python
