"""Pairing codes from their making to the token, over gRPC and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2, lab_grpc, lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import Attempts, RpcError, Server, StatusCode, open_channel

from jumpstarter_controller.app import open_audit_log
from jumpstarter_controller.identity import Authenticator, TokenIssuer
from jumpstarter_controller.lab import Client, Exporter, Host, Key, PairingCode, Record
from jumpstarter_controller.process.data_folder import Addresses, DataFolder
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.selectors.labels import MAX_LABELS
from jumpstarter_controller.services import CallAuthenticator
from jumpstarter_controller.services.admin_service import AdminService
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.services.enrolment_service import MAX_RENEWALS_PER_MINUTE, EnrolmentService
from jumpstarter_controller.store import Change, SqliteStore, StoreError, StoreEvent, Written
from jumpstarter_controller.store.contract import Cursor
from jumpstarter_controller.store.whole import overwrite

SIGNING = ec.generate_private_key(ec.SECP256R1())
RPI4 = Key("default", "rpi4")


@dataclass
class Lab:
    reconciler: Reconciler
    issuer: TokenIssuer
    admin: lab_grpc.AdminServiceStub
    enrolment: enrolment_grpc.EnrolmentServiceStub
    now: list[float]

    async def pair(self, kind: str = "Exporter", name: str = "rpi4", **more: object) -> str:
        request = lab_pb2.PairRequest(kind=kind, namespace="default", name=name, seconds=600)
        request.MergeFrom(lab_pb2.PairRequest(**more))  # type: ignore[arg-type]
        offer = await self.admin.Pair(request)
        assert (offer.endpoint, offer.fingerprint) == ("lab:1", "AB:CD")
        assert offer.expires.ToSeconds() == self.now[0] + request.seconds
        return offer.code

    async def enrol(self, code: str, kind: str = "Exporter", nonce: str = "") -> lab_pb2.Credential:
        return await self.enrolment.Enrol(enrolment_pb2.EnrolRequest(kind=kind, code=code, nonce=nonce))

    def exists(self, kind: type[Client | Exporter] = Exporter) -> bool:
        return self.reconciler.committed.get(kind, RPI4) is not None

    def codes(self) -> int:
        return self.reconciler.committed.count(PairingCode)


@asynccontextmanager
async def running(file: Path, attempts: Attempts | None = None) -> AsyncIterator[Lab]:
    now = [1000.0]
    store = SqliteStore(file)
    reconciler = Reconciler(store, clock=lambda: now[0])
    issuer = TokenIssuer(SIGNING, "lab:1", clock=lambda: now[0])
    auth = CallAuthenticator(reconciler, Authenticator(issuer))
    credentials = CredentialIssuer(issuer, Addresses("lab:1", "PEM", "AB:CD"))
    journal = open_audit_log(DataFolder(file.parent), reconciler)
    server = Server(
        [
            AdminService(reconciler, credentials, journal),
            EnrolmentService(reconciler, auth, credentials, attempts),
        ]
    )
    near, far = trio.testing.memory_stream_pair()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            nursery.start_soon(server.serve_connection, far)
            async with open_channel(near) as channel:
                admin, enrolment = (
                    lab_grpc.AdminServiceStub(channel),
                    enrolment_grpc.EnrolmentServiceStub(channel),
                )
                yield Lab(reconciler, issuer, admin, enrolment, now)
            nursery.cancel_scope.cancel()
    finally:
        store.close()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with running(tmp_path / "lab.sqlite") as lab:
        yield lab


async def refused(lab: Lab, code: str, kind: str = "Exporter") -> StatusCode:
    with pytest.raises(RpcError) as caught:
        await lab.enrol(code, kind)
    return caught.value.code


async def test_a_code_becomes_an_object_and_its_token_once(lab: Lab) -> None:
    code = await lab.pair(labels={"board": "rpi4"})
    assert not lab.exists()
    credential = await lab.enrol(f"  {code.lower().replace('-', ' ')} ")
    assert (credential.kind, credential.namespace, credential.name) == ("Exporter", *RPI4)
    assert (credential.endpoint, credential.ca) == ("lab:1", "PEM")
    record = lab.reconciler.committed.get(Exporter, RPI4)
    assert record is not None
    assert record.labels == {"board": "rpi4"}
    subject, _ = lab.issuer.verify(credential.token)
    assert (subject.kind, subject.uid) == (Kind.EXPORTER, record.uid)
    assert await refused(lab, code) is StatusCode.PERMISSION_DENIED
    assert lab.codes() == 0


async def test_of_a_stranger_with_a_wrong_code_the_store_is_asked_for_little(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[type[Record]]] = []
    newer = SqliteStore.newer

    def noted(store: SqliteStore, cursor: Cursor, kinds: Collection[type[Record]]) -> Sequence[StoreEvent]:
        asked.append(set(kinds))
        return newer(store, cursor, kinds)

    monkeypatch.setattr(SqliteStore, "newer", noted)
    assert await refused(lab, "AAAA-AAAA-AAAA") is StatusCode.PERMISSION_DENIED
    assert asked == [{PairingCode, Exporter}]


async def test_of_many_at_once_one_wins(lab: Lab) -> None:
    code = await lab.pair()
    ends: list[StatusCode] = []

    async def race() -> None:
        try:
            await lab.enrol(code)
            ends.append(StatusCode.OK)
        except RpcError as error:
            ends.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(race)
    assert sorted(ends) == [StatusCode.OK] + [StatusCode.PERMISSION_DENIED] * 7


async def test_a_bounded_number_of_codes_waits_to_be_used(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_controller.services.objects.MAX_PAIRING_CODES", 3)
    for number in range(3):
        await lab.pair(name=f"e{number}")
    with pytest.raises(RpcError, match="wait to be used") as caught:
        await lab.pair()
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    await lab.pair(name="e0")
    lab.now[0] += 600
    await lab.pair()
    assert lab.codes() == 1


async def test_what_is_for_somebody_else_too_old_or_nothing(lab: Lab) -> None:
    code = await lab.pair()
    assert await refused(lab, code, "Client") is StatusCode.PERMISSION_DENIED
    assert await refused(lab, "") is StatusCode.PERMISSION_DENIED
    assert await refused(lab, "é" * 100_000) is StatusCode.PERMISSION_DENIED
    assert await refused(lab, code, "Router") is StatusCode.INVALID_ARGUMENT
    lab.now[0] += 600
    assert await refused(lab, code) is StatusCode.PERMISSION_DENIED
    assert not lab.exists()
    await lab.pair(name="other")
    assert lab.codes() == 1, "the expired one was kept"


async def test_the_last_code_for_an_object_is_the_one_that_counts(lab: Lab) -> None:
    first = await lab.pair()
    second = await lab.pair()
    assert await refused(lab, first) is StatusCode.PERMISSION_DENIED
    await lab.enrol(second)


async def test_an_object_that_exists_needs_renew_and_its_old_tokens_are_no_longer_valid(lab: Lab) -> None:
    before = await lab.enrol(await lab.pair(labels={"board": "rpi4"}))
    with pytest.raises(RpcError, match="--renew") as caught:
        await lab.pair()
    assert caught.value.code is StatusCode.ALREADY_EXISTS
    with pytest.raises(RpcError, match="no client default/rpi4"):
        await lab.pair("Client", renew=True)
    with pytest.raises(RpcError, match="--label"):
        await lab.pair(renew=True, labels={"a": "b"})
    code = await lab.pair(renew=True)
    record = lab.reconciler.committed.get(Exporter, RPI4)
    assert record is not None
    assert lab.issuer.verify(before.token)[0].uid == record.uid, "it counts until the code is used"
    after = await lab.enrol(code)
    renewed = lab.reconciler.committed.get(Exporter, RPI4)
    assert renewed is not None
    assert lab.issuer.verify(after.token)[0].uid == renewed.uid != record.uid
    assert renewed.labels == {"board": "rpi4"}


async def test_who_pairs_a_host_that_exists_hears_how_its_labels_are_changed(lab: Lab) -> None:
    await lab.enrol(await lab.pair("Host", "pi4"), "Host")
    with pytest.raises(RpcError, match=r"add --renew .*: jumpstarter-controller admin host change pi4$"):
        await lab.pair("Host", "pi4")


async def test_a_code_of_what_was_deleted_or_made_meanwhile(lab: Lab) -> None:
    code = await lab.pair()
    request = lab_pb2.CreateRequest(kind="Exporter", namespace="default", name="rpi4")
    await lab.admin.Create(request)
    assert await refused(lab, code) is StatusCode.ALREADY_EXISTS
    again = await lab.pair(renew=True)
    await lab.admin.Delete(lab_pb2.ObjectRequest(kind="Exporter", namespace="default", name="rpi4"))
    assert await refused(lab, code) is StatusCode.PERMISSION_DENIED
    assert await refused(lab, again) is StatusCode.PERMISSION_DENIED
    assert not lab.exists()


@pytest.mark.parametrize("seconds", [0.0, 9.0, 86401.0, float("nan"), float("inf")])
async def test_how_long_a_code_may_be_good(lab: Lab, seconds: float) -> None:
    request = lab_pb2.PairRequest(kind="Client", namespace="default", name="ann", seconds=seconds)
    with pytest.raises(RpcError, match="10 s to 24 h"):
        await lab.admin.Pair(request)


async def test_a_code_is_used_for_good_or_not_at_all_when_the_disk_is_full_or_the_controller_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lab.sqlite"
    async with running(file) as lab:
        code = await lab.pair()
    async with running(file) as lab:
        # As if killed before the write: nothing has happened.
        with monkeypatch.context() as patched:

            def full(*_: object) -> None:
                raise StoreError("the disk is full")

            patched.setattr(SqliteStore, "commit", full)
            with pytest.raises(RpcError, match="the disk is full"):
                await lab.enrol(code)
        assert (lab.exists(), lab.codes()) == (False, 1)
    async with running(file) as lab:
        await lab.enrol(code)
    async with running(file) as lab:
        # As if killed after it, before the answer: the object is there and the code is not.
        assert (lab.exists(), lab.codes()) == (True, 0)
        assert await refused(lab, code) is StatusCode.PERMISSION_DENIED
        await lab.enrol(await lab.pair(renew=True))


async def test_guessing_ends_soon_and_right_codes_go_on_afterwards(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path / "lab.sqlite", Attempts(per_peer=3, overall=100)) as lab:
        code = await lab.pair()
        for _ in range(3):
            assert await refused(lab, "WRONG") is StatusCode.PERMISSION_DENIED
        with pytest.raises(RpcError, match="try again in 60 s"):
            await lab.enrol(code)
        await trio.sleep(60)
        await lab.enrol(code)
        # It cost nothing.
        assert await refused(lab, "WRONG") is StatusCode.PERMISSION_DENIED


async def test_whoever_has_used_a_code_gets_the_same_answer_again_and_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "lab.sqlite"
    async with running(file) as lab:
        code = await lab.pair("Host", may_label=["team"], labels={"site": "berlin"})
        assert code.startswith("HOST-")
        first = await lab.enrol(code, "Host", "mine")
    async with running(file) as lab:  # as if its answer was lost with the controller
        host = lab.reconciler.committed.get(Host, RPI4)
        assert host is not None
        assert (host.may_label, host.labels) == (("team",), {"site": "berlin"})
        again = await lab.enrol(code, "Host", "mine")
        assert lab.issuer.verify(first.token)[0] == lab.issuer.verify(again.token)[0]
        assert "mine" not in file.read_bytes().decode("latin-1")
        for nonce in ("", "other"):
            with pytest.raises(RpcError, match="wrong, used, expired"):
                await lab.enrol(code, "Host", nonce)
        await lab.admin.Rotate(lab_pb2.ObjectRequest(kind="Host", namespace="default", name="rpi4"))
        with pytest.raises(RpcError, match="wrong, used, expired"):
            await lab.enrol(code, "Host", "mine")
        renewed = await lab.pair("Host", renew=True)
        assert lab.codes() == 1
        await lab.enrol(renewed, "Host", "new")
        await lab.enrol(renewed, "Host", "new")
        lab.now[0] += 600
        with pytest.raises(RpcError, match="wrong, used, expired"):
            await lab.enrol(renewed, "Host", "new")


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("renew", [False, True])
async def test_what_another_process_deletes_does_not_come_back_with_the_code_that_it_came_with(
    tmp_path: Path, is_restarted: bool, renew: bool
) -> None:
    file = tmp_path / "lab.sqlite"
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(running(file))
        if renew:
            await lab.enrol(await lab.pair())
        code = await lab.pair(renew=renew)
        await lab.enrol(code, nonce="mine")
        await lab.enrol(code, nonce="mine")
        if is_restarted:
            await stack.aclose()
        with closing(SqliteStore(file)) as other:
            overwrite(other, {(Exporter, RPI4): None})
        if is_restarted:
            lab = await stack.enter_async_context(running(file))
        with trio.fail_after(30):
            while lab.exists():
                await lab.reconciler.wait(Exporter, RPI4, 1.0)
        with pytest.raises(RpcError, match="wrong, used, expired"):
            await lab.enrol(code, nonce="mine")
        assert not lab.exists()
        await lab.enrol(await lab.pair(), nonce="mine")
        assert lab.exists()


async def test_who_could_not_be_told_that_it_was_made_is_told_the_next_time_also_if_it_was_not_made_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lab.sqlite"
    commit = SqliteStore.commit
    async with running(file) as lab:
        code = await lab.pair()

        def full(store: SqliteStore, changes: Sequence[Change]) -> Sequence[Written]:
            if not any(one.ref == (Exporter, RPI4) for one in changes):
                raise StoreError("the disk is full")
            return commit(store, changes)

        with monkeypatch.context() as patched:
            patched.setattr(SqliteStore, "commit", full)
            with pytest.raises(RpcError, match="the disk is full"):
                await lab.enrol(code, nonce="mine")
        made = lab.reconciler.committed.get(Exporter, RPI4)
        assert made is not None
    with closing(SqliteStore(file)) as store:  # as if it had died behind the first record
        overwrite(store, {(Exporter, RPI4): None})
    async with running(file) as lab:
        credential = await lab.enrol(code, nonce="mine")
        assert lab.issuer.verify(credential.token)[0].uid == made.uid


@pytest.mark.parametrize("key", ["a b", "jumpstarter.dev/host", ""])
async def test_what_no_host_may_ever_set_is_granted_to_none(lab: Lab, key: str) -> None:
    with pytest.raises(RpcError) as caught:
        await lab.pair("Host", may_label=[key])
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


async def test_labels_and_names_of_users_have_bounds(lab: Lab) -> None:
    labels = {f"l{number}": "" for number in range(MAX_LABELS + 1)}
    with pytest.raises(RpcError, match="at most 128") as refused:
        await lab.pair(labels=labels)
    assert refused.value.code is StatusCode.INVALID_ARGUMENT
    labels.popitem()
    await lab.pair(labels=labels)
    request = lab_pb2.CreateRequest(kind="Client", namespace="default", name="ann", username="x" * 1025)
    with pytest.raises(RpcError, match="at most 1024 characters"):
        await lab.admin.Create(request)


@pytest.mark.parametrize("kind", ["Client", "Exporter", "Host"])
async def test_who_has_a_token_gets_another_and_both_count_until_a_rotation(lab: Lab, kind: str) -> None:
    credential = await lab.enrol(await lab.pair(kind), kind)

    def metadata(token: str) -> list[tuple[str, str]]:
        about = {"namespace": "default", "name": "rpi4", "kind": kind}
        return [
            ("authorization", f"Bearer {token}"),
            *((f"jumpstarter-{key}", one) for key, one in about.items()),
        ]

    async def renew(token: str) -> lab_pb2.Credential:
        request = enrolment_pb2.RenewTokenRequest()
        return await lab.enrolment.RenewToken(request, metadata=metadata(token))

    lab.now[0] += 1
    renewed = await renew(credential.token)
    assert renewed.token != credential.token
    assert (renewed.kind, renewed.name, renewed.endpoint, renewed.ca) == (kind, "rpi4", "lab:1", "PEM")
    assert lab.issuer.verify(renewed.token)[0] == lab.issuer.verify(credential.token)[0]
    for token in (credential.token, renewed.token):
        await renew(token)
    with pytest.raises(RpcError, match="missing authorization header"):
        await lab.enrolment.RenewToken(enrolment_pb2.RenewTokenRequest())
    for _ in range(MAX_RENEWALS_PER_MINUTE - 3):
        await renew(renewed.token)
    with pytest.raises(RpcError, match=f"{kind.lower()} rpi4 asks for too many tokens; try again in"):
        await renew(renewed.token)
    await lab.admin.Rotate(lab_pb2.ObjectRequest(kind=kind, namespace="default", name="rpi4"))
    with pytest.raises(RpcError, match="permission denied"):
        await renew(renewed.token)


async def test_a_code_goes_with_what_it_is_for_and_not_with_what_has_the_same_name(lab: Lab) -> None:
    exporter, client = await lab.pair("Exporter"), await lab.pair("Client")
    await lab.enrol(client, "Client")
    renewal = await lab.pair("Client", renew=True)
    await lab.admin.Delete(lab_pb2.ObjectRequest(kind="Client", namespace="default", name="rpi4"))
    assert lab.codes() == 1
    assert await refused(lab, renewal, "Client") is StatusCode.PERMISSION_DENIED
    await lab.enrol(exporter)


async def test_only_wrong_codes_count_as_guesses(tmp_path: Path) -> None:
    async with running(tmp_path / "lab.sqlite", Attempts(per_peer=1, overall=100)) as lab:
        code = await lab.pair()
        await lab.admin.Create(lab_pb2.CreateRequest(kind="Exporter", namespace="default", name="rpi4"))
        for _ in range(3):
            assert await refused(lab, code) is StatusCode.ALREADY_EXISTS
        assert await refused(lab, "WRONG") is StatusCode.PERMISSION_DENIED
        assert await refused(lab, code) is StatusCode.RESOURCE_EXHAUSTED


async def test_what_is_listed_is_in_order_whenever_it_was_made(lab: Lab) -> None:
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y")):
        await lab.admin.Create(lab_pb2.CreateRequest(kind="Client", namespace=namespace, name=name))
    found = (await lab.admin.List(lab_pb2.ListRequest(kind="Client"))).objects
    assert [(one.namespace, one.name) for one in found] == [("a", "y"), ("a", "z"), ("b", "x")]
