"""One end of many streams through a router: `python router_worker.py ENDPOINT CA-FILE`.

`send` and `receive` take [token, ...] and a number of 64 KiB pieces for each, and answer when all has been sent and
all has arrived. The receiver counts; a piece that is missing is an error.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import trio
from jumpstarter_proto.remote import Trust, open_router_stream

PIECE = bytes(65536)


class End:
    """This end's connections."""

    def __init__(self, endpoint: str, trust: Trust) -> None:
        self._endpoint = endpoint
        self._trust = trust

    async def send(self, tokens: list[str], count: int) -> list[float]:
        """As much on each."""
        return await self._each(tokens, count, self._send)

    async def receive(self, tokens: list[str], count: int) -> list[float]:
        """All of it."""
        return await self._each(tokens, count, self._receive)

    async def _each(self, tokens: list[str], count: int, do: object) -> list[float]:
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(do, token, count)  # type: ignore[arg-type]
        return [time.perf_counter() - start]

    async def _send(self, token: str, count: int) -> None:
        async with open_router_stream(self._endpoint, self._trust, token) as stream:
            for _ in range(count):
                await stream.send_all(PIECE)
            await stream.receive_some()  # the receiver has it all

    async def _receive(self, token: str, count: int) -> None:
        async with open_router_stream(self._endpoint, self._trust, token) as stream:
            missing = count * len(PIECE)
            while missing:
                data = await stream.receive_some()
                if not data:
                    raise RuntimeError(f"{missing} bytes are missing of {count} pieces")
                missing -= len(data)
            await stream.send_all(b".")
            with suppress(trio.BrokenResourceError):  # the sender leaves first
                await stream.receive_some()


async def main(endpoint: str, ca: Path) -> None:
    end = End(endpoint, Trust(ca=ca.read_text()))
    print("ready", flush=True)
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        operation, (tokens, count) = json.loads(line)
        print(json.dumps(await getattr(end, operation)(tokens, count)), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
