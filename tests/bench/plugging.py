"""The rows about what is plugged in: how soon a controller knows, and what a host with many devices costs.

On a bus of umockdev's, whose adapters are pseudo terminals; the host was paired once, and nothing is configured.
"""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from tests.bench.lab import Lab, cpu_seconds, lab
from tests.bench.leasing import LIMIT
from tests.bench.memory import settled_memory
from tests.bench.result import Result, percentile
from tests.bench.upstream import Bench
from tests.bench.watched_exporter import Spell, read_spells
from tests.interop import exporters
from tools.mocked_host.bench import FTDI
from tools.mocked_host.bench import Bench as UsbBench

MOST_SECONDS = 1.0
MANY = 64
MOST_MB = 16.0
MOST_CPU = 0.005
IDLE_SECONDS = 20.0
MOST_BLOCKED_SECONDS = 0.05
MOST_STORM_CPU_SECONDS = 5.0
FIRST_PORT = 10
STORM_PORTS = range(FIRST_PORT, FIRST_PORT + 16)
STORM_TURNS = 4
QUIET_SECONDS = 1.0
ROOT = Path(__file__).resolve().parents[2]


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


def storm_block(bench: Bench, repeats: int) -> Result:
    """For how long an exporter with so many adapters did nothing else while a quarter of them came and went."""
    storm = _storm(bench)
    what = f"longest block of an exporter's loop, {storm.events} events"
    row = Result("storm", LIMIT, what, "s", MOST_BLOCKED_SECONDS, 0, 1.0, True, 1)
    longest = max(storm.spells, key=lambda one: one.processor)
    wall = max(one.wall for one in storm.spells)
    note = f"of the processor; {wall * 1000:.0f} ms by the clock; {MANY} devices, quiet, and all there, "
    note += f"{storm.settled:.1f} s after the last event"
    return replace(row, ours=longest.processor, note=note)


def storm_cpu(bench: Bench, repeats: int) -> Result:
    """The processor that such a storm takes, until all is as it was."""
    storm = _storm(bench)
    what = f"processor for {storm.events} events, {MANY} devices"
    row = Result("storm-cpu", LIMIT, what, "s", MOST_STORM_CPU_SECONDS, 0, 1.0, True, 1)
    return replace(row, ours=storm.processor, note=f"{storm.processor / storm.events * 1000:.1f} ms an event")


@dataclass(frozen=True)
class _Storm:
    """What one cost. Times are in seconds."""

    events: int
    processor: float
    settled: float
    """From the last event until the exporter did nothing any more."""
    spells: list[Spell]


@functools.cache  # both rows tell of the same
def _storm(bench: Bench) -> _Storm:
    home = bench.home / "storm"
    spells = home / "spells.json"
    with _host(home, MANY, spells) as (_, usb, process):
        settled_memory(process)
        began, events, start = time.monotonic(), usb.bus.events, cpu_seconds(process)
        for _ in range(STORM_TURNS):
            for port in STORM_PORTS:
                usb.unplug(port)
            for port in STORM_PORTS:
                _plug_one(usb, port)
        last = time.monotonic()
        quiet, used = _until_quiet(process)
        if missing := _missing(usb):
            raise RuntimeError(f"after the storm these are missing: {', '.join(missing)}")
        sent = usb.bus.events - events
    found = [one for one in read_spells(spells) if began < one.ended <= quiet]
    return _Storm(sent, used - start, quiet - last, found)


def _until_quiet(process: int) -> tuple[float, float]:
    """When it began to do nothing, by time.monotonic, and what of the processor it had used by then."""
    before = time.monotonic(), cpu_seconds(process)
    while True:
        time.sleep(QUIET_SECONDS)
        now = time.monotonic(), cpu_seconds(process)
        if now[1] - before[1] < 0.05 * QUIET_SECONDS:
            return before
        before = now


def _missing(usb: UsbBench) -> list[str]:
    """Devices of which the exporter says so."""
    command: list[str | Path] = [exporters.scripts() / "jumpstarter-exporter", "boards", "-o", "json"]
    environment = exporters.clean_environment(usb.home)
    said = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    devices = [one for board in json.loads(said)["boards"] for one in board["devices"]]
    if len(devices) != MANY:
        raise RuntimeError(f"the exporter has {len(devices)} devices and not {MANY}")
    return [one["path"] for one in devices if one["state"] == "missing"]


@contextmanager
def _host(home: Path, devices: int = 0, spells: Path | None = None) -> Iterator[tuple[Lab, UsbBench, int]]:
    """A host that is enrolled, its exporter's process, and so many adapters that it has already.

    For `spells` see `watched_exporter`.
    """
    with lab(home) as here:
        folder = home / "host"
        folder.mkdir()
        usb = UsbBench(folder)
        environment = exporters.clean_environment(folder) | usb.environment
        offer = json.loads(here.admin("pair", "host", "bench", "-o", "json"))
        program: list[str | Path] = [exporters.scripts() / "jumpstarter-exporter"]
        command: list[str | Path] = [*program, *offer["command"][1:]]
        code = {"JMP_PAIRING_CODE": offer["code"]}
        subprocess.run(command, env=environment | code, check=True, stdout=subprocess.DEVNULL)
        words = [f"{key}={value}" for key, value in usb.environment.items()]
        if spells is not None:
            words.append(f"PYTHONPATH={ROOT}")
            program = [exporters.scripts() / "python", "-m", "tests.bench.watched_exporter", spells]
        daemon = here.daemon("/usr/bin/env", *words, *program, "run", "--log-level", "warning", folder=folder)
        try:
            # Before the first event nobody knows whether there will be any, so that devices are looked for.
            daemon.first_line()
            _fill(usb, devices)
            if devices:
                _until(here, "AVAILABLE", time.perf_counter())
            yield here, usb, daemon.process.pid
            if spells is not None:
                daemon.end()  # which writes them
        finally:
            usb.close_all()


def _fill(usb: UsbBench, devices: int) -> None:
    for number in range(devices):
        _plug_one(usb, FIRST_PORT + number)


def _plug_one(usb: UsbBench, port: int) -> None:
    usb.plug(port, FTDI[0], f"A5{port:06}", FTDI[2])


def _until(here: Lab, status: str, start: float) -> float:
    """Seconds since then until the controller says that of the host's board."""
    end = start + 60
    while time.perf_counter() < end:
        if any(one.status == status for one in trio.run(here.exporter_objects)):
            return time.perf_counter() - start
        time.sleep(0.002)
    raise RuntimeError(f"the board did not become {status}")
