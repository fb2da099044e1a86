"""A controller that starts where its lab cannot be read yet: it says why, and serves as soon as it can."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from jumpstarter_controller.process.data_folder import KubernetesLab
from jumpstarter_controller.replicas import LeaderRecord
from jumpstarter_controller.replicas.open_store import open_kubernetes
from jumpstarter_controller.store import StoreError

from tests.e2e.lab import LIMIT
from tests.interop import exporters
from tests.kube.conftest import DEFINITIONS, define_all
from tests.kube.replica_lab import readiness
from tests.kube.server.cluster import ApiServer, Cluster
from tests.kube.test_lease import KubeLab


class WaitingLab(KubeLab):
    """Its controller answers probes."""

    def launch_waiting(self) -> None:
        self.probes = exporters.free_port()
        self.launch_controller("--metrics-listen", f"127.0.0.1:{self.probes}")

    def ready(self) -> str:
        """What /readyz says; empty before it listens."""
        return readiness(self.probes)

    def drain(self, *, fails: bool = False) -> str:
        command = [
            exporters.scripts() / "jumpstarter-controller",
            "drain",
            "--reason",
            "x",
            "--data",
            self.data,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr

    def serves(self) -> None:
        assert self.controller.first_line() == f"Listening on 127.0.0.1:{self.port}"
        self.until(lambda: self.ready() == "ok\n")


@pytest.fixture
def server(kube_programs: Path, tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(kube_programs, tmp_path / "server")
    server.start()
    yield server
    server.stop()


def test_a_controller_waits_for_its_api_server_and_for_the_definitions(
    server: ApiServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        lab = WaitingLab(tmp_path / "lab", stack, cluster=server.cluster)
        lab.home.mkdir()
        server.kill("kube-apiserver")
        lab.launch_waiting()
        lab.until(lambda: "does not answer" in lab.ready())
        server.start()
        lab.until(lambda: "apply the definitions in deploy/crds" in lab.ready())
        old = yaml.safe_load((DEFINITIONS / "lab.jumpstarter.dev_drains.yaml").read_text())
        schema = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        schema["spec"]["properties"] = {"because": {"type": "string"}}
        old["spec"]["versions"][0]["additionalPrinterColumns"] = []
        define_all(server.cluster)
        server.cluster.define(old)
        lab.serves()
        log = lab.controller.log.read_text()
        said = [line for line in log.splitlines() if "not ready" in line]
        assert said
        assert len(said) == len(set(said)), said
        assert "Traceback" not in log
        refused = lab.drain(fails=True)  # what an old definition has no field for is not lost without a word
        assert "unknown field" in refused
        assert "definitions are of another version" in refused
        old = yaml.safe_load((DEFINITIONS / "jumpstarter.dev_clients.yaml").read_text())
        version = old["spec"]["versions"][0]
        del version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["tokenExpiresAt"]
        version["additionalPrinterColumns"] = []
        server.cluster.define(old)
        lab.admin("client", "create", "ann", "--save", lab.home / "ann.yaml")
        lab.until(lambda: "another version" in lab.kubectl("describe", "jc", "ann"))
        said = [one for one in lab.controller.log.read_text().splitlines() if "no token in its Secret" in one]
        assert len(said) == 1, "once, though the API server names another object each time"
        assert 'unknown field "status.tokenExpiresAt"; its definitions are of another version' in said[0]
        assert "managedFields" not in said[0]
        define_all(server.cluster)
        lab.until(lambda: lab.ready() == "ok\n")
        lab.until(lambda: "credential" in lab.object("clients", "ann")["status"])
        lab.drain()


def test_a_controller_that_may_not_read_says_which_verb_it_lacks_and_ends_when_it_is_told_to(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    config = json.loads(lab_cluster.kubeconfig.read_text()) | {"current-context": "alice"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    with ExitStack() as stack:
        lab = WaitingLab(tmp_path / "lab", stack, cluster=lab_cluster)
        lab.home.mkdir()
        lab.cluster = Cluster(kubeconfig, lab_cluster.programs)
        lab.launch_waiting()
        lab.until(lambda: 'cannot get resource "leases" in API group "coordination.k8s.io"' in lab.ready())
        lab.controller.process.terminate()
        assert lab.controller.process.wait(30) == 0
        lab.launch_waiting()
        lab.until(lambda: 'cannot get resource "leases" in API group "coordination.k8s.io"' in lab.ready())
        mine = ("-n", lab.namespace)
        lab_cluster.kubectl("apply", *mine, "-f", str(DEFINITIONS.parent / "role.yaml"))
        lab_cluster.kubectl(
            "create", "rolebinding", "it", "--role=jumpstarter-controller", "--user=alice", *mine
        )
        lab.serves()


def test_a_namespace_that_is_not_there_is_said_and_waited_for(lab_cluster: Cluster, tmp_path: Path) -> None:
    with ExitStack() as stack:
        lab = WaitingLab(tmp_path / "lab", stack, cluster=lab_cluster)
        lab.home.mkdir()
        lab.namespace += "-later"
        lab.launch_waiting()
        sentence = f'namespaces "{lab.namespace}" not found; make it, or choose another with --namespace'
        lab.until(lambda: sentence in lab.ready())
        store, shared = open_kubernetes(KubernetesLab(lab.namespace, str(lab_cluster.kubeconfig)))
        stack.callback(store.close)
        for write in (
            lambda: shared.lock.write(LeaderRecord("one"), ""),
            lambda: shared.secret.make({"a.key": b"1"}),
            lambda: shared.replicas.write("one", "192.0.2.1:1"),
        ):
            with pytest.raises(StoreError, match="not found; make it"):
                write()
        lab_cluster.kubectl("create", "namespace", lab.namespace)
        lab.serves()


def test_a_namespace_that_is_being_deleted_is_said_and_waited_for(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        lab = WaitingLab(tmp_path / "lab", stack, cluster=lab_cluster)
        lab.home.mkdir()
        lab_cluster.kubectl("delete", "namespace", lab.namespace, "--wait=false")
        lab.launch_waiting()
        lab.until(lambda: "being deleted: make it again when it is gone" in lab.ready())
        assert "give its user" not in lab.ready()
        path = f"/api/v1/namespaces/{lab.namespace}"
        lab_cluster.ask("PUT", f"{path}/finalize", lab_cluster.ask("GET", path) | {"spec": {}})
        lab.until(lambda: "not found; make it" in lab.ready())
        lab_cluster.kubectl("create", "namespace", lab.namespace)
        lab.serves()


def test_a_controller_that_may_not_watch_says_so_once_while_it_hears_of_other_objects(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    config = json.loads(lab_cluster.kubeconfig.read_text()) | {"current-context": "alice"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    role = yaml.safe_load((DEFINITIONS.parent / "role.yaml").read_text())
    may_not = {"exporters", "secrets"}
    for rule in list(role["rules"]):
        if found := sorted(may_not & set(rule["resources"])):
            rule["resources"] = [one for one in rule["resources"] if one not in found]
            verbs = [one for one in rule["verbs"] if one != "watch"]
            role["rules"].append(rule | {"resources": found, "verbs": verbs})
    role["rules"] = [rule for rule in role["rules"] if rule["resources"]]
    with ExitStack() as stack:
        lab = WaitingLab(tmp_path / "lab", stack, cluster=lab_cluster)
        lab.home.mkdir()
        mine = ("-n", lab.namespace)
        lab_cluster.kubectl("apply", *mine, "-f", "-", input=json.dumps(role))
        lab_cluster.kubectl(
            "create", "rolebinding", "it", f"--role={role['metadata']['name']}", "--user=alice", *mine
        )
        lab.cluster = Cluster(kubeconfig, lab_cluster.programs)
        lab.launch_waiting()
        why = 'cannot watch resource "{}" in API group "{}" in the namespace'
        exporters = why.format("exporters", "jumpstarter.dev")
        lab.until(lambda: exporters in lab.ready())
        for number in range(3):
            name = f"ann-{number}"
            lab.admin("client", "create", name, "--save", lab.home / f"{name}.yaml")
        lab.until(lambda: why.format("secrets", "") in lab.controller.log.read_text())
        lines = lab.controller.log.read_text().splitlines()
        for what in (exporters, why.format("secrets", "")):
            (line,) = [one for one in lines if what in one]
            assert "give its user the role that docs/kubernetes.md shows" in line
        assert not [one for one in lines if "can be read again" in one]
        lab_cluster.kubectl("apply", *mine, "-f", str(DEFINITIONS.parent / "role.yaml"))
        lab.until(lambda: lab.ready() == "ok\n")


def test_what_no_api_server_would_change_is_said_at_once(lab_cluster: Cluster, tmp_path: Path) -> None:
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as taken:
        lab = WaitingLab(tmp_path / "lab", stack, cluster=lab_cluster)
        lab.home.mkdir()
        config = json.loads(lab_cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        lab.cluster = Cluster(kubeconfig, lab_cluster.programs)
        lab.port = taken.getsockname()[1]
        lab.launch_waiting()
        assert lab.controller.process.wait(30) == 2
        assert f"cannot listen on 127.0.0.1:{lab.port}" in lab.controller.log.read_text()
