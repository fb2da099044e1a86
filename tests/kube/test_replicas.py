"""Two controllers of one lab: each serves every request, one leads, and either may die at any moment."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_metrics import metrics
from tests.kube.replica_lab import ReplicaLab, Session, two_replicas
from tests.kube.server.cluster import Cluster

TAKE_OVER_SECONDS = 10.0
WRITTEN = "lab.jumpstarter.dev/Written"
BOTH = [(0, 1), (1, 0), (1, 1)]


@pytest.fixture
def lab(lab_cluster: Cluster, tmp_path: Path) -> Iterator[ReplicaLab]:
    """Two controllers, of which the first leads, and a router."""
    with two_replicas(tmp_path, lab_cluster) as lab:
        yield lab


def replica_of(lab: ReplicaLab, exporter: str) -> str:
    """Which controller has its connection, as its object says."""
    conditions = lab.object("exporters", exporter)["status"]["conditions"]
    marks = (one["message"] for one in conditions if one["type"] == WRITTEN)
    return str(json.loads(next(marks, "{}")).get("replica", ""))


@pytest.mark.parametrize(("exporter", "client"), BOTH)
def test_every_controller_serves_everything(lab: ReplicaLab, exporter: int, client: int) -> None:
    lab.serve_by(exporter)
    lab.exporter("one")
    assert replica_of(lab, "one") == lab.identity(exporter)
    lab.serve_by(client)
    ann = lab.client("ann")
    made = lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
    assert "mine: one is yours; " in made
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
    lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    lab.ok("power", "on", "-l", "board=rpi4", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    for replica in lab.replicas:
        log = replica.daemon.log.read_text()
        assert "Traceback" not in log, log


def test_a_controller_that_leads_is_followed(lab: ReplicaLab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
    before = lab.leader()
    assert [metrics(one.probes)["jumpstarter_leads"] for one in lab.replicas] == [1, 0]
    lab.replicas[0].stop()
    lab.choose()
    began = time.monotonic()
    lab.until(lambda: lab.leads() == 1)
    assert time.monotonic() - began < TAKE_OVER_SECONDS / 2
    assert lab.leader()["leaseTransitions"] == before["leaseTransitions"] + 1
    assert metrics(lab.replicas[1].probes)["jumpstarter_leads"] == 1
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
    lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def test_keys_that_somebody_deletes_are_put_back_and_others_are_told(lab: ReplicaLab) -> None:
    def keys() -> dict[str, str]:
        answer = lab.kubectl(
            "get", "secret", "jumpstarter-controller-keys", "-o", "json", "--ignore-not-found"
        )
        return dict(json.loads(answer or "{}").get("data") or {})

    def patch(value: str | None) -> None:
        change = json.dumps({"data": {"tokens.key": value}})
        lab.kubectl("patch", "secret", "jumpstarter-controller-keys", "--type=merge", "-p", change)

    before = keys()
    lab.kubectl("delete", "secret", "jumpstarter-controller-keys")
    lab.until(lambda: keys() == before)
    patch(None)
    lab.until(lambda: keys() == before)
    lab.start_replica()
    lab.serve_by(2)
    ann = lab.client("ann")
    lab.serve_by(0)
    lab.ok("lease", "list", "--client", ann)
    patch("b3RoZXI=")
    lab.until(lambda: all("has another tokens.key than this" in one.ready() for one in lab.replicas))
    patch(before["tokens.key"])
    lab.until(lambda: all(one.ready() == "ok\n" for one in lab.replicas))
    logs = [one.daemon.log.read_text() for one in lab.replicas]
    assert all(log.count("has another tokens.key than this") == 1 for log in logs), logs
    assert sum(log.count("was deleted; this controller") for log in logs) == 1


dies = pytest.mark.parametrize("dies", [0, 1], ids=["who leads", "who does not"])
STEPS = ["free", "waiting", "leased", "in session"]


HOOKS = """
hooks:
  beforeLease: {{script: "until test -e {go}; do sleep 0.05; done"}}
  afterLease: {{script: "until test -e {go}; do sleep 0.05; done"}}
"""


@dies
@pytest.mark.parametrize("step", ["BEFORE_LEASE_HOOK", "AFTER_LEASE_HOOK"])
def test_a_controller_that_is_killed_while_a_hook_runs_is_not_missed(
    lab: ReplicaLab, step: str, dies: int
) -> None:
    go = lab.home / "go"
    lab.exporter("one", hooks=HOOKS.format(go=go))
    ann = lab.client("ann")
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
    if step == "AFTER_LEASE_HOOK":
        go.touch()
        lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
        go.unlink()
        lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == step)
    lab.replicas[dies].kill()
    lab.choose()
    go.touch()
    if step == "BEFORE_LEASE_HOOK":
        lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
        lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert "Traceback" not in lab.controller.log.read_text()


@dies
@pytest.mark.parametrize("step", STEPS)
def test_a_controller_that_is_killed_loses_no_lease_and_ends_no_session(
    lab: ReplicaLab, step: str, dies: int
) -> None:
    lab.exporter("one")
    ann, bob = lab.client("ann"), lab.client("bob")
    session = waiting = None
    if step != "free":
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
    if step == "waiting":
        waiting = lab.start("lease", "create", "-l", "board=rpi4", "--lease-id", "next", "--client", bob)
        lab.until(lambda: "next" in lab.leases(bob))
    if step == "in session":
        session = Session(lab, "mine", ann)
    lab.replicas[dies].kill()
    began = time.monotonic()
    lab.choose()
    if session is not None:
        session.goes_on()
    if step != "free":
        lab.ok("lease", "release", "mine", "--client", ann)
        assert time.monotonic() - began < TAKE_OVER_SECONDS
    if waiting is not None:
        out, err = waiting.communicate(timeout=60)
        assert (waiting.returncode, "next: one is yours" in out) == (0, True), err
    else:
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "next", "--client", bob)
    lab.ok("power", "on", "rpi4", "--lease", "next", "--client", bob)
    lab.ok("lease", "release", "next", "--client", bob)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert "Traceback" not in lab.controller.log.read_text()


def test_a_pairing_code_counts_once_whoever_redeems_it(lab: ReplicaLab) -> None:
    offer = json.loads(lab.admin("pair", "client", "carl", "-o", "json"))
    lab.serve_by(0, 1)
    words = [*offer["command"][1:], "--pairing-code"]
    logins = [
        lab.start(*words, "--alias", f"carl-{number}", JMP_PAIRING_CODE=offer["code"]) for number in range(4)
    ]
    outcomes = [(one.communicate(timeout=60)[1], one.returncode) for one in logins]
    assert [code for _, code in outcomes].count(0) == 1, outcomes
    assert len([said for said, code in outcomes if code and "wrong, used, expired" in said]) == 3, outcomes


def test_a_second_process_of_an_exporter_is_refused_by_the_other_controller(lab: ReplicaLab) -> None:
    lab.serve_by(0)
    first = lab.exporter("one")
    lab.serve_by(1)
    (lab.home / "copy.yaml").write_text((lab.home / "one.yaml").read_text())
    second = lab.start_exporter("copy", wait=False)
    lab.until(lambda: "served by another process already" in second.log.read_text())
    lab.until(lambda: "another process, at ipv4:127.0.0.1" in first.log.read_text())
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def test_leases_go_on_while_others_write_the_same_objects_all_the_time(lab: ReplicaLab) -> None:
    lab.exporter("one")
    ann, bob = lab.client("ann"), lab.client("bob")
    path = f"/apis/jumpstarter.dev/v1alpha1/namespaces/{lab.namespace}/exporters/one"
    over = threading.Event()
    written = itertools.count()

    def storm() -> None:
        while not over.is_set():
            body = {"metadata": {"annotations": {"storm": str(next(written))}}}
            lab.cluster.ask("PATCH", path, body, "application/merge-patch+json")

    threads = [threading.Thread(target=storm) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            lab.serve_by(number % 2)
            commands = [
                lab.start("power", "on", "-l", "board=rpi4", "--client", client) for client in (ann, bob)
            ]
            for command in commands:
                _, err = command.communicate(timeout=60)
                assert command.returncode == 0, err
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert next(written) > 20
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    for replica in lab.replicas:
        assert "Traceback" not in replica.daemon.log.read_text()


def test_an_exporter_that_was_thought_gone_is_back_at_once(lab: ReplicaLab) -> None:
    """As when the controller that it is connected to could not say for a while that it lives."""
    lab.serve_by(1)
    lab.exporter("one")
    path = f"/apis/jumpstarter.dev/v1alpha1/namespaces/{lab.namespace}/exporters/one/status"
    for status in ({"exporterStatus": "Offline"}, {}):
        lab.until(lambda: replica_of(lab, "one") == lab.identity(1))
        found = lab.object("exporters", "one")
        conditions = found["status"]["conditions"]
        for one in conditions:
            if one["type"] == WRITTEN:
                mark = json.loads(one["message"])
                one["message"] = json.dumps({key: value for key, value in mark.items() if key != "replica"})
        body = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}}
        body["status"] = status | {"conditions": conditions}
        lab.cluster.ask("PATCH", path, body, "application/merge-patch+json")
        lab.until(lambda: replica_of(lab, "one") == lab.identity(1))
        lab.until(lambda: lab.status("one") == "AVAILABLE")
