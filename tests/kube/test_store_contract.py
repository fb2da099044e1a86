"""The store in Kubernetes is what every store has to be: the same suite as for the others, on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from jumpstarter_controller.store.kubernetes import KubernetesStore, connect
from jumpstarter_controller.store.test_contract import Adapter, machine

from tests.kube.server.cluster import Cluster


def test_it_is_what_the_contract_says(lab_cluster: Cluster) -> None:
    @contextmanager
    def kubernetes() -> Iterator[Adapter]:
        namespace = lab_cluster.make_namespace()
        yield Adapter(lambda: KubernetesStore(connect(lab_cluster.kubeconfig), namespace), namespace)

    run_state_machine_as_test(
        machine(kubernetes),
        settings=settings(max_examples=10, stateful_step_count=20, suppress_health_check=list(HealthCheck)),
    )
