"""The rows about watching: calls to a controller while many clients wait, and how soon they are notified."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from jumpstarter_proto.remote import Kind

from tests.bench.lab import SELECTOR, Lab, cpu_seconds, lab
from tests.bench.process import Worker
from tests.bench.result import Result, percentile
from tests.bench.upstream import Bench
from tests.interop import exporters

LIMIT = "limit"
WORKER = Path(__file__).with_name("watching_worker.py")
SWARM = Path(__file__).with_name("swarm_worker.py")
WAITING = 100
WATCHING = 200
MOST_REQUESTS = 10
MOST_SECONDS = 0.2
QUIET_SECONDS = 30.0


def requests(bench: Bench, repeats: int) -> Result:
    """Clients that wait for one board, which somebody has: calls that the controller gets from them."""
    port = exporters.free_port()
    with lab(bench.home / "watch-queue", "--metrics-listen", f"127.0.0.1:{port}") as here:
        clients = _clients(here, 1, WAITING + 1)
        clients.do("wait", WAITING + 1)
        rates = {}
        for way in ("told", "asking"):
            if way == "asking":
                clients.do("ask", WAITING)
            before, used = _requests(port), cpu_seconds(here.pid)
            time.sleep(QUIET_SECONDS)
            rates[way] = (_requests(port) - before) * 60 / QUIET_SECONDS
            rates[f"{way}, processor"] = (cpu_seconds(here.pid) - used) / QUIET_SECONDS
    what = f"calls a minute, {WAITING} clients waiting in the queue"
    row = Result("watch-queue", LIMIT, what, "/min", MOST_REQUESTS, rates["told"], 1.0, True, 1)
    note = (
        f"{rates['told, processor']:.1%} of a processor; asking as with 0.9's controller {rates['asking']:.0f} "
        f"calls, {rates['asking, processor']:.1%}"
    )
    return replace(row, note=note, detail=rates)


def change(bench: Bench, repeats: int) -> Result:
    """From the wish for a lease until each who watches all exporters knows who has the board; p95."""
    with lab(bench.home / "watch-change") as here:
        clients = _clients(here, 1, WATCHING + 1)
        clients.do("watch", WATCHING)
        took = [one for _ in range(repeats + 1) for one in clients.do("change", WATCHING)][WATCHING:]
    p95 = percentile(took, 0.95)
    what = f"a change to every one of {WATCHING} who watch, p95"
    row = Result("watch-change", LIMIT, what, "s", MOST_SECONDS, p95, 1.0, True, repeats)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    found = {name: round(percentile(took, share), 4) for name, share in shares.items()}
    note = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in found.items())
    return replace(row, note=note, detail=found)


def _clients(here: Lab, boards: int, count: int) -> Worker:
    here.worker(SWARM, here.identities(Kind.EXPORTER, boards)).do("connect", boards)
    return here.worker(WORKER, SELECTOR, here.identities(Kind.CLIENT, count))


def _requests(port: int) -> float:
    """All calls to the controller until now, by its own counting."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(r"^jumpstarter_requests_total\{[^}]*\} (\S+)$", text, re.MULTILINE)))
