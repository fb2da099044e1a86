"""The API server that the tests of this folder share, and a namespace for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kube.audit import AuditedCluster, audited_server
from tests.kube.helm import build as helm_build
from tests.kube.server import build
from tests.kube.server.cluster import Cluster
from tests.kube.server.hold import shared
from tests.support.peers import ROOT

if TYPE_CHECKING:
    from tests.kube.charted import Template

DEFINITIONS = ROOT / "deploy" / "crds"
LIMIT_SECONDS = 300
"""Of a test, with the start of the server in it."""
FEW = (
    "tests/kube/test_server.py",
    "tests/kube/test_store_contract.py",
    "tests/kube/test_lease.py::test_one_lease_from_its_creation_to_its_release",
)
REASON = "not built: a Kubernetes API server; `make kube-server` builds one, once (Go; 13 minutes of processor time)"
NO_HELM = "not built: Helm; `make kube-server` builds it, once (Go; half a minute behind the API server)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """In a run of the whole suite, which says so by $JUMPSTARTER_TEST_KUBE, only what tells most in a short time."""
    if os.environ.get("JUMPSTARTER_TEST_KUBE") == "few" and not item.nodeid.startswith(FEW):
        pytest.skip(
            "in a run of everything only the store's contract and one lease; `make kube-test` runs all"
        )


def define_all(cluster: Cluster) -> None:
    """Apply `deploy/crds`."""
    for file in sorted(DEFINITIONS.glob("*.yaml")):
        cluster.define(yaml.safe_load(file.read_text()))


@pytest.fixture(scope="session")
def kube_programs() -> Path:
    """The folder with kube-apiserver, etcd and kubectl; who has none skips, unless $JUMPSTARTER_TEST_KUBE is `all`."""
    if not build.is_built():
        if os.environ.get("JUMPSTARTER_TEST_KUBE") == "all":
            pytest.fail(REASON)
        pytest.skip(REASON)
    return build.folder()


@pytest.fixture(scope="session")
def cluster(kube_programs: Path) -> Iterator[Cluster]:
    """A real API server, the same for all processes of this session."""
    with shared(kube_programs) as found:
        yield found


@pytest.fixture(scope="session")
def lab_cluster(cluster: Cluster) -> Cluster:
    """The same, which knows the kinds of objects in `deploy/crds`."""
    define_all(cluster)
    return cluster


@pytest.fixture(scope="module")
def audited(kube_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedCluster]:
    """One of the module's own, which knows these kinds, too, and writes down who asks it for what."""
    with audited_server(kube_programs, tmp_path_factory.mktemp("audited")) as found:
        define_all(found)
        yield found


@pytest.fixture(scope="session")
def helm() -> Path:
    """The program; who has none skips, unless $JUMPSTARTER_TEST_KUBE is `all`."""
    if not helm_build.is_built():
        if os.environ.get("JUMPSTARTER_TEST_KUBE") == "all":
            pytest.fail(NO_HELM)
        pytest.skip(NO_HELM)
    return helm_build.program()


@pytest.fixture
def template(helm: Path, tmp_path: Path) -> Template:
    """`charted.rendered`, with that program."""
    from tests.kube.charted import rendered

    return partial(rendered, helm, tmp_path)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A new one."""
    return cluster.make_namespace()
