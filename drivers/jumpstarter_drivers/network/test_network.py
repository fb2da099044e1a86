"""Connections end to end: a user's stream, the exporter, a server on the loopback interface."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.adapters import tcp_portforward
from jumpstarter_client.errors import DriverError, DriverInvalidArgument
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.network import steps
from jumpstarter_drivers.network.driver import EchoNetwork, TcpNetwork, UdpNetwork, UnixNetwork
from jumpstarter_drivers.testing import serve, serve_async


async def shout(stream: trio.SocketStream) -> None:
    """A service that answers in capitals and hangs up after its client."""
    async with stream:
        async for data in stream:
            await stream.send_all(data.upper())


@asynccontextmanager
async def tcp_service() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, shout, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def everything(stream: Any, size: int | None = None) -> bytes:
    data = b""
    with trio.fail_after(10):
        while size is None or len(data) < size:
            chunk = await stream.receive_some()
            if not chunk:
                break
            data += chunk
    return data


async def test_each_stream_is_a_connection() -> None:
    async with (
        tcp_service() as port,
        serve_async(TcpNetwork(host="127.0.0.1", port=port)) as client,
        client.stream_async("connect") as one,
        client.stream_async("connect") as two,
    ):
        await one.send_all(b"one")
        await two.send_all(b"two")
        assert await everything(two, 3) == b"TWO"
        assert await everything(one, 3) == b"ONE"


async def test_a_text_that_a_service_sends_in_pieces_is_waited_for_as_long_as_it_says_more() -> None:
    async def greet(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"wel")
            await trio.sleep(0.05)  # so that they come apart
            await stream.send_all(b"come")
            await stream.receive_some()

    async def answer(expect: str) -> object:
        async with serve_async(TcpNetwork(host="127.0.0.1", port=port)) as client:
            with trio.fail_after(10):
                return await steps.exchange.function(client, None, expect=expect)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, greet, listeners)
        assert await answer("welcome") == "welcome"
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def leave(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.send_all(b"bye")

        nursery.start_soon(trio.serve_listeners, leave, listeners)
        with pytest.raises(JumpstarterError, match=r"closed the connection after b'bye', without 'welcome'"):
            await answer("welcome")
        nursery.cancel_scope.cancel()


async def test_end_of_input_reaches_the_service_and_its_answer_comes_back() -> None:
    async with (
        tcp_service() as port,
        serve_async(TcpNetwork(host="127.0.0.1", port=port)) as client,
        client.stream_async("connect") as stream,
    ):
        await stream.send_all(b"last words")
        await stream.send_eof()
        assert await everything(stream) == b"LAST WORDS"


class ReadsOn:
    """A service that says its greeting, hangs up its own side at once, and reads on, slowly."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.got = bytearray()
        self.end = "none"
        self.over = trio.Event()

    async def __call__(self, stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(self.greeting)
            await stream.send_eof()
            try:
                async for data in stream:
                    self.got += data
                    await trio.sleep(0.001)
                self.end = "end"
            except trio.BrokenResourceError:
                self.end = "reset"
        self.over.set()


@asynccontextmanager
async def forwarded(
    service: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[tuple[str, int]]:
    """The address of a local port that leads to that service, which goes on until its connections have ended."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(20):
        async with trio.open_nursery() as connections, trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, handler_nursery=connections), service, listeners)
            async with (
                serve_async(TcpNetwork(host="127.0.0.1", port=port)) as client,
                tcp_portforward(client) as address,
            ):
                yield address
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("greeting", [b"", b"220 ready"])
@pytest.mark.parametrize("stays", [True, False])
async def test_a_service_that_hangs_up_its_side_first_gets_all_of_the_other(
    greeting: bytes, stays: bool
) -> None:
    service = ReadsOn(greeting)
    data = os.urandom(5_000_000)
    async with forwarded(service) as (host, port):
        async with await trio.open_tcp_stream(host, port) as stream:
            assert await everything(stream) == greeting
            await stream.send_all(data)
        # Who forwards and leaves at once waits for what was accepted, too.
        if stays:
            await service.over.wait()
    assert service.end == "end"
    assert service.got == data


async def test_a_service_that_dies_resets_the_local_connection_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def die(stream: trio.SocketStream) -> None:
        await stream.send_all(b"half of the")
        await stream.receive_some(1)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(bytes(1_000_000))
        await everything(stream)

    async with forwarded(die) as (host, port), await trio.open_tcp_stream(host, port) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await talk(stream)
    assert "a connection was reset: " in caplog.text


async def test_a_local_program_that_dies_resets_the_connection_to_the_service() -> None:
    service = ReadsOn(b"")
    async with forwarded(service) as (host, port):
        stream = await trio.open_tcp_stream(host, port)
        await stream.send_all(b"half of the")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        await service.over.wait()
    assert service.end == "reset"


async def test_a_megabyte_arrives_whole() -> None:
    payload = os.urandom(1 << 20)
    async with serve_async(EchoNetwork()) as client, client.stream_async("connect") as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, payload)
            assert await everything(stream, len(payload)) == payload
        await stream.send_eof()
        assert await everything(stream) == b""


def test_echo_from_plain_code() -> None:
    with serve(EchoNetwork()) as client, client.stream() as stream:
        stream.send(b"hello")
        assert stream.receive() == b"hello"


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "service.sock"
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen()
    async with trio.open_nursery() as nursery, serve_async(UnixNetwork(path=str(path))) as client:
        nursery.start_soon(trio.serve_listeners, shout, [trio.SocketListener(listener)])
        async with client.stream_async("connect") as stream:
            await stream.send_all(b"qmp")
            assert await everything(stream, 3) == b"QMP"
        nursery.cancel_scope.cancel()


async def test_a_datagram_is_a_frame() -> None:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as service:
        await service.bind(("127.0.0.1", 0))
        async with (
            serve_async(UdpNetwork(host="127.0.0.1", port=service.getsockname()[1])) as client,
            client.stream_async("connect") as stream,
        ):
            await stream.send_all(b"first")
            await stream.send_all(b"second")
            with trio.fail_after(10):
                data, sender = await service.recvfrom(100)
                assert data == b"first"
                assert await service.recv(100) == b"second"
            await service.sendto(b"a", sender)
            await service.sendto(b"", sender)
            await service.sendto(b"b", sender)
            assert await stream.receive_some() == b"a"
            assert await stream.receive_some() == b"b"


async def test_datagrams_to_nobody_are_lost_as_udp_loses_them() -> None:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as service:
        await service.bind(("127.0.0.1", 0))
        port = service.getsockname()[1]
    async with (
        serve_async(UdpNetwork(host="127.0.0.1", port=port)) as client,
        client.stream_async("connect") as stream,
    ):
        for _ in range(5):
            await stream.send_all(b"anybody?")
        with trio.socket.socket(type=socket.SOCK_DGRAM) as late:
            await late.bind(("127.0.0.1", port))
            await stream.send_all(b"now")
            with trio.fail_after(10):
                while await late.recv(100) != b"now":
                    pass


@pytest.mark.parametrize(
    ("driver", "complaint"),
    [
        (
            TcpNetwork(host="127.0.0.1", port=1),
            "nothing listens on 127.0.0.1 port 1; check that the service runs",
        ),
        (TcpNetwork(host="no-such-host.invalid", port=1), "does not know the host"),
        (UdpNetwork(host="no-such-host.invalid", port=1), "does not know the host"),
        (UnixNetwork(path="/nonexistent/x.sock"), "there is no socket /nonexistent/x.sock"),
    ],
    ids=["refused", "unknown", "unknown-udp", "no-socket"],
)
async def test_nobody_there_is_one_sentence_and_no_more(driver: Any, complaint: str) -> None:
    async with serve_async(driver) as client:
        for _ in range(2):
            with pytest.raises(JumpstarterError, match=complaint) as caught:
                async with client.stream_async("connect") as stream:
                    await stream.receive_some()
            assert "\n" not in str(caught.value)


def test_address() -> None:
    with serve(TcpNetwork(host="127.0.0.1", port=22)) as client:
        assert client.address() == "tcp://127.0.0.1:22"
        assert client.show_address() == "127.0.0.1:22"
        assert client.show_address(host=True) == "127.0.0.1"
        assert client.show_address(port=True) == "22"
        assert client.show_address(host=True, port=True) == "127.0.0.1:22"
    with serve(UdpNetwork(host="::1", port=69)) as client:
        assert client.address() == "udp://[::1]:69"
        assert client.show_address(host=True) == "::1"


def test_address_is_told_only_when_the_configuration_allows() -> None:
    with (
        serve(TcpNetwork(host="127.0.0.1", port=22, enable_address=False)) as client,
        pytest.raises(DriverInvalidArgument, match="keeps the address to itself"),
    ):
        client.address()
    with serve(EchoNetwork()) as client, pytest.raises(DriverError):
        client.address()


@pytest.mark.parametrize(("host", "port"), [("localhost", 0), ("localhost", 65536), ("", 22)])
def test_impossible_addresses_are_refused(host: str, port: int) -> None:
    with pytest.raises(ValueError, match="it takes"):
        TcpNetwork(host=host, port=port)


PROGRAM = """
import sys
from jumpstarter_drivers.network.driver import EchoNetwork
from jumpstarter_drivers.testing import serve
with serve(EchoNetwork()) as client:
    exec(sys.argv[1])
"""


@contextmanager
def forward(action: str) -> Iterator[str]:
    """A forward in its own process, until Ctrl-C; gives what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, action], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def exchange(connection: socket.socket) -> None:
    with connection:
        connection.settimeout(20)
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as said:  # else a failure keeps the connection open
            assert said.read() == b"hello"


def test_forward_tcp_says_where_and_ends_with_ctrl_c() -> None:
    with forward("client.forward_tcp(0)") as where:
        host, _, port = where.strip().rpartition(":")
        for _ in range(2):
            exchange(socket.create_connection((host.strip("[]"), int(port)), 20))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host.strip("[]"), int(port)), 20)


@pytest.mark.parametrize("named", [True, False])
def test_forward_unix_says_where_and_leaves_nothing_behind(tmp_path: Path, named: bool) -> None:
    path = str(tmp_path / "forward.sock") if named else None
    with forward(f"client.forward_unix({path!r})") as where:
        assert path is None or where == path
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(where)
        exchange(connection)
    assert not Path(where).exists()


def test_port_that_is_taken_is_one_sentence() -> None:
    with serve(EchoNetwork()) as client, socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(JumpstarterError, match=r"cannot listen on 127.0.0.1:.* choose another port"):
            client.forward_tcp(number, address="127.0.0.1")
