"""What is said of an exporter that refuses a connection, where no exporter says it."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import NotGrpcError, StatusCode, tcp_listeners

from jumpstarter_client.connections.endpoint import Tcp
from jumpstarter_client.connections.refusals import Refusals


async def test_a_port_that_does_not_say_whether_it_has_tls_is_not_waited_for_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    [listener] = await tcp_listeners("127.0.0.1", 0)
    async with listener:
        port = listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        target = Tcp("127.0.0.1", port, insecure="JMP_GRPC_INSECURE")
        lost = NotGrpcError(StatusCode.UNAVAILABLE, "the peer closed the connection")
        with trio.fail_after(60):
            explained = await Refusals(target, has_passphrase=False).explain(lost)
    assert explained.details == (
        f"no exporter answers at 127.0.0.1:{port}: the peer closed the connection; is it the right address?"
    )
    assert trio.current_time() == pytest.approx(3, abs=0.1)
