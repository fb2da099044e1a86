"""A servicer and a stub of purerpc's own making on our server and channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import purerpc
import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2, wrappers_pb2

from jumpstarter_proto.driver.power.v1 import power_grpc, power_pb2
from jumpstarter_proto.purerpc_adapter.channel import PurerpcChannel
from jumpstarter_proto.purerpc_adapter.servicer import CallRequest, routes
from jumpstarter_proto.rpc import (
    Channel,
    DynamicServicer,
    Route,
    RpcError,
    Server,
    ServerCall,
    StatusCode,
    open_channel,
)

Bytes = wrappers_pb2.BytesValue
KINDS = ("UNARY_UNARY", "UNARY_STREAM", "STREAM_UNARY", "STREAM_STREAM")
NAMES = ("Unary", "Replies", "Requests", "Both")


def signature(kind: str) -> purerpc.RPCSignature:
    return purerpc.RPCSignature(purerpc.Cardinality[kind], Bytes, Bytes)


class Echo(purerpc.Servicer):  # type: ignore[misc] # purerpc has no types
    """As purerpc's plugin writes servicers, with methods filled in."""

    def __init__(self) -> None:
        self.ended = trio.Event()

    async def Unary(self, input_message: Any, request: CallRequest) -> Any:  # noqa: N802 - the wire's name
        if input_message.value == b"fail":
            raise purerpc.NotFoundError("no such thing")
        if input_message.value == b"metadata":
            return Bytes(value=str(dict(request.custom_metadata)["key"]).encode())
        if input_message.value == b"where":
            return Bytes(value=f"{request.service_name} {request.method_name} {request.timeout}".encode())
        return input_message

    async def Replies(self, input_message: Any) -> AsyncIterator[Any]:  # noqa: N802 - the wire's name
        try:
            while True:
                yield input_message
                await trio.sleep(0)
        finally:
            self.ended.set()

    async def Requests(self, input_messages: Any) -> Any:  # noqa: N802 - the wire's name
        return Bytes(value=b"".join([message.value async for message in input_messages]))

    async def Both(self, input_messages: Any) -> AsyncIterator[Any]:  # noqa: N802 - the wire's name
        async for message in input_messages:
            yield message

    @property
    def service(self) -> purerpc.Service:
        service = purerpc.Service("test.Echo")
        for name, kind in zip(NAMES, KINDS, strict=True):
            service.add_method(name, getattr(self, name), signature(kind))
        return service


class EchoStub:
    """As the plugin writes stubs."""

    def __init__(self, channel: Any) -> None:
        client = purerpc.Client("test.Echo", channel)
        for name, kind in zip(NAMES, KINDS, strict=True):
            setattr(self, name, client.get_method_stub(name, signature(kind)))


class Found(DynamicServicer):
    """Loads the servicer with its first call."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.asked: list[str] = []

    async def find(self, call: ServerCall[Any, Any]) -> Route | None:
        self.asked.append(call.method.path)
        await trio.lowlevel.checkpoint()
        return routes(self.echo).get(call.method.path)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Channel, Found]]:
    ours, theirs = trio.testing.memory_stream_pair()
    found = Found()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server([found]).serve_connection, theirs)
        async with open_channel(ours) as channel:
            yield channel, found
        nursery.cancel_scope.cancel()


async def requests(*values: bytes) -> AsyncIterator[Any]:
    for value in values:
        yield Bytes(value=value)


async def test_all_kinds_of_calls_work_with_servicer_and_stub_of_purerpc() -> None:
    async with served() as (channel, found):
        stub: Any = EchoStub(PurerpcChannel(channel))
        assert (await stub.Unary(Bytes(value=b"a"))).value == b"a"
        assert (await stub.Requests(requests(b"a", b"b"))).value == b"ab"
        assert [reply.value async for reply in stub.Both(requests(b"a", b"b"))] == [b"a", b"b"]
        assert (await stub.Unary(Bytes(value=b"where"))).value == b"test.Echo Unary None"
        assert found.asked == ["/test.Echo/Unary", "/test.Echo/Requests", "/test.Echo/Both"]
        assert channel._mux.calls == {}


async def test_both_directions_stream_at_the_same_time() -> None:
    async with served() as (channel, _):
        stub: Any = EchoStub(PurerpcChannel(channel))
        stream = await stub.Both()
        for value in (b"a", b"b"):
            await stream.send_message(Bytes(value=value))
            assert (await stream.receive_message()).value == value
        await stream.close()
        assert await stream.receive_message() is None
        assert stream.end_stream_event.status.status_code is purerpc.StatusCode.OK


async def test_status_of_purerpc_reaches_caller_and_back() -> None:
    async with served() as (channel, _):
        stub: Any = EchoStub(PurerpcChannel(channel))
        with pytest.raises(purerpc.NotFoundError, match="no such thing"):
            await stub.Unary(Bytes(value=b"fail"))
        client = purerpc.Client("test.Echo", PurerpcChannel(channel))
        with pytest.raises(purerpc.UnimplementedError):
            await client.get_method_stub("Nothing", signature("UNARY_UNARY"))(Bytes())


async def test_metadata_of_channel_and_call_arrive() -> None:
    async with served() as (channel, _):
        stub: Any = EchoStub(PurerpcChannel(channel, metadata=[("key", "channel's")]))
        assert (await stub.Unary(Bytes(value=b"metadata"))).value == b"channel's"
        reply = await stub.Unary(Bytes(value=b"metadata"), metadata=(("key", "call's"),))
        assert reply.value == b"call's"


# purerpc's stubs leave a generator of theirs unfinished, which trio says.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_stream_that_is_left_ends_at_the_server() -> None:
    async with served() as (channel, found):
        stub: Any = EchoStub(PurerpcChannel(channel))
        async for _ in stub.Replies(Bytes(value=b"x")):
            break
        with trio.fail_after(5):
            await found.echo.ended.wait()


async def test_cancelled_call_ends_at_the_server() -> None:
    async with served() as (channel, found):
        stub: Any = EchoStub(PurerpcChannel(channel))
        with trio.CancelScope() as scope:
            async for _ in stub.Replies(Bytes(value=b"x")):
                scope.cancel()
        with trio.fail_after(5):
            await found.echo.ended.wait()


async def test_lost_connection_fails_a_stub_as_unavailable() -> None:
    async with served() as (channel, _):
        stub: Any = EchoStub(PurerpcChannel(channel))
        stream = await stub.Both()
        await channel._mux.stream.aclose()
        with trio.fail_after(5):
            assert await stream.receive_message() is None
        assert stream.end_stream_event.status.status_code is purerpc.StatusCode.UNAVAILABLE


async def test_deadline_reaches_the_servicer() -> None:
    async with served() as (channel, _):
        method = routes(Echo())["/test.Echo/Replies"][0]

        async def read() -> None:
            async with channel.server_stream(method, Bytes(value=b"x"), timeout=0.05) as replies:
                async for _ in replies:
                    pass

        with pytest.raises(RpcError) as caught:
            await read()
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED


class Power(power_grpc.PowerInterfaceServicer):
    """A service whose messages' module is loaded, so that the channel knows what travels."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.started, self.ended = trio.Event(), trio.Event()

    async def On(self, _: Any, request: CallRequest) -> Any:  # type: ignore[override] # noqa: N802
        self.seen.append(str(dict(request.custom_metadata)["key"]))
        return empty_pb2.Empty()

    async def Off(self, _: Any) -> Any:  # noqa: N802 - the wire's name
        raise purerpc.NotFoundError("no such thing")

    async def Cycle(self, _: Any) -> Any:  # noqa: N802 - the wire's name
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.ended.set()


class OfPower(DynamicServicer):
    def __init__(self) -> None:
        self.power = Power()

    async def find(self, call: ServerCall[Any, Any]) -> Route | None:
        await trio.lowlevel.checkpoint()
        return routes(self.power).get(call.method.path)


@asynccontextmanager
async def power_served() -> AsyncIterator[tuple[Channel, Power, Any]]:
    ours, theirs = trio.testing.memory_stream_pair()
    found = OfPower()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server([found]).serve_connection, theirs)
        async with open_channel(ours) as channel:
            kind: Any = power_grpc.PowerInterfaceStub
            stub = kind(PurerpcChannel(channel, metadata=[("key", "channel's")]))
            yield channel, found.power, stub
        nursery.cancel_scope.cancel()


async def test_unary_call_of_a_known_procedure_is_made_in_one_write() -> None:
    async with power_served() as (channel, power, stub):
        await stub.On(empty_pb2.Empty())
        writes = 0
        stream = channel._mux.stream
        assert isinstance(stream, trio.StapledStream)
        send = stream.send_stream
        assert isinstance(send, trio.testing.MemorySendStream)
        pump: Any = send.send_all_hook

        async def count() -> None:
            nonlocal writes
            writes += 1
            await pump()

        send.send_all_hook = count
        assert await stub.On(empty_pb2.Empty(), metadata=(("key", "call's"),)) == empty_pb2.Empty()
        assert power.seen == ["channel's", "call's"]
        assert writes == 1
        assert channel._mux.calls == {}


async def test_unary_call_of_a_known_procedure_fails_as_purerpc_says() -> None:
    async with power_served() as (channel, _, stub):
        with pytest.raises(purerpc.NotFoundError, match="no such thing"):
            await stub.Off(empty_pb2.Empty())
        await channel._mux.stream.aclose()
        with trio.fail_after(5), pytest.raises(purerpc.UnavailableError):
            await stub.On(empty_pb2.Empty())


async def test_cancelled_unary_call_ends_at_the_server() -> None:
    async with power_served() as (channel, power, stub), trio.open_nursery() as nursery:
        nursery.start_soon(stub.Cycle, power_pb2.CycleRequest())
        with trio.fail_after(5):
            await power.started.wait()
            nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(5):
            await power.ended.wait()
        assert channel._mux.calls == {}
