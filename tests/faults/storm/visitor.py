"""A user in a storm: leases a board, works on it, gives it back, and leases the next one, until SIGTERM.

Run with the client configuration, the user's name and a file, to which each thing that happened is appended as a line
of JSON at once: what was written before `kill -9` counts.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.identity.client_config import load
from jumpstarter_client.lease.board import lease_board
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.tree import open_client
from jumpstarter_proto.errors import JumpstarterError

SELECTOR = "board=rpi4"
DEFAULT_DURATION_SECONDS = 60.0
WORK = range(3, 12)
"""How many things a user does with a board."""
MAX_ECHO_BYTES = 2 * 1024 * 1024
CHUNK = 64 * 1024
HANG_SECONDS = 150.0
"""No work on a board takes so long, not even with a controller that is away and connections that say nothing."""


class User:
    """What one does, and writes down."""

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self._file = file.open("a")
        self._leases = 0

    def write(self, what: str, **more: Any) -> None:
        entry = {"user": self.name, "what": what, **{key: str(value) for key, value in more.items()}}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    async def visit(self, config: Path) -> None:
        """One lease, from its wish to its end."""
        self._leases += 1
        wanted = LeaseRequest(selector=SELECTOR, duration=DEFAULT_DURATION_SECONDS, client=str(config))
        async with lease_board(
            load(wanted.client, {}),
            wanted,
            on_message=lambda text: self.write("told", text=text),
            on_lease_end=print,
        ) as board:
            self.write("ready", lease=board.lease.name, exporter=board.lease.exporter)
            async with open_client(board.channel, allowed=board.lease.config.allowed()) as root:
                for _ in range(random.choice(WORK)):
                    await self._work(root, board.lease.name)

    async def _work(self, root: Any, lease: str) -> None:
        work = random.choice([self._switch, self._echo, self._echo, self._provoke])
        await self._mark(root, lease)
        await work(root)
        self.write("worked")

    async def _mark(self, root: Any, lease: str) -> None:
        witness: DriverClient = root.witness
        assert await witness.call_async("mark", lease) == lease

    async def _switch(self, root: Any) -> None:
        await root.power.on.aio()
        await root.power.off.aio()

    async def _echo(self, root: Any) -> None:
        """Every byte comes back, or there is an error."""
        sent = random.randbytes(random.randrange(1, MAX_ECHO_BYTES))
        came = bytearray()
        client: DriverClient = root.echo
        async with client.stream_async() as stream, trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(sent), CHUNK):
                    await stream.send_all(sent[start : start + CHUNK])
                await stream.send_eof()

            nursery.start_soon(send)
            while piece := await stream.receive_some():
                came += piece
        if came != sent:
            self.write("lost", text=f"{len(came)} of {len(sent)} bytes came back, and no error")
        else:
            self.write("echoed", bytes=len(came))

    async def _provoke(self, root: Any) -> None:
        """A hostile driver fails its own calls, and nothing else."""
        hostile: DriverClient = root.hostile
        try:
            await hostile.call_async("harm")
        except JumpstarterError as error:
            self.write("provoked", text=error)

    async def run(self, config: Path) -> None:
        while True:
            try:
                await self.visit(config)
                self.write("gave back")
            except* (JumpstarterError, trio.BrokenResourceError) as group:
                self.write("error", text=_first(group))
            except* Exception:
                self.write("unexpected", text=traceback.format_exc())
            await trio.sleep(random.random())


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def main(config: Path, name: str, file: Path) -> None:
    """Until SIGTERM, which gives the board back."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(User(name, file).run, config)
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
