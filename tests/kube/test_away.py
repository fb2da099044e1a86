"""A lab in Kubernetes whose API server goes away and comes back."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.kube.conftest import define_all
from tests.kube.replica_lab import ReplicaLab
from tests.kube.server.cluster import ApiServer
from tests.kube.test_lease import KubeLab


def test_leases_go_on_while_the_api_server_is_away_and_new_ones_begin_when_it_is_back(
    kube_programs: Path, tmp_path: Path
) -> None:
    server = ApiServer(kube_programs, tmp_path / "server")
    try:
        server.start()
        define_all(server.cluster)
        with KubeLab.opened(cluster=server.cluster) as lab:
            lab.exporter("one")
            lab.exporter("two", label="board=rpi5")
            ann = lab.client("ann")
            lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
            lab.until(lambda: lab.status("one") == "LEASE_READY")
            server.kill("kube-apiserver")
            lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
            code, sentence = lab.refused("lease", "create", "-l", "board=rpi5", "--client", ann)
            assert "API server" in sentence, (code, sentence)
            assert "Traceback" not in lab.controller.log.read_text()
            server.start()
            lab.kubectl("patch", "jl", "mine", "--type=merge", "-p", '{"spec": {"release": true}}')
            lab.until(lambda: lab.status("one") == "AVAILABLE")
            lab.ok("power", "on", "-l", "board=rpi5", "--client", ann)
            assert lab.object("leases", "mine")["status"]["ended"]
    finally:
        server.stop()


def test_two_controllers_go_on_when_the_api_server_is_back_with_one_that_leads(
    kube_programs: Path, tmp_path: Path
) -> None:
    server = ApiServer(kube_programs, tmp_path / "server")
    try:
        server.start()
        define_all(server.cluster)
        with ExitStack() as stack:
            home = tmp_path / "lab"
            home.mkdir()
            lab = ReplicaLab(home, stack, cluster=server.cluster)
            lab.start_replica()
            lab.start_router()
            lab.start_replica()
            lab.serve_by(1)
            lab.exporter("one")
            ann, bob = lab.client("ann"), lab.client("bob")
            lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
            waiting = lab.start("lease", "create", "-l", "board=rpi4", "--lease-id", "next", "--client", bob)
            lab.until(lambda: "next" in lab.leases(bob))
            server.kill("kube-apiserver")
            for number, replica in enumerate(lab.replicas):
                lab.until(lambda replica=replica: "the API server at " in replica.ready())
                lab.serve_by(number)
                lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
            server.start()
            for replica in lab.replicas:
                lab.until(lambda replica=replica: replica.ready() == "ok\n")
            lab.ok("lease", "release", "mine", "--client", ann)
            out, err = waiting.communicate(timeout=60)
            assert "next: one is yours" in out, err
            assert lab.leads() is not None
            for replica in lab.replicas:
                assert "Traceback" not in replica.daemon.log.read_text()
    finally:
        server.stop()
