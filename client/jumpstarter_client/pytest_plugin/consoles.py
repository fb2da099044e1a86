"""What the consoles say while tests run, for the reports of those that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.base import DriverClient
from jumpstarter_client.console.attach import attach
from jumpstarter_client.console.matcher import plain
from jumpstarter_client.node import Node

__all__ = ["Consoles", "watch"]

KEPT = 256 * 1024
"""Bytes of each console that are kept."""
LINES = 200
"""Most lines of a console in a report."""
QUIET_SECONDS = 0.2
"""What a board said just before a test ended may still be on its way. It is here when nothing has come for so long."""
SETTLE_SECONDS = 2.0
"""A board that never stops is not waited for any longer."""


class _Tail:
    """The end of what a console has said."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.count = 0
        """Bytes since the beginning."""
        self.note = ""

    def add(self, data: bytes | bytearray) -> None:
        self.data += data
        self.count += len(data)
        del self.data[:-KEPT]

    def since(self, mark: int) -> bytes:
        missing = self.count - mark
        return bytes(self.data[-missing:]) if missing else b""


class Consoles:
    """The tails of all consoles of an exporter. Filled in its loop, read in the thread of the tests."""

    def __init__(self, root: Node, client: DriverClient) -> None:
        self._client = client
        self._tails = {node.path: _Tail() for node in root.walk() if node.interface == "serial"}
        self._marked = self._counts()

    def _counts(self) -> dict[str, int]:
        return {path: tail.count for path, tail in self._tails.items()}

    def marks(self) -> dict[str, int]:
        """How much each has said until now. What the test before has caused counts, though it is on its way yet."""
        if self._counts() != self._marked:
            self.settle()
        self._marked = self._counts()
        return dict(self._marked)

    def settle(self) -> None:
        """Wait for what is on its way, if there are consoles."""
        if self._tails:
            self._client.bridge.call(self._quiet)

    async def _quiet(self) -> None:
        before: dict[str, int] | None = None
        with trio.move_on_after(SETTLE_SECONDS):
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
            async with attach(node.client) as stream:
                while data := await stream.receive_some():
                    tail.add(data)
            tail.note = "the exporter closed the console"
        except (JumpstarterError, trio.BrokenResourceError) as error:
            tail.note = f"the console could not be read: {error}"


@asynccontextmanager
async def watch(root: Node) -> AsyncIterator[Consoles]:
    """Read all consoles while the block lasts."""
    consoles = Consoles(root, root.client)
    seen = set()
    async with trio.open_nursery() as nursery:
        for node in root.walk():
            if node.interface == "serial" and node.uuid not in seen:
                seen.add(node.uuid)
                nursery.start_soon(consoles.read, node)
        yield consoles
        nursery.cancel_scope.cancel()
