"""How many connections a controller sees of one client."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from jumpstarter_proto.client.v1 import client_grpc
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, Server, ServerCall, StatusCode, server_ssl_context, tcp_listeners

from jumpstarter_client.leasing.configs import ClientConfig
from jumpstarter_client.leasing.controller import Controller


class Leases(client_grpc.ClientServiceServicer):
    """Knows every lease, and where it was asked from."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    async def GetLease(  # noqa: N802
        self, request: pb.GetLeaseRequest, call: ServerCall[pb.GetLeaseRequest, pb.Lease]
    ) -> pb.Lease:
        self.peers.append(call.peer)
        return pb.Lease(name=request.name)


class Lab:
    """A controller that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        file = folder / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
        self._context = server_ssl_context(file, file)
        self._ca = base64.b64encode(authority.cert_pem.bytes()).decode()
        self._port = 0
        self.service = Leases()

    async def serve(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        listeners = await tcp_listeners("localhost", self._port, ssl_context=self._context)
        self._port = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await Server([self.service]).serve(listeners[:1])

    def controller(self) -> Controller:
        identity = Identity(Kind.CLIENT, "lab", "ann", "token")
        return Controller(ClientConfig(f"localhost:{self._port}", identity, Trust(ca=self._ca)))


async def ask(controller: Controller, times: int) -> None:
    for _ in range(times):
        async with controller.open() as calls:
            await calls.get_lease("one")


async def test_what_is_kept_open_is_used_until_it_is_lost(nursery: trio.Nursery, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    first = await nursery.start(lab.serve)
    controller = lab.controller()
    await ask(controller, 2)
    assert len(set(lab.service.peers)) == 2, "nothing is kept outside of the block"
    async with controller.kept_open():
        lab.service.peers.clear()
        await ask(controller, 3)
        assert len(set(lab.service.peers)) == 1
        first.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await nursery.start(lab.serve)
        lab.service.peers.clear()
        await ask(controller, 2)
        assert len(set(lab.service.peers)) == 2
    lab.service.peers.clear()
    async with controller.kept_open():
        await ask(controller, 1)
        controller.let_go()
        await ask(controller, 1)
    assert len(set(lab.service.peers)) == 2
    nursery.cancel_scope.cancel()


async def test_what_fails_in_the_block_stays_as_it_is(nursery: trio.Nursery, tmp_path: Path) -> None:
    """The words of a driver's error mean nothing of a controller."""
    lab = Lab(tmp_path)
    await nursery.start(lab.serve)
    with pytest.raises(RpcError, match="not found") as caught:
        async with lab.controller().kept_open():
            raise RpcError(StatusCode.UNKNOWN, "the file was not found")
    assert caught.value.exit_code == RpcError(StatusCode.UNKNOWN).exit_code
    nursery.cancel_scope.cancel()
