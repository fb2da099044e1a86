"""Secrets and statuses, as Jumpstarter 0.9's own administration and kubectl find them."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_controller.identity import Subject, TokenIssuer
from jumpstarter_controller.identity.jumpstarter_key import JUMPSTARTER_AUDIENCE, jumpstarter_key
from jumpstarter_controller.store.kubernetes.api import ANSWER_SECONDS
from jumpstarter_proto.remote import Kind

from tests.e2e.lab import LIMIT
from tests.interop import exporters
from tests.kube.faulty import Faults, faulty
from tests.kube.replica_lab import ReplicaLab
from tests.kube.server.cluster import Cluster
from tests.kube.test_lease import KubeLab
from tests.support.peers import Environment

POWER = "export:\n  power: {type: power.MockPower}\n"


class CredentialLab(KubeLab):
    """What its Secrets and the administration of 0.9 say."""

    def jmp(self, upstream: Environment, *words: str | Path, check: bool = True) -> str:
        """What `jmp admin words...` of 0.9 prints."""
        where = ("--namespace", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig))
        done = subprocess.run(
            [upstream.bin / "jmp", "admin", *words, *where],
            env=exporters.clean_environment(self.home),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def secret(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "secret", name, "-o", "json"))
        return found

    def has_secret(self, name: str) -> bool:
        return bool(self.kubectl("get", "secret", name, "--ignore-not-found", "-o", "name"))

    def token(self, name: str) -> str:
        return base64.b64decode(self.secret(name)["data"]["token"]).decode()

    def status_of(self, kind: str, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.object(kind, name).get("status") or {}
        return status

    def config(self, name: str, token: str) -> Path:
        """A client's file with that token."""
        template = self.home / "template.yaml"
        if not template.exists():
            self.admin("client", "create", "template", "--save", template)
        lines = template.read_text().replace("template", name).splitlines()
        file = self.home / f"{name}-{len(list(self.home.iterdir()))}.yaml"
        file.write_text(
            "\n".join(f"token: {token}" if line.startswith("token:") else line for line in lines) + "\n"
        )
        file.chmod(0o600)
        return file

    def accepts(self, file: Path) -> bool:
        """Whether the controller takes that client's token; DENIED is a refusal."""
        done = self.run("lease", "list", "--client", file)
        assert done.returncode in (0, 5), done.stderr
        return done.returncode == 0


@pytest.fixture(scope="module")
def lab(lab_cluster: Cluster) -> Iterator[CredentialLab]:
    with CredentialLab.opened(cluster=lab_cluster) as lab:
        yield lab


def made(lab: CredentialLab, name: str, kind: str = "Client") -> dict[str, Any]:
    """A new object of kubectl's, and its status when it has its credential."""
    manifest = {
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {},
    }
    lab.kubectl("create", "-f", "-", input=json.dumps(manifest))
    plural = f"{kind.lower()}s"
    lab.until(lambda: lab.status_of(plural, name).get("credential"), limit=20)
    return lab.status_of(plural, name)


def test_what_kubectl_makes_has_a_secret_with_its_token(lab: CredentialLab) -> None:
    for kind in ("Client", "Exporter"):
        name = f"new-{kind.lower()}"
        status, secret = made(lab, name, kind), f"{name}-{kind.lower()}"
        assert status["endpoint"] == f"127.0.0.1:{lab.port}"
        assert status["credential"] == {"name": secret}
        assert status["tokenExpiresAt"] > "2026"
        condition = next(one for one in status["conditions"] if one["type"] == "TokenExpiring")
        assert (condition["status"], condition["reason"]) == ("False", "Valid")
        (owner,) = lab.secret(secret)["metadata"]["ownerReferences"]
        assert owner["uid"] == lab.object(f"{kind.lower()}s", name)["metadata"]["uid"]
        assert owner["controller"] is owner["blockOwnerDeletion"] is True
        assert lab.token(secret) not in lab.controller.log.read_text()
    assert lab.accepts(lab.config("new-client", lab.token("new-client-client")))


@pytest.mark.parametrize("how", ["delete", "empty"])
def test_a_secret_that_is_deleted_or_emptied_is_a_rotation(lab: CredentialLab, how: str) -> None:
    made(lab, how)
    before = lab.token(f"{how}-client")
    file = lab.config(how, before)
    assert lab.accepts(file)
    if how == "delete":
        lab.kubectl("delete", "secret", "delete-client")
    else:
        lab.kubectl("patch", "secret", "empty-client", "--type=merge", "-p", '{"data": null}')
    lab.until(lambda: lab.has_secret(f"{how}-client") and lab.secret(f"{how}-client").get("data"))
    after = lab.token(f"{how}-client")
    assert after != before
    assert not lab.accepts(file), "the old one is refused at once"
    assert lab.accepts(lab.config(how, after))
    assert after not in lab.controller.log.read_text()


def test_a_token_in_a_secret_is_that_of_its_object(lab: CredentialLab) -> None:
    """Another's token, however good, is replaced, and nothing is rotated."""
    made(lab, "eve")
    made(lab, "fay")
    file = lab.config("fay", lab.token("fay-client"))
    for wrong in (lab.token("eve-client"), "nonsense", "\x00\xff"):
        data = base64.b64encode(wrong.encode("latin-1")).decode()
        lab.kubectl(
            "patch", "secret", "fay-client", "--type=merge", "-p", f'{{"data": {{"token": "{data}"}}}}'
        )
        lab.until(lambda data=data: lab.secret("fay-client")["data"]["token"] != data)  # type: ignore[misc]
        assert lab.accepts(lab.config("fay", lab.token("fay-client")))
    assert lab.accepts(file)


def test_a_secret_that_stands_there_is_adopted_unless_it_is_anothers(lab: CredentialLab) -> None:
    former = {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "Client", "name": "gus", "uid": "gone"}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "web", "uid": "1"}
    control = {"controller": True, "blockOwnerDeletion": True}
    for name, owners in (("free", []), ("gus", [former | control]), ("hal", [other | control])):
        metadata = {"name": f"{name}-client", "ownerReferences": owners}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"note": "bXk="}}
        lab.kubectl("create", "-f", "-", input=json.dumps(secret))
    for name in ("free", "gus"):
        made(lab, name)
        found = lab.secret(f"{name}-client")
        (owner,) = found["metadata"]["ownerReferences"]
        assert owner["uid"] == lab.object("clients", name)["metadata"]["uid"]
        assert found["data"]["note"] == "bXk="
        assert lab.accepts(lab.config(name, lab.token(f"{name}-client")))
    lab.kubectl("create", "-f", "-", input=lab_client("hal"))
    lab.until(lambda: "belongs to ConfigMap web" in lab.kubectl("describe", "jc", "hal"))
    assert lab.secret("hal-client")["data"] == {"note": "bXk="}
    lab.kubectl(
        "patch", "secret", "hal-client", "--type=merge", "-p", '{"metadata": {"ownerReferences": null}}'
    )
    lab.until(lambda: lab.status_of("clients", "hal").get("credential"))
    assert "belongs to ConfigMap web" not in lab.kubectl("describe", "jc", "hal")


def test_a_secret_that_is_for_something_else_is_left_alone(lab: CredentialLab) -> None:
    data = {"tls.crt": "YQ==", "tls.key": "Yg=="}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web-client"}}
    lab.kubectl("create", "-f", "-", input=json.dumps(secret | {"type": "kubernetes.io/tls", "data": data}))
    lab.kubectl("create", "-f", "-", input=lab_client("web"))
    lab.until(lambda: "is of the type kubernetes.io/tls" in lab.kubectl("describe", "jc", "web"))
    found = json.loads(lab.kubectl("get", "secret", "web-client", "-o", "json"))
    assert found["data"] == data
    assert "ownerReferences" not in found["metadata"], "it would go with the client"
    lab.kubectl("delete", "secret", "web-client")
    lab.until(lambda: lab.status_of("clients", "web").get("credential"))


def lab_client(name: str) -> str:
    return json.dumps(
        {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "Client", "metadata": {"name": name}}
    )


def test_what_stands_in_the_way_of_a_token_is_in_a_condition_until_it_is_gone(lab: CredentialLab) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kim-client"}, "immutable": True}
    lab.kubectl("create", "-f", "-", input=json.dumps(secret))
    lab.kubectl("create", "-f", "-", input=lab_client("kim"))
    lab.until(lambda: "immutable" in lab.kubectl("describe", "jc", "kim"))
    assert "credential" not in lab.status_of("clients", "kim")
    assert lab.controller.log.read_text().count("client test-") <= 20
    lab.kubectl("delete", "secret", "kim-client")
    lab.until(lambda: lab.status_of("clients", "kim").get("credential"))
    assert "immutable" not in lab.kubectl("describe", "jc", "kim")
    assert lab.accepts(lab.config("kim", lab.token("kim-client")))
    name = "l" + "o" * 247 + "ng"  # for an object, but not with `-client` behind it
    lab.kubectl("create", "-f", "-", input=lab_client(name))
    lab.until(lambda: "must be no more than 253" in lab.kubectl("describe", "jc", name))
    lab.kubectl("delete", "jc", name)


def test_our_own_rotation_is_in_the_secret_too(lab: CredentialLab) -> None:
    made(lab, "ida")
    before = lab.token("ida-client")
    lab.admin("client", "rotate", "ida", "--save", lab.home / "ida.yaml")
    lab.until(lambda: lab.token("ida-client") != before)
    assert lab.accepts(lab.config("ida", lab.token("ida-client")))
    assert lab.accepts(lab.home / "ida.yaml")


class ReplicaCredentialLab(ReplicaLab, CredentialLab):
    """Two controllers, and the Secrets of both."""


def test_a_rotation_counts_at_each_of_two_controllers_and_is_one(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        lab = ReplicaCredentialLab(tmp_path, stack, cluster=lab_cluster)
        lab.start_replica()
        lab.start_replica()
        made(lab, "ann")
        before = lab.config("ann", lab.token("ann-client"))
        for number in (0, 1):
            lab.serve_by(number)
            assert lab.accepts(before)
        lab.kubectl("delete", "secret", "ann-client")
        lab.until(lambda: lab.has_secret("ann-client"))
        after = lab.config("ann", lab.token("ann-client"))
        for number in (0, 1):
            lab.serve_by(number)
            lab.until(lambda: not lab.accepts(before), limit=20)
            assert lab.accepts(after)
        logs = [one.daemon.log.read_text() for one in lab.replicas]
        assert [log.count("was deleted or emptied") for log in logs] == [1, 0]
        lab.replicas[0].kill()
        lab.serve_by(1)
        lab.until(lambda: lab.leads() == 1)
        assert lab.accepts(after)
        made(lab, "bob")
        assert lab.accepts(lab.config("bob", lab.token("bob-client")))


def test_tokens_of_a_jumpstarter_controller_go_on_while_its_key_is_there(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    """What is in the Secret is ours from the start; copies of what was there before are valid."""
    key = tmp_path / "controller.key"
    key.write_bytes(b"its CONTROLLER_KEY")
    with CredentialLab.opened(cluster=lab_cluster) as lab:
        made(lab, "ann")
        uid = lab.object("clients", "ann")["metadata"]["uid"]
        former = TokenIssuer(jumpstarter_key(key.read_bytes()), JUMPSTARTER_AUDIENCE)
        token, _ = former.issue(Subject(Kind.CLIENT, lab.namespace, "ann", uid))
        file = lab.config("ann", token)
        assert not lab.accepts(file)
        lab.kill_controller()
        lab.start_controller("--jumpstarter-key", str(key))
        assert lab.accepts(file)
        data = base64.b64encode(token.encode()).decode()
        lab.kubectl(
            "patch", "secret", "ann-client", "--type=merge", "-p", f'{{"data": {{"token": "{data}"}}}}'
        )
        lab.until(lambda: lab.token("ann-client") != token)
        assert lab.accepts(file)
        assert "then remove --jumpstarter-key" in lab.controller.log.read_text()
        lab.kubectl("delete", "secret", "ann-client")
        lab.until(lambda: lab.has_secret("ann-client"))
        assert not lab.accepts(file)


def test_jumpstarters_own_administration(lab: CredentialLab, upstream: Environment) -> None:
    administered_by_jmp(lab, upstream)


def administered_by_jmp(lab: CredentialLab, upstream: Environment) -> None:
    """`jmp admin` of 0.9: create, get, rotate and delete, and its `jmp shell` with what it has saved."""
    endpoint = f"127.0.0.1:{lab.port}"
    lab.admin("client", "create", "observer", "--save", lab.home / "observer.yaml")
    ca = next(line for line in (lab.home / "observer.yaml").read_text().splitlines() if " ca: " in line)
    pem = base64.b64decode(ca.split()[-1]).decode()
    (lab.home / "ca.crt").write_text(pem)
    lab.kubectl("create", "configmap", "jumpstarter-service-ca-cert", f"--from-file={lab.home / 'ca.crt'}")

    client, exporter = lab.home / "jo-client.yaml", lab.home / "jo-exporter.yaml"
    lab.jmp(upstream, "create", "client", "jo", "--save", "--unsafe", "--out", client)
    lab.jmp(upstream, "create", "exporter", "jo", "--save", "--label", "board=jmp", "--out", exporter)
    for kind, file in (("client", client), ("exporter", exporter)):
        assert lab.token(f"jo-{kind}") in file.read_text()
        assert "jo" in lab.jmp(upstream, "get", f"{kind}s")
        assert endpoint in lab.jmp(upstream, "get", kind, "jo")
    exporter.write_text(exporter.read_text().replace("export: {}\n", POWER))
    exporter.rename(lab.home / "jo.yaml")
    lab.start_exporter("jo")

    def shell(file: Path) -> None:
        words = ("shell", "--client-config", file, "-l", "board=jmp", "--", "j", "power", "on")
        environment = exporters.clean_environment(lab.home)
        environment |= {"PATH": f"{upstream.bin}:{environment['PATH']}"}
        done = subprocess.run(
            [upstream.bin / "jmp", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    shell(client)
    before = lab.token("jo-client")
    rotated = lab.home / "rotated.yaml"
    lab.jmp(upstream, "rotate", "client", "jo", "--save", "--out", rotated)
    assert lab.token("jo-client") != before
    assert not lab.accepts(client)
    rotated.write_text(rotated.read_text().replace("unsafe: false", "unsafe: true"))
    shell(rotated)
    lab.jmp(upstream, "delete", "client", "jo", "--nointeractive")
    lab.jmp(upstream, "delete", "exporter", "jo", "--nointeractive")
    _, sentence = lab.refused("lease", "list", "--client", rotated)
    assert "was deleted" in sentence


def through(proxy: Faults) -> type[CredentialLab]:
    """Labs whose controllers ask the API server through a proxy."""

    class ShakenLab(CredentialLab):
        def start_controller(self, *options: str) -> Any:
            own = self.cluster
            self.cluster = Cluster(proxy.kubeconfig, own.programs)
            daemon = super().start_controller(*options)
            self.cluster = own
            return daemon

    return ShakenLab


def test_a_request_for_a_secret_that_is_not_answered_keeps_no_controller_from_ending(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> int:
        if (method, path.rpartition("/")[2]) == ("POST", "secrets"):
            asked.set()
            answer.wait(LIMIT)
        return 0

    with faulty(lab_cluster, tmp_path) as proxy:
        try:
            with through(proxy).opened(cluster=lab_cluster) as lab:
                proxy.refuses = hold
                lab.kubectl("create", "-f", "-", input=lab_client("kim"))
                assert asked.wait(LIMIT)
                lab.controller.process.terminate()
                assert lab.controller.process.wait(ANSWER_SECONDS * 2 / 3) == 0
                assert "Traceback" not in lab.controller.log.read_text()
        finally:
            answer.set()


def test_faults_in_the_middle_of_a_rotation_end_in_one_good_token(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    with faulty(lab_cluster, tmp_path) as proxy, through(proxy).opened(cluster=lab_cluster) as lab:
        made(lab, "ann")
        secrets = f"/api/v1/namespaces/{lab.namespace}/secrets"
        client = f"/apis/jumpstarter.dev/v1alpha1/namespaces/{lab.namespace}/clients/ann"
        tokens = [lab.token("ann-client")]
        for method, path, status in (
            ("POST", secrets, 500),
            ("GET", f"{secrets}/ann-client", 503),
            ("PATCH", client, 409),
        ):
            before, asked = len(tokens), proxy.seen.count(f"{method} {path}")
            proxy.refuses = lambda *what, bad=(method, path), status=status: status if what == bad else 0  # type: ignore[misc]
            lab.kubectl("delete", "secret", "ann-client")
            lab.until(lambda asked=asked, what=f"{method} {path}": proxy.seen.count(what) > asked + 1)  # type: ignore[misc]
            proxy.refuses = lambda *_: 0
            lab.until(lambda: lab.has_secret("ann-client"))
            tokens.append(lab.token("ann-client"))
            assert not lab.accepts(lab.config("ann", tokens[before - 1]))
            assert lab.accepts(lab.config("ann", tokens[before]))
        assert lab.controller.log.read_text().count("was deleted or emptied") == len(tokens) - 1
        proxy.refuses = lambda *what: 422 if what == ("POST", secrets) else 0
        lab.kubectl("create", "-f", "-", input=lab_client("kim"))
        before = proxy.seen.count(f"POST {secrets}")
        lab.until(lambda: proxy.seen.count(f"POST {secrets}") >= before + 4)
        told = proxy.seen.count(f"PATCH {client.removesuffix('ann')}kim/status")
        assert told == 1, "the refusal is reported once and not retried immediately"
        proxy.refuses = lambda *_: 0
        lab.until(lambda: lab.has_secret("kim-client"))
        lab.kill_controller()
        lab.kubectl("delete", "secret", "ann-client")
        lab.start_controller()
        lab.until(lambda: lab.has_secret("ann-client"))
        assert not lab.accepts(lab.config("ann", tokens[-1])), "it was deleted while nobody looked"
        assert lab.accepts(lab.config("ann", lab.token("ann-client")))
