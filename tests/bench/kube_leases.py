"""The rows about a lease in Kubernetes: how long it takes beside one in a file, and what it costs the API server."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from jumpstarter_proto.remote import Kind

from tests.bench.kube import api_server, audited, replicated_lab, through
from tests.bench.lab import SELECTOR, Lab, lab
from tests.bench.leasing import CLIENTS, FEW, LIMIT, MANY, SWARM
from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved, percentile
from tests.bench.upstream import Bench
from tests.kube.test_writes import HOOKS, writes_of_a_lease

PEER = "SQLite"
THEIRS = "0.9, 28 Nov 2026"
THEIR_SECONDS = 0.0212
"""What Jumpstarter's own controller took with the same exporters and client, on two processors with nothing else to do.
It is not run here: on a machine that is slower or busy, look at what a lease in a file takes beside it."""
WAYS = (("the leader", 0.8), ("another replica", 1.2))
"""By the number of a controller, and how many times that one client may wait there."""
WRITES = (("without hooks", "", 10), ("with hooks", HOOKS, 12))


@dataclass
class Side:
    """A lab with exporters, and a process with clients of one of its controllers."""

    lab: Lab
    clients: Worker

    def asking(self) -> float:
        """Seconds to one lease."""
        return self.clients.do("asking", 1)[0]

    def together(self, count: int) -> list[float]:
        """Seconds to each of many leases, when all boards are free before."""
        self.lab.until_available()
        return self.clients.do("together", count)


def one(bench: Bench, repeats: int) -> Sequence[Result]:
    """One client that wants one of many free boards; it asks again and again until it is ready."""
    rows = []
    with _sides(bench, "kube-one", FEW, 1) as (file, *replicas):
        for number, ((way, target), side) in enumerate(zip(WAYS, replicas, strict=True)):
            theirs, ours = interleaved(10 * repeats, file.asking, side.asking)
            what = f"Kubernetes: lease create to ready, one client, through {way}, p50"
            row = Result(f"kube-one-{number}", THEIRS, what, "s", 0, 0, target, True, 0)
            in_a_file = statistics.median(ours) / statistics.median(theirs)
            note = f"{in_a_file:.1f} times what it takes in a file; {_shares(theirs, ours)}"
            rows.append(filled(row, [THEIR_SECONDS] * len(ours), ours, note=note))
    return rows


def many(bench: Bench, repeats: int) -> Sequence[Result]:
    """As many clients as exporters, all at once; p50 of each round."""
    rows = []
    with _sides(bench, "kube-many", MANY, MANY) as (file, *replicas):
        for number, ((way, _), side) in enumerate(zip(WAYS, replicas, strict=True)):
            took: dict[bool, list[float]] = {True: [], False: []}
            measured = partial(_round, took)
            theirs, ours = interleaved(max(2, repeats // 5), measured(file, True), measured(side, False))
            what = f"Kubernetes: lease create to ready, {MANY} clients at once, through {way}, p50"
            row = Result(f"kube-many-{number}", PEER, what, "s", 0, 0, None, True, 0)
            rows.append(filled(row, theirs, ours, note=_shares(took[True][MANY:], took[False][MANY:])))
    return rows


def _round(took: dict[bool, list[float]], side: Side, is_file: bool) -> Callable[[], float]:
    def once() -> float:
        found = side.together(MANY)
        took[is_file] += found
        return statistics.median(found)

    return once


def writes(bench: Bench, repeats: int) -> Sequence[Result]:
    """From its creation until its board is free again, all that is not an Event."""
    rows = []
    with audited(bench, "kube-writes") as cluster:
        for number, (hooks, text, most) in enumerate(WRITES):
            counts = [len(writes_of_a_lease(cluster, text)) for _ in range(max(1, min(3, repeats // 5)))]
            what = f"Kubernetes: API writes of one lease {hooks}, Events apart"
            row = Result(f"kube-writes-{number}", LIMIT, what, "writes", most, max(counts), 1.0, True, 0)
            rows.append(replace(row, repeats=len(counts), detail={"writes": counts}))
    return rows


@contextmanager
def _sides(bench: Bench, name: str, exporters: int, clients: int) -> Iterator[list[Side]]:
    """A lab in a file, and each of two controllers of a lab in Kubernetes, which share the exporters out."""
    with (
        api_server(bench) as cluster,
        lab(bench.home / f"{name}-file") as file,
        replicated_lab(bench.home / name, cluster, len(WAYS)) as kube,
    ):
        file.worker(SWARM, file.identities(Kind.EXPORTER, exporters)).do("connect", exporters)
        ports = [one.port for one in kube.replicas]
        share = exporters // len(ports)
        for port in ports:
            kube.worker(SWARM, through(port, kube.identities(Kind.EXPORTER, share))).do("connect", share)
        who = kube.identities(Kind.CLIENT, clients)
        sides = [Side(file, file.worker(CLIENTS, SELECTOR, file.identities(Kind.CLIENT, clients)))]
        yield sides + [Side(kube, kube.worker(CLIENTS, SELECTOR, through(port, who))) for port in ports]


def _shares(theirs: list[float], ours: list[float]) -> str:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    sides = {"in a file": theirs, "in Kubernetes": ours}
    return "; ".join(
        f"{side} "
        + ", ".join(f"{name} {percentile(took, share) * 1000:.1f} ms" for name, share in shares.items())
        for side, took in sides.items()
    )
