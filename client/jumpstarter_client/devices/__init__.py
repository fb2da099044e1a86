"""Which device or board a user means: selection by name, path or interface, for the command line and YAML tests."""

from __future__ import annotations
