"""Tests of boards, written in YAML: read, checked, run and reported.

`model` is the content of a file, `reader` reads it, `machine` decides the next step, `run` executes it on a board, and
`report` prints the progress. Steps come from driver folders (`steps`).
"""

from __future__ import annotations
