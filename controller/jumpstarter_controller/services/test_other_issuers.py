"""Users of other issuers: who becomes a client by themselves, where, and what only their issuer can give them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import jwt
import pytest
import trio
import trio.testing
from jumpstarter_proto.client.v1 import client_grpc, client_pb2
from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2
from jumpstarter_proto.remote import Identity, Kind, ReasonCode, reason_of
from jumpstarter_proto.rpc import RpcError, Server, StatusCode, open_channel
from msgspec.structs import replace

from jumpstarter_controller.identity import Authenticator, TokenError, TokenIssuer
from jumpstarter_controller.lab import Client, Exporter, Key
from jumpstarter_controller.process.data_folder import Addresses
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services import CallAuthenticator, ClientService
from jumpstarter_controller.services.conftest import SIGNING
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.services.enrolment_service import EnrolmentService
from jumpstarter_controller.store import MemoryStore

HERE, THERE = "here", "there"
END = 2.0**40


class Dex:
    """Somebody else, who signs tokens; what is in them is taken as it is."""

    url = "https://dex.example"

    @staticmethod
    async def verify(token: str) -> tuple[str, float]:
        return jwt.decode(token, options={"verify_signature": False})["sub"], END


def identity(user: str, name: str, namespace: str = HERE, kind: Kind = Kind.CLIENT) -> Identity:
    return Identity(kind, namespace, name, jwt.encode({"iss": Dex.url, "sub": user}, "k" * 32))


@dataclass
class Lab:
    reconciler: Reconciler
    client: client_grpc.ClientServiceStub
    enrolment: enrolment_grpc.EnrolmentServiceStub

    async def lists(self, who: Identity) -> None:
        request = client_pb2.ListLeasesRequest(parent=f"namespaces/{who.namespace}")
        await self.client.ListLeases(request, metadata=who.metadata())

    def clients(self) -> dict[Key, str]:
        return {one.key: one.username for one in self.reconciler.committed.all(Client)}


@asynccontextmanager
async def running() -> AsyncIterator[Lab]:
    reconciler = Reconciler(MemoryStore(), clock=lambda: 1000.0)
    issuer = TokenIssuer(SIGNING, "lab:1", clock=reconciler.clock)
    auth = CallAuthenticator(reconciler, Authenticator(issuer, (Dex(),)), [HERE])
    credentials = CredentialIssuer(issuer, Addresses("lab:1"))
    server = Server(
        [ClientService(reconciler, auth, credentials.token), EnrolmentService(reconciler, auth, credentials)]
    )
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(reconciler.run)
        nursery.start_soon(server.serve_connection, far)
        async with open_channel(near) as channel:
            stubs = client_grpc.ClientServiceStub(channel), enrolment_grpc.EnrolmentServiceStub(channel)
            yield Lab(reconciler, *stubs)
        nursery.cancel_scope.cancel()


async def test_they_become_clients_where_that_is_allowed_and_nowhere_else() -> None:
    async with running() as lab:
        ann = identity("dex:Ann.Lee", "ann-lee")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lab.lists, ann)
        assert lab.clients() == {Key(HERE, "ann-lee"): "dex:Ann.Lee"}
        with pytest.raises(RpcError, match="not found") as refused:
            await lab.lists(identity("dex:Ann.Lee", "ann-lee", THERE))
        assert reason_of(refused.value) == ReasonCode.CALLER_GONE.value
        with pytest.raises(RpcError, match="resource name mismatch") as refused:
            await lab.lists(identity("dex:bob", "ann-lee"))
        assert refused.value.code is StatusCode.INVALID_ARGUMENT
        assert len(lab.clients()) == 1
        who = await lab.enrolment.WhoAmI(enrolment_pb2.WhoAmIRequest(), metadata=ann.metadata())
        assert (who.namespace, who.name) == (HERE, "ann-lee")


async def test_nobody_becomes_who_is_there_already_nor_an_exporter_nor_one_of_our_own() -> None:
    async with running() as lab:
        bob = Client(namespace=HERE, name="bob", uid="1")
        await lab.reconciler.change(lambda draft, _: draft.put(bob))
        for user in ("dex:bob", "other:bob"):
            with pytest.raises(RpcError, match="permission denied for client here/bob") as refused:
                await lab.lists(identity(user, "bob"))
            assert refused.value.code is StatusCode.PERMISSION_DENIED
        await lab.reconciler.change(lambda draft, _: draft.put(replace(bob, username="dex:bob")))
        await lab.lists(identity("dex:bob", "bob"))
        with pytest.raises(RpcError, match="permission denied"):
            await lab.lists(identity("other:bob", "bob"))
        with pytest.raises(RpcError, match="users of another issuer cannot be named internal:") as refused:
            await lab.lists(identity("internal:client:here:bob:1", "bob"))
        assert refused.value.code is TokenError("").code
        assert reason_of(refused.value) == ReasonCode.TOKEN_UNFIT
        renew = enrolment_pb2.RenewTokenRequest()
        with pytest.raises(RpcError, match="not found"):
            await lab.enrolment.RenewToken(
                renew, metadata=identity("dex:eve", "eve", kind=Kind.EXPORTER).metadata()
            )
        assert [*lab.reconciler.committed.all(Exporter)] == []


async def test_their_tokens_are_not_ours_to_renew_and_are_no_longer_valid_when_they_are_disabled() -> None:
    async with running() as lab:
        ann = identity("dex:ann", "ann")
        await lab.lists(ann)
        before = lab.reconciler.committed.get(Client, Key(HERE, "ann"))
        assert before is not None
        for ask in (
            lab.client.RotateToken(client_pb2.RotateTokenRequest(), metadata=ann.metadata()),
            lab.enrolment.RenewToken(enrolment_pb2.RenewTokenRequest(), metadata=ann.metadata()),
        ):
            with pytest.raises(RpcError, match="another issuer's, which alone can make a new one") as refused:
                await ask
            assert refused.value.code is StatusCode.FAILED_PRECONDITION
        assert lab.reconciler.committed.get(Client, Key(HERE, "ann")) == before
        await lab.reconciler.change(lambda draft, _: draft.put(replace(before, enabled=False)))
        with pytest.raises(RpcError, match="client ann is disabled") as refused:
            await lab.lists(ann)
        assert refused.value.code is StatusCode.PERMISSION_DENIED
