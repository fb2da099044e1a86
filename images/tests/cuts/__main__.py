"""``python -m cuts``: record a host, cut its power a thousand times, boot ten of the disks (`make image-cuts`)."""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import trio
from machine import Image

from cuts.boots import boot, spread
from cuts.check import CheckError, Looker, Result, bait_cuts, cut_line, drawn, phase_of
from cuts.disks import work_folder
from cuts.file_systems import may_mount, run
from cuts.recording import Place, record
from cuts.report import Run, last_run
from cuts.story import Story
from cuts.write_log import WriteLog

IMAGES = Path(__file__).parents[2]
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mtype": "mtools",
    "fsck.vfat": "dosfstools",
    "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs",
}


def main() -> int:
    """Run the options; exit code 1 if a disk has a fault."""
    parser = argparse.ArgumentParser(prog="python -m cuts", description="Cut the power of an emulated host.")
    parser.add_argument("--images", type=Path, default=Path("dist"), help="the folder of the twin [dist]")
    parser.add_argument("--into", type=Path, default=Path("dist/cuts"), help="for the recording [dist/cuts]")
    parser.add_argument("--again", action="store_true", help="use the recording that is there")
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2, help="how many disks are looked at at a time [2]")
    parser.add_argument("--boots", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of all that is by chance [the time]")
    parser.add_argument(
        "--only", type=int, default=None, metavar="NUMBER", help="look at one cut, and keep it"
    )
    parser.add_argument("--note", default="", help="a sentence for images/LAST-RUN.md")
    parser.add_argument("--no-report", action="store_true", help="leave images/LAST-RUN.md as it is")
    given = parser.parse_args()
    path = "/usr/sbin:/sbin"
    missing = [name for name in NEEDED if not (shutil.which(name) or shutil.which(name, path=path))]
    if missing:
        packages = " ".join(sorted({NEEDED[name] for name in missing}))
        print(f"{', '.join(missing)} not found; sudo apt install {packages}", file=sys.stderr)
        return 1
    image = Image(given.images / "jumpstarter-amd64.img", given.images / "jumpstarter-amd64.build")
    if not image.disk.exists():
        print(f"{image.disk} is missing; make image ARCHITECTURE=amd64 LEVEL=0", file=sys.stderr)
        return 1
    place = Place(given.into.resolve())
    seed: int = given.seed if given.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    if not given.again:
        with work_folder() as folder:
            trio.run(record, image, place, folder)
    try:
        return _cut(given, image, place, seed)
    except CheckError as error:
        print(f"cuts: {error}", file=sys.stderr)
        return 1


def _cut(given: argparse.Namespace, image: Image, place: Place, seed: int) -> int:
    story = Story.read(place.story)
    log = WriteLog(memoryview(place.log.read_bytes()))
    with work_folder() as folder, ThreadPoolExecutor(1) as beside:
        refused = may_mount(folder)
        looked = Looker(place.base, log, story, folder, mount=not refused)
        looked.know_the_end()
        cuts = [one for one in drawn(log, looked.data, seed, given.cuts) if given.only in (None, one[0])]
        if given.only is not None:
            results = looked.look(cuts)
            kept = shutil.copytree(folder, place.folder / "only", dirs_exist_ok=True)
            print(f"the disk's partitions: {kept}")
            return int(any(one.faults for one in results))
        made = Run(
            day=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            commit=_commit(),
            note=given.note,
            seed=seed,
            story=story,
            log=log,
            how_read=f"by debugfs, as no file can be mounted here ({refused})" if refused else "mounted",
            marks=looked.marks,
        )
        # Check the disks to boot first, so that they boot while the others are checked.
        chosen = spread(cuts, given.boots)
        boots = beside.submit(_boot_all, image, place, made, looked.look(chosen))
        begun = time.monotonic()
        made.results = looked.look(cuts, given.workers)
        made.bait = looked.look(bait_cuts(log, looked.marks, seed))
        made.check_seconds = time.monotonic() - begun
        into = place.folder if given.no_report else IMAGES
        while not boots.done():
            _write(made, into)
            wait([boots], timeout=60)
        boots.result()
    print(_write(made, into))
    is_blind = not any(one.caught for one in made.bait)
    if is_blind:
        print(
            "the check has not detected the loss of the test program, so its result is not reliable",
            file=sys.stderr,
        )
    is_faulty = any(one.faults for one in (*made.results, *made.bait)) or any(
        one.faults for one in made.boots
    )
    return int(is_blind or is_faulty)


def _boot_all(image: Image, place: Place, made: Run, disks: Sequence[Result]) -> None:
    for one in disks:
        phase = phase_of(made.marks, one.cut.point)
        booted = trio.run(boot, image, place, made.log, made.story, one, phase)
        made.boots.append(booted)
        print(f"boot of cut {one.number} ({phase}): {booted.faults or booted.identity}", flush=True)


def _write(made: Run, into: Path) -> str:
    """Write the present results, so that a run which is stopped during the boots leaves them."""
    text = last_run(made)
    results = sorted(made.results, key=lambda one: one.number)
    (into / "LAST-RUN.md").write_text(text)
    (into / "LAST-RUN-cuts.txt").write_text("".join(f"{cut_line(one, made.marks)}\n" for one in results))
    return text


def _commit() -> str:
    done = run("git", "-C", IMAGES, "describe", "--always", "--dirty")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
