"""`jumpstarter-controller admin journal`: who leased, extended, released and was refused, also after `kill -9`."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

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
            "refused",
            "lease released by its client",
            "lease ended",
        ]
        assert [one["client"] for one in entries] == ["ann", "ann", "ann", "bob", "ann", "ann"]
        assert [one["time"] for one in entries] == sorted(one["time"] for one in entries)
        bobs = words(journal(lab, "--client", "bob"))
        assert bobs[0] == "client created"
        assert any(what.startswith("refused, at ") for what in bobs), bobs
        # The board's entries are its leases' from their beginning on.
        assert set(said) <= {
            what.split(":")[0].split(" after")[0] for what in words(journal(lab, "--board", "one"))
        }
        assert "the token" not in lab.admin("journal")
        assert "ann  lease created: one, for 600 s  lease=mine" in lab.admin("journal", "--board", "one")
        assert lab.admin("journal", "--until", "1h") == ""
        assert "no duration and no time" in lab.admin("journal", "--since", "yesterday", fails=True)
