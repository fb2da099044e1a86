"""The disk of the journal is full: no lease is refused for it, and what happened is kept when there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.disks import fill, small_disk
from tests.support.lab import Lab

pytestmark = [pytest.mark.timeout(180), pytest.mark.kills]


def test_a_full_disk_of_the_journal_is_in_no_leases_way(tmp_path: Path) -> None:
    otherwise = "journal/test_journal.py has a folder that is not there"
    with small_disk(tmp_path / "disk", otherwise=otherwise) as disk, Lab.opened() as lab:
        lab.exporter("one")
        ann = lab.client("ann")
        lab.kill_controller()
        for file in lab.data.glob("journal.sqlite*"):
            file.unlink()
        (lab.data / "journal.sqlite").symlink_to(disk / "journal")
        filler = fill(disk)
        lab.start_controller()
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--client", ann)
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.until(lambda: "entries of the journal may get lost" in lab.controller.log.read_text())
        assert "make room on its disk" in lab.admin("journal", fails=True)
        filler.unlink()
        lab.until(lambda: "the journal can be written again" in lab.controller.log.read_text())
        assert "lease ended" in lab.admin("journal", "--lease", "mine")
