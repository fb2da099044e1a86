"""The Helm chart and the container file: a real API server takes what they give, and that is enough for a lab."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jumpstarter_controller.cli.main import app
from jumpstarter_controller.cli.router import app as router_app
from jumpstarter_controller.store.kubernetes.kinds import MAPPINGS

from tests.interop import exporters
from tests.kube.audit import AuditedCluster
from tests.kube.conftest import DEFINITIONS
from tests.kube.server.cluster import Cluster
from tests.kube.test_lease import KubeLab
from tests.support.peers import ROOT

CHART = ROOT / "deploy" / "chart"
ENDPOINT = {"endpoint": "lab.example.org:8082"}
ROUTERS = {
    "routers": [
        {"name": "one", "endpoint": "router-1.example.org:443"},
        {"name": "munich", "endpoint": "munich.example.org:443", "labels": {"site": "munich", "rack": "7"}},
    ],
    "tls": {"secretName": "lab-tls"},
}
EVERYTHING = {
    **ENDPOINT,
    "image": {
        "repository": "registry.example.org/lab/controller",
        "tag": "v1",
        "pullSecrets": [{"name": "pull"}],
    },
    "controller": {
        "replicas": 1,
        "extraArguments": ["--keep-journal=7d"],
        "config": {"provisioning": {"enabled": True, "namespaces": ["lab"]}},
        "persistence": {"enabled": True, "storageClass": "fast"},
        "podAnnotations": {"example.org/scrape": "true"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "lab", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {},
            }
        ],
    },
    "jumpstarterKey": {"secretName": "jumpstarter-controller-secret"},
    "router": {"endpoint": "router.example.org:443"},
    "service": {
        "type": "NodePort",
        "annotations": {"example.org/pool": "lab"},
        "controllerNodePort": 30082,
        "routerNodePort": 30083,
    },
    "ingress": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "serviceAccount": {"annotations": {"example.org/owner": "lab"}},
}
SEVERAL = {**ENDPOINT, **ROUTERS, "controller": {"replicas": 3}, "ingress": {"enabled": True}}
ACCOUNTS = {**ENDPOINT, "tokens": "serviceaccounts"}
ADDRESSES = {**SEVERAL, "endpoint": "[2001:db8::1]:8082", "ingress": {"enabled": False}}
BARE = {
    **ENDPOINT,
    "podDisruptionBudget": {"enabled": False},
    "serviceAccount": {"create": False, "name": "mine"},
    "rbac": {"create": False},
}
Template = Callable[..., list[dict[str, Any]]]


OWN_MOUNTS = ("unshare", "--mount", "--map-root-user")
READ_ONLY = """
mount --make-rprivate /
for folder in "$0" "$1"; do mount --bind "$folder" "$folder"; done
mount -o remount,bind,ro /
if touch "$0/../probe" 2>/dev/null; then echo 'the root can be written to' >&2; exit 1; fi
export TMPDIR="$1" PYTHONDONTWRITEBYTECODE=1
shift
exec "$@"
"""
"""Runs a command that can write to two folders and to nothing else."""


class ChartError(Exception):
    """Helm refuses."""


@pytest.fixture
def template(helm: Path, tmp_path: Path) -> Template:
    """The objects that the chart gives with some values."""

    def rendered(values: dict[str, Any], *options: str, namespace: str = "lab") -> list[dict[str, Any]]:
        (tmp_path / "values.yaml").write_text(json.dumps(values))
        command = [helm, "template", "boards", CHART, "-f", tmp_path / "values.yaml"]
        done = subprocess.run(
            [*command, "--namespace", namespace, *options],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise ChartError(done.stderr)
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    return rendered


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in of_kind(objects, "Deployment")]


@pytest.mark.parametrize(
    "values",
    [ENDPOINT, EVERYTHING, SEVERAL, ADDRESSES, ACCOUNTS, BARE],
    ids=["least", "all", "several", "addresses", "accounts", "bare"],
)
def test_an_api_server_takes_all_that_it_gives(
    template: Template, lab_cluster: Cluster, values: dict[str, Any]
) -> None:
    namespace = lab_cluster.make_namespace()
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("warn", "enforce")}
    lab_cluster.ask(
        "PATCH",
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": restricted}},
        "application/merge-patch+json",
    )
    objects = template(values, "--include-crds", namespace=namespace)
    command = [
        lab_cluster.programs / "kubectl",
        "--kubeconfig",
        lab_cluster.kubeconfig,
        "apply",
        "--dry-run=server",
    ]
    done = subprocess.run(
        [*command, "--validate=strict", "--server-side", "--force-conflicts", "-f", "-"],
        input=yaml.safe_dump_all(objects),
        env={"HOME": str(lab_cluster.kubeconfig.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, "what the strictest pod security does not take is said"
    assert len(done.stdout.splitlines()) == len(objects)
    kinds = {one["kind"] for one in objects}
    assert {"CustomResourceDefinition", "Deployment", "Service"} <= kinds
    assert ("Role" in kinds) == ("ServiceAccount" in kinds) == (values is not BARE)
    assert not kinds & {"ClusterRole", "Secret"}
    assert ("ClusterRoleBinding" in kinds) == (values is ACCOUNTS)
    for one in objects:
        is_everywhere = one["kind"] in {"CustomResourceDefinition", "ClusterRoleBinding"}
        assert is_everywhere or one["metadata"]["namespace"] == namespace


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "/endpoint"),
        ({"endpoint": "lab.example.org"}, "/endpoint"),
        ({"endpoint": "https://lab.example.org:8082"}, "/endpoint"),
        ({**ENDPOINT, "endpiont": "typing error"}, "endpiont"),
        ({**ENDPOINT, "controller": {"replicas": -1}}, "/controller/replicas"),
        ({**ENDPOINT, "controller": {"replicas": 2}}, "/routers"),
        ({**ENDPOINT, "controller": {"keepEnded": "banana"}}, "/controller/keepEnded"),
        ({**ENDPOINT, "routers": [{"name": "one", "endpoint": "r:1"}]}, "/tls/secretName"),
        ({**ENDPOINT, **ROUTERS, "routers": [{"name": "Not A Name", "endpoint": "r:1"}]}, "/routers/0/name"),
        ({**ENDPOINT, "service": {"type": "ExternalName"}}, "/service/type"),
        ({**ENDPOINT, "ingress": {"enabled": True}}, "set router.endpoint to another name"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_a_reason(
    template: Template, values: dict[str, Any], word: str
) -> None:
    with pytest.raises(ChartError, match=re.escape(word)):
        template(values)


def test_its_definitions_and_its_role_are_those_of_the_project(template: Template) -> None:
    objects = template(ENDPOINT, "--include-crds")
    definitions = [yaml.safe_load(file.read_text()) for file in sorted(DEFINITIONS.glob("*.yaml"))]
    found = {one["metadata"]["name"]: one for one in of_kind(objects, "CustomResourceDefinition")}
    assert found == {one["metadata"]["name"]: one for one in definitions}
    (role,) = of_kind(objects, "Role")
    assert role["rules"] == yaml.safe_load((DEFINITIONS.parent / "role.yaml").read_text())["rules"]
    accounts = list(yaml.safe_load_all((DEFINITIONS.parent / "service-accounts.yaml").read_text()))
    objects = template(ACCOUNTS)
    assert of_kind(objects, "Role")[-1]["rules"] == accounts[0]["rules"]
    (binding,) = of_kind(objects, "ClusterRoleBinding")
    assert binding["roleRef"] == accounts[-1]["roleRef"]
    account = {"kind": "ServiceAccount", "name": "boards", "namespace": "lab"}
    assert all(one["subjects"] == [account] for one in objects if one["kind"].endswith("Binding"))


@pytest.mark.parametrize("values", [ENDPOINT, EVERYTHING, SEVERAL], ids=["least", "all", "several"])
def test_its_pods_may_do_little_and_their_commands_are_ours(
    template: Template, values: dict[str, Any]
) -> None:
    objects = template(values)
    found = pods(objects)
    assert len(found) == 1 + len(values.get("routers", ()))
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        writable = {
            one["name"] for one in pod["volumes"] if "emptyDir" in one or "persistentVolumeClaim" in one
        }
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {one["name"] for one in container["volumeMounts"]} <= {
                one["name"] for one in pod["volumes"]
            }
            assert all(one.get("readOnly") or one["name"] in writable for one in container["volumeMounts"])
        (container,) = pod["containers"]
        ports = {one["name"] for one in container["ports"]}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}
        assert container["livenessProbe"]["httpGet"]["port"] in ports
        program, *words = [*container["command"], *container["args"]]
        commands = {"jumpstarter-controller": app, "jumpstarter-router": router_app}
        commands[program].parse_args(words, print_error=False, exit_on_error=False)
        asks = pod.get("automountServiceAccountToken")
        assert asks == (program == "jumpstarter-controller")
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(objects, "Deployment")]
    for service in of_kind(objects, "Service"):
        selector = service["spec"]["selector"]
        reached = [one for one in labels if selector.items() <= one.items()]
        assert len(reached) == (len(labels) if service["metadata"]["name"].endswith("-metrics") else 1)
        assert all(one["appProtocol"] in {"https", "http"} for one in service["spec"]["ports"])
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert any(budget["spec"]["selector"]["matchLabels"].items() <= one.items() for one in labels)


def test_an_account_with_its_role_can_run_a_lab_and_has_nothing_that_is_not_needed(
    template: Template, audited: AuditedCluster, tmp_path: Path
) -> None:
    """The process of the Deployment, on this machine: with the token of its account, and a root that is read-only."""

    class ChartedLab(KubeLab):
        def launch_controller(self, *options: str) -> Any:
            objects = template(ENDPOINT, namespace=self.namespace)
            parts = [one for one in objects if one["kind"] in {"ServiceAccount", "Role", "RoleBinding"}]
            audited.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(parts))
            asked = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/boards/token"
            token = audited.ask("POST", asked, {"spec": {}})["status"]["token"]
            config = json.loads(audited.kubeconfig.read_text())
            config["users"] = [{"name": "admin", "user": {"token": token}}]
            (tmp_path / "kubeconfig").write_text(json.dumps(config))
            here = {
                "--data": self.data,
                "--listen": f"127.0.0.1:{self.port}",
                "--endpoint": f"127.0.0.1:{self.port}",
                "--router-listen": f"127.0.0.1:{self.router_port}",
                "--router-endpoint": f"127.0.0.1:{self.router_port}",
                "--replica-listen": "127.0.0.1:0",
                "--metrics-listen": f"127.0.0.1:{probes}",
            }
            (pod,) = pods(objects)
            command, *words = [*pod["containers"][0]["command"], *pod["containers"][0]["args"]]
            names = [one.partition("=")[0] for one in words]
            assert here.keys() <= set(names)
            words = [
                f"{name}={here[name]}" if name in here else one
                for name, one in zip(names, words, strict=True)
            ]
            words += ["--kubeconfig", str(tmp_path / "kubeconfig"), "--namespace", self.namespace]
            own = [self.data, self.home / "tmp"]
            for folder in own:
                folder.mkdir(mode=0o700, exist_ok=True)
            ours = exporters.scripts() / command
            has_mounts = (
                subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode == 0
            )
            if not has_mounts:
                print("no mount namespaces here: the root of the controller is not read-only")
            prefix = [*OWN_MOUNTS, "sh", "-euc", READ_ONLY, *own] if has_mounts else []
            self.controller = self._controllers.enter_context(
                exporters.running(
                    [*prefix, ours, *words],
                    self._folder(),
                )
            )
            return self.controller

    probes = exporters.free_port()
    policy = tmp_path / "policy.yaml"
    with ChartedLab.opened(cluster=audited) as lab:
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{probes}/{path}") as answer:
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
        used = audited.used(lab.namespace, f"system:serviceaccount:{lab.namespace}:boards")
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


def test_the_container_file_copies_what_there_is_and_does_not_run_as_root() -> None:
    lines = (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    last = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    users = [rest for word, rest in steps[last:] if word == "USER"]
    assert users == ["65532:65532"], "a number, as runAsNonRoot has to know it"
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
    assert all("-slim" in rest for word, rest in steps if word == "FROM")
    (entry,) = [json.loads(rest) for word, rest in steps if word == "ENTRYPOINT"]
    scripts = (ROOT / "pyproject.toml").read_text()
    assert f"\n{entry[0]} = " in scripts
    copied = {source for word, rest in steps if word == "COPY" for source in rest.split()[:-1]}
    packages = tomllib.loads(scripts)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {one.partition("/")[0] for one in packages} <= copied
    extras = re.search(r"'\.\[([a-z,]+)\]'", "\n".join(lines))
    assert extras is not None
    assert {"controller", "kubernetes"} == set(extras[1].split(","))


def test_only_controllers_reach_the_port_that_is_theirs(template: Template) -> None:
    values = SEVERAL | {"networkPolicy": {"enabled": True}}
    objects = template(values)
    (policy,) = of_kind(objects, "NetworkPolicy")
    everybody, controllers = policy["spec"]["ingress"]
    assert "from" not in everybody
    (peer,) = controllers["from"]
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(objects, "Deployment")]
    assert all(policy["spec"]["podSelector"]["matchLabels"].items() <= one.items() for one in labels)
    assert [peer["podSelector"]["matchLabels"].items() <= one.items() for one in labels] == [
        True,
        False,
        False,
    ]
    ports = {
        one["containerPort"]: one["name"]
        for pod in pods(objects)
        for container in pod["containers"]
        for one in container["ports"]
    }
    named = (
        {ports[one["port"]] for one in everybody["ports"]},
        {ports[one["port"]] for one in controllers["ports"]},
    )
    assert named == ({"controller", "router", "probes"}, {"replicas"})
