"""Write the results of the last run: images/LAST-RUN.md, and a line for each cut beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cuts.boots import Boot
from cuts.check import Result, summary
from cuts.story import Story
from cuts.write_log import WriteLog

__all__ = ["Run", "last_run"]


@dataclass
class Run:
    """All results of a run."""

    day: str
    commit: str
    seed: int
    story: Story
    log: WriteLog
    how_read: str
    """How the data partition was read: by a loop mount, or why not."""
    marks: Mapping[str, int]
    note: str = ""
    check_seconds: float = 0.0
    results: Sequence[Result] = ()
    bait: Sequence[Result] = ()
    boots: list[Boot] = field(default_factory=list)


def last_run(run: Run) -> str:
    """The text of LAST-RUN.md."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: Run) -> Iterator[str]:
    story, log = run.story, run.log
    faulty = [one for one in run.results if one.faults]
    written = sum(entry.count for entry in log.entries if not entry.is_discard) * log.sector_bytes
    yield "# The last run of the power cuts"
    yield ""
    yield f"Written by `make image-cuts` on {run.day}, at commit {run.commit}; docs/image.md says what it does."
    yield ""
    if run.note:
        yield run.note
        yield ""
    yield f"- The image: jumpstarter-amd64.img, SHA-256 `{story.image}`"
    yield (
        f"- The recording: {len(log.entries)} requests, of which {len(log.flushes())} are flushes; "
        f"{written / 1e6:.0f} MB written"
    )
    yield f"- The seed: `{run.seed}`"
    yield (
        f"- {len(run.results)} cuts, {len(run.results) - len(faulty)} without a fault, {len(faulty)} with one; "
        f"{run.check_seconds:.0f} s; the data partition {run.how_read}"
    )
    caught = sum(bool(one.caught) for one in run.bait)
    yield (
        f"- The bait, files that a program renames without fsync: lost in {caught} of {len(run.bait)} cuts of its own, "
        "which the check has seen"
    )
    good = [one for one in run.boots if not one.faults]
    packages = sorted({one.version for one in run.boots})
    yield (
        f"- {len(run.boots)} disks were booted, {len(good)} of them are hosts that are themselves, with the packages "
        f"{', '.join(packages) or 'of no boot'}"
    )
    yield ""
    yield "| after | cuts | with a fault |"
    yield "|---|---|---|"
    for name, count, bad in summary(list(run.results), run.marks):
        yield f"| {name} ({story.seconds.get(name, 0.0):.0f} s) | {count} | {bad} |"
    yield ""
    yield from _counted("What the tools put right", [*_mended(run.results)])
    yield from _counted("Files that were empty", [path for one in run.results for path in one.emptied])
    yield from _counted("Faults", [fault for one in run.results for fault in one.faults])
    if run.boots:
        yield from _boots(run.boots)
        yield f"The end of the console of the last of them (cut {run.boots[-1].number}):"
        yield ""
        yield "```text"
        yield from run.boots[-1].console.splitlines()
        yield "```"


def _mended(results: Sequence[Result]) -> Iterator[str]:
    for one in results:
        yield from (f"FAT: {line}" for line in one.mended_fat)
        yield from (
            f"data: {part.partition(': ')[2] or part}"
            for line in one.mended_data
            for part in line.split(" / ")
            if " files (" not in part
        )


def _counted(title: str, found: list[str]) -> Iterator[str]:
    """The most frequent lines."""
    yield f"## {title}"
    yield ""
    if not found:
        yield "None."
    for line, count in Counter(found).most_common(25):
        yield f"- {count} times: {line}"
    yield ""


def _boots(boots: Sequence[Boot]) -> Iterator[str]:
    yield "## Boots"
    yield ""
    yield "| cut | after | shell | running | registered | name | data | identity | faults |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in boots:
        yield (
            f"| {one.number} | {one.phase} | {one.shell_seconds:.0f} s | {one.running_seconds:.0f} s | "
            f"{one.registered_seconds:.0f} s | {one.hostname} | {one.data} | {one.identity} | "
            f"{'; '.join(fault.splitlines()[0] for fault in one.faults) or 'none'} |"
        )
    yield ""
