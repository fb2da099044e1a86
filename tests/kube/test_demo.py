"""The demo of remote leasing in a lab of two controllers, and what two `kubectl get -w` print meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.test_metrics import metrics
from tests.kube.replica_lab import ReplicaLab, two_replicas
from tests.kube.server.cluster import Cluster
from tests.support.peers import ROOT
from tools.demo.__main__ import main

LEASE = r"[0-9a-f]{8}-[0-9a-f-]{27}"
EXPORTER_ROW = re.compile(rf"(?P<name>\S+) +true +(?P<status>[A-Z]\w+)? +(?P<lease>{LEASE})? +\d+\w+")
LEASE_ROW = re.compile(
    rf"(?P<lease>{LEASE}) +(?P<ended>true|false) +(?P<client>\w+) +(?P<exporter>[a-z]\S+)? +(?P<begun>(\d+m)?\d+s)?"
    r" +(?P<duration>\d+m0s) +(?P<reason>[A-Z]\w+)? +\d+\w+"
)


@pytest.fixture
def lab(lab_cluster: Cluster, tmp_path: Path) -> Iterator[ReplicaLab]:
    """Two controllers and a router; connections take turns."""
    with two_replicas(tmp_path, lab_cluster) as lab:
        yield lab


@contextmanager
def watched(lab: ReplicaLab, kind: str) -> Iterator[Path]:
    """A file with what `kubectl get -w` prints until the end of the block; it has begun."""
    printed = lab.home / f"{kind}.txt"
    command = [lab.cluster.programs / "kubectl", "--kubeconfig", lab.cluster.kubeconfig, "get", "-w"]
    # Without an object it prints nothing, so that its start shows in its log only.
    command += [f"{kind}.jumpstarter.dev", "--namespace", lab.namespace, "-v=8"]
    log = lab.home / f"{kind}.log"
    with printed.open("wb") as out, log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env={"HOME": str(lab.home)})
        try:
            lab.until(lambda: re.search(r"(?s)watch=true.*Response", log.read_text()))
            yield printed
        finally:
            process.kill()
            process.wait()


def rows(printed: Path, row: re.Pattern[str]) -> list[dict[str, str]]:
    """The printed rows by column, without those that say the same as the one before of that object."""
    _, *lines = [line.rstrip() for line in printed.read_text().splitlines()]
    found: list[dict[str, str]] = []
    last: dict[str, dict[str, str]] = {}
    for line in lines:
        match = row.fullmatch(line)
        assert match, line
        columns = match.groupdict("")
        if last.get(line.split()[0]) != columns:
            found.append(columns)
        last[line.split()[0]] = columns
    return found


def assert_in_order(wanted: Iterable[tuple[str, ...]], printed: list[tuple[str, ...]]) -> None:
    """These are printed, one behind the other; others may be between."""
    at = iter(printed)
    for one in wanted:
        assert any(one == there for there in at), (one, printed)


@pytest.mark.clock_rate(4)  # its boards take seconds to boot
def test_the_demo_runs_against_two_controllers_and_two_watches_tell_the_story(
    lab: ReplicaLab,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = dict(os.environ)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("demo")))
    monkeypatch.chdir(ROOT)
    with ExitStack() as stack:
        exporters, leases = (stack.enter_context(watched(lab, kind)) for kind in ("exporters", "leases"))
        try:
            main(["--lab", str(lab.data), "--namespace", lab.namespace])
        finally:
            os.environ.clear()
            os.environ.update(before)
            out, err = capfd.readouterr()
            print(out, err, exporters.read_text(), leases.read_text(), sep="\n")
        assert "Bob's command has switched the board on" in out
        lab.until(lambda: exporters.read_text().count(" Offline ") >= 2)
    assert "Traceback" not in err
    told = rows(leases, LEASE_ROW)
    anns, bobs = (next(one["lease"] for one in told if one["client"] == name) for name in ("ann", "bob"))
    for lease, client, duration, waits in (
        (anns, "ann", "10m0s", ""),
        (bobs, "bob", "30m0s", "NotAvailable"),
    ):
        its = [one for one in told if one["lease"] == lease]
        assert {(one["client"], one["duration"]) for one in its} == {(client, duration)}
        assert all(bool(one["begun"]) == (one["reason"] in {"Ready", "Released"}) for one in its), its
        assert_in_order(
            [
                ("false", "", waits),
                ("false", "rpi4-1", "Ready"),
                ("true", "rpi4-1", "Released"),
            ],
            [(one["ended"], one["exporter"], one["reason"]) for one in its],
        )
    assert_in_order(
        [
            ("Offline", ""),
            ("Available", ""),
            ("LeaseReady", anns),
            ("LeaseReady", bobs),
            ("Available", ""),
            ("Offline", ""),
        ],
        [(one["status"], one["lease"]) for one in rows(exporters, EXPORTER_ROW) if one["name"] == "rpi4-1"],
    )
    for replica in lab.replicas:
        counts = metrics(replica.probes)
        assert sum(count for name, count in counts.items() if name.startswith("jumpstarter_requests")) > 5
        assert "Traceback" not in replica.daemon.log.read_text()
    assert lab.kubectl("get", "je,jc,hosts.lab.jumpstarter.dev", "-o", "name") == ""
