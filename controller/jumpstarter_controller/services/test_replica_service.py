"""Controllers of a lab hand connections to each other over TLS, and to nobody else."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from jumpstarter_proto.lab.v1 import replicas_pb2 as pb
from jumpstarter_proto.rpc import RpcError, Server, StatusCode
from jumpstarter_proto.v1.jumpstarter_pb2 import ListenResponse

from jumpstarter_controller.identity import Authenticator, TokenIssuer
from jumpstarter_controller.lab import Client, Draft, Exporter, Key, Lease
from jumpstarter_controller.process.certificates import Certificate, replica_certificate
from jumpstarter_controller.process.serving import listen, reachable
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.replicas import Members, ReplicaRecord, peers
from jumpstarter_controller.replicas.peers import Peers, peer_server_context
from jumpstarter_controller.services import CallAuthenticator, ExporterStreams
from jumpstarter_controller.services.conftest import SIGNING
from jumpstarter_controller.services.dial_queues import MAX_WAITING_CONNECTIONS, DialQueues
from jumpstarter_controller.services.exporter_sessions import ExporterSessions
from jumpstarter_controller.services.rendezvous import Rendezvous
from jumpstarter_controller.services.replica_service import ReplicaService
from jumpstarter_controller.services.test_exporter_sessions import call
from jumpstarter_controller.store import MemoryStore

LEASE = Key("lab", "mine")


def connection(number: int) -> ListenResponse:
    return ListenResponse(router_endpoint="router:1", router_token=f"token-{number}")


@asynccontextmanager
async def replica(
    certificate: Certificate, address: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[str, ExporterSessions, DialQueues, Reconciler]]:
    """One that others reach, and where."""
    reconciler, listening, instances = (
        Reconciler(MemoryStore(), replica="other"),
        DialQueues(),
        ExporterSessions(),
    )
    service = ReplicaService(reconciler, listening, instances)
    listeners = await listen(address, None, peer_server_context(certificate))
    async with trio.open_nursery() as nursery:
        await nursery.start(reconciler.run)
        await nursery.start(Server([service]).serve, listeners)
        yield reachable(address, listeners), instances, listening, reconciler
        nursery.cancel_scope.cancel()


def peers_at(certificate: Certificate, **addresses: str) -> Peers:
    members = Members("me", trio.current_time)
    members.observe({name: ReplicaRecord(address, "1") for name, address in addresses.items()})
    return Peers(members, certificate)


async def test_a_connection_goes_to_where_the_exporter_listens(tmp_path: Path) -> None:
    certificate = replica_certificate(tmp_path)
    async with replica(certificate) as (address, _, there, _):
        here = DialQueues()
        dead = "127.0.0.1:1"
        meeting = Rendezvous(here, peers_at(certificate, other=address, dead=dead))
        listener = there.listen(LEASE)
        async with meeting.found(LEASE, 1.0) as push:
            await push(connection(1))
        assert await listener.next() == connection(1)
        assert await meeting.is_listening(LEASE, 0.0)
        for number in range(MAX_WAITING_CONNECTIONS):
            there.push(LEASE, connection(number))
        with pytest.raises(RpcError) as caught:
            async with meeting.found(LEASE, 1.0) as push:
                await push(connection(9))
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED


async def test_who_listens_nowhere_is_waited_for_and_then_it_is_said(tmp_path: Path) -> None:
    certificate = replica_certificate(tmp_path)
    async with replica(certificate) as (address, _, there, _), trio.open_nursery() as nursery:
        here = DialQueues()
        meeting = Rendezvous(here, peers_at(certificate, other=address))
        assert not await meeting.is_listening(LEASE, 0.0)
        with pytest.raises(RpcError) as caught:
            async with meeting.found(LEASE, 0.0) as push:
                await push(connection(1))
        assert caught.value.code is StatusCode.UNAVAILABLE

        async def dial() -> None:
            async with meeting.found(LEASE, 60.0) as push:
                await push(connection(2))

        nursery.start_soon(dial)
        await trio.testing.wait_all_tasks_blocked()
        listener = there.listen(LEASE)
        assert await listener.next() == connection(2)
        nursery.start_soon(dial)
        there.close(LEASE, listener)
        listener = here.listen(LEASE)
        assert await listener.next() == connection(2)


async def test_an_exporter_that_listens_here_now_gets_what_waited_for_it_there(tmp_path: Path) -> None:
    certificate = replica_certificate(tmp_path)
    async with replica(certificate) as (address, _, there, _):
        here = DialQueues()
        meeting = Rendezvous(here, peers_at(certificate, other=address))
        before = there.listen(LEASE, "process")
        for number in range(2):
            there.push(LEASE, connection(number))
        after = here.listen(LEASE, "process")
        here.push(LEASE, connection(2))
        await meeting.take(LEASE, "process")
        assert [await after.next() for _ in range(3)] == [connection(number) for number in range(3)]
        assert await before.next() is None
        assert not there.has(LEASE)


async def test_what_was_handed_over_is_not_lost_with_the_call_that_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = replica_certificate(tmp_path)
    async with replica(certificate) as (address, _, there, _):
        here = DialQueues()
        meeting = Rendezvous(here, peers_at(certificate, other=address))
        there.listen(LEASE, "process")
        for number in range(2):
            there.push(LEASE, connection(number))
        request = trio.Event()
        found = there.take

        def take(lease: Key, process: str) -> list[ListenResponse]:
            request.set()
            return found(lease, process)

        monkeypatch.setattr(there, "take", take)
        async with trio.open_nursery() as call:
            first = here.listen(LEASE, "process")
            call.start_soon(meeting.take, LEASE, "process")
            await request.wait()
            here.close(LEASE, first)
            call.cancel_scope.cancel()
        again = here.listen(LEASE, "process")
        with trio.fail_after(10):
            assert [await again.next() for _ in range(2)] == [connection(number) for number in range(2)]


async def test_a_process_is_served_by_one_controller_only(tmp_path: Path) -> None:
    certificate = replica_certificate(tmp_path)
    async with replica(certificate) as (address, instances, _, _):
        instances.opened(Key("lab", "one"), call("a"))
        async with peers_at(certificate, other=address).reach("other") as peer:
            request = pb.AdmitProcessRequest(namespace="lab", exporter="one", process="a", peer="there")
            await peer.AdmitProcess(request)
            request.process = "b"
            with pytest.raises(RpcError, match="is served by another process already") as caught:
                await peer.AdmitProcess(request)
        assert caught.value.code is StatusCode.ALREADY_EXISTS


async def test_a_controller_that_is_silent_is_waited_for_once_and_asked_again_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "RETRY_SECONDS", 0.05)
    certificate = replica_certificate(tmp_path)
    reconciler = Reconciler(MemoryStore(), replica="me")
    one = Exporter(namespace="lab", name="one", uid="1", replica="other")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody accepts connections
        port = silent.getsockname()[1]
        others = peers_at(certificate, other=f"127.0.0.1:{port}")
        auth = CallAuthenticator(reconciler, Authenticator(TokenIssuer(SIGNING, "lab:1")))
        streams = ExporterStreams(reconciler, auth, others)
        async with trio.open_nursery() as nursery:
            await nursery.start(reconciler.run)
            await reconciler.change(lambda lab, _: lab.put(one))
            monkeypatch.setattr(peers, "CONNECT_SECONDS", 0.2)
            await streams.admit(one.key, call("b"))
            assert not others.answers("other")
            monkeypatch.setattr(peers, "CONNECT_SECONDS", math.inf)
            with trio.fail_after(10):
                for _ in range(3):
                    await streams.admit(one.key, call("b"))
            nursery.cancel_scope.cancel()
    async with (
        replica(certificate, f"127.0.0.1:{port}") as (_, instances, _, _),
        trio.open_nursery() as nursery,
    ):
        instances.opened(one.key, call("a"))
        await nursery.start(others.run)
        with trio.fail_after(10):
            while not others.answers("other"):
                await trio.sleep(0.01)
        with pytest.raises(RpcError, match="is served by another process already"):
            await streams.admit(one.key, call("b"))
        nursery.cancel_scope.cancel()


async def test_who_leads_hears_of_commands_that_wait_elsewhere(tmp_path: Path) -> None:
    certificate = replica_certificate(tmp_path)

    def make(draft: Draft, now: float) -> None:
        draft.put(Client(namespace="lab", name="ann", uid="1"))
        draft.put(Exporter(namespace="lab", name="one", uid="2", devices=1))
        draft.put(Lease(namespace="lab", name="mine", client="ann", selector="", duration=60.0, waited=True))

    async with replica(certificate) as (address, _, _, reconciler):
        await reconciler.change(make)
        lease = reconciler.committed.get(Lease, LEASE)
        assert lease is not None
        async with peers_at(certificate, other=address).reach("other") as peer:
            await peer.NoteWaiters(
                pb.NoteWaitersRequest(waiters=[pb.Waiter(namespace="lab", lease="mine", knows=True)])
            )
        assert reconciler.waiters.is_picked_up(LEASE, reconciler.clock())


def without_certificate(trusted: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(trusted.chain)
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("who", ["stranger", "nobody"])
async def test_nobody_else_is_answered(tmp_path: Path, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    stranger = replica_certificate(tmp_path / "other")
    certificate = replica_certificate(tmp_path)
    async with replica(certificate) as (address, _, _, _):
        peers = peers_at(stranger, other=address)
        if who == "nobody":
            monkeypatch.setattr(peers, "_context", without_certificate(certificate))
        with pytest.raises(RpcError) as caught:
            async with peers.reach("other") as peer:
                await peer.FindListener(pb.FindListenerRequest(namespace="lab", lease="mine"))
        assert caught.value.code is StatusCode.UNAVAILABLE


async def test_a_controller_that_says_wrongly_where_it_is_cannot_be_reached(tmp_path: Path) -> None:
    peers = peers_at(replica_certificate(tmp_path), other="2001:db8::1:8090")
    with pytest.raises(
        RpcError, match=r"other has an invalid address: .* has to stand in brackets"
    ) as caught:
        async with peers.reach("other"):
            pass
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert not await Rendezvous(DialQueues(), peers).is_listening(LEASE, 0.0)
