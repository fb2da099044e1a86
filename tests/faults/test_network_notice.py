"""How soon a cut network is noticed, with the times that are used in the field, on a clock that is not waited for."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from jumpstarter_controller.app import OPTIONS
from jumpstarter_controller.lab import Key
from jumpstarter_controller.router import ROUTER_OPTIONS
from jumpstarter_controller.scheduling.presence import OFFLINE_SECONDS, ExporterPresence
from jumpstarter_proto.remote import KEEPALIVE, GrpcOptionError, options_of
from jumpstarter_proto.rpc import Options, RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceServicer, ControllerServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import StatusRequest, StatusResponse

NOTICED = 45.0


class Cable(trio.abc.Stream):
    """One end of a connection in memory. When it is pulled out, nothing comes any more, and nobody is told."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_out = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if self.is_out:
            await trio.sleep_forever()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_out:
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if self.is_out:
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.aclose()


class Watched(ControllerServiceServicer):
    def __init__(self) -> None:
        self.gone_at = math.inf

    async def Status(  # noqa: N802
        self, request: StatusRequest, call: ServerCall[StatusRequest, StatusResponse]
    ) -> None:
        try:
            await call.send(StatusResponse())
            await trio.sleep_forever()
        finally:
            self.gone_at = trio.current_time()


@pytest.mark.parametrize("server", [OPTIONS, ROUTER_OPTIONS], ids=["controller", "router"])
async def test_both_ends_notice_in_time(server: Options, autojump_clock: trio.testing.MockClock) -> None:
    near, far = (Cable(end) for end in trio.testing.memory_stream_pair())
    servicer = Watched()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await serve_connection(far, [servicer], options=server)

        nursery.start_soon(serve)
        async with open_channel(near, options=KEEPALIVE) as channel:
            async with ControllerServiceStub(channel).Status(StatusRequest()) as call:
                await call.receive()
                await trio.sleep(600)
                assert not channel.closed, "silence alone is no fault"
                cut = trio.current_time()
                near.is_out = far.is_out = True
                with pytest.raises(RpcError, match="has not answered for 40 s") as caught:
                    await call.receive()
                assert caught.value.code is StatusCode.UNAVAILABLE
                assert trio.current_time() - cut <= NOTICED
            while servicer.gone_at == math.inf:
                await trio.sleep(1)
            assert servicer.gone_at - cut <= NOTICED
        nursery.cancel_scope.cancel()


def test_an_exporter_that_comes_back_after_a_minutes_cut_was_never_offline() -> None:
    presence, one = ExporterPresence(), Key("lab", "one")
    presence.connected(one, 0.0)
    cut = 600.0
    noticed = cut + NOTICED
    assert presence.is_fresh(one, noticed)
    presence.disconnected(one, noticed)
    assert presence.is_fresh(one, cut + 60 + 30), "with the longest pause between two tries"
    assert not presence.is_fresh(one, noticed + OFFLINE_SECONDS + 1)


def test_options_of_a_configuration() -> None:
    assert options_of({}) == KEEPALIVE
    found = options_of({"grpc.keepalive_time_ms": 1500, "grpc.keepalive_timeout_ms": "500", "grpc.lb": "x"})
    assert (found.keepalive_interval, found.keepalive_timeout) == (1.5, 0.5)
    for wrong in (0, -1, "soon", "", None, 5, "inf", "nan"):
        with pytest.raises(GrpcOptionError, match=r"grpc\.keepalive_time_ms is .*milliseconds"):
            options_of({"grpc.keepalive_time_ms": wrong})
