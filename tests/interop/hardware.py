"""What the exporters under test drive: a serial port that is a pty, a TCP service, and a disk image."""

from __future__ import annotations

import os
import pty
import random
import socket
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


@contextmanager
def serial_port() -> Iterator[str]:
    """A serial device's path; what is written to it comes back in upper case."""
    board, port = pty.openpty()
    tty.setraw(port)
    # This end of the port stays open, so that a client that hangs up does not look like a pulled plug.
    thread = threading.Thread(target=_shout, args=(board,), daemon=True)
    thread.start()
    try:
        yield os.ttyname(port)
    finally:
        os.close(port)
        thread.join(10)
        os.close(board)


def _shout(board: int) -> None:
    while True:
        try:
            data = os.read(board, 4096)
        except OSError:
            # EIO: the last one closed the port.
            return
        while data:
            data = data[os.write(board, data.upper()) :]


@contextmanager
def tcp_echo() -> Iterator[int]:
    """The port of a service on the loopback that sends back what it gets, until the sender shuts down."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # Wakes the accept; close alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except ConnectionError:
            return


def write_image(path: Path, size: int) -> Path:
    """A disk image as they are: a boot sector, half of it random, half of it zeros, in 1 MiB pieces."""
    source = random.Random(size)
    with path.open("wb") as file:
        for index in range(size // MIB):
            file.write(source.randbytes(MIB) if index % 2 else bytes(MIB))
        file.seek(510)
        file.write(b"\x55\xaa")
    return path
