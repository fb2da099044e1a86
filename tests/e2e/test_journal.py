"""`jumpstarter-controller admin journal`: who leased, who was refused, and who switched a board."""

from __future__ import annotations

import json
import math
import os
import pwd
import sqlite3
import sys
import time
from contextlib import closing
from typing import Any

import pytest
from jumpstarter_controller.audit import AuditEntry
from jumpstarter_controller.audit.audit_file import AuditFile

from tests.support.lab import Lab

pytestmark = pytest.mark.timeout(180)


def journal(lab: Lab, *words: str) -> list[dict[str, Any]]:
    found = json.loads(lab.admin("journal", "-o", "json", *words))["entries"]
    assert isinstance(found, list)
    return found


def words(entries: list[dict[str, Any]]) -> list[str]:
    return [str(entry.get("what", "")) for entry in entries]


@pytest.mark.kills
def test_who_leased_extended_released_and_was_refused_is_known_also_after_kill_9() -> None:
    with Lab.opened() as lab:
        lab.exporter("one")
        ann, bob = lab.client("ann"), lab.client("bob")
        lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--duration", "10m", "--client", ann)
        lab.ok("lease", "extend", "mine", "--by", "5m", "--client", ann)
        lab.refused("lease", "release", "mine", "--client", bob)
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.admin("client", "delete", "bob")
        lab.refused("lease", "list", "--client", bob)
        lab.until(lambda: "bob" in lab.admin("journal", "--client", "bob"))
        lab.until(lambda: any("client deleted" in what for what in words(journal(lab, "--client", "bob"))))
        time.sleep(2.5)  # what is promised: everything of a second or two ago is on the disk
        lab.kill_controller()
        lab.start_controller()
        entries = journal(lab, "--lease", "mine")
        said = [
            what.split(":")[0].split(" after")[0]
            for what in words(entries)
            if not what.startswith("lease dialled")
        ]
        assert said == [
            "lease created",
            "lease ready on one",
            "lease changed",
            "was refused to release a lease",
            "lease released by its client",
            "lease ended",
        ]
        assert [one["client"] for one in entries] == ["ann", "ann", "ann", "bob", "ann", "ann"]
        assert [one["time"] for one in entries] == sorted(one["time"] for one in entries)
        bobs = words(journal(lab, "--client", "bob"))
        assert bobs[0] == "client created"
        assert any(what.startswith("was refused, at ") for what in bobs), bobs
        # The board's entries are its leases' from their beginning on.
        assert set(said) <= {
            what.split(":")[0].split(" after")[0] for what in words(journal(lab, "--board", "one"))
        }
        assert "the token" not in lab.admin("journal")
        assert "ann  lease created: one, for 600 s  lease=mine" in lab.admin("journal", "--board", "one")
        assert lab.admin("journal", "--until", "1h") == ""
        assert "neither a duration nor a time" in lab.admin("journal", "--since", "yesterday", fails=True)
        assert "neither a duration nor a time" in lab.admin("journal", "--since", "0001-01-01", fails=True)
        assert "a\\udcff is not text in UTF-8" in lab.admin("client", "disable", "a\udcff", fails=True)


def test_a_command_while_no_controller_runs_deletes_nothing_that_the_controller_keeps() -> None:
    with Lab.opened("--keep-journal", "365d") as lab:
        lab.client("ann")
        lab.until(lambda: "client created" in lab.admin("journal"))
        lab.kill_controller()
        with closing(AuditFile(lab.data / "journal.sqlite", math.inf)) as file:
            file.append([AuditEntry(time.time() - 100 * 86400, what="long ago")], 0.0)
        lab.admin("client", "disable", "ann")
        assert words(journal(lab, "--since", "200d")) == ["long ago", "client created", "client disabled"]
        lab.start_controller("--keep-journal", "50d")
        lab.admin("client", "enable", "ann")
        assert words(journal(lab, "--since", "200d")) == [
            "client created",
            "client disabled",
            "client enabled",
        ]


HOOKS = """
hooks:
  beforeLease: {script: "j power on"}
"""


def door(lab: Lab, name: str) -> str:
    """The socket of its host."""
    return str(lab.exporters[name].log.parent / "run" / "exporter.sock")


def calls(lab: Lab, *words: str) -> list[tuple[str, str, str]]:
    """Of the journal: device and method, result, and who."""
    return [
        (f"{one['device']}.{one['method']}", one.get("status", ""), one.get("client", one.get("user", "")))
        for one in journal(lab, *words)
        if one["kind"] == "call" and "more" not in one
    ]


def test_who_switched_the_board_is_known_a_client_of_a_lease_or_a_user_of_the_host() -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    with Lab.opened() as lab:
        lab.exporter("one")
        ann = lab.client("ann")
        lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--client", ann)
        lab.ok("power", "on", "--lease", "mine", "--client", ann)
        lab.ok("power", "read", "--lease", "mine", "--client", ann)  # only looks
        lab.until(lambda: calls(lab, "--lease", "mine"))
        assert calls(lab, "--lease", "mine") == [("power.on", "OK", "ann")]
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        lab.ok("power", "off", JUMPSTARTER_HOST=door(lab, "one"))
        lab.until(lambda: len(calls(lab, "--board", "one")) == 2)
        assert calls(lab, "--board", "one")[1] == ("power.off", "OK", user)
        assert f"one  {user} of the host  power.off: OK, 0." in lab.admin("journal", "--board", "one")


def test_a_hook_and_a_user_of_the_host_who_takes_part_in_a_lease_are_told_from_its_client() -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    with Lab.opened() as lab:
        lab.exporter("one", hooks=HOOKS)
        ann = lab.client("ann")
        lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--client", ann)
        lab.until(lambda: lab.status("one") == "LEASE_READY")
        lab.ok("power", "off", "--override", JUMPSTARTER_HOST=door(lab, "one"))
        lab.until(lambda: len(calls(lab, "--lease", "mine")) == 2)
        shown = lab.admin("journal", "--lease", "mine")
        assert "power.on: OK" in next(line for line in shown.splitlines() if "by a hook" in line)
        assert f"{user} of the host, beside ann  power.off: OK" in shown


def test_a_flood_is_cut_down_to_a_number_and_hides_no_lease() -> None:
    with Lab.opened() as lab:
        lab.exporter("one")
        ann = lab.client("ann")
        script = (
            "from jumpstarter_client import env\n"
            "with env() as board:\n"
            "    for _ in range(700):\n"
            "        board.power.on()\n"
        )
        lab.ok("shell", "-n", "one", "--client", ann, "--", sys.executable, "-c", script)

        def told() -> int:
            entries = [one for one in journal(lab, "--board", "one") if one["kind"] == "call"]
            return sum(one.get("more", 1) for one in entries)

        lab.until(lambda: told() == 700)
        entries = journal(lab, "--board", "one")
        assert sum(one["kind"] == "call" for one in entries) < 400
        assert " more calls" in lab.admin("journal", "--board", "one")
        said = words(entries)
        assert any(what.startswith("lease created") for what in said)
        assert any(what.startswith("lease ended") for what in said)


@pytest.mark.kills
def test_what_was_done_while_the_controller_was_away_is_told_when_it_is_back() -> None:
    with Lab.opened() as lab:
        lab.exporter("one")
        lab.kill_controller()
        lab.ok("power", "on", JUMPSTARTER_HOST=door(lab, "one"))
        lab.start_controller()
        lab.until(lambda: calls(lab, "--board", "one"))
        assert [call[:2] for call in calls(lab, "--board", "one")] == [("power.on", "OK")]


def test_a_journal_that_cannot_be_written_refuses_no_lease_and_says_how_much_it_lost() -> None:
    with Lab.opened() as lab:
        lab.exporter("one")
        ann = lab.client("ann")
        with closing(sqlite3.connect(lab.data / "journal.sqlite", isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")  # as a disk that takes nothing
            lab.ok("lease", "create", "-n", "one", "--lease-id", "mine", "--client", ann)
            lab.ok("lease", "release", "mine", "--client", ann)
            lab.until(lambda: "entries of the journal may get lost" in lab.controller.log.read_text())
            assert "journal.sqlite" in lab.admin("journal", fails=True)
            db.execute("ROLLBACK")
        lab.until(lambda: "the journal can be written again" in lab.controller.log.read_text())
        assert any(what.startswith("lease ended") for what in words(journal(lab, "--lease", "mine")))
