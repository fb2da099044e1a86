"""An environment with Jumpstarter 0.9 and the drivers of a lab, for exporters that host them."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.peers import Environment

LAB_MODULES = Path(__file__).with_name("hosted")


def lab_environment(upstream: Environment, home: Path) -> Environment:
    """The peer's packages and `lab_drivers`, in an environment of its own; nothing is installed."""
    made = Environment(home / "environment")
    made.site_packages.mkdir(parents=True)
    made.bin.mkdir()
    made.python.symlink_to(upstream.python.resolve())
    shutil.copy(upstream.path / "pyvenv.cfg", made.path)
    (made.site_packages / "lab.pth").write_text(f"{upstream.site_packages}\n{LAB_MODULES}\n")
    return made
