"""A token that was taken away counts no more at once, also for calls that are open."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.testing
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import boards_pb2, lab_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import ClientCall, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.identity import Subject
from jumpstarter_controller.lab import Client, Exporter, ExporterStatus, Key
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.services.objects import NO_TOKEN, OUTGOING_SECONDS
from jumpstarter_controller.store.contract import Change, Written

Taking = Callable[[Lab, lab_pb2.ObjectRequest], Awaitable[object]]


async def deleted(lab: Lab, whom: lab_pb2.ObjectRequest) -> None:
    await lab.admin.Delete(whom)


async def rotated(lab: Lab, whom: lab_pb2.ObjectRequest) -> None:
    await lab.admin.Rotate(whom)


ONE_GOES = lab_pb2.ObjectRequest(kind="Exporter", namespace="default", name="one")
ANN_GOES = lab_pb2.ObjectRequest(kind="Client", namespace="default", name="ann")


Open = ClientCall[pb.StatusRequest, pb.StatusResponse] | ClientCall[pb.ListenRequest, pb.ListenResponse]


@asynccontextmanager
async def opened(lab: Lab, which: str, one: Identity) -> AsyncIterator[Open]:
    if which == "Status":
        async with lab.controller.Status(pb.StatusRequest(), metadata=one.metadata()) as status:
            assert (await status.receive()).lease_name == "mine"
            yield status
    else:
        request = pb.ListenRequest(lease_name="mine")
        async with lab.controller.Listen(request, metadata=one.metadata()) as listen:
            await listen.initial_metadata()
            yield listen


async def to_the_end(call: Open) -> None:
    async for _ in call:
        pass


@pytest.mark.parametrize("taken", [deleted, rotated])
@pytest.mark.parametrize("which", ["Status", "Listen"])
async def test_an_open_stream_of_an_exporter_ends(lab: Lab, which: str, taken: Taking) -> None:
    one = await lab.made(Kind.EXPORTER, ONE)
    await lab.leased(await lab.made(Kind.CLIENT, ANN), one)
    async with opened(lab, which, one) as call:
        await taken(lab, ONE_GOES)
        with pytest.raises(RpcError, match="was deleted or has a new token") as caught:
            await to_the_end(call)
    assert caught.value.code is StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("which", ["Status", "Listen"])
async def test_an_open_stream_ends_with_its_token(
    lab: Lab, which: str, autojump_clock: trio.testing.MockClock
) -> None:
    await lab.made(Kind.EXPORTER, ONE)
    record = lab.reconciler.committed.get(Exporter, ONE)
    assert record is not None
    token, _ = lab.issuer.issue(Subject(Kind.EXPORTER, *ONE, record.uid), 310.0)
    one = lab.identity(token, Kind.EXPORTER, ONE)
    await lab.leased(await lab.made(Kind.CLIENT, ANN), one)
    async with opened(lab, which, one) as call:
        with pytest.raises(
            RpcError, match=r"token is expired; .* admin pair exporter NAME --renew\), and enrol"
        ):
            await to_the_end(call)
    assert 309 <= trio.current_time() <= 311, "and not when it is looked at again"


@pytest.mark.parametrize("taken", [deleted, rotated])
async def test_a_dial_that_waits_is_refused(lab: Lab, taken: Taking) -> None:
    one, ann = await lab.made(Kind.EXPORTER, ONE), await lab.made(Kind.CLIENT, ANN)
    name = await lab.leased(ann, one)
    ends: list[RpcError] = []

    async def dial() -> None:
        with pytest.raises(RpcError) as caught:
            await lab.controller.Dial(pb.DialRequest(lease_name=name), metadata=ann.metadata())
        ends.append(caught.value)

    async with (
        lab.controller.Listen(pb.ListenRequest(lease_name=name), metadata=one.metadata()) as listen,
        trio.open_nursery() as nursery,
    ):
        await listen.initial_metadata()
        nursery.start_soon(dial)
        await trio.testing.wait_all_tasks_blocked()
        await taken(lab, ANN_GOES)
        await lab.report(one, "LEASE_READY")
    assert [error.code for error in ends] == [StatusCode.UNAUTHENTICATED]
    with pytest.raises(RpcError, match=r"permission denied|not found"):
        await lab.controller.Dial(pb.DialRequest(lease_name=name), metadata=ann.metadata())


async def transferred(lab: Lab, ann: Identity, lease: str) -> None:
    await lab.made(Kind.CLIENT, Key("default", "bob"))
    theirs = client_pb2.Lease(name=lease, client="namespaces/default/clients/bob")
    await lab.client.UpdateLease(client_pb2.UpdateLeaseRequest(lease=theirs), metadata=ann.metadata())


async def released(lab: Lab, ann: Identity, lease: str) -> None:
    await lab.client.DeleteLease(client_pb2.DeleteLeaseRequest(name=lease), metadata=ann.metadata())


@pytest.mark.parametrize(("lost", "why"), [(transferred, "the lease is bob's now"), (released, "has ended")])
async def test_a_dial_that_waits_is_refused_when_the_lease_is_not_its_clients_any_more(
    lab: Lab, lost: Callable[[Lab, Identity, str], Awaitable[None]], why: str
) -> None:
    one, ann = await lab.made(Kind.EXPORTER, ONE), await lab.made(Kind.CLIENT, ANN)
    name = await lab.leased(ann, one)

    async def dial() -> None:
        with pytest.raises(RpcError, match=why):
            await lab.controller.Dial(pb.DialRequest(lease_name=name), metadata=ann.metadata())

    async with (
        lab.controller.Listen(pb.ListenRequest(lease_name=name), metadata=one.metadata()) as listen,
        trio.open_nursery() as nursery,
    ):
        await listen.initial_metadata()
        nursery.start_soon(dial)
        await trio.testing.wait_all_tasks_blocked()
        await lost(lab, ann, f"namespaces/default/leases/{name}")
        await lab.report(one, "LEASE_READY")


@contextmanager
def waiting_disk(lab: Lab) -> Iterator[threading.Event]:
    """Nothing is written before that is set."""
    may_write = threading.Event()
    store = lab.reconciler._store_sync._store
    commit = store.commit

    def wait(changes: Sequence[Change]) -> Sequence[Written]:
        may_write.wait(20)
        return commit(changes)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "commit", wait)
        yield may_write


async def renews(lab: Lab, ann: Identity) -> None:
    await lab.client.RotateToken(client_pb2.RotateTokenRequest(), metadata=ann.metadata())


async def registers(lab: Lab, pi4: Identity) -> None:
    await lab.boards.RegisterBoard(boards_pb2.RegisterBoardRequest(name="pi4"), metadata=pi4.metadata())


async def retires(lab: Lab, pi4: Identity) -> None:
    await lab.boards.RetireBoard(boards_pb2.RetireBoardRequest(name="pi4"), metadata=pi4.metadata())


@pytest.mark.parametrize("taken", [deleted, rotated])
@pytest.mark.parametrize(
    ("kind", "asks"), [(Kind.CLIENT, renews), (Kind.HOST, registers), (Kind.HOST, retires)]
)
async def test_who_asks_while_their_token_is_taken_away_gets_nothing(
    lab: Lab, taken: Taking, kind: Kind, asks: Callable[[Lab, Identity], Awaitable[None]]
) -> None:
    whom = lab_pb2.ObjectRequest(kind=kind.value, namespace="default", name="pi4")
    identity = await lab.made(kind, Key("default", "pi4"))
    if asks is retires:
        await registers(lab, identity)
    ends: list[StatusCode] = []

    async def ask() -> None:
        with pytest.raises(RpcError) as refused:
            await asks(lab, identity)
        ends.append(refused.value.code)

    with waiting_disk(lab) as may_write:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taken, lab, whom)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            may_write.set()
    assert ends == [StatusCode.UNAUTHENTICATED]


async def test_a_deleted_clients_lease_ends(lab: Lab) -> None:
    one, ann = await lab.made(Kind.EXPORTER, ONE), await lab.made(Kind.CLIENT, ANN)
    await lab.leased(ann, one)
    await deleted(lab, ANN_GOES)
    assert lab.reconciler.committed.open_leases() == []


async def test_a_client_renews_its_own_token_and_keeps_its_lease(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    one, ann = await lab.made(Kind.EXPORTER, ONE), await lab.made(Kind.CLIENT, ANN)
    name = await lab.leased(ann, one)
    request = client_pb2.RotateTokenRequest(parent="namespaces/default")
    reply = await lab.client.RotateToken(request, metadata=ann.metadata())
    assert reply.expiry.ToSeconds() > 300 * 86400
    lease = client_pb2.GetLeaseRequest(name=f"namespaces/default/leases/{name}")
    renewed = lab.identity(reply.token, Kind.CLIENT, ANN)
    for token in (renewed, ann):
        assert (await lab.client.GetLease(lease, metadata=token.metadata())).exporter
    await trio.sleep(OUTGOING_SECONDS)
    with pytest.raises(RpcError, match="permission denied for client default/ann"):
        await lab.client.GetLease(lease, metadata=ann.metadata())
    assert (await lab.client.GetLease(lease, metadata=renewed.metadata())).exporter


async def test_an_admin_ends_all_tokens_also_those_that_were_renewed(lab: Lab) -> None:
    ann = await lab.made(Kind.CLIENT, ANN)
    reply = await lab.client.RotateToken(client_pb2.RotateTokenRequest(), metadata=ann.metadata())
    await rotated(lab, ANN_GOES)
    leases = client_pb2.ListLeasesRequest(parent="namespaces/default")
    for token in (ann, lab.identity(reply.token, Kind.CLIENT, ANN)):
        with pytest.raises(RpcError, match="permission denied for client default/ann"):
            await lab.client.ListLeases(leases, metadata=token.metadata())


async def test_all_who_renew_one_token_get_one_that_counts(lab: Lab) -> None:
    """An answer that got lost can be asked for again."""
    ann = await lab.made(Kind.CLIENT, ANN)
    tokens: list[str] = []

    async def rotate() -> None:
        reply = await lab.client.RotateToken(client_pb2.RotateTokenRequest(), metadata=ann.metadata())
        tokens.append(reply.token)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(rotate)
    record = lab.reconciler.committed.get(Client, ANN)
    assert record is not None
    assert {lab.issuer.verify(token)[0].uid for token in tokens} == {record.uid}
    assert len(tokens) == 4


async def test_an_exporter_without_a_token_is_offline_at_once_until_it_has_a_new_one(lab: Lab) -> None:
    one, ann = await lab.made(Kind.EXPORTER, ONE), await lab.made(Kind.CLIENT, ANN)

    def state() -> tuple[ExporterStatus, str]:
        record = lab.reconciler.committed.get(Exporter, ONE)
        assert record is not None
        return record.status, record.status_message

    await lab.controller.Register(
        pb.RegisterRequest(reports=[pb.DriverInstanceReport(uuid="1")]), metadata=one.metadata()
    )
    await lab.report(one, "AVAILABLE")
    assert state()[0] is ExporterStatus.AVAILABLE
    renewed = await lab.admin.Rotate(ONE_GOES)
    assert state() == (ExporterStatus.OFFLINE, NO_TOKEN)
    request = client_pb2.CreateLeaseRequest(
        parent="namespaces/default",
        lease=client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600)),
    )
    lease = await lab.client.CreateLease(request, metadata=ann.metadata())
    assert not lease.exporter
    again = lab.identity(renewed.token, Kind.EXPORTER, ONE)
    async with lab.controller.Status(pb.StatusRequest(), metadata=again.metadata()):
        await lab.report(again, "AVAILABLE")
        await trio.testing.wait_all_tasks_blocked()
        named = client_pb2.GetLeaseRequest(name=lease.name)
        assert (await lab.client.GetLease(named, metadata=ann.metadata())).exporter
