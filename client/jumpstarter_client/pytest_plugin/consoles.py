"""What the consoles say while tests run, for the reports of those that fail."""

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

__all__ = ["Consoles", "watch"]

_log = logging.getLogger(__name__)
KEPT = 256 * 1024
"""Bytes of each console that are kept."""
LINES = 200
"""Most lines of a console in a report."""
SETTLE_SECONDS = 2.0
"""What is on its way is not waited for any longer."""
QUIET_SECONDS = 0.2
"""Where an exporter does not tell how much there is (Jumpstarter 0.9's), all is here when nothing came for so long."""


class _Tail:
    """The end of what a console has said."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.count = 0
        """Bytes since the beginning."""
        self.note = ""
        self.position: int | None = None
        """The console's own, behind what has come; None while it is not known."""
        self.tells_position = True
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, data: bytes | bytearray, position: int | None = None) -> None:
        self.data += data
        self.count += len(data)
        del self.data[:-KEPT]
        self.position = position
        self._changed.unpark_all()

    def has_no_positions(self) -> None:
        self.tells_position = False
        self._changed.unpark_all()

    def end(self, note: str) -> None:
        self.note = note
        self._changed.unpark_all()

    async def reach(self, position: int) -> None:
        """Wait until all up to this position has come, or nothing comes any more."""
        while self.tells_position and not self.note and (self.position is None or self.position < position):
            await self._changed.park()

    def since(self, mark: int) -> bytes:
        missing = self.count - mark
        return bytes(self.data[-missing:]) if missing else b""


class Consoles:
    """The tails of all consoles of an exporter. Filled in its loop, read in the thread of the tests."""

    def __init__(self, root: Node, client: DriverClient) -> None:
        self._client = client
        # One that stands at several places of the tree is read once.
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
        """How much each has said until now. What the test before has caused counts, though it is on its way yet."""
        if self._tell_positions or self._counts() != self._marked:
            self.settle()
        self._marked = self._counts()
        return dict(self._marked)

    def settle(self) -> None:
        """Wait for all that the exporter has read of the consoles until now, if there are any."""
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
            _log.debug("the position of %s: %s", node.path, error)  # who reads it says what is wrong

    async def _quiet(self) -> None:
        before: dict[str, int] | None = None
        while (now := self._counts()) != before:
            before = now
            await trio.sleep(QUIET_SECONDS)

    def since(self, marks: dict[str, int]) -> Iterator[tuple[str, str]]:
        """What each has said since then, as text that harms no terminal."""
        for path, tail in self._tails.items():
            lines = plain(tail.since(marks.get(path, 0))).splitlines()
            if len(lines) > LINES:
                lines = [f"... {len(lines) - LINES} lines before", *lines[-LINES:]]
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
async def watch(root: Node) -> AsyncIterator[Consoles]:
    """Read all consoles while the block lasts."""
    consoles = Consoles(root, root.client)
    async with trio.open_nursery() as nursery:
        for node in consoles.nodes.values():
            nursery.start_soon(consoles.read, node)
        yield consoles
        nursery.cancel_scope.cancel()
