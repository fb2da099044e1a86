"""10,000 invalid requests: each is answered or disconnected, memory stays limited, and valid clients continue."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio
from google.protobuf.duration_pb2 import Duration
from jumpstarter_proto.client.v1 import client_grpc, client_pb2
from jumpstarter_proto.lab.v1 import enrolment_grpc, lab_pb2
from jumpstarter_proto.remote import Kind, open_controller
from jumpstarter_proto.rpc import Channel, Metadata, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_grpc

from tests.faults.attackers import PREFACE, SETTINGS, Raw, method, tcp, tls, until_closed
from tests.faults.controllers import CALL_SECONDS, PARENT, Controller, controller, trust_of
from tests.interop.exporters import free_port

pytestmark = pytest.mark.timeout(400)
MEBIBYTE = 1024 * 1024
MOST_GROWN = 96 * MEBIBYTE
METHODS = [
    one.path
    for service in (
        client_grpc.ClientServiceServicer,
        jumpstarter_grpc.ControllerServiceServicer,
        enrolment_grpc.EnrolmentServiceServicer,
    )
    for one in service.METHODS
    if not one.cardinality.streams_requests and not one.cardinality.streams_responses
]


@pytest.fixture
def lab() -> Iterator[Controller]:
    router = f"127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory(prefix="garbage-") as home,
        controller(Path(home), more=["--with-router", "--router-listen", router]) as made,
    ):
        yield made


class Garbage:
    """Requests from a fixed seed; `count` is how many were made."""

    def __init__(self, lab: Controller, ann: lab_pb2.Credential) -> None:
        self.lab = lab
        self.ann = ann
        self.random = random.Random(10_000)
        self.count = 0
        self.answers: set[StatusCode] = set()
        self.ports = [lab.port, int(lab.more[-1].rpartition(":")[2])]

    def noise(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randrange(most))

    def message(self) -> bytes:
        """Noise, or something that is nearly a message: fields of its kinds with noise in them."""
        if self.random.random() < 0.3:
            return self.noise(300)
        parts = []
        for _ in range(self.random.randrange(6)):
            inner = self.noise(60) if self.random.random() < 0.5 else str(self.random.random()).encode()
            tag = self.random.randrange(1, 12) << 3
            parts.append(
                bytes([tag | 2, len(inner)]) + inner
                if self.random.random() < 0.8
                else bytes([tag, self.random.randrange(128)])
            )
        return b"".join(parts)

    def metadata(self) -> Metadata:
        words = [
            "authorization",
            "jumpstarter-namespace",
            "jumpstarter-kind",
            "jumpstarter-name",
            "x",
            "y-bin",
        ]
        found: list[tuple[str, str | bytes]] = []
        for _ in range(self.random.randrange(6)):
            word = self.random.choice(words)
            text = "".join(chr(self.random.randrange(32, 127)) for _ in range(self.random.randrange(200)))
            found.append((word, self.noise(100) if word.endswith("-bin") else text.strip() or "Bearer x"))
        return found

    async def call(self, channel: Channel, path: str, data: bytes, metadata: Metadata = ()) -> None:
        """It is answered, whatever it is."""
        self.count += 1
        code, details = StatusCode.OK, "fine"
        try:
            await channel.unary(method(path), Raw(data), timeout=CALL_SECONDS, metadata=metadata)
        except RpcError as error:
            code, details = error.code, error.details
        assert code is not StatusCode.DEADLINE_EXCEEDED, (path, data)
        assert details, "no sentence"
        self.answers.add(code)

    async def messages(self) -> None:
        """Of a client that is known: what it sends is read."""
        async with self.lab.channel(self.ann) as channel:
            for _ in range(5000):
                await self.call(channel, self.random.choice(METHODS), self.message())

    async def strangers(self) -> None:
        """Of nobody known: any metadata, any method."""
        for _ in range(60):
            async with open_controller(self.lab.endpoint, trust_of(self.ann), None) as channel:
                for _ in range(60):
                    path = self.random.choice(
                        [*METHODS, "/x/y", "/", "", "/jumpstarter.v1.RouterService/Stream"]
                    )
                    await self.call(channel, path or "/no", self.message(), self.metadata())

    async def bytes_in_tls(self) -> None:
        """No HTTP/2, or what begins like it."""
        starts = [
            b"",
            PREFACE,
            PREFACE + SETTINGS,
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ]
        for number in range(900):
            self.count += 1
            stream = await tls(self.ports[number % 2])
            start = starts[number % len(starts)]
            try:
                await stream.send_all(start + self.noise(2000) + (b"" if start else b"\xff" * 24))
                await stream.transport_stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            await until_closed(stream)
            await trio.aclose_forcefully(stream)

    async def giant_headers(self) -> None:
        async with open_controller(self.lab.endpoint, trust_of(self.ann), None) as channel:
            for _ in range(10):
                with pytest.raises(RpcError):
                    await self.call_giant(channel)

    async def call_giant(self, channel: Channel) -> None:
        self.count += 1
        metadata = [(f"x-{number}", "v" * 8000) for number in range(40)]
        await channel.unary(method(METHODS[0]), Raw(), timeout=CALL_SECONDS, metadata=metadata)

    async def no_tls(self) -> None:
        """Plain TCP, and TLS that only looks."""
        for number in range(500):
            self.count += 1
            if number % 2:
                stream: trio.abc.HalfCloseableStream = await tcp(self.ports[number % 4 // 2])
                await stream.send_all(self.noise(500) + b"GET / HTTP/1.0\r\n\r\n")
                await stream.send_eof()
                await until_closed(stream)
                await stream.aclose()
            else:
                secure = await tls(self.ports[number % 4 // 2], alpn=None)
                await trio.aclose_forcefully(secure)


async def good_client(
    lab: Controller, ann: lab_pb2.Credential, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Works all the time."""
    task_status.started()
    while True:
        async with lab.client(ann) as stub:
            for _ in range(20):
                name = f"good-{random.randrange(10**12)}"
                lease = client_pb2.Lease(selector="board=none", duration=Duration(seconds=60))
                request = client_pb2.CreateLeaseRequest(parent=PARENT, lease_id=name, lease=lease)
                made = await stub.CreateLease(request, timeout=CALL_SECONDS)
                assert made.conditions[-1].reason == "NoAccess"
                await trio.sleep(0.02)


async def attack(
    lab: Controller, works: Callable[[Garbage], Sequence[Callable[[], Awaitable[None]]]]
) -> Garbage:
    ann = await lab.create(Kind.CLIENT, "ann")
    good = await lab.create(Kind.CLIENT, "good")
    async with lab.client(ann) as stub:
        await stub.ListLeases(client_pb2.ListLeasesRequest(parent=PARENT), timeout=CALL_SECONDS)
    before = lab.resident()
    garbage = Garbage(lab, ann)
    async with trio.open_nursery() as nursery:
        await nursery.start(good_client, lab, good)
        async with trio.open_nursery() as attacking:
            for work in works(garbage):
                attacking.start_soon(work)
        nursery.cancel_scope.cancel()
    grown = lab.resident() - before
    assert grown < MOST_GROWN, f"{grown / MEBIBYTE:.0f} MiB more than before"
    return garbage


def test_ten_thousand_requests_of_garbage(lab: Controller) -> None:
    garbage = trio.run(
        attack,
        lab,
        lambda it: [it.messages, it.strangers, it.bytes_in_tls, it.giant_headers, it.no_tls],
    )
    assert garbage.count >= 10_000
    assert {StatusCode.INTERNAL, StatusCode.UNAUTHENTICATED, StatusCode.UNIMPLEMENTED} <= garbage.answers
    log = (lab.log / "jumpstarter-controller.log").read_text()
    assert "Traceback" not in log
    assert all(line.isprintable() for line in log.splitlines())
