"""What the chart gives, and a lab whose processes are those of the chart's Pods, run on this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.kube.server.cluster import Cluster
from tests.kube.test_lease import KubeLab
from tests.support.peers import ROOT

__all__ = ["ChartError", "ChartedLab", "Template", "of_kind", "pods", "rendered"]

CHART = ROOT / "deploy" / "chart"
RELEASE = "boards"
Template = Callable[..., list[dict[str, Any]]]
"""Values, options of `helm template`, and `namespace`."""
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


def rendered(
    helm: Path, folder: Path, values: dict[str, Any], *options: str, namespace: str = "lab"
) -> list[dict[str, Any]]:
    """The objects that the chart gives with some values. ChartError: it gives none; says why."""
    (folder / "values.yaml").write_text(json.dumps(values))
    command = [helm, "template", RELEASE, CHART, "-f", folder / "values.yaml"]
    done = subprocess.run(
        [*command, "--namespace", namespace, *options],
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise ChartError(done.stderr)
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in of_kind(objects, "Deployment")]


class ChartedLab(KubeLab):
    """Its controller has the arguments of the Deployment, the token of its account, and a root that is read-only."""

    def __init__(
        self,
        home: Path,
        stack: ExitStack,
        *,
        cluster: Cluster,
        template: Template,
        routers: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(home, stack, cluster=cluster)
        self.probes = exporters.free_port()
        here = f"127.0.0.1:{self.port}"
        self.objects = template({"endpoint": here, "routers": routers or []}, namespace=self.namespace)
        self.account = f"system:serviceaccount:{self.namespace}:{RELEASE}"

    def launch_controller(self, *options: str) -> Any:
        parts = [one for one in self.objects if one["kind"] in {"ServiceAccount", "Role", "RoleBinding"}]
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(parts))
        asked = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{RELEASE}/token"
        token = self.cluster.ask("POST", asked, {"spec": {}})["status"]["token"]
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["users"] = [{"name": "admin", "user": {"token": token}}]
        kubeconfig = self.home / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        here = {
            "--data": str(self.data),
            "--listen": f"127.0.0.1:{self.port}",
            "--router-listen": f"127.0.0.1:{self.router_port}",
            "--router-endpoint": f"127.0.0.1:{self.router_port}",
            "--replica-listen": "127.0.0.1:0",
            "--metrics-listen": f"127.0.0.1:{self.probes}",
        }
        more = ["--kubeconfig", str(kubeconfig), "--namespace", self.namespace]
        self.controller = self._pod_process(pods(self.objects)[0], self.data, here, *more)
        return self.controller

    def start_router(self, name: str, file: Path) -> Daemon:
        """That of a router's Deployment, with its Secret's file; ready."""
        deployments = of_kind(self.objects, "Deployment")
        (router,) = [one for one in deployments if one["metadata"]["name"] == f"{RELEASE}-router-{name}"]
        pod = router["spec"]["template"]["spec"]
        folder = self.home / name
        folder.mkdir()
        (init,) = pod["initContainers"]
        moved = {"/keys/router.key": str(file), "/key/router.key": str(folder / "router.key")}
        subprocess.run([moved.get(word, word) for word in init["command"]], check=True)
        here = {
            "--key": moved["/key/router.key"],
            "--listen": f"127.0.0.1:{self.router_port}",
            "--metrics-listen": f"127.0.0.1:{exporters.free_port()}",
        }
        daemon = self._pod_process(pod, folder, here)
        assert daemon.first_line() == f"Router on 127.0.0.1:{self.router_port}"
        return daemon

    def _pod_process(self, pod: dict[str, Any], folder: Path, here: dict[str, str], *more: str) -> Daemon:
        """The only container's process, with these options as they are on this machine."""
        (container,) = pod["containers"]
        program, *command = container["command"]
        words = list(container["args"])
        names = [one.partition("=")[0] for one in words]
        words = [
            f"{name}={here[name]}" if name in here else word for name, word in zip(names, words, strict=True)
        ]
        own = [folder, self.home / "tmp"]
        for one in own:
            one.mkdir(mode=0o700, exist_ok=True)
        has_mounts = subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode == 0
        if not has_mounts:
            print(f"no mount namespaces here: the root of {program} is not read-only")
        prefix = [*OWN_MOUNTS, "sh", "-euc", READ_ONLY, *own] if has_mounts else []
        whole = [*prefix, exporters.scripts() / program, *command, *words, *more]
        return self._controllers.enter_context(exporters.running(whole, self._folder()))
