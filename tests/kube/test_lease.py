"""A lab in Kubernetes: the usual commands work, and so do changes with kubectl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import LIMIT, Lab
from tests.interop import exporters
from tests.kube.conftest import DEFINITIONS
from tests.kube.server.cluster import Cluster
from tests.support.administration import administer
from tests.support.peers import Environment

LEASE = """
apiVersion: jumpstarter.dev/v1alpha1
kind: Lease
metadata: {name: nightly}
spec: {clientRef: {name: ann}, duration: 30m, selector: {matchLabels: {board: rpi4}}}
"""


class KubeLab(Lab):
    """Its records are in a namespace of its own."""

    def __init__(self, home: Path, stack: ExitStack, *, cluster: Cluster) -> None:
        super().__init__(home, stack)
        self.cluster = cluster
        self.namespace = cluster.make_namespace()

    def kubectl(self, *words: str, **how: Any) -> str:
        return self.cluster.kubectl(*words, "--namespace", self.namespace, **how)

    def object(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", f"{kind}.jumpstarter.dev", name, "-o", "json"))
        return found

    def launch_controller(self, *options: str) -> Any:
        kubeconfig = str(self.cluster.kubeconfig)
        own = ("--store", "kubernetes", "--kubeconfig", kubeconfig, "--namespace", self.namespace)
        return super().launch_controller(*own, *options)


@pytest.fixture(scope="module")
def lab(lab_cluster: Cluster) -> Iterator[KubeLab]:
    with KubeLab.opened(cluster=lab_cluster) as lab:
        lab.exporter("one")
        lab.client("ann")
        yield lab


@pytest.fixture
def ann(lab: KubeLab) -> Iterator[Path]:
    client = lab.home / "ann.yaml"
    yield client
    lab.ok("lease", "release", "--all", "--client", client)
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def test_one_lease_from_its_creation_to_its_release(lab: KubeLab, ann: Path) -> None:
    made = lab.ok(
        "lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--tag", "run=7", "--client", ann
    )
    assert made == "mine: one is yours; use it with: jumpstarter shell --lease mine\n"
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
    lease = lab.object("leases", "mine")
    assert lease["spec"]["clientRef"] == {"name": "ann"}
    assert lease["spec"]["selector"] == {"matchLabels": {"board": "rpi4"}}
    assert lease["metadata"]["labels"] == {"board": "rpi4", "metadata.jumpstarter.dev/run": "7"}
    assert lease["status"]["ended"] is False
    assert lease["status"]["exporterRef"] == {"name": "one"}
    assert lease["status"]["beginTime"]
    assert lease["status"]["conditions"][-1]["reason"] == "Ready"
    exporter = lab.object("exporters", "one")
    assert exporter["status"]["leaseRef"] == {"name": "mine"}
    lab.until(lambda: lab.object("exporters", "one")["status"]["exporterStatus"] == "LeaseReady")
    shown = lab.kubectl("get", "exporters.jumpstarter.dev,leases.jumpstarter.dev").split("\n")
    assert shown[1].split()[:4] == ["exporter.jumpstarter.dev/one", "true", "LeaseReady", "mine"]
    assert shown[4].split()[:4] == ["lease.jumpstarter.dev/mine", "false", "ann", "one"]
    assert lab.ok("lease", "release", "mine", "--client", ann) == "mine is released\n"
    lab.until(lambda: "leaseRef" not in lab.object("exporters", "one")["status"])
    ended = lab.object("leases", "mine")
    assert ended["spec"]["release"] is True
    assert ended["status"]["ended"] is True
    assert ended["status"]["conditions"][-1]["reason"] == "Released"


def test_a_lease_of_kubectls_is_served_extended_and_released(lab: KubeLab, ann: Path) -> None:
    lab.kubectl("create", "-f", "-", input=LEASE)
    lab.until(lambda: lab.object("leases", "nightly").get("status", {}).get("beginTime"))
    lab.ok("power", "on", "rpi4", "--lease", "nightly", "--client", ann)
    lab.kubectl("patch", "jl", "nightly", "--type=merge", "-p", '{"spec": {"duration": "1h"}}')
    lab.until(
        lambda: (
            lab.leases(ann)["nightly"]["duration"] == "1h0m0s"
            or lab.leases(ann)["nightly"]["duration"] == 3600
        )
    )
    lab.kubectl("patch", "jl", "nightly", "--type=merge", "-p", '{"spec": {"release": true}}')
    lab.until(lambda: lab.object("leases", "nightly")["status"]["ended"])
    code, sentence = lab.refused("power", "on", "--lease", "nightly", "--client", ann)
    assert (code, "has ended" in sentence) == (4, True), sentence


def test_a_lease_of_a_client_that_never_was_says_so(lab: KubeLab) -> None:
    lab.kubectl("create", "-f", "-", input=LEASE.replace("ann", "nobody").replace("nightly", "of-nobody"))
    lab.until(lambda: lab.object("leases", "of-nobody").get("status", {}).get("ended"))
    (*_, last) = lab.object("leases", "of-nobody")["status"]["conditions"]
    assert last["message"] == "there is no client nobody"


def test_a_lease_that_kubectl_deletes_frees_its_board(lab: KubeLab, ann: Path) -> None:
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "gone", "--client", ann)
    lab.kubectl("delete", "jl", "gone")
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert "leaseRef" not in lab.object("exporters", "one")["status"]


def test_an_exporter_that_kubectl_disables_gets_no_lease(lab: KubeLab, ann: Path) -> None:
    lab.kubectl("patch", "je", "one", "--type=merge", "-p", '{"spec": {"enabled": false}}')
    try:
        lab.until(
            lambda: (
                json.loads(lab.admin("exporter", "list", "-o", "json"))["exporters"][0]["enabled"] is False
            )
        )
        code, sentence = lab.refused("lease", "create", "-l", "board=rpi4", "--client", ann)
        assert (code, "disabled" in sentence) == (code, True), sentence
    finally:
        lab.kubectl("patch", "je", "one", "--type=merge", "-p", '{"spec": {"enabled": true}}')
    lab.until(lambda: json.loads(lab.admin("exporter", "list", "-o", "json"))["exporters"][0]["enabled"])


def test_a_lease_that_nobody_can_read_stops_nobody(lab: KubeLab, ann: Path) -> None:
    lab.kubectl("create", "-f", "-", input=LEASE.replace("30m", "banana").replace("nightly", "fruit"))
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "other", "--client", ann)
    lab.until(lambda: "'banana' is not a duration" in lab.controller.log.read_text())
    assert "it is not changed, and is ignored until it is corrected" in lab.controller.log.read_text()
    lab.until(
        lambda: "'banana' is not a duration" in lab.kubectl("describe", "leases.jumpstarter.dev", "fruit")
    )
    lab.kubectl("delete", "jl", "fruit")


def test_a_controller_that_is_killed_goes_on_with_what_is_there(lab_cluster: Cluster) -> None:
    with KubeLab.opened(cluster=lab_cluster) as lab:
        lab.exporter("one")
        ann = lab.client("ann")
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
        lab.kill_controller()
        lab.start_controller()
        lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        lab.controller.process.terminate()
        lab.controller.process.wait()
        listed = json.loads(lab.admin("exporter", "list", "-o", "json"))["exporters"]  # without a controller
        assert [one["name"] for one in listed] == ["one"]


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--namespace", "lab"), 2, "add --store kubernetes"),
        (("--kubeconfig", "nowhere"), 2, "add --store kubernetes"),
        (("--tokens", "serviceaccounts"), 2, "add --store kubernetes"),
        (("--replica-listen", ":8084"), 2, "add --store kubernetes"),
        (("--replica-endpoint", "one:8084"), 2, "add --store kubernetes"),
        (
            ("--store", "kubernetes", "--kubeconfig", "nowhere"),
            1,
            "check the path after --kubeconfig",
        ),
    ],
)
def test_a_controller_that_cannot_start_says_why(
    tmp_path: Path, options: tuple[str, ...], code: int, sentence: str
) -> None:
    program = exporters.scripts() / "jumpstarter-controller"
    command = [program, "run", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=tmp_path)
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["export", "import"])
def test_a_folder_that_is_not_there_is_not_taken_for_somebody_elses(tmp_path: Path, verb: str) -> None:
    program = exporters.scripts() / "jumpstarter-controller"
    folder = tmp_path / "nowhere"
    command = [
        program,
        "admin",
        verb,
        "--namespace",
        "lab",
        "--kubeconfig",
        tmp_path / "none",
        "--data",
        folder,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    wanted = f"there is no folder {folder}" if verb == "export" else "check the path after --kubeconfig"
    assert wanted in done.stderr, done.stderr
    assert "may not use" not in done.stderr


def test_a_lab_in_kubernetes_is_in_no_backup_of_a_folder(lab: KubeLab) -> None:
    done = administer(lab.data, "backup", lab.home / "lab.backup")
    assert done.returncode != 0
    assert "are in Kubernetes; back up the cluster" in done.stderr
    assert not (lab.home / "lab.backup").exists()


def test_a_controller_needs_no_more_than_its_role(lab_cluster: Cluster, tmp_path: Path) -> None:
    config = json.loads(lab_cluster.kubeconfig.read_text()) | {"current-context": "alice"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    alice = Cluster(kubeconfig, lab_cluster.programs)

    class AlicesLab(KubeLab):
        def start_controller(self, *options: str) -> Any:
            mine = ("-n", self.namespace)
            lab_cluster.kubectl("apply", *mine, "-f", str(DEFINITIONS.parent / "role.yaml"))
            lab_cluster.kubectl(
                "create", "rolebinding", "it", "--role=jumpstarter-controller", "--user=alice", *mine
            )
            self.cluster = alice
            return super().start_controller(*options)

    with AlicesLab.opened(cluster=lab_cluster) as lab:
        lab.exporter("one")
        ann = lab.client("ann")
        lab.admin("pair", "client", "bob")
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        lab.admin("client", "delete", "ann")
        lab.until(lambda: has_credential(lab, "one"))
        for words in (("get", "configmaps"), ("delete", "secret", "one-exporter"), ("get", "pods")):
            with pytest.raises(subprocess.CalledProcessError):
                lab.kubectl(*words)
        assert "forbidden" not in lab.controller.log.read_text()


def has_credential(lab: KubeLab, name: str, kind: str = "exporters") -> bool:
    """Whether its Secret is written; after that nothing more is, until its token ends."""
    return "credential" in (lab.object(kind, name).get("status") or {})


def test_jumpstarters_own_administration_reads_leases_and_clients(
    lab: KubeLab, ann: Path, upstream: Environment
) -> None:
    """test_credentials has what it makes, and rotates."""
    later = LEASE.replace("nightly", "later").replace(
        "duration", "beginTime: '2036-01-01T00:00:00Z', duration"
    )
    lab.kubectl("create", "-f", "-", input=later)
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "read", "--client", ann)

    def get(kind: str, *options: str) -> dict[str, list[str]]:
        where = ("--namespace", lab.namespace, "--kubeconfig", str(lab.cluster.kubeconfig))
        command = [upstream.bin / "jmp", "admin", "get", kind, *options, *where]
        done = subprocess.run(
            command, env=lab.environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}

    assert "ann" in get("clients")
    lab.until(lambda: lab.object("exporters", "one")["status"].get("devices"))
    (*_, labels, _uuid) = get("exporters", "--devices")["one"]
    assert labels.startswith("jumpstarter.dev/client:jumpstarter_driver_"), "its last device is listed"
    leases = get("leases")
    assert "Ready" in leases["read"]
    assert "later" in leases
    lab.kubectl("delete", "jl", "later")


POLICY = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterAccessPolicy
metadata: {name: kernel}
spec:
  exporterSelector: {matchLabels: {board: rpi4}}
  policies: [{from: [{clientSelector: {matchLabels: {team: kernel}}}]}]
"""


def test_a_policy_of_kubectls_admits_whom_it_names(lab: KubeLab, ann: Path) -> None:
    lab.kubectl("apply", "-f", "-", input=POLICY)
    lab.until(lambda: "kernel" in lab.admin("policy", "list", "-o", "name"))
    code, sentence = lab.refused("lease", "create", "-l", "board=rpi4", "--client", ann)
    assert "polic" in sentence, (code, sentence)
    lab.kubectl("label", "jc", "ann", "team=kernel")
    lab.until(lambda: "team=kernel" in lab.admin("client", "list"))
    assert lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "kernel", "--client", ann)
    lab.kubectl("delete", "jp", "kernel")


def test_labels_of_kubectls_choose_the_board(lab: KubeLab, ann: Path) -> None:
    lab.kubectl("label", "je", "one", "rack=7")
    lab.until(lambda: "rack=7" in lab.admin("exporter", "list"))
    assert lab.ok("lease", "create", "-l", "rack=7", "--lease-id", "racked", "--client", ann)
    lab.kubectl("label", "je", "one", "rack-")


def test_a_client_that_kubectl_deletes_is_none_and_its_lease_ends(lab: KubeLab, ann: Path) -> None:
    bob = lab.client("bob")
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "of-bob", "--client", bob)
    lab.kubectl("delete", "jc", "bob")
    lab.until(lambda: lab.object("leases", "of-bob")["status"]["ended"])
    (*_, last) = lab.object("leases", "of-bob")["status"]["conditions"]
    assert last["message"] == "client bob was deleted"
    _, sentence = lab.refused("lease", "list", "--client", bob)
    assert "bob" in sentence
    lab.until(lambda: lab.status("one") == "AVAILABLE")
