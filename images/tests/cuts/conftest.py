"""Makes this folder a package of its tests, and the harness of the boot tests a neighbour of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "boot")]
