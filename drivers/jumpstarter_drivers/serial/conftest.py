"""Real ports without hardware: a pty that can be unplugged, and servers on the loopback interface."""

from __future__ import annotations

import os
import pty
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio


class Cable:
    """A pty behind a symbolic link, as a USB adapter is behind its name in /dev/serial/by-id.

    The board reads and writes its end, blocking.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.board = self._far = -1
        self.plug_in()

    def plug_in(self) -> None:
        # The far end stays open here: without anybody at it, the board's end could not be read.
        self.board, self._far = pty.openpty()
        tty.setraw(self._far)
        self.path.symlink_to(os.ttyname(self._far))

    def pull_out(self) -> None:
        self.path.unlink()
        self.close()

    def close(self) -> None:
        if self.board >= 0:
            os.close(self.board)
            os.close(self._far)
            self.board = -1

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.board, rest) :]

    def read(self, size: int) -> bytes:
        """Exactly so many bytes that came from the host, however long that takes."""
        data = bytearray()
        while len(data) < size:
            data += os.read(self.board, size - len(data))
        return bytes(data)

    async def receive(self, size: int) -> bytes:
        """The same for a test that runs on trio."""
        with trio.fail_after(20):
            return await trio.to_thread.run_sync(self.read, size, abandon_on_cancel=True)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    cable = Cable(tmp_path / "usb-board-port0")
    yield cable
    cable.close()


@contextmanager
def tcp_server(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on a loopback port; `handle` gets one connection at a time, in a thread."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        open_now: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_now.append(connection)
                with connection:
                    handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for connection in open_now:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # ended before
        thread.join(10)


def upper(connection: socket.socket) -> None:
    """A board that answers in capitals."""
    try:
        while data := connection.recv(4096):
            connection.sendall(data.upper())
    except OSError:
        return
