"""The Helm chart and the container file: what they give, which a real API server takes."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml
from jumpstarter_controller.cli.commands import app
from jumpstarter_controller.cli.router_command import app as router_app

from tests.kube.charted import ChartError, Template, of_kind, pods
from tests.kube.conftest import DEFINITIONS
from tests.kube.server.cluster import Cluster
from tests.support.peers import ROOT

ENDPOINT = {"endpoint": "lab.example.org:8082"}
ROUTERS = {
    "routers": [
        {"name": "one", "endpoint": "router-1.example.org:443"},
        {"name": "munich", "endpoint": "munich.example.org:443", "labels": {"site": "munich", "rack": "7"}},
    ],
    "tls": {"secretName": "lab-tls"},
}
FILED = [{"name": "one", "endpoint": "router-1.example.org:443", "secretName": "router-one"}]
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
WITH_FILES = {**ENDPOINT, "routers": FILED, "controller": {"replicas": 2}}
ACCOUNTS = {**ENDPOINT, "tokens": "serviceaccounts"}
ADDRESSES = {**SEVERAL, "endpoint": "[2001:db8::1]:8082", "ingress": {"enabled": False}}
BARE = {
    **ENDPOINT,
    "podDisruptionBudget": {"enabled": False},
    "serviceAccount": {"create": False, "name": "mine"},
    "rbac": {"create": False},
}


@pytest.mark.parametrize(
    "values",
    [ENDPOINT, EVERYTHING, SEVERAL, WITH_FILES, ADDRESSES, ACCOUNTS, BARE],
    ids=["least", "all", "several", "files", "addresses", "accounts", "bare"],
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
        (
            {**ENDPOINT, "routers": [FILED[0], {"name": "two", "endpoint": "r:2"}]},
            "/tls/secretName",
        ),
        ({**ENDPOINT, **ROUTERS, "routers": [{"name": "Not A Name", "endpoint": "r:1"}]}, "/routers/0/name"),
        ({**ENDPOINT, "service": {"type": "ExternalName"}}, "/service/type"),
        ({**ENDPOINT, "ingress": {"enabled": True}}, "set router.endpoint to another name"),
    ],
)
def test_invalid_values_are_rejected_with_a_reason(
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


@pytest.mark.parametrize(
    "values", [ENDPOINT, EVERYTHING, SEVERAL, WITH_FILES], ids=["least", "all", "several", "files"]
)
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
