"""Run a storm, and print its figures: `python -m tests.faults.storm --minutes 15`.

Exit code: 0 if nothing was lost, 1 if something was, each named.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import trio

from tests.faults.storm.intruder import intrude
from tests.faults.storm.lab import StormLab, faketime, small_disk
from tests.faults.storm.ledger import forgotten, shared
from tests.faults.storm.weather import clock_offset, forecast

STALL_SECONDS = 5.0
FULL_DISK_SECONDS = 3.0
FULL_DISK_WORDS = "make room on its disk and try again"
SETTLE_SECONDS = 300.0
"""For boards to come back after the last event: longer than any time-out that may have begun before."""
FIGURES_EVERY_SECONDS = 60.0


class Storm:
    """One storm over one lab."""

    def __init__(self, lab: StormLab, seed: int, *, has_disk: bool, has_clock: bool) -> None:
        self.lab = lab
        self._events = forecast(seed)
        self._chance = random.Random(seed)
        self._has = {"fill the controller's disk": has_disk, "set the controller's clock": has_clock}
        self.happened: Counter[str] = Counter()
        self.died: list[str] = []
        """Processes that ended by themselves."""

    def rage(self, seconds: float) -> None:
        """Let things happen for so long."""
        end = said = time.monotonic()
        end += seconds
        while time.monotonic() < end:
            event = next(self._events)
            time.sleep(event.after)
            self._bury()
            if self._has.get(event.what, True):
                self.happened[event.what] += 1
                self._do(event.what, event.choice)
            if time.monotonic() > said + FIGURES_EVERY_SECONDS:
                said = time.monotonic()
                print(f"{end - said:4.0f} s left: {self.figures()}", flush=True)

    def _bury(self) -> None:
        """Start again what has ended without being told to."""
        for process in (self.lab.controller, *self.lab.exporters, *self.lab.users):
            code = process.process.poll()
            # A controller whose disk is full does not start, and says so.
            if code is not None and not process.last_words().endswith(FULL_DISK_WORDS):
                self.died.append(f"{process.log.name} ended by itself with exit code {code}")
            if code is not None:
                process.start()

    def _do(self, what: str, choice: float) -> None:
        lab = self.lab
        proxy = lab.proxies[int(choice * len(lab.proxies))]
        match what:
            case "kill a user":
                lab.users[int(choice * len(lab.users))].restart()
            case "kill an exporter":
                lab.exporters[int(choice * len(lab.exporters))].restart()
            case "kill the controller and its router":
                lab.controller.restart()
            case "stop the controller":
                lab.controller.restart(signal.SIGTERM)
            case "cut connections":
                proxy.cut()
            case "half-close connections":
                proxy.half_close()
            case "stall connections":
                proxy.stall()
                time.sleep(STALL_SECONDS * choice)
                proxy.heal()
            case "fill the controller's disk":
                filler = lab.fill()
                time.sleep(FULL_DISK_SECONDS)
                filler.unlink(missing_ok=True)
            case "set the controller's clock":
                lab.set_clock(clock_offset(choice))
            case "intrude":
                with suppress(OSError):  # the controller may be away
                    self.happened[trio.run(partial(intrude, lab.port, lab.hostile, self._chance))] += 1
            case _:
                raise AssertionError(what)

    def settle(self) -> list[str]:
        """End the storm and everybody's work; what was lost."""
        lab = self.lab
        lab.heal()
        self._bury()
        lost = self.died
        # The controller's clock is right again now; a user who waits for a board that is not free ends all the same.
        for user in lab.users:
            code = user.end(signal.SIGTERM)
            if code != 0:
                lost.append(f"{user.log.name}: exit code {code}: {user.log.read_text()[-2000:]}")
        try:
            lab.until(lab.is_free, SETTLE_SECONDS)
        except TimeoutError:
            lost.append(f"boards are not free: {lab.states()}, leases {lab.leases(only_active=True)}")
        ledger = lab.ledger()
        if not ledger.counts()["worked"]:
            lost.append("all work: nobody got anything done")
        lost += ledger.losses()
        for board, marks in lab.marks().items():
            lost += [f"{board} had two users at a time: {name}" for name in shared(marks)]
        known = lab.leases(only_active=False)
        lost += [f"the controller has forgotten lease {name}" for name in forgotten(ledger.held(), known)]
        return lost + lab.tracebacks()

    def figures(self) -> str:
        """What was done so far."""
        ledger = self.lab.ledger()
        counts = ledger.counts()
        memory = max(one.resident() for one in self.lab.exporters) / 2**20
        return (
            f"{counts['ready']} leases, {counts['worked']} jobs done, {counts['error']} errors heard, "
            f"{ledger.bytes_echoed() / 1e6:.0f} MB echoed, {sum(self.happened.values())} events; "
            f"controller {self.lab.controller.resident() / 2**20:.0f} MiB, largest exporter {memory:.0f} MiB"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run a storm and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.storm", description="Everything goes wrong at once."
    )
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--boards", type=int, default=2)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="a new folder for logs and reports, which stays")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    with ExitStack() as stack:
        home = options.keep
        if home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-")))
        else:
            home.mkdir()
        data = home / "data"
        data.mkdir(mode=0o700)
        has_disk = stack.enter_context(small_disk(data))
        clock = faketime()
        if not has_disk:
            print("missing: root, to mount a small file system; the disk does not get full")
        if clock is None:
            print("missing: libfaketime (Debian's package); the clock does not jump")
        lab = StormLab(home, data, stack, options.boards, options.users, clock)
        storm = Storm(lab, options.seed, has_disk=has_disk, has_clock=clock is not None)
        storm.rage(options.minutes * 60)
        lost = storm.settle()
        print(storm.figures())
        print("events:", ", ".join(f"{what} {count}" for what, count in storm.happened.most_common()))
    for one in lost:
        print(f"LOST: {one}")
    print(f"{len(lost)} lost" if lost else "nothing was lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
