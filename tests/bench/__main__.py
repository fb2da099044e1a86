"""`python -m tests.bench [--only ROW]... [--repeats N] [--json FILE]`: every row, then one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import (
    boards,
    flashing,
    kube_effects,
    kube_leases,
    kube_replicas,
    kube_swarm,
    leasing,
    plugging,
    router,
    size,
    swarm,
    transport,
    typed,
    upstream,
    video,
    watching,
)
from tests.bench.kube import LeftOutError
from tests.bench.result import Result, table

Row = Callable[[upstream.Bench, int], Result | Sequence[Result]]

ROWS: dict[str, Row] = {
    "command": upstream.command_in_session,
    "from-nothing": upstream.command_from_nothing,
    "memory": upstream.memory,
    "boards": boards.many,
    "second-board": boards.second,
    "call": upstream.call,
    "hosted-call": upstream.hosted_call,
    "echo": upstream.echo,
    "flash": upstream.flash,
    "flash-changed": flashing.changed,
    "flash-untouched": flashing.untouched,
    "flash-first": flashing.first,
    "flash-mapped": flashing.mapped,
    "flash-travels": flashing.travelled,
    "unary": transport.unary,
    "stream": transport.stream,
    "typed-call": typed.call,
    "typed-stub": typed.stub,
    "tunnel-call": leasing.call,
    "tunnel-stream": leasing.stream,
    "tunnel-echo": leasing.echo,
    "leased-command": leasing.command,
    "plug": plugging.plug,
    "unplug": plugging.unplug,
    "devices": plugging.devices_memory,
    "devices-idle": plugging.devices_cpu,
    "storm": plugging.storm_block,
    "storm-cpu": plugging.storm_cpu,
    "router": router.router,
    "lease-ready": leasing.ready,
    "lease-one": leasing.one_lease,
    "lease-many": leasing.many_leases,
    "lease-queue": leasing.queue,
    "watch-queue": watching.requests,
    "watch-change": watching.change,
    "swarm": swarm.memory,
    "snapshot": video.snapshot,
    "kube-one": kube_leases.one,
    "kube-many": kube_leases.many,
    "kube-writes": kube_leases.writes,
    "kube-effects": kube_effects.effects,
    "kube-swarm": kube_swarm.rows,
    "kube-killed": kube_replicas.killed,
    "size": size.size,
    "packages": size.packages,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(ROWS), help="run this row; may repeat")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each side (15)")
    parser.add_argument("--swarm", type=int, default=2000, help="exporters of kube-swarm (2000)")
    parser.add_argument("--json", type=Path, help="write the rows with their details here, too")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a row misses its target")
    options = parser.parse_args(arguments)

    results: list[Result] = []
    failed, left_out = [], []
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_directory()) as home:
        # Both exporters keep what is flashed in a temporary file.
        os.environ["TMPDIR"] = home
        with upstream.installed(Path(home)) as bench:
            bench.swarm = options.swarm
            for name in options.only or ROWS:
                print(f"{name} ...", file=sys.stderr, flush=True)
                try:
                    found = ROWS[name](bench, options.repeats)
                    results += [found] if isinstance(found, Result) else found
                except LeftOutError as error:
                    left_out.append(f"{name}: {error}")
                # A row that cannot be measured must not hide the others; it is named below and in the status.
                except Exception:
                    traceback.print_exc()
                    failed.append(name)
    # A busy machine disturbs the two sides unequally; the reader should know.
    load = f"{os.cpu_count()} processors, load {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"{platform.platform()}, Python {platform.python_version()}, {load}\n")
    print(table(results))
    if left_out:
        print("\nleft out:", *left_out, sep="\n")
    if failed:
        print(f"\nnot measured: {', '.join(failed)}")
    if options.json:
        options.json.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n")
    return 1 if failed or (options.strict and not all(result.met for result in results)) else 0


def _directory() -> str | None:
    """A folder in memory. On a disk, the next measurement would include the write-back of this one."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30:
        return str(memory)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
