"""The row about a controller of several that is killed: how long its users notice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from jumpstarter_proto.remote import Kind

from tests.bench.kube import api_server, replicated_lab
from tests.bench.lab import SELECTOR
from tests.bench.leasing import LIMIT, SWARM
from tests.bench.result import Result, filled
from tests.bench.upstream import Bench

WORKER = Path(__file__).with_name("outage_worker.py")
CALLERS = 8
MOST_CALL_SECONDS = 5.0
MOST_QUEUE_SECONDS = 10.0


def killed(bench: Bench, repeats: int) -> Sequence[Result]:
    """The one that leads, by `kill -9`: users of both go on through a Service, one waits for a board."""
    calls, moved, usual = [], [], []
    with api_server(bench) as cluster, replicated_lab(bench.home / "kube-killed", cluster, 2) as lab:
        lab.worker(SWARM, lab.identities(Kind.EXPORTER, 1)).do("connect", 1)
        clients = lab.worker(WORKER, SELECTOR, lab.identities(Kind.CLIENT, CALLERS + 2))
        clients.do("call", CALLERS)
        for _ in range(max(3, repeats // 3)):
            clients.do("hold", 0)
            usual.append(max(clients.do("longest", 0)))
            leads = lab.leads()
            assert leads is not None
            lab.replicas[leads].kill()
            since = time.monotonic()
            lab.choose()
            moved += clients.do("move", since)
            calls.append(max(clients.do("longest", 0)))
            lab.start_replica(leads)
    note = f"longest of {len(calls)} rounds; {max(usual):.2f} s before it was killed"
    what = "Kubernetes: the leader is killed, longest time until a call succeeds, worst"
    first = Result("kube-killed-calls", LIMIT, what, "s", 0, 0, 1.0, True, 0)
    what = "Kubernetes: the leader is killed, until a client that waits has its board, worst"
    second = Result("kube-killed-queue", LIMIT, what, "s", 0, 0, 1.0, True, 0)
    each = ", ".join(f"{one:.1f}" for one in moved)
    return [
        filled(first, [MOST_CALL_SECONDS], [max(calls)], note=note),
        filled(second, [MOST_QUEUE_SECONDS], [max(moved)], note=f"seconds, by round: {each}"),
    ]
