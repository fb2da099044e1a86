"""The rows of typed services against DriverCall: the same method of the same device, over one connection."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved
from tests.bench.upstream import Bench
from tests.interop import exporters

PEER = "our DriverCall"
WORKER = Path(__file__).with_name("typed_worker.py")
CONFIG = """apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: typed}
export:
  power: {type: power.MockPower}
"""


def call(bench: Bench, repeats: int) -> Result:
    """`On` of the typed service; p50 of each round, median of rounds."""
    return _measured(
        bench,
        repeats,
        "typed",
        Result("typed-call", PEER, "`On` by the typed service, p50", "s", 0, 0, 1.0, True, 0),
    )


def stub(bench: Bench, repeats: int) -> Result:
    """The same through the stub that purerpc's plugin has generated."""
    row = Result("typed-stub", PEER, "the same through purerpc's stub, p50", "s", 0, 0, 1.1, True, 0)
    return _measured(bench, repeats, "stub", row)


def _measured(bench: Bench, repeats: int, way: str, row: Result) -> Result:
    count = 200
    home = bench.folder(row.row)
    config = home / "typed.yaml"
    config.write_text(CONFIG)
    with (
        exporters.our_unix(config, home) as exporter,
        Worker([sys.executable, "-P", WORKER, exporter.address]) as worker,
    ):
        p50 = interleaved(
            repeats,
            lambda: statistics.median(worker.do("driver", count)),
            lambda: statistics.median(worker.do(way, count)),
        )
    return filled(row, *p50, detail={"calls in a round": count})
