"""The rows about many exporters in Kubernetes: what a controller holds, writes and needs to start again."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jumpstarter_proto.remote import Kind

from tests.bench.kube import audited, kube_lab
from tests.bench.kube_leases import PEER
from tests.bench.lab import OPTIONS, Lab, cpu_seconds, lab
from tests.bench.leasing import LIMIT, SWARM
from tests.bench.memory import Memory, settled_memory
from tests.bench.result import Result
from tests.bench.upstream import Bench

PROCESSES = 2
AT_A_TIME = 250
MOST_WRITES = 60
IDLE_SECONDS = 60.0
QUIET_SECONDS = 15.0
"""Behind the last connection, before it counts as idle."""
BACK_SECONDS = 600.0


@dataclass
class Figures:
    """Of one lab."""

    objects: Memory
    """With all exporters known, and none connected."""
    connected: Memory
    connect_seconds: float
    listening_seconds: float
    """Of a restart, until the new process takes connections."""
    back_seconds: float
    idle: float
    """Of a processor, with all connected."""
    writes: Counter[str]


def rows(bench: Bench, repeats: int) -> Sequence[Result]:
    """The same exporters in a lab in a file and in one in Kubernetes, one after the other; nothing is repeated."""
    count = bench.swarm
    with audited(bench, "kube-swarm-server") as cluster:
        with kube_lab(bench.home / "kube-swarm", cluster) as kube:
            ours = _figures(kube, count, lambda: cluster.all_writes(kube.namespace))
        with lab(bench.home / "kube-swarm-file") as file:
            theirs = _figures(file, count, Counter)
    memory = Result(
        "kube-memory",
        PEER,
        f"Kubernetes: controller's memory, {count} exporters as objects",
        "MB",
        theirs.objects.rss,
        ours.objects.rss,
        None,
        True,
        1,
        note=f"RSS; with all connected {theirs.connected.rss:.0f} and {ours.connected.rss:.0f} MB",
    )
    a_minute = ours.writes.total() * 60 / IDLE_SECONDS
    idle = Result(
        "kube-idle",
        LIMIT,
        f"Kubernetes: API writes, {count} exporters connected and idle",
        "/min",
        MOST_WRITES,
        a_minute,
        1.0,
        True,
        1,
        note=f"{dict(ours.writes)}; {ours.idle:.1%} of a processor, in a file {theirs.idle:.1%}",
    )
    restart = Result(
        "kube-restart",
        PEER,
        f"Kubernetes: restart of the controller until all of {count} exporters are back",
        "s",
        theirs.back_seconds,
        ours.back_seconds,
        None,
        True,
        1,
        note=(
            f"it listens after {theirs.listening_seconds:.1f} and {ours.listening_seconds:.1f} s; to connect all, "
            f"one after the other, took {theirs.connect_seconds:.0f} and {ours.connect_seconds:.0f} s"
        ),
    )
    return [memory, idle, restart]


def _figures(here: Lab, count: int, written: Callable[[], Counter[str]]) -> Figures:
    swarms = [
        here.worker(SWARM, here.identities(Kind.EXPORTER, count // PROCESSES)) for _ in range(PROCESSES)
    ]
    _restart(here)  # what making them has taken does not count for their memory
    objects = settled_memory(here.pid)
    start = time.monotonic()
    for begun in range(0, count, AT_A_TIME):
        for swarm in swarms:
            swarm.begin("connect", min(AT_A_TIME, count - begun) // PROCESSES)
        for swarm in swarms:
            swarm.end(BACK_SECONDS)
    connect_seconds = time.monotonic() - start
    time.sleep(QUIET_SECONDS)
    connected = settled_memory(here.pid)
    before, used = written(), cpu_seconds(here.pid)
    time.sleep(IDLE_SECONDS)
    idle, writes = (cpu_seconds(here.pid) - used) / IDLE_SECONDS, written() - before
    start = time.monotonic()
    listening_seconds = _restart(here)
    for swarm in swarms:
        swarm.begin("back", start)
    back = max(swarm.end(BACK_SECONDS)[0] for swarm in swarms)
    return Figures(objects, connected, connect_seconds, listening_seconds, back, idle, writes)


def _restart(here: Lab) -> float:
    start = time.monotonic()
    here.controller.process.send_signal(signal.SIGTERM)
    here.controller.process.wait(60)
    here.start_controller(*OPTIONS)
    return time.monotonic() - start
