"""Who may change what a host serves, or hears where it is: root and the exporter's own user, not all who use it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_proto.lab.v1.host_grpc import HOST_SERVICE_LIST_BOARDS, HostServiceServicer
from jumpstarter_proto.rpc import Channel, Method, RpcError, StatusCode, connect_tcp, open_channel

from jumpstarter_exporter.serve.network import Network
from tests.support.served_host import POWER, ServedHost, listed

CHANGES = [method for method in HostServiceServicer.METHODS if method is not HOST_SERVICE_LIST_BOARDS]
NOBODY = 65534
CONNECT = (
    "import os, socket\n"
    "connection = socket.socket(socket.AF_UNIX)\n"
    f"os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
    "connection.connect('exporter.sock')\n"
    "with socket.socket(fileno=0) as parent:\n"
    "    socket.send_fds(parent, [b'.'], [connection.fileno()])\n"
)


def connected_as_nobody(door: Path) -> socket.socket:
    """A connection that another user of this host has made, who may use the socket, as a member of its group does."""
    door.parent.chmod(0o755)
    door.chmod(0o666)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # In its folder, as not all folders above are open to others.
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", CONNECT], cwd=door.parent, stdin=theirs.fileno(), check=True
        )
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptor)


@asynccontextmanager
async def another_user(door: Path) -> AsyncIterator[Channel]:
    connection = await trio.to_thread.run_sync(connected_as_nobody, door)
    async with open_channel(trio.SocketStream(trio.socket.from_stdlib_socket(connection))) as channel:
        yield channel


async def refused(user: Channel, method: Method[Any, Any]) -> None:
    """It is, though they may ask what there is, and nothing has changed."""
    before = await listed(user)
    with pytest.raises(RpcError, match="only root and the exporter's own user, on its host") as raised:
        await user.unary(method, method.request_type())
    assert raised.value.code is StatusCode.PERMISSION_DENIED
    assert await listed(user) == before


@pytest.mark.skipif(os.getuid() != 0, reason="missing: root, who may become another user")
@pytest.mark.parametrize("method", CHANGES, ids=lambda method: method.name)
async def test_another_user_of_the_host_changes_nothing(host: ServedHost, method: Method[Any, Any]) -> None:
    host.write("rpi4")
    async with host.running(), another_user(host.door) as user:
        await refused(user, method)


@asynccontextmanager
async def user_of_the_network(
    host: ServedHost, capsys: pytest.CaptureFixture[str], *, leads: bool = False
) -> AsyncIterator[tuple[Channel, Channel]]:
    """One, and the door."""
    async with host.running(leads=leads, network=Network("127.0.0.1", 0)) as door:
        said = ""
        while "127.0.0.1:" not in said:
            await trio.sleep(0.01)
            said += capsys.readouterr().out
        port = int(said.rpartition("127.0.0.1:")[2].split()[0])
        async with open_channel(await connect_tcp("127.0.0.1", port)) as user:
            yield user, door


@pytest.mark.parametrize("method", CHANGES, ids=lambda method: method.name)
async def test_a_user_of_the_network_changes_nothing(
    host: ServedHost, method: Method[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("rpi4")
    async with user_of_the_network(host, capsys) as (user, _):
        await refused(user, method)


async def test_a_user_of_the_network_is_not_told_where_the_host_has_its_files_and_sockets(
    host: ServedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("rpi4")
    host.write("own", f"ownProcess: true\n{POWER}")
    async with user_of_the_network(host, capsys, leads=True) as (user, door):
        here, there = await listed(door), await listed(user)
        assert set(here) == set(there) == {"rpi4", "own"}
        assert all(str(host.folder) in board.file for board in here.values())
        assert not any(str(host.home) in str(board) for board in there.values())
        assert "to users of its host only" in there["own"].problem
