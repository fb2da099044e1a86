"""Tests of boards, written in YAML: read, checked, run and reported.

`model` is what a file says, `reader` reads it, `machine` decides what comes next, `run` does it on a board, and
`report` tells people and machines. Steps come from driver folders (`steps`).
"""

from __future__ import annotations
