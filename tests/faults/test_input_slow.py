"""Thousands of peers that begin a request and never finish it: few are accepted, and valid clients continue."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import Options, RpcError
from jumpstarter_proto.rpc._connection import GrpcConnection

from tests.faults.attackers import PREFACE, SETTINGS, closed_on_error, tcp, tls
from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller

pytestmark = pytest.mark.timeout(400)
MEBIBYTE = 1024 * 1024
MANY = 2000
MOST_GROWN = 128 * MEBIBYTE
PATH = "/jumpstarter.client.v1.ClientService/ListLeases"


@pytest.fixture
def lab() -> Iterator[Controller]:
    with tempfile.TemporaryDirectory(prefix="slow-") as home, controller(Path(home)) as made:
        yield made


async def silent(port: int) -> trio.abc.Stream:
    """TCP and nothing more."""
    return await tcp(port)


async def half_a_handshake(port: int) -> trio.abc.Stream:
    """The beginning of a ClientHello."""
    stream = await tcp(port)
    async with closed_on_error(stream):
        await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
    return stream


async def half_a_preface(port: int) -> trio.abc.Stream:
    """TLS, and half of what HTTP/2 begins with."""
    stream = await tls(port)
    async with closed_on_error(stream):
        await stream.send_all(PREFACE[:10])
    return stream


async def calls_without_messages(port: int) -> trio.abc.Stream:
    """Calls that are opened, and a message of which a piece comes."""
    stream = await tls(port)
    client = GrpcConnection(client=True, options=Options())
    client.start()
    for _ in range(20):
        number = client.start_call(PATH, scheme="https", authority="x", timeout=None, metadata=())
        client.send_data(number, b"\0\0\1\0\0" + bytes(8000))
    with suppress(trio.BrokenResourceError):
        await stream.send_all(client.take())
    return stream


async def deaf(port: int) -> trio.abc.Stream:
    """Asks for answers and reads none."""
    stream = await tls(port)
    pings = b"".join(b"\0\0\x08\6\0\0\0\0\0" + bytes(8) for _ in range(3000))
    with suppress(trio.BrokenResourceError), trio.move_on_after(2):
        await stream.send_all(PREFACE + SETTINGS + pings)
    return stream


async def ask(lab: Controller, good: lab_pb2.Credential) -> None:
    """A call of a good client on a connection of its own."""
    async with lab.client(good) as stub:
        await stub.ListLeases(client_pb2.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)


def open_files(lab: Controller) -> int:
    return len(list(Path(f"/proc/{lab.pid}/fd").iterdir()))


async def attack(lab: Controller, kinds: dict[Callable[[int], Awaitable[trio.abc.Stream]], int]) -> None:
    # Sockets that the controller has closed are still open here.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(3 * MANY, hard)), hard))
    good = await lab.create(Kind.CLIENT, "good")
    before, files = lab.resident(), open_files(lab)
    held: list[trio.abc.Stream] = []
    asked = 0

    async def hold(kind: Callable[[int], Awaitable[trio.abc.Stream]]) -> None:
        # Refused at once is as good as refused later.
        with suppress(OSError, trio.BrokenResourceError):
            held.append(await kind(lab.port))

    async def go_on() -> None:
        nonlocal asked
        while True:
            # While thousands knock, the kernel drops who knocks at a full queue, and each waits longer the next time.
            with suppress(RpcError):
                await ask(lab, good)
                asked += 1
            await trio.sleep(0.05)

    try:
        async with lab.client(good) as stub, trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            for kind, count in kinds.items():
                for _ in range(count):
                    nursery.start_soon(hold, kind)
            many = sum(kinds.values()) * 9 // 10
            with trio.fail_after(60):
                while open_files(lab) - files < many:
                    await trio.sleep(0.05)
            grown = lab.resident() - before
            assert grown < MOST_GROWN, f"{grown / MEBIBYTE:.0f} MiB more than before"
            # One who was there before, and one who comes now.
            await stub.ListLeases(client_pb2.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)
            done = asked
            with trio.fail_after(60):
                while asked < done + 6:
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    finally:
        for stream in held:
            await trio.aclose_forcefully(stream)
    with trio.fail_after(60):
        while open_files(lab) > files + 5:
            await trio.sleep(0.1)


def test_thousands_that_are_silent(lab: Controller) -> None:
    trio.run(attack, lab, {silent: MANY, half_a_handshake: MANY})


def test_who_begins_and_does_not_go_on(lab: Controller) -> None:
    trio.run(attack, lab, {half_a_preface: 50, calls_without_messages: 50, deaf: 20})
    log = (lab.log / "jumpstarter-controller.log").read_text()
    assert "Traceback" not in log
    assert log.count("closed the connection of") < 20, "it floods the log"
