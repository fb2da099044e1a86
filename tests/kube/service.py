"""An imitation of a Kubernetes Service: connections to one address go to any of several processes."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Service", "service"]


class Service:
    """On a port of the loopback. Who does not accept connections is passed over."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.backends: list[int] = []
        """Ports; connections take turns."""
        self._turn = itertools.count()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self._start(self._accept)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="service")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = self._connect()
                if far is None:
                    near.close()
                    continue
                self._open |= {near, far}
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _connect(self) -> socket.socket | None:
        backends = list(self.backends)
        first = next(self._turn)
        for number in range(len(backends)):
            with suppress(OSError):
                return socket.create_connection(
                    ("127.0.0.1", backends[(first + number) % len(backends)]), timeout=None
                )
        return None

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        for one in self._open:
            one.close()


@contextmanager
def service(port: int) -> Iterator[Service]:
    """One that ends with the block."""
    found = Service(port)
    try:
        yield found
    finally:
        found.close()
