"""The rows against Jumpstarter 0.9.0: one exporter configuration, the same work, each side's own programs."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from tests.bench.memory import Memory, settled_memory
from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved
from tests.interop import exporters
from tests.interop.exporters import Exporter
from tests.interop.hardware import MIB, write_image
from tests.support import peers
from tests.support.peers import Environment

PEER = "Jumpstarter 0.9.0"
CONFIG = Path(__file__).with_name("exporter.yaml")
WORKER = Path(__file__).with_name("worker.py")


class Bench:
    """Both sides, installed when they are first used, and a directory to work in."""

    swarm = 2000
    """Exporters, where a row has very many."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack

    @cached_property
    def theirs(self) -> Environment:
        return peers.jumpstarter()

    @cached_property
    def ours(self) -> Environment:
        return self._stack.enter_context(peers.ourselves("[exporter]"))

    @contextmanager
    def sessions(self) -> Iterator[tuple[Exporter, Exporter]]:
        """Both exporters, each on its unix socket."""
        with ExitStack() as stack:
            yield (
                stack.enter_context(exporters.their_unix(self.theirs, CONFIG, self.folder("theirs"))),
                stack.enter_context(exporters.our_unix(CONFIG, self.folder("ours"), self.ours)),
            )

    def folder(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(exist_ok=True)
        return path

    def environment(self, exporter: Exporter | None = None) -> dict[str, str]:
        environment = exporters.clean_environment(self.home) | {"JMP_DRIVERS_ALLOW": "UNSAFE"}
        return environment | dict(exporter.environment if exporter else {})

    @contextmanager
    def workers(self) -> Iterator[tuple[Worker, Worker]]:
        """A client with an open session on each side."""
        with self.sessions() as (theirs, ours), ExitStack() as stack:
            yield (
                stack.enter_context(self.worker(self.theirs, "theirs", theirs)),
                stack.enter_context(self.worker(self.ours, "ours", ours)),
            )

    def worker(self, installed: Environment, side: str, exporter: Exporter) -> Worker:
        """A client of that side with an open session."""
        # -P: the folder of worker.py has modules whose names are not meant for it.
        return Worker([installed.python, "-P", WORKER, side], self.environment(exporter))


def command_in_session(bench: Bench, repeats: int) -> Result:
    """`power on` as a process, the exporter already there."""
    with bench.sessions() as (theirs, ours):
        return _commands(
            Result("command", PEER, "`power on` in an open session, whole process", "s", 0, 0, 0.24, True, 0),
            ([bench.theirs.bin / "j", "power", "on"], bench.environment(theirs)),
            ([bench.ours.bin / "jumpstarter", "power", "on"], bench.environment(ours)),
            repeats,
        )


def command_from_nothing(bench: Bench, repeats: int) -> Result:
    """The same with no exporter running: one is built in, used once and gone."""
    theirs: list[str | Path] = [bench.theirs.bin / "jmp", "shell", "--exporter-config", CONFIG, "--"]
    home = bench.folder("nothing")
    configured = home / ".config" / "jumpstarter" / "exporters" / "bench.yaml"
    configured.parent.mkdir(parents=True, exist_ok=True)
    configured.write_text(CONFIG.read_text())
    return _commands(
        Result("from-nothing", PEER, "the same from nothing, built-in exporter", "s", 0, 0, 0.40, True, 0),
        ([*theirs, bench.theirs.bin / "j", "power", "on"], bench.environment()),
        ([bench.ours.bin / "jumpstarter", "power", "on"], exporters.clean_environment(home)),
        repeats,
    )


Command = tuple[Sequence[str | Path], dict[str, str]]


def _commands(row: Result, theirs: Command, ours: Command, repeats: int) -> Result:
    def run(command: Command) -> Callable[[], float]:
        arguments = [str(part) for part in command[0]]

        def once() -> float:
            start = time.perf_counter()
            done = subprocess.run(arguments, env=command[1], capture_output=True, check=False)
            took = time.perf_counter() - start
            if done.returncode != 0:
                raise RuntimeError(f"{arguments} exited with {done.returncode}: {done.stderr.decode()}")
            return took

        return once

    return filled(row, *interleaved(repeats, run(theirs), run(ours)))


def call(bench: Bench, repeats: int) -> Result:
    """One driver call from the blocking client; p50 of each round, median of rounds."""
    count = 200
    with bench.workers() as (theirs, ours):
        p50 = interleaved(
            repeats,
            lambda: statistics.median(theirs.do("calls", count)),
            lambda: statistics.median(ours.do("calls", count)),
        )
    row = Result("call", PEER, "driver call, blocking client, unix socket, p50", "s", 0, 0, 0.70, True, 0)
    return filled(row, *p50, detail={"calls in a round": count})


def hosted_call(bench: Bench, repeats: int) -> Result:
    """The same, where our exporter hosts the driver of 0.9.0 in a child."""
    count = 200
    config = bench.home / "hosted.yaml"
    config.write_text(f"python: {bench.theirs.python}\n{CONFIG.read_text()}")
    with ExitStack() as stack:
        home = bench.folder("hosted")
        theirs = stack.enter_context(exporters.their_unix(bench.theirs, CONFIG, bench.folder("theirs")))
        ours = stack.enter_context(exporters.our_unix(config, home, bench.ours))
        workers = [
            stack.enter_context(bench.worker(bench.theirs, "theirs", theirs)),
            stack.enter_context(bench.worker(bench.ours, "ours", ours)),
        ]
        p50 = interleaved(
            repeats,
            lambda: statistics.median(workers[0].do("calls", count)),
            lambda: statistics.median(workers[1].do("calls", count)),
        )
    what = "call of a hosted 0.9 driver, p50, against the same driver in 0.9's own exporter"
    return filled(
        Result("hosted-call", PEER, what, "s", 0, 0, 1.6, True, 0), *p50, detail={"calls in a round": count}
    )


def echo(bench: Bench, repeats: int) -> Result:
    """64 KiB there and back over a driver stream; each byte counts once."""
    count = 200
    with bench.workers() as (theirs, ours):
        seconds = interleaved(repeats, lambda: theirs.do("echo", count)[0], lambda: ours.do("echo", count)[0])
    rates = [[count * 65536 / 1e6 / value for value in side] for side in seconds]
    row = Result("echo", PEER, "64 KiB echo over a driver stream", "MB/s", 0, 0, 1.3, False, 0)
    return filled(row, *rates, detail={"echoes in a round": count})


def flash(bench: Bench, repeats: int) -> Result:
    """An image file through a resource handle into the mock flasher's file."""
    size = 256 * MIB
    image = write_image(bench.home / "image", size)
    with bench.workers() as (theirs, ours):
        seconds = interleaved(
            max(3, repeats * 2 // 3),
            lambda: theirs.do("flash", str(image))[0],
            lambda: ours.do("flash", str(image))[0],
        )
    rates = [[size / 1e6 / value for value in side] for side in seconds]
    row = Result("flash", PEER, "flash of 256 MiB", "MB/s", 0, 0, 1.2, False, 0)
    return filled(row, *rates)


def memory(bench: Bench, repeats: int) -> Result:
    """Both daemons after one call, idle; what all processes of each hold."""
    theirs: list[Memory] = []
    ours: list[Memory] = []
    for _ in range(max(3, repeats // 3)):
        theirs.append(_their_daemon(bench))
        ours.append(_our_daemon(bench))
    row = Result("memory", PEER, "exporter's resident memory, idle, all processes", "MB", 0, 0, 0.30, True, 0)
    last = (theirs[-1], ours[-1])
    note = "RSS summed; {} and {} processes, PSS {:.0f} and {:.0f} MB (ratio {:.2f})".format(
        *(side.processes for side in last), *(side.pss for side in last), last[1].pss / last[0].pss
    )
    detail = {"theirs": vars(last[0]), "ours": vars(last[1])}
    return filled(row, [m.rss for m in theirs], [m.rss for m in ours], note=note, detail=detail)


def _their_daemon(bench: Bench) -> Memory:
    port = exporters.free_port()
    command: list[str | Path] = [bench.theirs.bin / "jmp", "run", "--exporter-config", CONFIG]
    command += ["--tls-grpc-listener", f"127.0.0.1:{port}", "--tls-grpc-insecure"]
    with exporters.running(command, bench.folder("theirs")) as daemon:
        daemon.until_it_listens(port)
        environment = bench.environment()
        environment |= {"JUMPSTARTER_HOST": f"127.0.0.1:{port}", "JMP_GRPC_INSECURE": "1"}
        subprocess.run(
            [bench.theirs.bin / "j", "power", "on"], env=environment, check=True, capture_output=True
        )
        return settled_memory(daemon.process.pid)


def _our_daemon(bench: Bench) -> Memory:
    home = bench.folder("ours")
    command: list[str | Path] = [bench.ours.bin / "jumpstarter-exporter", "run", "--config", CONFIG]
    command += ["--socket", home / "exporter.sock"]
    with exporters.running(command, home) as daemon:
        daemon.first_line()
        environment = bench.environment() | {"JUMPSTARTER_HOST": str(home / "exporter.sock")}
        command = [bench.ours.bin / "jumpstarter", "power", "on"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return settled_memory(daemon.process.pid)


@contextmanager
def installed(home: Path) -> Iterator[Bench]:
    """Both sides as users install them: 0.9.0, and our wheel with [exporter]."""
    with ExitStack() as stack:
        yield Bench(home, stack)
