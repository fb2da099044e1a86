"""A fuzzer: changes inputs at random, keeps those that reach lines that none before did."""

from __future__ import annotations

import hashlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

__all__ = ["HANG_SECONDS", "Finding", "Result", "fuzz", "run_one"]

HANG_SECONDS = 1.0
"""Of the processor's time, for one input."""
MEMORY_KIB = 48 * 1024
"""What a process may grow by between the first tenth of a run and its end."""
MAX_BYTES = 4096
COUNTED = 0.3
"""Part of the inputs of which the lines that they reach are looked at."""
NUMBERS = [0, 1, 2, 3, 4, 8, 9, 10, 16, 32, 64, 100, 127, 128, 254, 255]
OURS = ("jumpstarter_", "purerpc")


class Hang(BaseException):
    """An input takes too long. Not an Exception, so that nothing on the way catches it."""


@dataclass(frozen=True)
class Finding:
    """An input that shows a fault, and what it is."""

    data: bytes
    what: str

    @property
    def name(self) -> str:
        """Of its file."""
        return hashlib.sha256(self.data).hexdigest()[:16]


@dataclass
class Result:
    """What came of a run."""

    count: int = 0
    corpus: list[bytes] = field(default_factory=list)
    finding: Finding | None = None
    grown_kib: int = 0


def run_one(run: Callable[[bytes], None], data: bytes) -> Finding | None:
    """Run one input; what is wrong, if something is. Main thread only."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS * _slowness())
    try:
        run(data)
    except Hang:
        return Finding(data, f"hangs for more than {HANG_SECONDS:g} s: {traceback.format_exc(limit=-4)}")
    except Exception:
        return Finding(data, traceback.format_exc(limit=-8))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return None


def _slowness() -> float:
    """How much longer everything takes while lines are counted."""
    return 10.0 if sys.gettrace() is not None else 1.0


def fuzz(
    run: Callable[[bytes], None],
    corpus: list[bytes],
    *,
    seconds: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Result:
    """Run changed inputs until the time is over, so many were run, or one shows a fault."""
    chance = random.Random(seed)
    result = Result(corpus=list(corpus) or [b""])
    lines = _Lines()
    end = None if seconds is None else time.monotonic() + seconds
    warm: int | None = None
    pending = list(result.corpus)
    while (end is None or time.monotonic() < end) and (count is None or result.count < count):
        data = pending.pop() if pending else _changed(chance, result.corpus)
        result.count += 1
        # Counting lines costs ten times as much as running them, so most changes are run without.
        with lines if chance.random() < COUNTED or result.count <= len(corpus) else nullcontext():
            result.finding = run_one(run, data)
        if result.finding is not None:
            confirmed = run_one(run, data)
            if confirmed is not None or "hangs" not in result.finding.what:
                return result
            result.finding = None
        if lines.take_new() and len(data) <= MAX_BYTES:
            result.corpus.append(data)
        if end is not None and warm is None and time.monotonic() > end - 0.9 * (seconds or 0):
            warm = _peak_kib()
    if warm is not None:
        result.grown_kib = _peak_kib() - warm
        if result.grown_kib > MEMORY_KIB:
            result.finding = Finding(b"", f"memory grew by {result.grown_kib} KiB")
    return result


def _peak_kib() -> int:
    """Of this program; getrusage's goes back to what its parent had when it was started."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


class _Lines:
    """Which lines of our own code ran in the block, and whether some did for the first time."""

    def __init__(self) -> None:
        self._known: set[tuple[CodeType, int, int]] = set()
        self._size = 0
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def take_new(self) -> bool:
        """Whether there were any since it was asked last."""
        is_new = len(self._known) > self._size
        self._size = len(self._known)
        return is_new

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        if not str(frame.f_globals.get("__name__", "")).startswith(OURS):
            return None
        code, known = frame.f_code, self._known
        last = 0

        def step(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            if event == "line":
                known.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step


def _changed(chance: random.Random, corpus: list[bytes]) -> bytes:
    # The newest are where something was found last.
    base = corpus[-1 - min(int(chance.expovariate(0.2)), len(corpus) - 1)] if chance.random() < 0.5 else None
    data = bytearray(base if base is not None else chance.choice(corpus))
    for _ in range(1 + int(chance.expovariate(0.7))):
        _change(chance, data, corpus)
    return bytes(data[:MAX_BYTES])


def _change(chance: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    span = slice(at, at + 1 + int(chance.expovariate(0.2)))
    match chance.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.choice(NUMBERS)
        case 2 if at < len(data):
            data[at] = chance.randrange(256)
        case 3:
            del data[span]
        case 4:
            data[at:at] = data[span] * chance.choice((1, 2, 30))
        case 5:
            data[at:at] = chance.randbytes(1 + int(chance.expovariate(0.3)))
        case 6:
            other = chance.choice(corpus)
            begin = chance.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + 1 + int(chance.expovariate(0.03))]
        case 7:
            del data[at:]
        case _:
            size = chance.choice((2, 4))
            number = chance.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65535, 16384, chance.randrange(2**32)))
            data[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, chance.choice(("big", "little")))
