"""The row about the router: what it carries, and what it uses for that."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from jumpstarter_controller.identity.keys import random_key
from jumpstarter_controller.router import RouterTokens
from jumpstarter_proto.remote import Kind

from tests.bench.lab import cpu_seconds, lab
from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved
from tests.bench.upstream import Bench

PEER = "one stream"
WORKER = Path(__file__).with_name("router_worker.py")
STREAMS = 32
PIECES = 2048
GIB = 1 << 30


def router(bench: Bench, repeats: int) -> Result:
    """As many bytes in one stream and shared out over many, from one process to another over TLS."""
    with lab(bench.home / "router") as here:
        config = json.loads(here.identities(Kind.CLIENT, 1).read_text())[0]
        ca = here.home / "ca"
        ca.write_text(config["tls"]["ca"])
        sender, receiver = (here.worker(WORKER, here.router_address, ca) for _ in range(2))
        tokens = RouterTokens(random_key(here.data / "router.key"))
        used: dict[int, list[float]] = {1: [], STREAMS: []}

        def carry(streams: int) -> float:
            before = cpu_seconds(here.pid)
            seconds = _carry(sender, receiver, [tokens.issue() for _ in range(streams)])
            used[streams].append((cpu_seconds(here.pid) - before) * GIB / (PIECES * 65536))
            return seconds

        seconds = interleaved(max(3, repeats // 2), lambda: carry(1), lambda: carry(STREAMS))
    rates = [[PIECES * 65536 / 1e6 / value for value in side] for side in seconds]
    costs = {f"CPU seconds per GiB, {count} streams": statistics.median(used[count][1:]) for count in used}
    note = "the router's CPU seconds per GiB: {:.2f} with one stream, {:.2f} with {}".format(
        *costs.values(), STREAMS
    )
    what = f"router, {STREAMS} TLS streams against one, one way"
    row = Result("router", PEER, what, "MB/s", 0, 0, None, False, 0)
    return filled(row, *rates, note=note, detail=costs)


def _carry(sender: Worker, receiver: Worker, tokens: list[str]) -> float:
    job = (tokens, PIECES // len(tokens))
    receiver.begin("receive", job)
    sender.begin("send", job)
    return max(sender.end()[0], receiver.end()[0])
