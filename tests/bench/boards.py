"""The rows about many boards on one host: one process of ours serves them, 0.9.0 needs a process for each."""

from __future__ import annotations

import os
import pty
import subprocess
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.leasing import LIMIT
from tests.bench.memory import Memory, settled_memory
from tests.bench.result import Result, filled
from tests.bench.upstream import PEER, Bench
from tests.interop import exporters

BOARDS = 8
MAX_SECOND_BOARD_MB = 3.0
BOARD = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: {name}}}
endpoint: ""
token: ""
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
  serial: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{url: {console}}}}}
  storage: {{type: jumpstarter_driver_opendal.driver.MockStorageMux}}
"""


def many(bench: Bench, repeats: int) -> Result:
    """All processes of each side, idle after one call on each board; a page that several share counts in each."""
    theirs: list[Memory] = []
    ours: list[Memory] = []
    for _ in range(max(2, repeats // 5)):
        theirs.append(_their_daemons(bench, BOARDS))
        ours.append(_our_daemon(bench, BOARDS))
    what = f"resident memory of a host with {BOARDS} boards"
    row = Result("boards", PEER, what, "MB", 0, 0, 0.06, True, 0)
    last = (theirs[-1], ours[-1])
    note = "RSS summed; {} and {} processes, PSS {:.0f} and {:.0f} MB (ratio {:.2f})".format(
        *(side.processes for side in last), *(side.pss for side in last), last[1].pss / last[0].pss
    )
    detail = {"theirs": vars(last[0]), "ours": vars(last[1])}
    return filled(row, [m.rss for m in theirs], [m.rss for m in ours], note=note, detail=detail)


def second(bench: Bench, repeats: int) -> Result:
    """What a process of ours with two boards has more than one with one board, each of them used once."""
    added, each_of_many = [], []
    for _ in range(max(3, repeats // 3)):
        one, two, many = (_our_daemon(bench, count).rss for count in (1, 2, BOARDS))
        added.append(two - one)
        each_of_many.append((many - one) / (BOARDS - 1))
    what = "memory that a second board adds to a process"
    row = Result("second-board", LIMIT, what, "MB", 0, 0, 1.0, True, 0)
    note = f"RSS; of {BOARDS} boards each one after the first adds {sorted(each_of_many)[len(added) // 2]:.1f} MB"
    return filled(row, [MAX_SECOND_BOARD_MB] * len(added), added, note=note, detail={"added": added})


@contextmanager
def _files(folder: Path, count: int) -> Iterator[list[Path]]:
    """A configuration for each board, with a pseudo terminal as its console."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    with ExitStack() as stack:
        files = []
        for number in range(count):
            board, host = pty.openpty()
            stack.callback(os.close, board)
            stack.callback(os.close, host)
            tty.setraw(host)
            name = f"board{number}"
            files.append(folder / f"{name}.yaml")
            files[-1].write_text(BOARD.format(name=name, console=os.ttyname(host)))
        yield files


def _our_daemon(bench: Bench, count: int) -> Memory:
    home = bench.folder("our-boards")
    with _files(home / ".config" / "jumpstarter" / "exporters", count) as files, ExitStack() as stack:
        socket = home / "exporter.sock"
        command: list[str | Path] = [bench.ours.bin / "jumpstarter-exporter", "run", "--socket", socket]
        daemon = stack.enter_context(exporters.running(command, home))
        daemon.first_line()
        environment = bench.environment() | {"JUMPSTARTER_HOST": str(socket)}
        for file in files:
            _use([bench.ours.bin / "jumpstarter", "--board", file.stem, "power", "on"], environment)
        return settled_memory(daemon.process.pid)


def _their_daemons(bench: Bench, count: int) -> Memory:
    home = bench.folder("their-boards")
    with _files(home / "configurations", count) as files, ExitStack() as stack:
        daemons = []
        for file in files:
            port = exporters.free_port()
            command: list[str | Path] = [bench.theirs.bin / "jmp", "run", "--exporter-config", file]
            command += ["--tls-grpc-listener", f"127.0.0.1:{port}", "--tls-grpc-insecure"]
            daemon = stack.enter_context(exporters.running(command, bench.folder(f"their-{file.stem}")))
            daemon.until_it_listens(port)
            environment = bench.environment()
            environment |= {"JUMPSTARTER_HOST": f"127.0.0.1:{port}", "JMP_GRPC_INSECURE": "1"}
            _use([bench.theirs.bin / "j", "power", "on"], environment)
            daemons.append(daemon)
        held = [settled_memory(daemon.process.pid) for daemon in daemons]
    return Memory(
        sum(one.rss for one in held), sum(one.pss for one in held), sum(one.processes for one in held)
    )


def _use(command: list[str | Path], environment: dict[str, str]) -> None:
    subprocess.run([str(part) for part in command], env=environment, check=True, capture_output=True)
