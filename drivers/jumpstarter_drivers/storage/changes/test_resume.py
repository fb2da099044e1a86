"""A connection that breaks in the middle of a flash: it goes on where it was, by itself."""

from __future__ import annotations

import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_client.transport import open_reconnecting
from jumpstarter_client.tree import open_client
from jumpstarter_exporter.session.session import Session
from jumpstarter_proto.rpc import Channel, open_channel
from jumpstarter_proto.tasks import collapsed

from jumpstarter_drivers.storage.client import MAX_RESUMPTIONS, FlashResult, StorageMuxFlasherClient
from jumpstarter_drivers.storage.driver import FileStorage
from tests.support.images import mbr

WINDOW = 4 << 20
IMAGE = mbr()[:512] + random.Random(9).randbytes(5 * WINDOW - 512)


class Cable:
    """What leads to the exporter, and is cut at each of some writes."""

    def __init__(self, session: Session, cut_at: list[int]) -> None:
        self._session = session
        self._cut_at = cut_at
        self._end: trio.SocketStream | None = None
        self.cuts = 0
        self.writes: Counter[int] = Counter()
        """By place."""

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Channel]:
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        self._end = theirs
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._session.serve_connection, theirs)
                async with open_channel(ours) as channel:
                    yield channel
                nursery.cancel_scope.cancel()

    def written(self, offset: int) -> None:
        """In a worker thread: this is about to be written."""
        self.writes[offset] += 1
        if self.writes.total() in self._cut_at:
            self.cuts += 1
            trio.from_thread.run(self._cut)

    async def _cut(self) -> None:
        assert self._end is not None
        await trio.aclose_forcefully(self._end)


@asynccontextmanager
async def storage(
    card: Path, monkeypatch: pytest.MonkeyPatch, cut_at: list[int]
) -> AsyncIterator[tuple[StorageMuxFlasherClient, Cable]]:
    async with Session(FileStorage(path=str(card))) as session:
        cable = Cable(session, cut_at)
        real = os.pwritev

        def pwritev(fd: int, buffers: list[memoryview], offset: int) -> int:
            cable.written(offset)
            return real(fd, buffers, offset)

        monkeypatch.setattr(os, "pwritev", pwritev)
        async with open_reconnecting(cable.dial) as channel, open_client(channel) as client:
            yield cast("StorageMuxFlasherClient", client), cable


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE)
    return path


@pytest.mark.parametrize("cut_at", [[1], [3], [5], [2, 4]])
async def test_a_flash_goes_on_where_it_was(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, cut_at: list[int]
) -> None:
    card = tmp_path / "card.img"
    card.write_bytes(bytes(len(IMAGE)))
    with trio.fail_after(60):
        async with storage(card, monkeypatch, cut_at) as (client, cable):
            result = await client.flash.aio(image)
            status = cast("dict[str, str]", await client.status.aio())
    assert isinstance(result, FlashResult)
    assert (result.bytes, result.verified) == (len(IMAGE), True)
    assert (status["position"], status["content"]) == ("dut", "complete")
    assert card.read_bytes() == IMAGE
    assert cable.cuts == len(cut_at)
    assert max(cable.writes.values()) == 1, "what was written is not written again"


async def test_a_connection_that_breaks_all_the_time_ends_the_flash(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tmp_path / "card.img"
    card.write_bytes(bytes(len(IMAGE)))
    image.write_bytes(IMAGE[:4096])

    with trio.fail_after(60):
        async with storage(card, monkeypatch, list(range(1, 20))) as (client, cable):

            def forget(_fd: int, buffers: list[memoryview], offset: int) -> int:
                cable.written(offset)
                return sum(map(len, buffers))

            monkeypatch.setattr(os, "pwritev", forget)
            with pytest.raises(DriverError, match="lost the connection to the board"):
                await client.flash.aio(image)
    assert cable.cuts == MAX_RESUMPTIONS + 1
