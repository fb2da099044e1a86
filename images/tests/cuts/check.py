"""Check the disk after a cut: its file systems, then the guarantees of the host."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from cuts.disks import DATA, ROOT, Card, Partition, Rebuilt, TableError, copy_range, partitions, root_writes
from cuts.file_systems import Checked, check_ext4, check_fat, files_of, run
from cuts.found import bait_faults, empty_files, read_data, read_fat
from cuts.power_cut import Cut, cut_at, draw
from cuts.promises import IDENTITY, NONCE, Found, Moment, broken_promises, kept_of, saved
from cuts.story import Story
from cuts.write_log import WriteLog

__all__ = ["CheckError", "Looker", "Result", "bait_cuts", "check", "cut_line", "drawn", "phase_of", "summary"]

BAIT, BAIT_DONE = "bait", "bait: on the disk"


class CheckError(Exception):
    """The recording itself has a fault, without any cut."""


@dataclass
class Result:
    """The result of a cut."""

    number: int
    cut: Cut
    counts: tuple[int, ...] = ()
    """The number of sectors of each write that is on the disk completely or partly."""
    faults: list[str] = field(default_factory=list)
    mended_fat: list[str] = field(default_factory=list)
    mended_data: list[str] = field(default_factory=list)
    emptied: tuple[str, ...] = ()
    caught: list[str] = field(default_factory=list)
    """The data that the test program has lost, as expected."""
    is_enrolled: bool = False
    """Whether the disk has an identity, or the nonce to use the code again."""
    is_whole_identity: bool = False
    hostname: str = ""
    machine_id: str = ""
    """What the disk has of it, if that is one."""


def drawn(log: WriteLog, data: Partition, seed: int, count: int) -> list[tuple[int, Cut]]:
    """So many cuts by chance, each with its number, in the order in which `Card.after` wants them.

    A third of them are where something else is written than the data partition, with its journal: the partition table
    and the FAT.
    """
    watched = log.epochs_writing_before(data.begin // log.sector_bytes)
    cuts = [(number, draw(log, random.Random(f"{seed}/{number}"), watched)) for number in range(count)]
    return sorted(cuts, key=lambda one: (one[1].flushed, one[1].point, one[0]))


def bait_cuts(log: WriteLog, marks: Mapping[str, int], seed: int, count: int = 20) -> list[tuple[int, Cut]]:
    """Cuts while a program has ended whose writes are not on the disk yet; their numbers are negative."""
    if BAIT not in marks:
        return []
    chance = random.Random(f"{seed}/bait")
    cuts = [
        (-number, cut_at(log, chance.randint(marks[BAIT], marks[BAIT_DONE]), chance))
        for number in range(1, count + 1)
    ]
    return sorted(cuts, key=lambda one: (one[1].flushed, one[1].point))


def phase_of(marks: Mapping[str, int], point: int) -> str:
    """The last event before the cut."""
    past = [(place, name) for name, place in marks.items() if place <= point]
    return max(past, default=(0, "power"), key=lambda one: one[0])[1]


@dataclass(frozen=True)
class _Fat:
    """A FAT partition, which is equal after most cuts."""

    checked: Checked
    before: Found
    is_changed: bool
    """Whether the repair has changed jumpstarter.yaml."""


def check(
    card: Card,
    number: int,
    cut: Cut,
    story: Story,
    marks: Mapping[str, int],
    folder: Path,
    *,
    mount: bool,
    seen: dict[object, _Fat],
) -> Result:
    """Rebuild the disk and check it.

    Args:
        card: Of the recording.
        number: The cut's.
        cut: After which it is looked at.
        story: What happened.
        marks: And when, in entries of the log.
        folder: For what is needed meanwhile.
        mount: Whether the kernel mounts files.
        seen: FAT partitions by what was written there, so that each is looked at once.
    """
    result = Result(number, cut, tuple(card.log.entries[landed.number].count for landed in cut.landed))
    rebuilt = card.after(cut)
    fat = seen.get(rebuilt.fat_writes)
    if fat is None:
        before = read_fat(rebuilt)
        checked = check_fat(rebuilt.fat)
        fat = _Fat(checked, before, is_changed=read_fat(rebuilt).site != before.site)
        seen[rebuilt.fat_writes] = fat
    found = replace(fat.before, table=rebuilt.table)
    moment = Moment(cut.point, marks)
    data, caught = _data(card, rebuilt, found, story, folder, mount=mount, moment=moment)
    result.mended_fat, result.mended_data = fat.checked.mended, data.mended
    if fat.is_changed and saved(story, moment) is not None:
        result.faults.append("fsck.vfat changes what jumpstarter.yaml says")
    result.faults += [
        *fat.checked.faults,
        *data.faults,
        *(broken_promises(story, moment, found, card.partitions) if found.is_read else ()),
    ]
    result.caught, result.emptied = caught, found.emptied
    result.is_whole_identity = IDENTITY in found.state
    result.is_enrolled = result.is_whole_identity or NONCE in found.state
    kept = kept_of(found)
    result.hostname = "" if kept is None else kept.hostname
    result.machine_id = (found.machine_id or b"").decode(errors="replace").strip()
    return result


def _data(
    card: Card, rebuilt: Rebuilt, found: Found, story: Story, folder: Path, *, mount: bool, moment: Moment
) -> tuple[Checked, list[str]]:
    try:
        size = partitions(rebuilt.table)[DATA].size
    except TableError as error:
        return Checked(faults=[f"no data partition: {error}"]), []
    if size > card.size - card.partitions[DATA].begin:
        return Checked(faults=["the data partition is larger than the card"]), []
    with rebuilt.data.open("r+b") as file:
        file.truncate(size)
    checked = check_ext4(rebuilt.data)
    caught: list[str] = []
    try:
        with files_of(rebuilt.data, folder, mount=mount) as files:
            read_data(files, found, story)
            caught, lost = bait_faults(files, is_promised=moment.is_after(BAIT))
            checked.faults += lost
    except OSError as error:
        checked.faults.append(str(error))
    return checked, caught


class Looker:
    """Checks the disks of a recording."""

    def __init__(self, base: Path, log: WriteLog, story: Story, folder: Path, *, mount: bool) -> None:
        self._base, self._log, self._story, self._folder, self._mount = base, log, story, folder, mount
        self.marks = story.counted(log)
        self._seen: dict[object, _Fat] = {}

    def know_the_end(self) -> None:
        """Which files are empty in the end, too; and nothing may have been written into the root, which is whole."""
        card = Card(self._base, self._log, self._folder)
        self.data = card.partitions[DATA]
        if count := root_writes(self._log, card.partitions[ROOT]):
            raise CheckError(f"the root is written {count} times, though it is mounted read-only")
        root = self._folder / "root.img"
        copy_range(self._base, card.partitions[ROOT], root)
        done = run("e2fsck", "-f", "-n", root)
        if done.returncode:
            raise CheckError(f"the root is damaged from the start: {done.stdout}")
        root.unlink()
        count = len(self._log.entries)
        end = card.after(Cut(count, count, ()))
        with files_of(end.data, self._folder, mount=self._mount) as files:
            self._story.empty = empty_files(files)

    def look(self, cuts: Sequence[tuple[int, Cut]], workers: int = 1) -> list[Result]:
        """Check all disks in order, several at a time, because external programs take most of the time."""
        part = -(-len(cuts) // workers) or 1
        parts = [cuts[at : at + part] for at in range(0, len(cuts), part)]
        with ThreadPoolExecutor(workers) as pool:
            return [one for results in pool.map(self._look, range(len(parts)), parts) for one in results]

    def _look(self, worker: int, cuts: Sequence[tuple[int, Cut]]) -> list[Result]:
        folder = self._folder / f"worker-{worker}"
        folder.mkdir(exist_ok=True)
        card = Card(self._base, self._log, folder)
        results: list[Result] = []
        for number, cut in cuts:
            one = check(
                card, number, cut, self._story, self.marks, folder, mount=self._mount, seen=self._seen
            )
            results.append(one)
            if one.faults:
                print(cut_line(one, self.marks), flush=True)
            if len(results) % 50 == 0:
                bad = sum(bool(one.faults) for one in results)
                print(f"{len(results)} of {len(cuts)} disks, {bad} with a fault", flush=True)
        return results


def cut_line(result: Result, marks: Mapping[str, int]) -> str:
    """One line: number and place of the cut, lost data, and result."""
    cut = result.cut
    since = cut.point - cut.flushed
    torn = sum(landed.runs != ((0, count),) for landed, count in zip(cut.landed, result.counts, strict=True))
    said = "; ".join(result.faults) or ("mended" if result.mended_fat or result.mended_data else "whole")
    return (
        f"{result.number:5} point {cut.point} ({phase_of(marks, cut.point)}), {since} since the flush, "
        f"{len(cut.landed)} there, {torn} torn: {said}"
    )


def summary(results: list[Result], marks: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """For each phase: how many cuts, and how many of them with faults."""
    names = sorted({phase_of(marks, one.cut.point) for one in results}, key=lambda name: marks.get(name, 0))
    for name in names:
        those = [one for one in results if phase_of(marks, one.cut.point) == name]
        yield name, len(those), sum(bool(one.faults) for one in those)
