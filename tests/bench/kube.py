"""A lab in Kubernetes to be measured, on an API server of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.lab import OPTIONS, Lab
from tests.bench.upstream import Bench
from tests.kube import test_lease
from tests.kube.audit import AuditedCluster, audited_server
from tests.kube.conftest import REASON, define_all
from tests.kube.replica_lab import ReplicaLab
from tests.kube.server import build
from tests.kube.server.cluster import ApiServer, Cluster


class LeftOutError(Exception):
    """This machine has not what a row needs; says what."""


class KubeLab(Lab, test_lease.KubeLab):
    """Its records are in a namespace of its own."""


class ReplicatedLab(Lab, ReplicaLab):
    """The same, with several controllers and a router that is none of theirs."""


def through(port: int, configurations: Path) -> Path:
    """A file of the same configurations, which have the controller that listens there."""
    found = [one | {"endpoint": f"127.0.0.1:{port}"} for one in json.loads(configurations.read_text())]
    path = configurations.with_suffix(f".{port}.json")
    path.write_text(json.dumps(found))
    return path


@contextmanager
def api_server(bench: Bench) -> Iterator[Cluster]:
    """A new one that knows our kinds of objects. LeftOutError: none is built."""
    server = ApiServer(_programs(), bench.folder("api-server"))
    try:
        server.start()
        define_all(server.cluster)
        yield server.cluster
    finally:
        server.stop()


@contextmanager
def audited(bench: Bench, name: str) -> Iterator[AuditedCluster]:
    """The same, and it writes down who asks it for what."""
    with audited_server(_programs(), bench.folder(name)) as cluster:
        define_all(cluster)
        yield cluster


def _programs() -> Path:
    if not build.is_built():
        raise LeftOutError(REASON)
    return build.folder()


@contextmanager
def kube_lab(home: Path, cluster: Cluster) -> Iterator[KubeLab]:
    """A new lab with one controller, which has a router in it, as one in a file has."""
    home.mkdir()
    with ExitStack() as stack:
        opened = KubeLab(home, stack, cluster=cluster)
        opened.start_controller(*OPTIONS)
        yield opened


@contextmanager
def replicated_lab(home: Path, cluster: Cluster, controllers: int) -> Iterator[ReplicatedLab]:
    """A new lab with so many controllers, of which the first leads."""
    home.mkdir()
    with ExitStack() as stack:
        opened = ReplicatedLab(home, stack, cluster=cluster)
        opened.start_replica()
        opened.start_router()
        for _ in range(controllers - 1):
            opened.start_replica()
        if opened.leads() != 0:
            raise RuntimeError("the first controller does not lead")
        yield opened
