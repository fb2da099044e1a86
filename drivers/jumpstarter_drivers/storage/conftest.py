"""A storage that is used through gRPC, and a web server on the loopback, for images that are given by URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from jumpstarter_drivers.storage.client import StorageMuxClient, StorageMuxFlasherClient
from jumpstarter_drivers.storage.driver import FileStorage
from jumpstarter_drivers.testing import serve


@contextmanager
def storage(card: Path, **config: object) -> Iterator[StorageMuxFlasherClient]:
    """The client of a file."""
    with serve(FileStorage(path=str(card), **config)) as client:  # type: ignore[arg-type]
        yield cast("StorageMuxFlasherClient", client)


def facts(client: StorageMuxClient) -> tuple[str, str]:
    """Its position and its content."""
    status = cast("dict[str, str]", client.status())
    return status["position"], status["content"]


@dataclass
class Web:
    """Every path of the server leads to `body`."""

    url: str = ""
    body: bytes = b""


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(web.body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        web.url = f"http://127.0.0.1:{server.server_port}/image.img"
        yield web
        server.shutdown()
        thread.join()
