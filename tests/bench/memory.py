"""The memory of a process and all its children, from /proc."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Megabytes (1e6) of all processes: `rss` counts a shared page in each of them, `pss` shares it out."""

    rss: float
    pss: float
    processes: int


def settled_memory(pid: int) -> Memory:
    """The memory of `pid` and its descendants once two readings a second apart agree within 1 %."""
    before = memory(pid)
    for _ in range(20):
        time.sleep(1)
        now = memory(pid)
        if abs(now.rss - before.rss) < 0.01 * before.rss:
            return now
        before = now
    return before


def memory(pid: int) -> Memory:
    """The memory of `pid` and its descendants now."""
    found = [_rollup(process) for process in _descendants(pid)]
    return Memory(sum(rss for rss, _ in found), sum(pss for _, pss in found), len(found))


def _rollup(pid: int) -> tuple[float, float]:
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split(maxsplit=2)
        values[name] = int(size) * 1024 / 1e6
    return values["Rss:"], values["Pss:"]


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _descendants(int(child))
    return found
