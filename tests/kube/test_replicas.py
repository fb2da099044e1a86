"""Two controllers of one lab: one leads, and the other takes over."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kube.replica_lab import ReplicaLab
from tests.kube.server.cluster import Cluster

TAKE_OVER_SECONDS = 10.0


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_a_second_controller_stands_by_and_takes_over(
    lab_cluster: Cluster, tmp_path: Path, *, is_killed: bool
) -> None:
    with ExitStack() as stack:
        lab = ReplicaLab(tmp_path, stack, cluster=lab_cluster)
        first = lab.start_replica()
        lab.start_router()
        lab.exporter("one")
        ann = lab.client("ann")
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
        second = lab.start_replica(wait=False)
        lab.until(lambda: "leads this lab; this one takes over when that ends" in second.ready())
        before = lab.leader()
        began = time.monotonic()
        if is_killed:
            first.kill()
        else:
            first.stop()
        lab.serve_by(1)
        assert second.daemon.first_line() == f"Listening on 127.0.0.1:{lab.port}"
        took = time.monotonic() - began
        assert took < TAKE_OVER_SECONDS
        lab.choose()
        after = lab.leader()
        assert after["holderIdentity"] != before["holderIdentity"]
        assert after["leaseTransitions"] == before["leaseTransitions"] + 1
        lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
