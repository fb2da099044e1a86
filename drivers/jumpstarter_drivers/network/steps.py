"""Steps of tests: `network.connect`, `network.exchange`."""

from __future__ import annotations

import trio
from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.network.client import NetworkClient

__all__ = ["connect", "exchange"]

MAX_ANSWER_BYTES = 1024 * 1024


@step
async def connect(client: NetworkClient, context: StepContext) -> None:
    """See that the board's service takes a connection."""
    async with client.stream_async("connect"):
        await trio.lowlevel.checkpoint()


@step
async def exchange(client: NetworkClient, context: StepContext, send: str = "", expect: str = "") -> str:
    """Connect, send a text, and wait for one in the answer, which is the result."""
    answer = b""
    async with client.stream_async("connect") as stream:
        await stream.send_all(send.encode())
        while expect.encode() not in answer:
            data = await stream.receive_some()
            if not data:
                raise JumpstarterError(
                    f"the service closed the connection after {answer[-200:]!r}, without {expect!r}"
                )
            answer = (answer + data)[-MAX_ANSWER_BYTES:]
    return answer.decode("utf-8", "replace")
