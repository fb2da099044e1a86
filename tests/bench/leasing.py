"""The rows about leases: what the way through controller and router costs, and how long a board takes to get."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from jumpstarter_proto.remote import Kind

from tests.bench.lab import SELECTOR, Lab, lab
from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved, percentile
from tests.bench.upstream import Bench
from tests.interop import exporters
from tests.support import peers

PEER = "unix socket"
PREVIOUS = "version before"
LIMIT = "limit"
EXPORT = {"power": {"type": "power.MockPower"}, "echo": {"type": "network.EchoNetwork"}}
WORKER = Path(__file__).with_name("worker.py")
SWARM = Path(__file__).with_name("swarm_worker.py")
CLIENTS = Path(__file__).with_name("clients_worker.py")
MOST_SECONDS = 2.0
MANY = 200
FEW = 20


def call(bench: Bench, repeats: int) -> Result:
    """One driver call, to the same session of the same exporter on both ways."""
    count = 200
    with _both_ways(bench, "call") as (near, far):
        p50 = interleaved(
            repeats,
            lambda: statistics.median(near.do("calls", count)),
            lambda: statistics.median(far.do("calls", count)),
        )
    row = Result("tunnel-call", PEER, "driver call through TLS router, p50", "s", 0, 0, 3.0, True, 0)
    return filled(row, *p50, detail={"calls in a round": count})


def stream(bench: Bench, repeats: int) -> Result:
    """One driver stream in pieces of 64 KiB, both directions busy; each byte counts once."""
    return _rates(bench, repeats, "pump", "64 KiB pieces through TLS router, echoed", 0.40)


def echo(bench: Bench, repeats: int) -> Result:
    """The same, but each piece waits for the one before to be back: what a round trip costs."""
    return _rates(bench, repeats, "echo", "the same, piece by piece there and back", None)


def _rates(bench: Bench, repeats: int, operation: str, what: str, target: float | None) -> Result:
    count = 400
    with _both_ways(bench, operation) as (near, far):
        seconds = interleaved(
            repeats, lambda: near.do(operation, count)[0], lambda: far.do(operation, count)[0]
        )
    rates = [[count * 65536 / 1e6 / value for value in side] for side in seconds]
    row = Result(f"tunnel-{operation}", PEER, what, "MB/s", 0, 0, target, False, 0)
    return filled(row, *rates, detail={"pieces in a round": count})


@contextmanager
def _both_ways(bench: Bench, name: str) -> Iterator[tuple[Worker, Worker]]:
    """A client on the unix socket of a leased session, and one that comes to it through controller and router."""
    with _with_exporter(bench.home / f"tunnel-{name}") as (here, client):
        lease = here.lease(client)
        yield (
            here.worker(WORKER, "ours", JUMPSTARTER_HOST=str(_session(here))),
            here.worker(WORKER, "ours", JMP_LEASE=lease, JMP_CLIENT_CONFIG_HOME=str(_home_of(client))),
        )


@contextmanager
def _with_exporter(home: Path) -> Iterator[tuple[Lab, Path]]:
    """A lab with one exporter, and the configuration of a client."""
    with lab(home) as here:
        config = here.configuration(Kind.EXPORTER, EXPORT)
        command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run", "--config", config]
        here.daemon(*command, "--log-level", "warning").first_line()
        yield here, here.configuration(Kind.CLIENT)


def _session(lab: Lab) -> Path:
    """The socket of the one session that is leased."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for place in (
            lab.home,
            Path(tempfile.gettempdir()),
        ):  # the second where the first is too long for sockets
            for path in place.rglob("jumpstarter-lease-*/socket"):
                return path
        time.sleep(0.05)
    raise RuntimeError("the exporter has not begun its lease")


def _home_of(client: Path) -> Path:
    """A folder of configurations in which that one is the current."""
    home = client.with_suffix("")
    (home / "clients").mkdir(parents=True)
    (home / "clients" / "me.yaml").write_text(client.read_text())
    (home / "config.yaml").write_text("config: {current-client: me}\n")
    return home


def command(bench: Bench, repeats: int) -> Result:
    """`power on` as a process: with a lease that is made for it and released, against a lease that is there."""
    with _with_exporter(bench.home / "command") as (here, client):
        program = [exporters.scripts() / "jumpstarter", "power", "on"]
        leasing = [*program, "-l", SELECTOR, "--client", client]

        def once(command: list[str | Path], environment: dict[str, str]) -> float:
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            took = time.perf_counter() - start
            if done.returncode != 0:
                raise RuntimeError(f"{command} exited with {done.returncode}: {done.stderr.decode()}")
            return took

        lease = here.lease(client)
        local = here.environment | {"JUMPSTARTER_HOST": str(_session(here))}
        near = [once(program, local) for _ in range(repeats + 1)][1:]
        here.release(client, lease)
        leased = []
        for _ in range(repeats + 1):
            here.until_available()  # an exporter takes a second to clean up behind the last lease
            leased.append(once(leasing, here.environment))
    what = "`power on -l` as a process, lease made and released"
    return filled(Result("leased-command", PEER, what, "s", 0, 0, None, True, 0), near, leased[1:])


def ready(bench: Bench, repeats: int) -> Result:
    """From the wish to a session that its exporter says is ready, without hooks; against the version before."""
    with lab(bench.home / "lease-ready") as here:
        for board, environment in (("before", peers.previous()), ("now", None)):
            config = here.configuration(Kind.EXPORTER, EXPORT, board)
            program = exporters.scripts(environment) / "jumpstarter-exporter"
            here.daemon(program, "run", "--config", config, "--log-level", "warning")
        here.until_available()
        client = here.configuration(Kind.CLIENT)
        p50 = interleaved(
            repeats, lambda: here.ready_seconds(client, "before"), lambda: here.ready_seconds(client, "now")
        )
    return filled(
        Result("lease-ready", PREVIOUS, "lease wanted to LEASE_READY, p50", "s", 0, 0, 1.1, True, 0), *p50
    )


def one_lease(bench: Bench, repeats: int) -> Result:
    """One client that wants one of many free boards; p50 and p99 over the rounds."""
    with swarm(bench.home / "lease-one", FEW, 1) as clients:
        took = [clients.do("together", 1)[0] for _ in range(1 + 10 * repeats)][1:]
    what = f"lease create to ready, one client, {FEW} exporters, p50"
    row = Result("lease-one", LIMIT, what, "s", MOST_SECONDS, 0, 1.0, True, 0)
    return _times(row, took, statistics.median(took), 10 * repeats)


def many_leases(bench: Bench, repeats: int) -> Result:
    """As many clients as exporters, all at once; the worst round's p99."""
    with swarm(bench.home / "lease-many", MANY, MANY) as clients:
        rounds = [clients.do("together", MANY) for _ in range(1 + max(3, repeats // 3))][1:]
    p99 = max(percentile(took, 0.99) for took in rounds)
    what = f"lease create to ready, {MANY} clients at once, {MANY} exporters, p99"
    row = Result("lease-many", LIMIT, what, "s", MOST_SECONDS, 0, 1.0, True, 0)
    return _times(row, [one for took in rounds for one in took], p99, len(rounds))


def queue(bench: Bench, repeats: int) -> Result:
    """More clients than exporters: from the first wish until the last has had its board."""
    with swarm(bench.home / "lease-queue", FEW, MANY) as clients:
        rounds = [clients.do("in_turn", MANY) for _ in range(1 + max(3, repeats // 5))][1:]
    what = f"{MANY} clients queue for {FEW} exporters, until all are served"
    row = Result("lease-queue", LIMIT, what, "s", MANY / FEW * MOST_SECONDS, 0, None, True, 0)
    return _times(row, [one for took in rounds for one in took], max(map(max, rounds)), len(rounds))


def _times(row: Result, took: list[float], figure: float, repeats: int) -> Result:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    found = {name: round(percentile(took, share), 4) for name, share in shares.items()}
    note = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in found.items())
    return replace(row, ours=figure, repeats=repeats, note=note, detail=found)


@contextmanager
def swarm(home: Path, exporters: int, clients: int) -> Iterator[Worker]:
    """A lab with so many exporters, and a process with so many clients."""
    with lab(home) as here:
        here.worker(SWARM, here.identities(Kind.EXPORTER, exporters)).do("connect", exporters)
        yield here.worker(CLIENTS, SELECTOR, here.identities(Kind.CLIENT, clients))
