"""The API server of the tests is a real one, is shared, and ends with its last user."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kube.server import build
from tests.kube.server.cluster import AnswerError, ApiServer, Cluster
from tests.support.peers import ROOT

SESSION = """
import sys
from pathlib import Path
from tests.kube.server.hold import shared

with shared(Path(sys.argv[1])) as cluster:
    print(cluster.kubeconfig, flush=True)
    print((cluster.kubeconfig.parent / "keeper").read_text(), flush=True)
    sys.stdin.readline()
"""


def test_it_says_its_version_and_keeps_objects(cluster: Cluster, namespace: str) -> None:
    version = cluster.ask("GET", "/version")["gitVersion"]
    pinned = next(
        line.split()[1]
        for line in (build.HERE / "go.mod").read_text().splitlines()
        if "k8s.io/kubernetes v" in line
    )
    assert version == pinned
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.ask("POST", path, {"metadata": {"name": "one"}, "data": {"a": "b"}})
    assert cluster.ask("GET", f"{path}/one")["data"] == {"a": "b"}
    assert cluster.kubectl("get", "configmap", "one", "-n", namespace, "-o", "name") == "configmap/one\n"
    with pytest.raises(AnswerError, match=r"409: .*already exists"):
        cluster.ask("POST", path, {"metadata": {"name": "one"}})


def user(programs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SESSION, str(programs)],
        cwd=ROOT,
        env=os.environ | {"PYTEST_XDIST_TESTRUNUID": f"of{os.getpid()}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def running(state: Path) -> list[str]:
    """The processes that have its folder in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            if f"{state}/" in command or f"{state} " in command:
                found.append(command)
    return found


def leave(one: subprocess.Popen[str]) -> None:
    one.communicate("\n", timeout=60)
    assert one.returncode == 0


def test_who_comes_second_gets_the_same_server_and_the_last_one_ends_it(kube_programs: Path) -> None:
    first = user(kube_programs)
    assert first.stdout is not None
    kubeconfig, keeper = Path(first.stdout.readline().strip()), first.stdout.readline().strip()
    with user(kube_programs) as second:
        assert second.stdout is not None
        assert [second.stdout.readline().strip() for _ in range(2)] == [str(kubeconfig), keeper]
        first.kill()  # a killed user no longer keeps it running
        first.communicate()
        assert Cluster(kubeconfig, kube_programs).ask("GET", "/readyz") == "ok"
        assert len(running(kubeconfig.parent)) == 3
        leave(second)
    assert not kubeconfig.parent.exists()
    assert running(kubeconfig.parent) == []


def test_its_data_outlive_a_kill(kube_programs: Path, tmp_path: Path) -> None:
    server = ApiServer(kube_programs, tmp_path / "server")
    try:
        server.start()
        namespace = server.cluster.make_namespace()
        server.kill("kube-apiserver")
        with pytest.raises(OSError):
            server.cluster.ask("GET", "/readyz")
        server.start()
        assert server.cluster.ask("GET", f"/api/v1/namespaces/{namespace}")["kind"] == "Namespace"
    finally:
        server.stop()


def test_a_program_that_ends_at_once_is_a_sentence(kube_programs: Path, tmp_path: Path) -> None:
    server = ApiServer(kube_programs, tmp_path / "server", flags=("--no-such-flag",))
    try:
        with pytest.raises(RuntimeError, match=r"kube-apiserver ended with 1: (?s:.*)no-such-flag"):
            server.start()
    finally:
        server.stop()
