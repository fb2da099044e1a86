"""A running API server, and etcd below it: processes on the loopback, their keys, and how to ask it."""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

__all__ = ["AnswerError", "ApiServer", "Cluster"]

START_SECONDS = 120.0
"""It takes three; on a machine with other work ten times that."""
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.05
USERS = {"admin": ("system:masters",), "alice": ()}
"""Who may log in, and their groups: everything, and nothing."""
APPLY = "application/apply-patch+yaml"
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
JSON = "application/json"


class AnswerError(Exception):
    """The API server refused."""

    def __init__(self, status: int, body: bytes) -> None:
        with suppress(ValueError, KeyError):
            body = json.loads(body)["message"].encode()
        self.status = status
        self.message = body.decode(errors="replace")
        super().__init__(f"{status}: {self.message}")


@dataclass(frozen=True)
class Cluster:
    """An API server as somebody reaches it who may do everything."""

    kubeconfig: Path
    """JSON, which is YAML."""
    programs: Path
    """The folder with kubectl."""

    @cached_property
    def _config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubeconfig.read_text())
        return found

    @property
    def port(self) -> int:
        """Where it listens on the loopback."""
        return int(self._config["clusters"][0]["cluster"]["server"].rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, kind: str = JSON, **query: str) -> Any:
        """One request on a connection of its own, and its answer's JSON. AnswerError: it was refused."""
        ca = base64.b64decode(self._config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        tls = ssl.create_default_context(cadata=ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=tls, timeout=60)
        token = next(one["user"]["token"] for one in self._config["users"] if one["name"] == "admin")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "Accept": JSON}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, f"{path}?{urllib.parse.urlencode(query)}", data, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise AnswerError(answer.status, text)
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def apply(self, path: str, document: Mapping[str, Any], manager: str = "test") -> Any:
        """Server-side apply of one object at its path; a field that the schema does not have is refused."""
        how = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        return self.ask("PATCH", path, document, APPLY, **how)

    def define(self, definition: Mapping[str, Any]) -> None:
        """Apply a CustomResourceDefinition, and wait until its objects can be made."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        found = self.apply(path, definition)
        due = time.monotonic() + START_SECONDS
        while not any(
            one["type"] == "Established" and one["status"] == "True"
            for one in found.get("status", {}).get("conditions") or ()
        ):
            if time.monotonic() > due:
                raise RuntimeError(f"{path} is not established: {found.get('status')}")
            time.sleep(LOOK_SECONDS)
            found = self.ask("GET", path)

    def make_namespace(self) -> str:
        """A new one, for a test. Nothing deletes it: without a controller manager none would go."""
        name = f"test-{secrets.token_hex(6)}"
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def kubectl(self, *words: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess calls it
        """What `kubectl` prints. CalledProcessError: it failed; its `stderr` says why."""
        command = [str(self.programs / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words]
        environment = {"HOME": str(self.kubeconfig.parent), "PATH": os.environ["PATH"]}
        return subprocess.run(
            command, input=input, env=environment, capture_output=True, text=True, check=True, timeout=120
        ).stdout


@dataclass
class ApiServer:
    """The processes. Nothing is written outside of `state`."""

    programs: Path
    state: Path
    flags: tuple[str, ...] = ()
    """More of kube-apiserver's."""
    port: int = 0
    etcd_port: int = 0
    _peer_port: int = 0
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        """How to reach it."""
        return Cluster(self.state / "kubeconfig", self.programs)

    def start(self) -> None:
        """All that does not run, and wait until it is ready. RuntimeError: it does not become so; says why."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.port:
            self.port, self.etcd_port, self._peer_port = (_free_port() for _ in range(3))
            self._write_keys()
        if "etcd" not in self._running:
            self._run("etcd", *self._etcd_options())
        if "kube-apiserver" not in self._running:
            self._run("kube-apiserver", *self._api_options())
        self._wait()

    def kill(self, name: str) -> None:
        """`kill -9` of one of its processes; `start` starts it again on its data."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """All of them; the data stay."""
        for name in ("kube-apiserver", "etcd"):
            if (process := self._running.pop(name, None)) is not None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _run(self, name: str, *options: str) -> None:
        with (self.state / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [str(self.programs / name), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.state,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - it makes one call of the system
            )

    def _wait(self) -> None:
        due = time.monotonic() + START_SECONDS
        while True:
            for name, process in self._running.items():
                if process.poll() is not None:
                    end = (self.state / f"{name}.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{name} ended with {process.returncode}: {end}")
            with suppress(OSError, AnswerError, http.client.HTTPException):
                self.cluster.ask("GET", "/readyz")
                return
            if time.monotonic() > due:
                raise RuntimeError(f"the API server is not ready after {START_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)

    def _etcd_options(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            f"--data-dir={self.state / 'data'}",
            "--log-level=warn",
            "--unsafe-no-fsync",  # no test cuts the power
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _api_options(self) -> list[str]:
        keys = self.state
        return [
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--cert-dir={keys}",
            f"--tls-cert-file={keys / 'server.pem'}",
            f"--tls-private-key-file={keys / 'server.pem'}",
            f"--token-auth-file={keys / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={keys / 'accounts.pem'}",
            f"--service-account-key-file={keys / 'accounts.pem'}",
            "--disable-admission-plugins=ServiceAccount",  # nothing here makes default accounts
            "--profiling=false",
            *self.flags,
        ]

    def _write_keys(self) -> None:
        ca = trustme.CA()
        server = ca.issue_cert("127.0.0.1", "localhost")
        server.private_key_and_cert_chain_pem.write_to_path(str(self.state / "server.pem"))
        signing = ec.generate_private_key(ec.SECP256R1())
        pem = signing.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self.state / "accounts.pem").write_bytes(pem)
        tokens = {name: secrets.token_hex(16) for name in USERS}
        lines = [f'{token},{name},{name},"{",".join(USERS[name])}"\n' for name, token in tokens.items()]
        (self.state / "tokens.csv").write_text("".join(lines))
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority-data": base64.b64encode(ca.cert_pem.bytes()).decode(),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "admin",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}} for name, token in tokens.items()],
            "contexts": [
                {"name": name, "context": {"cluster": "test", "user": name, "namespace": "default"}}
                for name in USERS
            ],
        }
        (self.state / "kubeconfig").write_text(json.dumps(config))


def _end_with_parent() -> None:
    """The kernel kills this process when the thread that started it has ended, even by `kill -9`."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _free_port() -> int:
    """One that nobody listens on, out of the range in which the kernel gives them for connections."""
    first, last = map(int, re.findall(r"\d+", Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()))
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        if first <= port <= last:
            continue
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
