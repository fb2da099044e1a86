"""The processes that the chart runs make a lab, with the rights that it gives them and no others."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import yaml
from jumpstarter_controller.store.kubernetes.kinds import MAPPINGS

from tests.interop import exporters
from tests.kube.audit import AuditedCluster
from tests.kube.charted import ChartedLab, Template
from tests.kube.conftest import DEFINITIONS
from tests.kube.server.cluster import Cluster
from tests.support.administration import administer


def test_an_account_with_its_role_can_run_a_lab_and_has_nothing_that_is_not_needed(
    template: Template, audited: AuditedCluster, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    with ChartedLab.opened(cluster=audited, template=template) as lab:
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{lab.probes}/{path}") as answer:
                assert answer.read() == b"ok\n"
        lab.exporter("one")
        ann = lab.client("ann")
        lab.admin("pair", "client", "bob")
        lab.admin("pair", "host", "pi4")
        lab.admin("host", "list")
        policy.write_text(
            "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterAccessPolicy\nmetadata: {name: all}\n"
            "spec: {exporterSelector: {}, policies: [{from: [{clientSelector: {}}]}]}\n"
        )
        lab.admin("policy", "apply", policy)
        policy.write_text(policy.read_text().replace("from", "priority: 1, from"))
        lab.admin("policy", "apply", policy)
        lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
        lab.ok("lease", "release", "mine", "--client", ann)
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        lab.admin("client", "disable", "ann")
        lab.admin("policy", "delete", "all")
        lab.admin("client", "rotate", "ann", "--save", ann)
        lab.admin("client", "delete", "ann")
        for _ in range(2):
            exporter = lab.exporters["one"].process
            exporter.terminate()
            exporter.wait()
            lab.start_exporter("one")
        log = lab.controller.log.read_text()
        assert "forbidden" not in log
        assert "cannot be written" not in log
        lab.controller.process.terminate()
        lab.controller.process.wait()
        used = audited.used(lab.namespace, lab.account)
    rules = yaml.safe_load((DEFINITIONS.parent / "role.yaml").read_text())["rules"]
    allowed = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used <= allowed
    records = {
        (one.group, one.plural, verb)
        for one in MAPPINGS.values()
        for verb in ("get", "list", "watch", "create", "patch", "delete")
    }
    statuses = {(one.group, f"{one.plural}/status", "patch") for one in MAPPINGS.values() if one.has_mark}
    assert allowed - used <= records | statuses, "what the store does to each kind of record, and no more"
    assert records | statuses <= allowed


def test_a_router_of_its_own_has_the_file_that_the_controller_makes_for_it(
    template: Template, lab_cluster: Cluster
) -> None:
    port = exporters.free_port()
    routers = [
        {
            "name": "munich",
            "endpoint": f"127.0.0.1:{port}",
            "labels": {"board": "rpi4"},
            "secretName": "router-munich",
        }
    ]
    with ChartedLab.opened(cluster=lab_cluster, template=template, routers=routers) as lab:
        lab.router_port = port
        file = lab.home / "router.pem"
        assert administer(lab.data, "router", "create", f"127.0.0.1:{port}", "--save", file).returncode == 0
        lab.start_router("munich", file)
        lab.exporter("one")
        lab.ok("power", "on", "-l", "board=rpi4", "--client", lab.client("ann"))
