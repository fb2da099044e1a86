"""What is on a disk whose power was cut: a choice by chance of all that the disk's promises leave open. No I/O.

What was completed before the last flush is there, and so is a write with FUA that was completed. Of the writes since
the flush any may be there, in any order, and of each any of its sectors: a sector is written wholly or not at all.
A write that was on its way is one that was completed a moment later.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cuts.write_log import Entry, WriteLog

__all__ = ["Cut", "Landed", "Piece", "cut_at", "draw", "pieces"]


@dataclass(frozen=True, slots=True)
class Landed:
    """A write of which something is on the disk."""

    number: int
    """Of its entry."""
    runs: tuple[tuple[int, int], ...]
    """Which of its sectors: first and number of each run, the write's own first being 0."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A power cut."""

    point: int
    """So many entries were completed, or on their way."""
    flushed: int
    """So many entries are on the disk for sure: those before the last flush."""
    landed: tuple[Landed, ...]
    """What is there of the others, in the order in which it got there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes to be written, after those before it."""

    offset: int
    data: bytes | memoryview


def draw(log: WriteLog, chance: random.Random, watched: Sequence[tuple[int, int]] = ()) -> Cut:
    """A cut anywhere.

    Some are evenly over the entries, some over the times between flushes: one flush may follow thousands of writes, and
    what a program promises hangs on the few writes of its own. Of the rest each is in one of the ``watched`` times.

    Args:
        log: The writes.
        chance: Where from.
        watched: Times between flushes, as of `WriteLog.epochs`, that are to have more cuts than others.
    """
    kind = chance.randrange(3)
    if kind == 0 or not log.entries:
        return cut_at(log, chance.randint(0, len(log.entries)), chance)
    begin, end = chance.choice(watched if kind == 1 and watched else log.epochs())
    return cut_at(log, chance.randint(begin, end), chance)


def cut_at(log: WriteLog, point: int, chance: random.Random) -> Cut:
    """A cut after so many entries."""
    entries = log.entries[:point]
    flushed = max((number for number, entry in enumerate(entries) if entry.is_flush), default=0)
    landed: list[Landed] = []
    waiting: list[int] = []
    keep, tear = _moods(chance)
    for number in range(flushed, point):
        entry = entries[number]
        if entry.is_durable:
            # Nothing older gets over it.
            landed += _shuffled(entries, waiting, keep, tear, chance)
            landed.append(Landed(number, ((0, entry.count),)))
            waiting = []
        elif entry.count:
            waiting.append(number)
    landed += _shuffled(entries, waiting, keep, tear, chance)
    return Cut(point, flushed, tuple(landed))


def _moods(chance: random.Random) -> tuple[float, float]:
    """How likely a write is there, and how likely it is torn: mostly all, mostly none, or anything between."""
    keep = chance.choice((0.0, 1.0, 0.05, 0.95, chance.random(), chance.random()))
    return keep, chance.choice((0.0, 0.1, 0.5))


def _shuffled(
    entries: Sequence[Entry], waiting: list[int], keep: float, tear: float, chance: random.Random
) -> Iterator[Landed]:
    there = [number for number in waiting if chance.random() < keep]
    chance.shuffle(there)
    for number in there:
        count = entries[number].count
        runs = _torn(count, chance) if count > 1 and chance.random() < tear else ((0, count),)
        if runs:
            yield Landed(number, runs)


def _torn(count: int, chance: random.Random) -> tuple[tuple[int, int], ...]:
    """Some of the sectors: the first of them, the last of them, or any."""
    kind = chance.randrange(3)
    if kind == 0:
        return ((0, chance.randint(1, count)),)
    if kind == 1:
        begin = chance.randrange(count)
        return ((begin, count - begin),)
    # Where one that is there and one that is not are side by side.
    there = [chance.random() < 0.5 for _ in range(count)]
    edges = [at for at in range(1, count) if there[at] != there[at - 1]]
    return tuple((begin, end - begin) for begin, end in pairwise([0, *edges, count]) if there[begin])


def pieces(log: WriteLog, cut: Cut, since: int = 0) -> Iterator[Piece]:
    """What to write onto the disk as it was at first, or as it was after the first ``since`` entries."""
    for number in range(since, cut.flushed):
        if count := log.entries[number].count:
            yield _piece(log, number, 0, count)
    for landed in cut.landed:
        for first, count in landed.runs:
            yield _piece(log, landed.number, first, count)


def _piece(log: WriteLog, number: int, first: int, count: int) -> Piece:
    entry = log.entries[number]
    return Piece((entry.sector + first) * log.sector_bytes, log.written(entry, first, count))
