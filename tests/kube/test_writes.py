"""The number of API server requests for a lease, from the server's audit log."""

from __future__ import annotations

import pytest

from tests.kube.audit import AuditedCluster
from tests.kube.test_lease import KubeLab

HOOKS = """
hooks:
  beforeLease: {script: "true"}
  afterLease: {script: "true"}
"""


def writes_of_a_lease(audited: AuditedCluster, hooks: str) -> list[str]:
    """From its creation until its board is free again."""
    with KubeLab.opened(cluster=audited) as lab:
        lab.exporter("one", hooks=hooks)
        ann = lab.client("ann")
        lab.until(lambda: "credential" in lab.object("clients", "ann").get("status", {}))
        before = len(audited.writes(lab.namespace))
        lab.ok("power", "on", "-l", "board=rpi4", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        return audited.writes(lab.namespace)[before:]


@pytest.mark.parametrize(("hooks", "most"), [("", 10), (HOOKS, 12)], ids=["without hooks", "with hooks"])
def test_a_lease_costs_few_writes(audited: AuditedCluster, hooks: str, most: int) -> None:
    writes = writes_of_a_lease(audited, hooks)
    assert 8 <= len(writes) <= most, "\n".join(writes)
