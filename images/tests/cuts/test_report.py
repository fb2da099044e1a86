"""Which cuts are looked at and booted, and what is written down of them."""

from __future__ import annotations

import random

import arm64_report
from console_text import last_lines

from cuts.boots import Boot, spread
from cuts.check import Result, bait_cuts, cut_line, drawn, phase_of, summary
from cuts.disks import Partition
from cuts.power_cut import Cut, Landed, cut_at
from cuts.report import Run, last_run
from cuts.story import Story
from cuts.write_log import FLUSH, WriteLog, packed

SECTOR = bytes(512)
REQUESTS = [(100, 0, SECTOR * 2), (0, FLUSH, b"")] * 20 + [(9, 0, SECTOR), (0, FLUSH, b"")]
LOG = WriteLog(memoryview(packed(REQUESTS)))
MARKS = {"first": 10, "bait": 20, "bait: on the disk": 24, "last": 40}
DATA = Partition(50 * 512, 100 * 512)


def test_cuts_come_in_the_order_of_their_flushes_and_are_the_same_for_a_seed() -> None:
    cuts = drawn(LOG, DATA, 7, 60)
    assert sorted(number for number, _ in cuts) == list(range(60))
    assert [cut.flushed for _, cut in cuts] == sorted(cut.flushed for _, cut in cuts)
    assert cuts == drawn(LOG, DATA, 7, 60)
    assert cuts != drawn(LOG, DATA, 8, 60)
    # The one write outside of the data partition has a third of them.
    assert sum(cut.point >= 40 for _, cut in cuts) >= 12


def test_bait_has_cuts_of_its_own_and_without_bait_there_are_none() -> None:
    cuts = bait_cuts(LOG, MARKS, 7)
    assert len(cuts) == 20
    assert all(number < 0 and 20 <= cut.point <= 24 for number, cut in cuts)
    assert bait_cuts(LOG, {"first": 10}, 7) == []


def test_a_phase_is_what_had_been_seen_last() -> None:
    assert [phase_of(MARKS, point) for point in (0, 9, 10, 19, 20, 99)] == [
        *("power", "power", "first", "first", "bait", "last"),
    ]


def test_what_is_booted_is_early_and_late() -> None:
    cuts = drawn(LOG, DATA, 7, 60)
    points = [cut.point for _, cut in spread(cuts, 4)]
    assert len(points) == 4
    assert points == sorted(points)
    assert points[0] < 15
    assert points[-1] > 35
    assert spread(cuts, 100) == sorted(cuts, key=lambda one: one[1].flushed)


def result(number: int, point: int, *faults: str) -> Result:
    cut = cut_at(LOG, point, random.Random(number))
    counts = tuple(LOG.entries[landed.number].count for landed in cut.landed)
    return Result(number, cut, counts, list(faults), mended_fat=["Dirty bit"] if number == 3 else [])


def test_faults_are_counted_in_their_phases() -> None:
    results = [result(1, 0), result(2, 12, "one", "two"), result(3, 15), result(4, 41)]
    assert list(summary(results, MARKS)) == [("power", 1, 0), ("first", 2, 1), ("last", 1, 0)]


def test_a_line_says_what_is_torn() -> None:
    cut = Cut(3, 1, (Landed(2, ((0, 1),)), Landed(4, ((0, 2),))))
    line = cut_line(Result(5, cut, (2, 2), faults=["gone"]), MARKS)
    assert line == "    5 point 3 (power), 2 since the flush, 2 there, 1 torn: gone"


def test_the_document_has_the_image_the_seed_the_cuts_the_bait_and_the_boots() -> None:
    boot = Boot(3, "first", version="1.2", identity="as before", console="login:", hostname="lab-one")
    bad = Boot(4, "last", ["another identity\nwith a log"], version="1.2")
    run = Run(
        day="2026-11-29",
        commit="abc",
        note="Of an image that is new.",
        seed=7,
        story=Story(image="f00d", seconds={"first": 12.0}),
        log=LOG,
        how_read="mounted",
        marks=MARKS,
        results=[result(1, 0), result(2, 12, "one"), result(3, 15)],
        bait=[Result(-1, Cut(1, 1, ()), caught=["renamed"]), result(-2, 22)],
        boots=[boot, bad],
    )
    text = last_run(run)
    for part in (
        "on 2026-11-29, at commit abc",
        "\nOf an image that is new.\n",
        "SHA-256 `f00d`",
        "42 requests, of which 21 are flushes",
        "The seed: `7`",
        "3 cuts, 2 without a fault, 1 with one",
        "lost in 1 of 2 cuts of its own",
        "2 disks were booted, 1 of them",
        "with the packages 1.2",
        "| first (12 s) | 2 | 1 |",
        "- 1 times: one",
        "- 1 times: FAT: Dirty bit",
        "another identity |",
    ):
        assert part in text, text
    assert "with a log" not in text


def test_the_end_of_a_console_is_text_of_a_page() -> None:
    output = b"\x1b[0;32m  OK  \x1b[0m Started ssh\r\n\r\n\x1b[!p\x1b]104\x07\x1b[6n\r\n"
    output += b"\x00Debian \xe2\x80\xa6 lab\x9b\r\nlogin:"
    assert last_lines(output) == "  OK   Started ssh\nDebian … lab�\nlogin:"
    assert last_lines(output, 1) == "login:"
    assert not last_lines(b"")


def test_the_boots_of_the_other_image_are_written_down() -> None:
    boots = [arm64_report.Boot("virt", "on virt: shell 23 s", "leased from outside", "one\ntwo")]
    text = arm64_report.text_of("2026-11-29", "abc", "jumpstarter-arm64.img, SHA-256 `00`", boots)
    assert "on 2026-11-29, at commit abc" in text
    assert "- on virt: shell 23 s; leased from outside\n" in text
    assert text.endswith(
        "The log of the boot on `virt`: systemd and our programs, the last lines.\n\n```text\none\ntwo\n```\n"
    )
