"""Reads consoles while tests run, for the reports of failed tests."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import trio
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.base import DriverClient
from jumpstarter_client.console.attach import Watchable, attach
from jumpstarter_client.console.matcher import plain
from jumpstarter_client.node import Node

__all__ = ["ConsoleTails", "watch"]

_log = logging.getLogger(__name__)
MAX_KEPT_BYTES = 256 * 1024
"""How much output of each console is kept."""
MAX_REPORT_LINES = 200
"""How many lines of a console a report has at most."""
SETTLE_SECONDS = 2.0
"""The longest wait for output in transit."""
QUIET_SECONDS = 0.2
"""For exporters that report no position (Jumpstarter 0.9): after so long without output, all of it has arrived."""


class _Tail:
    """The last output of a console."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.count = 0
        """The number of bytes since the start."""
        self.note = ""
        self.position: int | None = None
        """The position of the console after the received output; None if unknown."""
        self.tells_position = True
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, data: bytes | bytearray, position: int | None = None) -> None:
        self.data += data
        self.count += len(data)
        del self.data[:-MAX_KEPT_BYTES]
        self.position = position
        self._changed.unpark_all()

    def has_no_positions(self) -> None:
        self.tells_position = False
        self._changed.unpark_all()

    def end(self, note: str) -> None:
        self.note = note
        self._changed.unpark_all()

    async def reach(self, position: int) -> None:
        """Wait until the output up to this position has arrived, or the console has ended."""
        while self.tells_position and not self.note and (self.position is None or self.position < position):
            await self._changed.park()

    def since(self, mark: int) -> bytes:
        missing = self.count - mark
        return bytes(self.data[-missing:]) if missing else b""


class ConsoleTails:
    """The last output of all consoles. Filled in the trio loop, read in the thread of the tests."""

    def __init__(self, root: Node, client: DriverClient) -> None:
        self._client = client
        # A console at several places of the tree is read once.
        nodes = {node.uuid: node for node in root.walk() if node.interface == "serial"}
        self.nodes = {node.path: node for node in nodes.values()}
        self._tails = {path: _Tail() for path in self.nodes}
        self._marked = self._counts()

    def _counts(self) -> dict[str, int]:
        return {path: tail.count for path, tail in self._tails.items()}

    @property
    def _tell_positions(self) -> bool:
        return all(tail.tells_position for tail in self._tails.values())

    def marks(self) -> dict[str, int]:
        """Return the positions of all consoles, including output of the previous test that is in transit."""
        if self._tell_positions or self._counts() != self._marked:
            self.settle()
        self._marked = self._counts()
        return dict(self._marked)

    def settle(self) -> None:
        """Wait for all output that the exporter has read so far."""
        if self._tails:
            self._client.portal.call(self._settle)

    async def _settle(self) -> None:
        with trio.move_on_after(SETTLE_SECONDS):
            async with trio.open_nursery() as nursery:
                for path, tail in self._tails.items():
                    nursery.start_soon(self._arrive, self.nodes[path], tail)
            if not self._tell_positions:
                await self._quiet()

    async def _arrive(self, node: Node, tail: _Tail) -> None:
        client = node.client
        if not tail.tells_position or tail.note or not isinstance(client, Watchable):
            return
        try:
            await tail.reach(await client.position_async())
        except JumpstarterError as error:
            _log.debug("the position of %s: %s", node.path, error)  # the reader reports the error

    async def _quiet(self) -> None:
        before: dict[str, int] | None = None
        while (now := self._counts()) != before:
            before = now
            await trio.sleep(QUIET_SECONDS)

    def since(self, marks: dict[str, int]) -> Iterator[tuple[str, str]]:
        """Yield the output of each console since `marks`, as printable text."""
        for path, tail in self._tails.items():
            lines = plain(tail.since(marks.get(path, 0))).splitlines()
            if len(lines) > MAX_REPORT_LINES:
                lines = [f"... {len(lines) - MAX_REPORT_LINES} lines before", *lines[-MAX_REPORT_LINES:]]
            if tail.note:
                lines.append(f"({tail.note})")
            if lines:
                yield path, "\n".join(lines)

    async def read(self, node: Node) -> None:
        """Read one console until it ends."""
        tail = self._tails[node.path]
        try:
            await self._watch(node.client, tail)
            tail.end("the exporter closed the console")
        except (JumpstarterError, trio.BrokenResourceError) as error:
            tail.end(f"the console could not be read: {error}")

    async def _watch(self, client: DriverClient, tail: _Tail) -> None:
        if isinstance(client, Watchable):
            try:
                async with aclosing(client.watch_async()) as pieces:
                    async for position, data in pieces:
                        tail.add(data, position)
                return
            except NotImplementedError:
                pass
        tail.has_no_positions()
        async with attach(client) as stream:
            while data := await stream.receive_some():
                tail.add(data)


@asynccontextmanager
async def watch(root: Node) -> AsyncIterator[ConsoleTails]:
    """Read all consoles during the block."""
    consoles = ConsoleTails(root, root.client)
    async with trio.open_nursery() as nursery:
        for node in consoles.nodes.values():
            nursery.start_soon(consoles.read, node)
        yield consoles
        nursery.cancel_scope.cancel()
