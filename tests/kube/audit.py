"""An API server that records all its requests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kube.server.cluster import ApiServer, Cluster

__all__ = ["AuditedCluster", "audited_server"]

WRITES = ["create", "update", "patch", "delete", "deletecollection"]
GROUPS = ("jumpstarter.dev", "lab.jumpstarter.dev")
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Request", "verbs": WRITES, "resources": [{"group": one} for one in GROUPS]},
        {"level": "Metadata"},
    ],
}


class AuditedCluster(Cluster):
    """Its API server has an audit log."""

    def requests(self, namespace: str) -> list[dict[str, Any]]:
        """All that were answered and concern a namespace; a watch is there as soon as it has begun."""
        events = map(json.loads, (self.kubeconfig.parent / "audit.log").read_text().splitlines())
        return [
            one
            for one in events
            if one.get("objectRef", {}).get("namespace") == namespace
            and (one["stage"] == "ResponseStarted") == (one["verb"] == "watch")
        ]

    def writes(self, namespace: str) -> list[str]:
        """Those to objects of a lab that are no Events: what was written, and what is different."""
        return [
            f"{one['verb']} {_resource(one)}: {json.dumps(one.get('requestObject'))}"
            for one in self.requests(namespace)
            if one["verb"] in WRITES and one["objectRef"].get("apiGroup") in GROUPS
        ]

    def all_writes(self, namespace: str) -> Counter[str]:
        """How often what was written, whatever it is, apart from Events."""
        return Counter(
            f"{one['verb']} {_resource(one)}"
            for one in self.requests(namespace)
            if one["verb"] in WRITES and one["objectRef"]["resource"] != "events"
        )

    def used(self, namespace: str, user: str) -> set[tuple[str, str, str]]:
        """What a user has done there: API group, resource, verb."""
        return {
            (one["objectRef"].get("apiGroup", ""), _resource(one), one["verb"])
            for one in self.requests(namespace)
            if one["user"]["username"] == user
        }


def _resource(event: dict[str, Any]) -> str:
    reference = event["objectRef"]
    return "/".join(filter(None, (reference["resource"], reference.get("subresource"))))


@contextmanager
def audited_server(programs: Path, state: Path) -> Iterator[AuditedCluster]:
    """One of its own, while the block lasts."""
    (state / "policy.json").write_text(json.dumps(POLICY))
    flags = (f"--audit-policy-file={state / 'policy.json'}", f"--audit-log-path={state / 'audit.log'}")
    server = ApiServer(programs, state, flags)
    try:
        server.start()
        yield AuditedCluster(server.cluster.kubeconfig, programs)
    finally:
        server.stop()
