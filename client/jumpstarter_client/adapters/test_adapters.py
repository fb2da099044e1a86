"""Driver streams as local ports, local sockets and pexpect sessions."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from jumpstarter_proto.byte_streams.router_stream import RouterStream
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_client.adapters import (
    PexpectAdapter,
    TcpPortforwardAdapter,
    UnixPortforwardAdapter,
    tcp_portforward,
    unix_portforward,
)
from jumpstarter_client.base import DriverClient
from jumpstarter_client.conftest import FakeExporter, echo


async def say(stream: trio.abc.HalfCloseableStream, data: bytes) -> bytes:
    """What comes back, to its end."""
    await stream.send_all(data)
    await stream.send_eof()
    return b"".join([piece async for piece in stream])


async def test_each_connection_to_a_port_is_a_stream_of_its_own(
    root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    async with tcp_portforward(root.rpi4.power) as (host, port):
        assert host == "127.0.0.1"
        one, other = [await trio.open_tcp_stream(host, port) for _ in range(2)]
        async with one, other:
            assert await say(one, b"one") == b"one"
            assert await say(other, b"other") == b"other"


async def test_a_port_is_free_again_after_the_block(root: DriverClient, exporter: FakeExporter) -> None:
    exporter.stream = echo
    async with tcp_portforward(root.rpi4.power) as (host, port):
        pass
    with pytest.raises(OSError, match="attempts to connect"):
        await trio.open_tcp_stream(host, port)


async def test_a_port_that_is_taken_is_one_sentence(root: DriverClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(JumpstarterError, match=f"cannot listen on 127.0.0.1:{port}.*another port"):
            async with tcp_portforward(root.rpi4.power, local_port=port):
                pass


async def test_a_stream_that_cannot_be_opened_resets_its_connection_and_no_other(
    root: DriverClient, exporter: FakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        exporter.stream = echo
        raise RpcError(StatusCode.UNAVAILABLE, "the board is off")

    exporter.stream = refuse
    async with tcp_portforward(root.rpi4.power) as (host, port):
        async with await trio.open_tcp_stream(host, port) as refused:
            with pytest.raises(trio.BrokenResourceError):
                await refused.receive_some()
        assert "the board is off" in caplog.text
        async with await trio.open_tcp_stream(host, port) as accepted:
            assert await say(accepted, b"x") == b"x"


async def test_a_unix_socket_is_private_and_gone_afterwards(
    root: DriverClient, exporter: FakeExporter
) -> None:
    exporter.stream = echo
    async with unix_portforward(root.rpi4.power) as path:
        assert os.stat(path).st_mode & 0o077 == 0
        async with await trio.open_unix_socket(path) as local:
            assert await say(local, b"hello") == b"hello"
    assert not path.exists()
    assert not path.parent.exists()


async def test_a_unix_socket_can_be_reached_where_the_folder_of_temporary_files_has_a_long_path(
    root: DriverClient, exporter: FakeExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter.stream = echo
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("d" * 120)))
    async with unix_portforward(root.rpi4.power) as path, await trio.open_unix_socket(path) as local:
        assert await say(local, b"hello") == b"hello"


def test_adapters_in_plain_code(blocking_root: DriverClient, exporter: FakeExporter, tmp_path: Path) -> None:
    exporter.stream = echo
    with (
        TcpPortforwardAdapter(client=blocking_root.rpi4.power) as address,
        socket.create_connection(address, timeout=5) as local,
    ):
        local.sendall(b"tcp")
        assert local.recv(10) == b"tcp"
    with UnixPortforwardAdapter(client=blocking_root.rpi4.power, path=tmp_path / "s") as path:
        assert path == tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as local:
            local.settimeout(5)
            local.connect(str(path))
            local.sendall(b"unix")
            assert local.recv(10) == b"unix"


def test_pexpect_talks_to_a_stream(blocking_root: DriverClient, exporter: FakeExporter) -> None:
    async def board(request: dict[str, Any], call: ServerCall[Any, Any]) -> None:
        await call.send_initial_metadata()
        stream = RouterStream.server(call)
        await stream.send_all(b"login: ")
        name = await stream.receive_some()
        await stream.send_all(b"welcome " + name)
        await stream.send_eof()

    exporter.stream = board
    with PexpectAdapter(client=blocking_root.rpi4.power) as console:
        console.expect("login: ", timeout=5)
        console.sendline("root")
        console.expect("welcome root", timeout=5)


def test_without_pexpect_the_extra_is_named(
    blocking_root: DriverClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pexpect.fdpexpect", None)
    with (
        pytest.raises(JumpstarterError, match=r"jumpstarter-sbc\[pexpect\]"),
        PexpectAdapter(client=blocking_root.rpi4.power),
    ):
        pass
