"""The rows about what is plugged in: how soon a controller knows, and what a host with many devices costs.

On a bus of umockdev's, whose adapters are pseudo terminals; the host was paired once, and nothing is configured.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import trio

from tests.bench.lab import Lab, cpu_seconds, lab
from tests.bench.leasing import LIMIT
from tests.bench.memory import settled_memory
from tests.bench.result import Result, percentile
from tests.bench.upstream import Bench
from tests.interop import exporters
from tools.mocked_host.bench import FTDI
from tools.mocked_host.bench import Bench as UsbBench

MOST_SECONDS = 1.0
MANY = 64
MOST_MB = 16.0
MOST_CPU = 0.005
IDLE_SECONDS = 20.0


def plug(bench: Bench, repeats: int) -> Result:
    """From the adapter's first event until the controller would lease the board, p99."""
    return _rounds(bench, repeats, "plug", 0)


def unplug(bench: Bench, repeats: int) -> Result:
    """From the first event of its going until the controller would not lease it any more, p99."""
    return _rounds(bench, repeats, "unplug", 1)


def _rounds(bench: Bench, repeats: int, name: str, which: int) -> Result:
    took: list[tuple[float, float]] = []
    with _host(bench.home / name) as (here, usb, _):
        for number in range(3 + 3 * repeats):
            port = 1 + number % 30  # one in which it comes and goes all the time is shown less often
            start = time.perf_counter()
            usb.plug(port, *FTDI)
            came = _until(here, "AVAILABLE", start)
            start = time.perf_counter()
            usb.unplug(port)
            took.append((came, _until(here, "AFTER_LEASE_HOOK", start)))
    kept = [pair[which] for pair in took[3:]]  # the board itself is made by the first
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    found = {label: round(percentile(kept, share), 4) for label, share in shares.items()}
    what = {"plug": "adapter plugged in to leasable, p99", "unplug": "adapter unplugged to unavailable, p99"}[
        name
    ]
    row = Result(name, LIMIT, what, "s", MOST_SECONDS, 0, 1.0, True, 0)
    note = ", ".join(f"{label} {value * 1000:.0f} ms" for label, value in found.items())
    note += f"; the first one, with which the board is made, {took[0][which] * 1000:.0f} ms"
    return replace(row, ours=found["p99"], repeats=len(kept), note=note, detail=found)


def devices_memory(bench: Bench, repeats: int) -> Result:
    """What so many adapters add to the resident memory of the exporter."""
    with _host(bench.home / "few") as (_, _, few):
        before = settled_memory(few).rss
    with _host(bench.home / "many", MANY) as (_, _, many):
        after = settled_memory(many).rss
    what = f"memory that {MANY} discovered devices add to an exporter"
    return replace(Result("devices", LIMIT, what, "MB", MOST_MB, 0, 1.0, True, 1), ours=after - before)


def devices_cpu(bench: Bench, repeats: int) -> Result:
    """The share of one processor that an exporter with so many adapters takes while nothing happens."""
    with _host(bench.home / "idle", MANY) as (_, _, process):
        settled_memory(process)
        start = cpu_seconds(process)
        time.sleep(IDLE_SECONDS)
        used = (cpu_seconds(process) - start) / IDLE_SECONDS
    what = f"processor of an idle exporter with {MANY} devices"
    row = Result("devices-idle", LIMIT, what, "%", MOST_CPU * 100, 0, 1.0, True, 1)
    return replace(row, ours=used * 100)


@contextmanager
def _host(home: Path, devices: int = 0) -> Iterator[tuple[Lab, UsbBench, int]]:
    """A host that is enrolled, its exporter's process, and so many adapters that it has already."""
    with lab(home) as here:
        folder = home / "host"
        folder.mkdir()
        usb = UsbBench(folder)
        environment = exporters.clean_environment(folder) | usb.environment
        offer = json.loads(here.admin("pair", "host", "bench", "-o", "json"))
        program = exporters.scripts() / "jumpstarter-exporter"
        command = [program, *offer["command"][1:]]
        code = {"JMP_PAIRING_CODE": offer["code"]}
        subprocess.run(command, env=environment | code, check=True, stdout=subprocess.DEVNULL)
        words = [f"{key}={value}" for key, value in usb.environment.items()]
        daemon = here.daemon("/usr/bin/env", *words, program, "run", "--log-level", "warning", folder=folder)
        try:
            # Before the first event nobody knows whether there will be any, so that devices are looked for.
            daemon.first_line()
            _fill(usb, devices)
            if devices:
                _until(here, "AVAILABLE", time.perf_counter())
            yield here, usb, daemon.process.pid
        finally:
            usb.close_all()


def _fill(usb: UsbBench, devices: int) -> None:
    for number in range(devices):
        usb.plug(10 + number, FTDI[0], f"A5{number:06}", FTDI[2])


def _until(here: Lab, status: str, start: float) -> float:
    """Seconds since then until the controller says that of the host's board."""
    end = start + 60
    while time.perf_counter() < end:
        if any(one.status == status for one in trio.run(here.exporter_objects)):
            return time.perf_counter() - start
        time.sleep(0.002)
    raise RuntimeError(f"the board did not become {status}")
