"""The rows about many exporters: what the controller holds for each, and what they cost it when nothing happens."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

from jumpstarter_proto.remote import Kind

from tests.bench.lab import cpu_seconds, lab
from tests.bench.memory import settled_memory
from tests.bench.result import Result
from tests.bench.upstream import Bench

LIMIT = "limit"
WORKER = Path(__file__).with_name("swarm_worker.py")
WARM = 50
"""Connected before the first reading, so that what is loaded once does not count for each."""
STEPS = (0, 500, 500, 1000)
PROCESSES = 2
MOST_KIB = 64
IDLE_SECONDS = 30.0


def memory(bench: Bench, repeats: int) -> Result:
    """Exporters that are registered and have their Status stream open; a line through what the process holds."""
    with lab(bench.home / "swarm") as here:
        most = WARM + sum(STEPS)
        swarms = [here.worker(WORKER, here.identities(Kind.EXPORTER, most)) for _ in range(PROCESSES)]
        for swarm in swarms:
            swarm.do("connect", WARM)
        count, connected, held = 0, [], []
        for step in STEPS:
            for swarm in swarms:
                swarm.begin("connect", step // PROCESSES)
            for swarm in swarms:
                swarm.end()
            count += step
            connected.append(count)
            held.append(settled_memory(here.pid))
        before = cpu_seconds(here.pid)
        time.sleep(IDLE_SECONDS)
        idle = (cpu_seconds(here.pid) - before) / IDLE_SECONDS
    rss, _ = statistics.linear_regression(connected, [one.rss * 1e6 / 1024 for one in held])
    pss, _ = statistics.linear_regression(connected, [one.pss * 1e6 / 1024 for one in held])
    what = "controller's memory for each connected exporter"
    row = Result("swarm", LIMIT, what, "KiB", MOST_KIB, rss, 1.0, True, 1)
    readings = ", ".join(
        f"{one.rss:.0f} MB with {number}" for number, one in zip(connected, held, strict=True)
    )
    note = f"RSS {readings}; slope of PSS {pss:.0f} KiB; idle with {count}: {idle:.1%} of a processor"
    detail = {"connected": connected, "rss": [one.rss for one in held], "pss": [one.pss for one in held]}
    return replace(row, note=note, detail=detail | {"pss slope": pss, "idle": idle})
