"""A lab moves from its file to Kubernetes and back, and nobody enrols again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_controller.backups import kubernetes as moves
from jumpstarter_controller.backups.archive import load
from jumpstarter_controller.lab import Record
from jumpstarter_controller.lab.tables import KINDS
from jumpstarter_controller.process.data_folder import DataFolder, KubernetesLab
from jumpstarter_controller.store.contract import aged

from tests.interop import exporters
from tests.kube.faulty import faulty
from tests.kube.server.cluster import Cluster
from tests.kube.test_lease import KubeLab
from tests.support import lab as support

POLICY = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: all}
spec:
  exporterSelector: {matchLabels: {board: rpi4}}
  policies: [{description: everybody, priority: 7, maximumDuration: 2h, from: [{clientSelector: {}}]}]
"""
SECRET = "jumpstarter-controller-keys"
SERVICE = 65532
"""A user's number."""


class MovingLab(KubeLab):
    """Its namespace has the same name in both places."""

    def __init__(self, home: Path, stack: ExitStack, *, cluster: Cluster) -> None:
        super().__init__(home, stack, cluster=cluster)
        self.is_in_cluster = False

    def launch_controller(self, *options: str) -> Any:
        if self.is_in_cluster:
            return super().launch_controller(*options)
        self._options = ()
        return support.Lab.launch_controller(self, *options)

    def stop(self) -> None:
        self.controller.process.terminate()
        self.controller.process.wait()

    def move(self, word: str, *options: str | Path, fails: bool = False) -> str:
        """`admin export` or `import`."""
        return self.admin(word, "--kubeconfig", self.cluster.kubeconfig, *options, fails=fails)

    def records(self) -> dict[Any, Record]:
        """Of the file, whose controller does not run."""
        found = load(DataFolder(self.data).database)
        return {(kind, one.key): aged(one, 0) for kind in KINDS for one in found.all(kind)}

    def names(self, kind: str) -> list[str]:
        return sorted(self.kubectl("get", kind, "-o", "name").split())

    def enrol(self, code: str, *options: str | Path) -> None:
        """`jumpstarter-exporter enrol`."""
        file = self.home / "code"
        file.write_text(code)
        fingerprint = json.loads((self.data / "addresses.json").read_text())["fingerprint"]
        command = [exporters.scripts() / "jumpstarter-exporter", "enrol", f"127.0.0.1:{self.port}"]
        command += ["--tls-fingerprint", fingerprint, "--code-file", file, *options]
        done = self.start_program(*command, JUMPSTARTER_STATE_DIRECTORY=self.home / "state")
        _, said = done.communicate(timeout=support.LIMIT)
        assert done.returncode == 0, said

    def fill(self) -> None:
        """Some of everything, and a lease that runs."""
        self.exporter("one")
        self.admin("exporter", "create", "two", "--label", "board=rpi5", "--save", self.home / "two.yaml")
        ann = self.client("ann", "--label", "team=kernel")
        self.client("bob")
        self.admin("client", "rotate", "bob", "--save", self.home / "bob.yaml")
        self.admin("client", "disable", "bob")
        self.enrol(json.loads(self.admin("pair", "host", "pi4", "-o", "json"))["code"])
        (self.home / "policy.yaml").write_text(POLICY)
        self.admin("policy", "apply", self.home / "policy.yaml")
        self.ok(
            "lease", "create", "-l", "board=rpi4", "--lease-id", "over", "--tag", "run=7", "--client", ann
        )
        self.ok("lease", "release", "over", "--client", ann)
        self.until(lambda: self.status("one") == "AVAILABLE")
        self.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
        self.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)


@pytest.fixture
def lab(lab_cluster: Cluster) -> Iterator[MovingLab]:
    with MovingLab.opened(cluster=lab_cluster) as lab:
        yield lab


def test_a_lab_moves_to_kubernetes_and_back_and_its_leases_go_on(lab: MovingLab) -> None:
    lab.fill()
    ann = lab.home / "ann.yaml"
    code = json.loads(lab.admin("pair", "exporter", "three", "-o", "json"))["code"]
    lab.stop()
    before = lab.records()

    said = lab.move("export")
    assert f"now in the namespace {lab.namespace}: 2 clients, 1 host, 2 exporters, 1 policy, 2 leases" in said
    assert f"reached at 127.0.0.1:{lab.port} as before" in said
    assert not (lab.data / "lab.sqlite").exists()
    (folder,) = lab.data.glob("before-export-*")
    assert {one.name for one in folder.iterdir()} >= {"lab.sqlite", "tokens.key"}
    again = lab.move("export")
    assert f"already in the namespace {lab.namespace}: 2 clients" in again

    lab.is_in_cluster = True
    lab.start_controller()
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    lab.ok("power", "off", "rpi4", "--lease", "mine", "--client", ann)
    assert lab.leases(ann, "--all").keys() == {"mine", "over"}
    assert "disabled" in lab.refused("lease", "list", "--client", lab.home / "bob.yaml")[1]
    assert lab.names("drains.lab.jumpstarter.dev") == []
    lab.enrol(code, "--save", lab.home / "three.yaml")
    lab.stop()

    said = lab.move("import")
    assert f"now in {lab.data}: 2 clients, 1 host, 3 exporters, 1 policy, 2 leases" in said
    assert "no lease begins there" in said
    after = lab.records()
    assert {place for place in before if place not in after and place[0].KIND != "code"} == set()
    kept = [place for place in before if place[0].KIND in {"client", "policy", "host"}]
    assert [before[place] for place in kept] == [after[place] for place in kept]
    assert len(kept) == 4
    uids = {place: record.uid for place, record in before.items() if place[0].KIND in {"exporter", "lease"}}
    assert uids.items() <= {place: record.uid for place, record in after.items()}.items()
    assert lab.names("drains.lab.jumpstarter.dev") == ["drain.lab.jumpstarter.dev/lab"]
    assert f"already in {lab.data}" in lab.move("import")

    lab.is_in_cluster = False
    lab.start_controller()
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
    lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
def test_who_moves_a_lab_as_root_leaves_the_service_its_files(lab: MovingLab) -> None:
    lab.client("ann")
    lab.stop()
    for word in ("export", "import"):
        for path in (lab.data, *lab.data.rglob("*")):
            os.chown(path, SERVICE, SERVICE)
        lab.move(word)
        assert [path.name for path in lab.data.rglob("*") if path.stat().st_uid != SERVICE] == []


def test_a_lab_that_comes_again_replaces_what_it_has_left_only_when_that_is_wanted(lab: MovingLab) -> None:
    lab.fill()
    lab.stop()
    lab.move("export")
    lab.is_in_cluster = True
    lab.start_controller()
    lab.admin("client", "create", "eve", "--save", lab.home / "eve.yaml")
    lab.stop()
    lab.move("import")
    lab.is_in_cluster = False
    lab.start_controller()
    lab.admin("client", "delete", "eve")
    lab.stop()
    before = lab.records()
    sentence = lab.move("export", fails=True)
    assert f"client {lab.namespace}/eve" in sentence
    assert "nothing was changed" in sentence
    assert lab.records() == before
    said = lab.move("export", "--overwrite")
    assert f"replaced, or gone: client {lab.namespace}/eve" in said
    assert lab.names("clients.jumpstarter.dev") == [
        f"client.jumpstarter.dev/{name}" for name in ("ann", "bob")
    ]
    lab.is_in_cluster = True
    lab.start_controller()
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", lab.home / "ann.yaml")


def test_an_export_that_is_cut_short_again_and_again_comes_to_its_end(
    lab: MovingLab, lab_cluster: Cluster, tmp_path: Path
) -> None:
    lab.fill()
    lab.stop()
    before = lab.records()
    with faulty(lab_cluster, tmp_path) as proxy:
        writes = 0

        def refuses(method: str, path: str) -> int:
            nonlocal writes
            writes += method != "GET" and "coordination" not in path and not path.endswith("/events")
            return 403 if writes > 4 else 0

        proxy.refuses = refuses
        lab.cluster = Cluster(proxy.kubeconfig, lab_cluster.programs)
        cuts = 0
        while True:
            writes = 0
            done = support.administer(
                lab.data, "export", "--namespace", lab.namespace, "--kubeconfig", proxy.kubeconfig
            )
            if done.returncode == 0:
                break
            cuts += 1
            assert "run the same command again to " in done.stderr or "Secret" in done.stderr, done.stderr
            if (lab.data / "lab.sqlite").exists():
                assert lab.records() == before
            drains = lab_cluster.kubectl("get", "drains", "-n", lab.namespace, "-o", "json")
            assert "being moved" in drains
            assert cuts < 40
    assert cuts >= 3
    lab.cluster = lab_cluster
    assert lab.names("drains.lab.jumpstarter.dev") == []
    lab.move("import")
    assert lab.records() == before


def test_an_export_whose_last_step_fails_is_completed_by_the_next(
    lab: MovingLab, lab_cluster: Cluster, tmp_path: Path
) -> None:
    lab.client("ann")
    lab.stop()
    words = ("export", "--namespace", lab.namespace, "--kubeconfig")
    with faulty(lab_cluster, tmp_path) as proxy:
        proxy.refuses = lambda method, path: 403 if method == "DELETE" and "/drains/" in path else 0
        done = support.administer(lab.data, *words, proxy.kubeconfig)
    assert done.returncode != 0
    assert f"the lab is in the namespace {lab.namespace} now, but no lease begins there yet" in done.stderr
    assert not (lab.data / "lab.sqlite").exists()
    assert lab.names("drains.lab.jumpstarter.dev") != []
    assert "already in the namespace" in lab.move("export")
    assert lab.names("drains.lab.jumpstarter.dev") == []


def test_a_drained_lab_is_drained_wherever_it_is(lab: MovingLab) -> None:
    program = exporters.scripts() / "jumpstarter-controller"
    subprocess.run([program, "drain", "--reason", "new kernel", "--data", lab.data], check=True, timeout=60)
    lab.stop()
    assert "the lab is drained" in lab.move("export")
    drain = json.loads(lab.kubectl("get", "drains.lab.jumpstarter.dev", "lab", "-o", "json"))
    assert drain["spec"]["reason"] == "new kernel"
    lab.move("import")
    lab.start_controller()
    lab.exporter("one")
    code, sentence = lab.refused(
        *("lease", "create", "-l", "board=rpi4", "--acquisition-timeout", "1s"), "--client", lab.client("ann")
    )
    assert "new kernel" in sentence, (code, sentence)


def test_what_somebody_else_has_in_the_namespace_stays_unless_it_is_to_go(lab: MovingLab) -> None:
    lab.fill()
    lab.stop()
    made = {
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": "Client",
        "metadata": {"name": "ann"},
        "spec": {},
    }
    lab.kubectl("create", "-f", "-", input=json.dumps(made))
    uid = lab.object("clients", "ann")["metadata"]["uid"]
    lab.kubectl("create", "secret", "generic", SECRET, "--from-literal=tokens.key=another")
    sentence = lab.move("export", fails=True)
    assert f"client {lab.namespace}/ann, other keys, in the Secret {SECRET}" in sentence
    assert lab.names("exporters.jumpstarter.dev") == lab.names("drains.lab.jumpstarter.dev") == []
    said = lab.move("export", "--overwrite")
    assert f"replaced, or gone: client {lab.namespace}/ann" in said
    assert lab.object("clients", "ann")["metadata"]["uid"] == uid
    lab.is_in_cluster = True
    lab.start_controller()
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", lab.home / "ann.yaml")


def test_an_import_that_is_cut_short_leaves_the_lab_where_it_was_or_is_completed(
    lab: MovingLab, lab_cluster: Cluster, tmp_path: Path
) -> None:
    lab.fill()
    lab.stop()
    before = lab.records()
    lab.move("export")
    words = ("import", "--namespace", lab.namespace, "--kubeconfig")
    (lab.data / "lab.sqlite").mkdir()  # nobody can write there
    (lab.data / "lab.sqlite" / "in-the-way").touch()
    done = support.administer(lab.data, *words, lab.cluster.kubeconfig, "--overwrite")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert lab.names("drains.lab.jumpstarter.dev") == [], "leases can begin where the lab is"
    shutil.rmtree(lab.data / "lab.sqlite")
    with faulty(lab_cluster, tmp_path) as proxy:
        proxy.refuses = lambda method, path: 403 if method == "PATCH" and "/drains/" in path else 0
        done = support.administer(lab.data, *words, proxy.kubeconfig)
        assert done.returncode != 0
        assert (
            f"the lab is in {lab.data} now, but this could not be recorded in the namespace {lab.namespace}"
            in done.stderr
        )
    assert lab.names("drains.lab.jumpstarter.dev") != [], "leases can begin where the lab is"
    assert lab.records() == before
    assert "already in" in lab.move("import")
    drain = json.loads(lab.kubectl("get", "drains.lab.jumpstarter.dev", "lab", "-o", "json"))
    assert drain["spec"]["reason"] == moves.MOVED


def test_a_lab_with_another_namespace_is_not_moved(lab: MovingLab) -> None:
    lab.client("ann")
    lab.stop()
    done = support.administer(
        lab.data, "export", "--kubeconfig", lab.cluster.kubeconfig, "--namespace", "default"
    )
    assert done.returncode == 2
    assert f"the lab has the namespace {lab.namespace}" in done.stderr
    assert "no token of it is valid" in done.stderr
    assert (lab.data / "lab.sqlite").exists()


def test_nothing_moves_while_a_controller_runs(
    lab: MovingLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(moves, "LEAD_SECONDS", 2.0)
    assert "is in use: stop its controller first" in lab.move("export", fails=True)
    lab.stop()
    lab.move("export")
    lab.is_in_cluster = True
    lab.start_controller()
    assert "is in use: stop its controller first" in lab.move("import", fails=True)
    words = ("import", "--namespace", lab.namespace, "--kubeconfig", lab.cluster.kubeconfig)
    done = support.administer(tmp_path / "elsewhere", *words)
    assert done.returncode == 2
    assert f"runs on the namespace {lab.namespace}; stop it first" in done.stderr
    lab.stop()
    secret = f"/api/v1/namespaces/{lab.namespace}/secrets/{SECRET}"
    without = {"data": {"tls.key": None, "tls.crt": None}}  # as where the certificate is from elsewhere
    lab.cluster.ask("PATCH", secret, without, "application/merge-patch+json")
    done = support.administer(tmp_path / "elsewhere", *words)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "elsewhere" / "tls.key").exists()
    assert (tmp_path / "elsewhere" / "tokens.key").read_bytes() == (lab.data / "tokens.key").read_bytes()


def test_a_second_move_is_told_that_another_moves(
    lab: MovingLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(moves, "LEAD_SECONDS", 2.0)
    lab.client("ann")
    lab.stop()
    target = KubernetesLab(namespace=lab.namespace, kubeconfig=str(lab.cluster.kubeconfig))
    other = DataFolder(tmp_path / "other")
    other.prepare()

    async def export_beside_another() -> str:
        with other.locked():
            async with moves._opened(target, other):
                return await trio.to_thread.run_sync(partial(lab.move, "export", fails=True))

    said = trio.run(export_beside_another)
    assert f"another export or import, by {other.replica()}, has the namespace {lab.namespace}; wait" in said
    assert "now in the namespace" in lab.move("export")


def test_a_controller_that_was_killed_is_in_nobodys_way_for_long(
    lab: MovingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "ANNOUNCE_SECONDS", 0.5)
    lab.client("ann")
    lab.stop()
    lab.move("export")
    lab.is_in_cluster = True
    lab.start_controller()
    lab.kill_controller()
    records = lab.kubectl("get", "leases.coordination.k8s.io", "-o", "name").split()
    assert len(records) == 2, "who leads, and that it lives"
    assert f"now in {lab.data}: 1 client" in lab.move("import")


def test_objects_of_jumpstarters_own_controller_are_a_lab_whose_leases_go_on(
    lab_cluster: Cluster,
) -> None:
    """As it leaves them in the namespace when it is stopped."""
    name, now = "01a2212b-4e9e-7442-b0de-7c40350ac903", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def condition(kind: str, status: str, reason: str) -> dict[str, Any]:
        common = {"observedGeneration": 1, "lastTransitionTime": now, "message": "as it says"}
        return {"type": kind, "status": status, "reason": reason} | common

    objects: list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, str]]] = [
        ("Client", "c1", {}, {"endpoint": "localhost:8082", "credential": {"name": "c1-client"}}, {}),
        (
            "Exporter",
            "e1",
            {"enabled": True},
            {
                "conditions": [
                    condition("Online", "True", "Seen"),
                    condition("Registered", "True", "Register"),
                ],
                "devices": [{"labels": {"jumpstarter.dev/name": "power"}, "uuid": "a9c125cc"}],
                "exporterStatus": "LeaseReady",
                "lastSeen": now,
                "leaseRef": {"name": name},
                "statusMessage": "Ready for commands",
            },
            {"board": "rpi4"},
        ),
        (
            "Lease",
            name,
            {
                "clientRef": {"name": "c1"},
                "duration": "1h0m0s",
                "selector": {"matchLabels": {"board": "rpi4"}},
            },
            {
                "beginTime": now,
                "conditions": [condition("Ready", "True", "Ready")],
                "ended": False,
                "exporterRef": {"name": "e1"},
            },
            {"board": "rpi4"},
        ),
        (
            "Lease",
            "over",
            {
                "clientRef": {"name": "c1"},
                "duration": "30m0s",
                "release": True,
                "selector": {"matchLabels": {"a": "b"}},
            },
            {
                "beginTime": now,
                "endTime": now,
                "conditions": [
                    condition("Pending", "True", "NotReady"),
                    condition("Ready", "False", "Released"),
                ],
                "ended": True,
                "exporterRef": {"name": "e1"},
            },
            {"jumpstarter.dev/lease-ended": "true"},
        ),
    ]
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        lab = KubeLab(Path(home), stack, cluster=lab_cluster)
        specs = {}
        for kind, one, spec, status, labels in objects:
            path = f"/apis/jumpstarter.dev/v1alpha1/namespaces/{lab.namespace}/{kind.lower()}s"
            metadata = {"name": one, "labels": labels}
            body = {
                "apiVersion": "jumpstarter.dev/v1alpha1",
                "kind": kind,
                "metadata": metadata,
                "spec": spec,
            }
            specs[path, one] = lab_cluster.ask("POST", path, body)["spec"]
            merge = "application/merge-patch+json"
            lab_cluster.ask("PATCH", f"{path}/{one}/status", {"status": status}, merge)
        lab.start_controller()
        for secret in ("c1-client", "e1-exporter"):  # which were lost: who has none gets another uid, once
            lab.until(lambda secret=secret: secret in lab.kubectl("get", "secrets", "-o", "name"))
        config, c1 = lab.home / "e1.yaml", lab.home / "c1.yaml"
        lab.admin("exporter", "rotate", "e1", "--save", config)
        lab.admin("client", "rotate", "c1", "--save", c1)
        config.write_text(config.read_text().replace("export: {}\n", lab.export))
        lab.start_exporter("e1", wait=False)
        lab.until(lambda: lab.status("e1") == "LEASE_READY")
        lab.ok("power", "on", "rpi4", "--lease", name, "--client", c1)
        assert lab.leases(c1, "--all").keys() == {name, "over"}
        for (path, one), spec in specs.items():
            assert lab_cluster.ask("GET", f"{path}/{one}")["spec"] == spec
        lab.ok("lease", "release", name, "--client", c1)
        lab.until(lambda: lab.status("e1") == "AVAILABLE")
        ended = lab.object("leases", name)
        assert ended["status"]["ended"]
        assert ended["status"]["conditions"][-1]["reason"] == "Released"
