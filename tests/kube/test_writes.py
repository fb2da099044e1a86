"""How much a lease costs the API server, as its audit log says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.conftest import define_all
from tests.kube.server.cluster import ApiServer, Cluster
from tests.kube.test_lease import KubeLab, has_credential

WRITES = ["create", "update", "patch", "delete", "deletecollection"]
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "Request",
            "verbs": WRITES,
            "resources": [{"group": group} for group in ("jumpstarter.dev", "lab.jumpstarter.dev")],
        },
        {"level": "None"},
    ],
}
HOOKS = """
hooks:
  beforeLease: {script: "true"}
  afterLease: {script: "true"}
"""


class AuditedCluster(Cluster):
    """Its API server writes down who changes what."""

    def writes(self, namespace: str) -> list[str]:
        """The writes to objects of a lab in a namespace: what was written, and what has changed."""
        lines = (self.kubeconfig.parent / "audit.log").read_text().splitlines()
        found = []
        for event in map(json.loads, lines):
            ref = event["objectRef"]
            if ref.get("namespace") == namespace:
                what = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
                found.append(f"{event['verb']} {what}: {json.dumps(event.get('requestObject'))}")
        return found


@pytest.fixture(scope="module")
def audited(kube_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedCluster]:
    state = tmp_path_factory.mktemp("audited")
    (state / "policy.json").write_text(json.dumps(POLICY))
    flags = (f"--audit-policy-file={state / 'policy.json'}", f"--audit-log-path={state / 'audit.log'}")
    server = ApiServer(kube_programs, state, flags)
    try:
        server.start()
        define_all(server.cluster)
        yield AuditedCluster(server.cluster.kubeconfig, kube_programs)
    finally:
        server.stop()


@pytest.mark.parametrize(("hooks", "most"), [("", 10), (HOOKS, 12)], ids=["without hooks", "with hooks"])
def test_a_lease_costs_few_writes(audited: AuditedCluster, hooks: str, most: int) -> None:
    """From its creation until its board is free again."""
    with KubeLab.opened(cluster=audited) as lab:
        lab.exporter("one", hooks=hooks)
        ann = lab.client("ann")
        lab.until(lambda: has_credential(lab, "one") and has_credential(lab, "ann", "clients"))
        before = len(audited.writes(lab.namespace))
        lab.ok("power", "on", "-l", "board=rpi4", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        writes = audited.writes(lab.namespace)[before:]
        print("\n".join(writes))
        assert 8 <= len(writes) <= most, "\n".join(writes)
