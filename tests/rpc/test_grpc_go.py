"""gRPC's own interoperability cases with grpc-go, in both directions, in plain text and with TLS.

Left out are the cases that need a cloud's credentials, and compression, which is not agreed on here. What each case
asks for is in gRPC's "Interoperability Test Case Descriptions".
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_proto.rpc import (
    Cardinality,
    Channel,
    Method,
    RpcError,
    Server,
    ServerCall,
    Servicer,
    StatusCode,
    client_ssl_context,
    connect_tcp,
    open_channel,
    server_ssl_context,
    tcp_listeners,
)

from tests.rpc import messages as pb
from tests.rpc.conftest import Certificates
from tests.rpc.service import INITIAL, SPECIAL, TRAILING

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "pick_first_unary",
)
REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)
LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
NAME = "/grpc.testing.TestService"
EMPTY = Method(f"{NAME}/EmptyCall", Cardinality.UNARY_UNARY, pb.Empty, pb.Empty)
UNARY = Method(f"{NAME}/UnaryCall", Cardinality.UNARY_UNARY, pb.SimpleRequest, pb.SimpleResponse)
INPUT = Method(
    f"{NAME}/StreamingInputCall",
    Cardinality.STREAM_UNARY,
    pb.StreamingInputCallRequest,
    pb.StreamingInputCallResponse,
)
OUTPUT = Method(
    f"{NAME}/StreamingOutputCall",
    Cardinality.UNARY_STREAM,
    pb.StreamingOutputCallRequest,
    pb.StreamingOutputCallResponse,
)
DUPLEX = Method(
    f"{NAME}/FullDuplexCall",
    Cardinality.STREAM_STREAM,
    pb.StreamingOutputCallRequest,
    pb.StreamingOutputCallResponse,
)
UNKNOWN_METHOD = Method(f"{NAME}/UnimplementedCall", Cardinality.UNARY_UNARY, pb.Empty, pb.Empty)
UNKNOWN_SERVICE = Method(
    "/grpc.testing.UnimplementedService/UnimplementedCall", Cardinality.UNARY_UNARY, pb.Empty, pb.Empty
)
Call = ServerCall[Any, Any]


class TestService(Servicer):
    """Our side of `grpc.testing.TestService`."""

    __test__ = False
    METHODS = (EMPTY, UNARY, INPUT, OUTPUT, DUPLEX)

    async def _begin(self, call: Call) -> None:
        found = dict(call.metadata)
        if TRAILING in found:
            call.set_trailing_metadata([(TRAILING, found[TRAILING])])
        if INITIAL in found:
            await call.send_initial_metadata([(INITIAL, found[INITIAL])])

    async def EmptyCall(self, request: Any, call: Call) -> Any:  # noqa: N802
        return pb.Empty()

    async def UnaryCall(self, request: Any, call: Call) -> Any:  # noqa: N802
        await self._begin(call)
        _refuse_if_asked(request, call)
        return pb.SimpleResponse(payload=pb.Payload(body=bytes(request.response_size)), server_id="ours")

    async def StreamingInputCall(self, call: Call) -> Any:  # noqa: N802
        size = 0
        async for request in call:
            size += len(request.payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def StreamingOutputCall(self, request: Any, call: Call) -> None:  # noqa: N802
        await _send_what_is_asked(request, call)

    async def FullDuplexCall(self, call: Call) -> None:  # noqa: N802
        await self._begin(call)
        async for request in call:
            _refuse_if_asked(request, call)
            await _send_what_is_asked(request, call)


def _refuse_if_asked(request: Any, call: Call) -> None:
    if request.response_status.code:
        call.abort(StatusCode(request.response_status.code), request.response_status.message)


async def _send_what_is_asked(request: Any, call: Call) -> None:
    for wanted in request.response_parameters:
        await trio.sleep(wanted.interval_us / 1e6)
        await call.send(pb.StreamingOutputCallResponse(payload=pb.Payload(body=bytes(wanted.size))))


# --- our server


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tls")


@pytest.fixture
async def port(secured: bool, certificate_files: tuple[Path, Path], nursery: trio.Nursery) -> int:
    context = server_ssl_context(*certificate_files) if secured else None
    listeners = await tcp_listeners("127.0.0.1", 0, ssl_context=context)
    await nursery.start(Server([TestService()]).serve, listeners)
    plain: Any = getattr(listeners[0], "transport_listener", listeners[0])
    return int(plain.socket.getsockname()[1])


@pytest.mark.parametrize("case", CASES)
async def test_a_client_of_grpc_go_with_our_server(
    grpc_go: Path, case: str, port: int, secured: bool, certificates: Certificates, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(certificates.authority)
    command = [grpc_go, "client", str(port), authority if secured else "-", case]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


# --- our client


@pytest.fixture(scope="module")
def go_servers(
    grpc_go: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[bool, int]]:
    """The ports of one in plain text and of one with TLS."""
    folder = tmp_path_factory.mktemp("go")
    files = [folder / "chain.pem", folder / "key.pem"]
    files[0].write_bytes(certificates.chain)
    files[1].write_bytes(certificates.key)
    servers = {
        secured: subprocess.Popen(
            [grpc_go, "server", *(files if secured else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for secured in (False, True)
    }
    try:
        yield {secured: int(server.stdout.readline()) for secured, server in servers.items() if server.stdout}
    finally:
        for server in servers.values():
            server.communicate(timeout=30)  # it ends with its stdin


@pytest.fixture
async def channel(
    go_servers: dict[bool, int], secured: bool, certificates: Certificates
) -> AsyncIterator[Channel]:
    context = client_ssl_context(ca=certificates.authority.decode()) if secured else None
    stream = await connect_tcp(
        "127.0.0.1", go_servers[secured], ssl_context=context, server_hostname="localhost"
    )
    async with open_channel(stream, scheme="https" if secured else "http") as opened:
        yield opened


def payload(size: int) -> Any:
    return pb.Payload(body=bytes(size))


def asking(*sizes: int, sent: int = 0) -> Any:
    """A request of a stream that asks for messages of these sizes."""
    parameters = [pb.ResponseParameters(size=size) for size in sizes]
    return pb.StreamingOutputCallRequest(response_parameters=parameters, payload=payload(sent))


class Client:
    """The cases as our client does them: a method each."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def unary(self, request_size: int, response_size: int, **options: Any) -> None:
        request = pb.SimpleRequest(response_size=response_size, payload=payload(request_size))
        reply = await self.channel.unary(UNARY, request, **options)
        assert reply.payload.body == bytes(response_size)

    async def empty_unary(self) -> None:
        assert await self.channel.unary(EMPTY, pb.Empty()) == pb.Empty()

    async def large_unary(self) -> None:
        await self.unary(LARGE_REQUEST, LARGE_RESPONSE)

    async def client_streaming(self) -> None:
        async with self.channel.stream(INPUT) as call:
            for size in REQUEST_SIZES:
                await call.send(pb.StreamingInputCallRequest(payload=payload(size)))
            await call.send_eof()
            assert (await call.receive()).aggregated_payload_size == sum(REQUEST_SIZES)
            with pytest.raises(trio.EndOfChannel):
                await call.receive()

    async def server_streaming(self) -> None:
        async with self.channel.server_stream(OUTPUT, asking(*RESPONSE_SIZES)) as call:
            assert [len(reply.payload.body) async for reply in call] == list(RESPONSE_SIZES)

    async def ping_pong(self) -> None:
        async with self.channel.stream(DUPLEX) as call:
            for sent, wanted in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
                await call.send(asking(wanted, sent=sent))
                assert len((await call.receive()).payload.body) == wanted
            await call.send_eof()
            assert [reply async for reply in call] == []

    async def empty_stream(self) -> None:
        async with self.channel.stream(DUPLEX) as call:
            await call.send_eof()
            assert [reply async for reply in call] == []

    async def timeout_on_sleeping_server(self) -> None:
        async def wait() -> None:
            async with self.channel.stream(DUPLEX, timeout=0.001) as call:
                await call.send(pb.StreamingOutputCallRequest(payload=payload(27182)))
                await call.receive()

        with pytest.raises(RpcError) as error:
            await wait()
        assert error.value.code is StatusCode.DEADLINE_EXCEEDED

    async def cancel_after_begin(self) -> None:
        async with self.channel.stream(INPUT):
            pass
        await self.empty_unary()

    async def cancel_after_first_response(self) -> None:
        async with self.channel.stream(DUPLEX) as call:
            await call.send(asking(31415, sent=27182))
            await call.receive()
        await self.empty_unary()

    async def _status(self, message: str) -> None:
        status = pb.EchoStatus(code=2, message=message)
        with pytest.raises(RpcError) as error:
            await self.channel.unary(UNARY, pb.SimpleRequest(response_status=status))
        assert (error.value.code, error.value.details) == (StatusCode.UNKNOWN, message)

    async def status_code_and_message(self) -> None:
        await self._status("test status message")
        status = pb.EchoStatus(code=2, message="test status message")
        async with self.channel.stream(DUPLEX) as call:
            await call.send(pb.StreamingOutputCallRequest(response_status=status))
            await call.send_eof()
            with pytest.raises(RpcError, match="test status message") as error:
                await call.receive()
        assert error.value.code is StatusCode.UNKNOWN

    async def special_status_message(self) -> None:
        await self._status(SPECIAL)

    async def custom_metadata(self) -> None:
        initial, trailing = (INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab")
        async with self.channel.stream(DUPLEX, metadata=[initial, trailing]) as call:
            await call.send(asking(LARGE_RESPONSE, sent=LARGE_REQUEST))
            await call.send_eof()
            assert initial in await call.initial_metadata()
            assert len([reply async for reply in call]) == 1
            assert trailing in call.trailing_metadata

    async def _unimplemented(self, method: Any) -> None:
        with pytest.raises(RpcError) as error:
            await self.channel.unary(method, pb.Empty())
        assert error.value.code is StatusCode.UNIMPLEMENTED

    async def unimplemented_method(self) -> None:
        await self._unimplemented(UNKNOWN_METHOD)

    async def unimplemented_service(self) -> None:
        await self._unimplemented(UNKNOWN_SERVICE)

    async def pick_first_unary(self) -> None:
        for _ in range(100):
            await self.unary(1, 1)


@pytest.mark.parametrize("case", CASES)
async def test_our_client_with_a_server_of_grpc_go(channel: Channel, case: str) -> None:
    with trio.fail_after(30):
        await getattr(Client(channel), case)()
