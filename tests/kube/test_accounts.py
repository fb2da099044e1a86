"""A lab whose tokens are of ServiceAccounts: made by TokenRequest, reviewed by TokenReview."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.identity.client_config import load
from jumpstarter_controller.identity import Subject, TokenError
from jumpstarter_controller.kube_identity import accounts as module
from jumpstarter_controller.kube_identity import review_cache
from jumpstarter_controller.kube_identity.accounts import Accounts
from jumpstarter_controller.lab import Client
from jumpstarter_controller.store import Change, Half, StoreError
from jumpstarter_controller.store.contract import key_of
from jumpstarter_controller.store.kubernetes import KubernetesStore, connect
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceStub
from jumpstarter_proto.lab.v1.enrolment_pb2 import RenewTokenRequest
from jumpstarter_proto.remote import Kind, open_controller
from jumpstarter_proto.rpc import RpcError, StatusCode

from tests.e2e.test_host_registration import Host, available
from tests.kube.conftest import DEFINITIONS
from tests.kube.faulty import Faults, faulty
from tests.kube.server.cluster import Cluster
from tests.kube.test_credentials import POWER, CredentialLab, administered_by_jmp, made
from tests.kube.test_lease import has_credential
from tests.kube.test_startup import WaitingLab
from tests.support import oidc
from tests.support.peers import Environment

ENDPOINT = "lab:8082"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ROLES = DEFINITIONS.parent / "service-accounts.yaml"


def claims_of(token: str) -> dict[str, Any]:
    text = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


class AccountLab(CredentialLab):
    """Its tokens are of ServiceAccounts."""

    def start_controller(self, *options: str) -> Any:
        return super().start_controller("--tokens", "serviceaccounts", *options)

    def token_in(self, file: Path) -> str:
        return next(line for line in file.read_text().splitlines() if line.startswith("token:")).split()[1]

    def account(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "serviceaccount", name, "-o", "json"))
        return found


@pytest.fixture(scope="module")
def lab(lab_cluster: Cluster) -> Iterator[AccountLab]:
    with AccountLab.opened(cluster=lab_cluster) as lab:
        yield lab


def test_a_lease_with_tokens_of_the_cluster(lab: AccountLab) -> None:
    lab.exporter("one")
    ann = lab.client("ann")
    for kind, name in (("client", "ann"), ("exporter", "one")):
        (owner,) = lab.account(f"{name}-{kind}")["metadata"]["ownerReferences"]
        assert owner["uid"] == lab.object(f"{kind}s", name)["metadata"]["uid"]
        claims = claims_of(lab.token_in(lab.home / f"{name}.yaml"))
        assert claims["iss"] == "https://kubernetes.default.svc"
        assert claims["sub"] == f"system:serviceaccount:{lab.namespace}:{name}-{kind}"
        assert claims["aud"][0] == f"127.0.0.1:{lab.port}"
    lab.ok("power", "on", "-l", "board=rpi4", "--client", ann)
    lab.until(lambda: has_credential(lab, "ann", "clients"))
    secret = lab.token("ann-client")
    assert claims_of(secret)["iss"] == "https://kubernetes.default.svc"
    assert lab.accepts(lab.config("ann", secret))
    assert "Jumpstarter 0.9's programs do not renew it" in lab.kubectl("describe", "jc", "ann")
    for token in (secret, lab.token_in(ann)):
        assert token not in lab.controller.log.read_text()


def test_pairing_codes_and_rotations_count_at_once(lab: AccountLab) -> None:
    offer = json.loads(lab.admin("pair", "client", "bob", "-o", "json"))
    (lab.home / "code").write_text(offer["code"])
    lab.ok(*offer["command"][1:], "--code-file", str(lab.home / "code"))
    bob = lab.home / ".config" / "jumpstarter" / "clients" / "bob.yaml"
    assert lab.accepts(bob)
    before = lab.home / "before.yaml"
    before.write_bytes(bob.read_bytes())
    lab.ok("auth", "rotate", "--client", bob)
    assert lab.accepts(bob)
    assert lab.accepts(before), "the one before counts for a day more"
    lab.until(lambda: has_credential(lab, "bob", "clients"))
    lab.kubectl("delete", "secret", "bob-client")
    lab.until(lambda: lab.has_secret("bob-client"))
    assert not lab.accepts(bob)
    after = lab.config("bob", lab.token("bob-client"))
    assert lab.accepts(after)
    lab.kubectl("delete", "jc", "bob")
    lab.until(lambda: "was deleted" in lab.run("lease", "list", "--client", after).stderr)


def test_an_account_that_is_deleted_ends_its_tokens_and_comes_back_with_others(lab: AccountLab) -> None:
    made(lab, "cid")
    before = lab.token("cid-client")
    assert lab.accepts(lab.config("cid", before))
    lab.kubectl("delete", "serviceaccount", "cid-client")
    lab.until(lambda: lab.token("cid-client") != before)
    assert lab.accepts(lab.config("cid", lab.token("cid-client")))
    assert claims_of(before)["aud"] == claims_of(lab.token("cid-client"))["aud"], "nothing was rotated"


def test_a_token_of_another_account_or_for_another_audience_is_nobodys(lab: AccountLab) -> None:
    made(lab, "eve")
    made(lab, "fay")
    audience = claims_of(lab.token("fay-client"))["aud"]
    for account, audiences in (("eve-client", audience), ("fay-client", audience[1:])):
        words = [word for one in audiences for word in ("--audience", one)]
        token = lab.kubectl("create", "token", account, *words).strip()
        assert not lab.accepts(lab.config("fay", token)), account
    assert lab.accepts(lab.config("fay", lab.token("fay-client")))


async def test_a_host_its_boards_and_whoever_renews_have_accounts(lab: AccountLab) -> None:
    host = Host(lab, one="metadata: {labels: {board: rpi5}}\n")
    await trio.to_thread.run_sync(host.enrol)
    await trio.to_thread.run_sync(host.start)
    await trio.to_thread.run_sync(available, lab, "pi4-one")
    for account, kind, name in (
        ("pi4-host", "hosts.lab", "pi4"),
        ("pi4-one-exporter", "exporters", "pi4-one"),
    ):
        (owner,) = lab.account(account)["metadata"]["ownerReferences"]
        assert owner["uid"] == lab.object(kind, name)["metadata"]["uid"]
    ann = await trio.to_thread.run_sync(lab.client, "renewer")
    lab.ok("power", "on", "-l", "board=rpi5", "--client", ann)
    config = load(str(ann), {})
    async with open_controller(config.endpoint, config.trust, config.identity) as channel:
        stub = EnrolmentServiceStub(channel)
        renewed = await stub.RenewToken(RenewTokenRequest(), timeout=60)
    assert claims_of(renewed.token)["aud"] == claims_of(config.identity.token)["aud"]
    assert renewed.token != config.identity.token
    assert await trio.to_thread.run_sync(lab.accepts, lab.config("renewer", renewed.token))


def test_jumpstarters_own_administration_and_shell(lab: AccountLab, upstream: Environment) -> None:
    administered_by_jmp(lab, upstream)


class ForeignLab(AccountLab):
    """It takes another issuer's users, who become clients by themselves."""

    def __init__(self, home: Path, stack: ExitStack, *, cluster: Cluster, provider: oidc.Provider) -> None:
        super().__init__(home, stack, cluster=cluster)
        self.provider = provider

    def start_controller(self, *options: str) -> Any:
        authority = str(self.provider.ca)
        issuer = {"url": self.provider.url, "audiences": [oidc.AUDIENCE], "certificateAuthority": authority}
        username = {"claim": "preferred_username", "prefix": "lab:"}
        config = {
            "authentication": {"jwt": [{"issuer": issuer, "claimMappings": {"username": username}}]},
            "provisioning": {"enabled": True, "namespaces": [self.namespace]},
        }
        (self.home / "config.yaml").write_text(json.dumps(config))
        return super().start_controller("--config", str(self.home / "config.yaml"), *options)


def test_users_of_another_issuer_come_as_ever(lab_cluster: Cluster, tmp_path: Path) -> None:
    provider = oidc.Provider(tmp_path / "oidc")
    with provider.running(), ForeignLab.opened(cluster=lab_cluster, provider=provider) as lab:
        made(lab, "ann")
        robot = provider.robot_token()
        assert lab.accepts(lab.config("robot", robot))
        assert lab.object("clients", "robot")["spec"]["username"].startswith("lab:")
        assert lab.accepts(lab.config("ann", lab.token("ann-client")))
        _, sentence = lab.refused("lease", "list", "--client", lab.config("ann", robot))
        assert "'ann' was given, 'robot' is this user's" in sentence


def test_a_token_that_names_nobody_costs_the_api_server_nothing(lab_cluster: Cluster, tmp_path: Path) -> None:
    with faulty(lab_cluster, tmp_path) as proxy:

        class CountedLab(AccountLab):
            def start_controller(self, *options: str) -> Any:
                self.cluster = Cluster(proxy.kubeconfig, lab_cluster.programs)
                daemon = super().start_controller(*options)
                self.cluster = lab_cluster
                return daemon

        with CountedLab.opened(cluster=lab_cluster) as lab:
            made(lab, "ann")
            head, _, signature = lab.token("ann-client").split(".")
            claims = claims_of(lab.token("ann-client"))
            claims["aud"][1] += "-of-another"
            body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
            file = lab.config("ann", f"{head}.{body}.{signature}")  # which makes a client to look like
            reviewed = 1 + 2  # whether that may be, and the tokens in the Secrets of both
            lab.until(lambda: proxy.seen.count(f"POST {REVIEWS}") == reviewed)
            assert not lab.accepts(file)
            assert proxy.seen.count(f"POST {REVIEWS}") == reviewed


def test_a_lab_that_changes_to_accounts_loses_nobody(lab_cluster: Cluster) -> None:
    with CredentialLab.opened(cluster=lab_cluster) as lab:
        ann = lab.client("ann")
        made(lab, "bob")
        before = lab.token("bob-client")
        lab.kill_controller()
        lab.start_controller("--tokens", "serviceaccounts")
        assert lab.accepts(ann)
        lab.until(lambda: lab.token("bob-client") != before)
        assert lab.accepts(lab.config("bob", lab.token("bob-client")))
        lab.admin("client", "rotate", "ann", "--save", lab.home / "rotated.yaml")
        assert not lab.accepts(ann)
        assert lab.accepts(lab.home / "rotated.yaml")
        lab.controller.process.terminate()
        lab.controller.process.wait()
        lab.admin("client", "rotate", "ann", "--save", lab.home / "offline.yaml")
        lab.start_controller("--tokens", "serviceaccounts")
        assert not lab.accepts(lab.home / "rotated.yaml")
        assert lab.accepts(lab.home / "offline.yaml")


class WaitingAccountLab(WaitingLab):
    """Its tokens are of ServiceAccounts."""

    def launch_controller(self, *options: str) -> Any:
        return super().launch_controller("--tokens", "serviceaccounts", *options)


def test_who_may_not_have_tokens_reviewed_is_told_what_is_missing_and_needs_no_more(
    lab_cluster: Cluster, tmp_path: Path
) -> None:
    config = json.loads(lab_cluster.kubeconfig.read_text()) | {"current-context": "alice"}
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    with ExitStack() as stack:
        lab = WaitingAccountLab(tmp_path / "lab", stack, cluster=lab_cluster)
        lab.home.mkdir()
        lab.cluster = Cluster(tmp_path / "kubeconfig", lab_cluster.programs)
        mine = ("-n", lab.namespace)

        def apply(text: str) -> None:
            text = text.replace("namespace: lab", f"namespace: {lab.namespace}")
            text = text.replace(
                "kind: ServiceAccount, name: jumpstarter-controller", "kind: User, name: alice"
            )
            text = text.replace(f"name: alice, namespace: {lab.namespace}", "name: alice")
            lab_cluster.kubectl("apply", *mine, "-f", "-", input=text)

        role, binding, review = ROLES.read_text().split("---\n")
        apply((ROLES.parent / "role.yaml").read_text())
        lab_cluster.kubectl(
            "create", "rolebinding", "it", "--role=jumpstarter-controller", "--user=alice", *mine
        )
        apply(role)
        apply(binding)
        lab.launch_waiting()
        lab.until(lambda: 'cannot create resource "tokenreviews"' in lab.ready())
        assert "apply deploy/service-accounts.yaml" in lab.ready()
        apply(review)
        lab.serves()
        lab.exporter("one", export=POWER)
        ann = lab.client("ann")
        lab.until(lambda: has_credential(lab, "ann", "clients") and has_credential(lab, "one"))
        lab.ok("power", "on", "-l", "board=rpi4", "--client", ann)
        lab.admin("pair", "host", "pi4")
        assert "forbidden" not in lab.controller.log.read_text().partition("served now")[2]


@pytest.fixture
def faults(lab_cluster: Cluster, tmp_path: Path) -> Iterator[Faults]:
    with faulty(lab_cluster, tmp_path) as faults:
        yield faults


@pytest.fixture
def ann(namespace: str) -> Client:
    return Client(namespace=namespace, name="ann", uid="of-ann")


@pytest.fixture
def accounts(faults: Faults, ann: Client) -> Iterator[Accounts]:
    """Behind a proxy."""
    with closing(KubernetesStore(connect(faults.kubeconfig), ann.namespace)) as store:
        store.commit([Change(key_of(ann), Half.SPEC, ann, None)])
        yield Accounts(store, ENDPOINT, 3600.0)


def subject_of(client: Client) -> Subject:
    return Subject(Kind.CLIENT, client.namespace, client.name, client.uid)


async def test_an_api_server_that_does_not_review_is_not_a_refusal(
    faults: Faults, accounts: Accounts, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REVIEW_SECONDS", 0.5)
    subject = subject_of(ann)
    known, _ = await accounts.issue(subject)
    unknown, _ = await accounts.issue(subject)
    assert (await accounts.verify(known))[0] == subject
    asked = faults.seen.count(f"POST {REVIEWS}")
    assert (await accounts.verify(known))[0] == subject
    assert faults.seen.count(f"POST {REVIEWS}") == asked, "what was said is remembered"
    for status in (500, 429, 503, 403, 401):
        faults.refuses = lambda _, path, status=status: status if path == REVIEWS else 0  # type: ignore[misc]
        with pytest.raises(RpcError, match="whether this token is good cannot be found out") as raised:
            await accounts.verify(unknown)
        assert raised.value.code is StatusCode.UNAVAILABLE
        assert not isinstance(raised.value, TokenError)
        assert (await accounts.verify(known))[0] == subject
    faults.refuses = lambda *_: 0
    assert (await accounts.verify(unknown))[0] == subject


async def test_an_api_server_that_is_slow_keeps_nobody_longer_than_may_be(
    faults: Faults, accounts: Accounts, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REVIEW_SECONDS", 0.5)
    known, _ = await accounts.issue(subject_of(ann))
    unknown, _ = await accounts.issue(subject_of(ann))
    await accounts.verify(known)
    answers = threading.Event()

    def wait(_: str, path: str) -> int:
        if path == REVIEWS:
            answers.wait(30)
        return 0

    faults.refuses = wait
    try:
        began = trio.current_time()
        with pytest.raises(RpcError, match="does not answer") as raised:
            await accounts.verify(unknown)
        assert raised.value.code is StatusCode.UNAVAILABLE
        assert trio.current_time() - began < 10
        assert (await accounts.verify(known))[0] == subject_of(ann)
    finally:
        answers.set()
    assert (await accounts.verify(unknown))[0] == subject_of(ann)


async def test_one_review_is_for_all_who_come_with_the_same_token(
    faults: Faults, accounts: Accounts, ann: Client
) -> None:
    token, _ = await accounts.issue(subject_of(ann))
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(accounts.verify, token)
    assert faults.seen.count(f"POST {REVIEWS}") == 1
    forged = token[:-4] + "AAAA"
    for _ in range(3):
        with pytest.raises(TokenError, match="failed to authenticate token"):
            await accounts.verify(forged)
    assert faults.seen.count(f"POST {REVIEWS}") == 2


async def test_what_was_good_before_holds_while_nobody_answers_and_keeps_nobody_waiting(
    faults: Faults, accounts: Accounts, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_cache, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(module, "REVIEW_SECONDS", 60.0)
    token, _ = await accounts.issue(subject_of(ann))
    await accounts.verify(token)
    faults.refuses = lambda _, path: 503 if path == REVIEWS else 0
    began = trio.current_time()
    for _ in range(20):
        assert (await accounts.verify(token))[0] == subject_of(ann)
    assert trio.current_time() - began < 15
    monkeypatch.setattr(module, "UNREACHABLE_SECONDS", 0.0)
    faults.refuses = lambda *_: 0
    asked = faults.seen.count(f"POST {REVIEWS}")
    assert (await accounts.verify(token))[0] == subject_of(ann)
    assert faults.seen.count(f"POST {REVIEWS}") == asked + 1
    monkeypatch.setattr(review_cache, "STALE_SECONDS", 0.0)
    monkeypatch.setattr(module, "REVIEW_SECONDS", 0.5)
    faults.refuses = lambda _, path: 503 if path == REVIEWS else 0
    with pytest.raises(RpcError, match="cannot be found out"):
        await accounts.verify(token)


async def test_who_waits_for_the_same_review_hears_the_same_failure_at_once(
    faults: Faults, accounts: Accounts, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REVIEW_SECONDS", 0.5)
    token, _ = await accounts.issue(subject_of(ann))
    faults.refuses = lambda _, path: 503 if path == REVIEWS else 0
    failures: list[StatusCode] = []

    async def fail() -> None:
        with pytest.raises(RpcError, match="cannot be found out") as raised:
            await accounts.verify(token)
        failures.append(raised.value.code)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(fail)
    assert failures == [StatusCode.UNAVAILABLE] * 30
    assert trio.current_time() - began < 10, "not one after the other"


async def test_who_makes_up_tokens_of_somebody_is_stopped_and_good_ones_cost_nothing(
    faults: Faults, accounts: Accounts, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WRONG_PER_MINUTE", 3)
    accounts = Accounts(accounts._store, ENDPOINT, 3600.0)
    token, _ = await accounts.issue(subject_of(ann))
    others = [(await accounts.issue(subject_of(ann)))[0] for _ in range(4)]
    for other in others:
        await accounts.verify(other)
    for number in range(3):
        with pytest.raises(TokenError, match="it was revoked, or is forged"):
            await accounts.verify(f"{token[:-4]}AAA{number}")
    with pytest.raises(RpcError, match="too many wrong tokens of ann; try again in") as raised:
        await accounts.verify(f"{token[:-4]}AAA9")
    assert raised.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert (await accounts.verify(others[0]))[0] == subject_of(ann), (
        "what is known to be good is not asked for"
    )


async def test_a_clock_that_is_off_ends_no_token(
    faults: Faults, ann: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for skew in (-7200.0, 7200.0):
        with closing(KubernetesStore(connect(faults.kubeconfig), ann.namespace)) as store:
            if skew < 0:
                store.commit([Change(key_of(ann), Half.SPEC, ann, None)])
            now = store.now() + skew
            accounts = Accounts(store, ENDPOINT, 3600.0, clock=lambda now=now: now)  # type: ignore[misc]
            token, expires = await accounts.issue(subject_of(ann))
            assert abs(expires - now - 3600) < 60
            subject, until = await accounts.verify(token)
            assert (subject, abs(until - expires) < 60) == (subject_of(ann), True)
            later = Accounts(store, ENDPOINT, 3600.0, clock=lambda now=now: now)  # type: ignore[misc]
            assert (await later.verify(token))[0] == subject_of(ann), "it has issued none yet"
            word = "behind" if skew < 0 else "ahead of"
            assert re.search(rf"this machine's clock is (7[12]\d\d) s {word} the API server's", caplog.text)


@pytest.mark.parametrize("owners", [[], [{"uid": "gone"}]], ids=["nobody's", "of one that is gone"])
async def test_an_account_that_stands_there_is_taken_over(
    lab_cluster: Cluster, accounts: Accounts, ann: Client, owners: list[dict[str, str]]
) -> None:
    former = {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "Client", "name": "ann", "controller": True}
    metadata = {"name": "ann-client", "ownerReferences": [former | one for one in owners]}
    path = f"/api/v1/namespaces/{ann.namespace}/serviceaccounts"
    await trio.to_thread.run_sync(lab_cluster.ask, "POST", path, {"metadata": metadata})
    token, _ = await accounts.issue(subject_of(ann))
    account = await trio.to_thread.run_sync(lab_cluster.ask, "GET", f"{path}/ann-client")
    (owner,) = account["metadata"]["ownerReferences"]
    assert owner["uid"] not in {"", "gone"}
    assert (await accounts.verify(token))[0] == subject_of(ann)


async def test_an_account_of_somebody_elses_is_left_alone(
    lab_cluster: Cluster, accounts: Accounts, ann: Client
) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "web", "uid": "1", "controller": True}
    metadata = {"name": "ann-client", "ownerReferences": [owner]}
    path = f"/api/v1/namespaces/{ann.namespace}/serviceaccounts"
    await trio.to_thread.run_sync(lab_cluster.ask, "POST", path, {"metadata": metadata})
    with pytest.raises(StoreError, match="ann-client belongs to something else"):
        await accounts.issue(subject_of(ann))
    with pytest.raises(subprocess.CalledProcessError):
        lab_cluster.kubectl("get", "serviceaccount", "ann-host", "-n", ann.namespace)
