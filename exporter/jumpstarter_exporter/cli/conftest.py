"""A host that answers as a test says, in a thread: commands have loops of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from jumpstarter_proto.rpc import Server, Servicer

from jumpstarter_exporter.serve.boards import listen_at


@contextmanager
def host_served(servicer: Servicer, path: Path) -> Iterator[None]:
    """It listens at this socket for the block."""
    listens, scopes = threading.Event(), []

    async def serve() -> None:
        with trio.CancelScope() as scope:
            scopes.append((trio.lowlevel.current_trio_token(), scope))
            async with trio.open_nursery() as nursery:
                await nursery.start(Server([servicer]).serve, [listen_at(path)])
                listens.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert listens.wait(20)
    try:
        yield
    finally:
        [(token, scope)] = scopes
        token.run_sync_soon(scope.cancel)
        thread.join(20)
