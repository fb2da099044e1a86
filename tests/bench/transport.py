"""The rows against grpcio's asyncio API: the same messages over a unix socket, each end its own process."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved
from tests.bench.upstream import Bench

PEER = "grpcio asyncio"
WORKER = Path(__file__).with_name("transport_worker.py")


def unary(bench: Bench, repeats: int) -> Result:
    """A driver call's messages with nothing behind them; p50 of each round, median of rounds."""
    count = 500
    with _clients(bench) as (theirs, ours):
        p50 = interleaved(
            repeats,
            lambda: statistics.median(theirs.do("unary", count)),
            lambda: statistics.median(ours.do("unary", count)),
        )
    row = Result("unary", PEER, "unary call, both ends, unix socket, p50", "s", 0, 0, 1.3, True, 0)
    return filled(row, *p50, detail={"calls in a round": count})


def stream(bench: Bench, repeats: int) -> Result:
    """From client to server, until the server has said how much it got."""
    count = 2000
    with _clients(bench) as (theirs, ours):
        seconds = interleaved(
            repeats, lambda: theirs.do("stream", count)[0], lambda: ours.do("stream", count)[0]
        )
    rates = [[count * 65536 / 1e6 / value for value in side] for side in seconds]
    row = Result("stream", PEER, "one-way stream of 64 KiB messages, both ends", "MB/s", 0, 0, 0.9, False, 0)
    return filled(row, *rates, detail={"messages in a round": count})


@contextmanager
def _clients(bench: Bench) -> Iterator[tuple[Worker, Worker]]:
    """A client on each side whose server runs, too; both come from this environment, which has grpcio."""
    with ExitStack() as stack:
        clients = []
        for side in ("grpcio", "ours"):
            socket = bench.home / f"{side}.sock"
            socket.unlink(missing_ok=True)
            command: list[str | Path] = [sys.executable, "-P", WORKER, side]
            stack.enter_context(Worker([*command, "server", socket]))
            clients.append(stack.enter_context(Worker([*command, "client", socket])))
        theirs, ours = clients
        yield theirs, ours
