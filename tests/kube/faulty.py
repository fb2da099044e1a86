"""A proxy before an API server that lets requests through, refuses them, or cuts them off, as a test says."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.kube.server.cluster import Cluster

__all__ = ["CUT_AFTER", "CUT_BEFORE", "PASS", "Faults", "faulty"]

PASS, CUT_BEFORE, CUT_AFTER = 0, -1, -2
"""What becomes of a request; or it is refused with a status, and with minus a status it is made and then refused."""


class Faults:
    """What becomes of the requests that are not watches, one after the other; then all pass."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.next: list[int] = []
        self.always: Callable[[], int] = lambda: PASS
        self.refuses: Callable[[str, str], int] = lambda _method, _path: PASS
        """What comes before all that."""
        self.seen: list[str] = []
        """Methods and paths of all requests."""


@contextmanager
def faulty(cluster: Cluster, folder: Path) -> Iterator[Faults]:
    """A kubeconfig of the proxy, and its faults."""
    config = json.loads(cluster.kubeconfig.read_text())
    ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=ca)
    faults = Faults(folder / "faulty-kubeconfig")
    connections: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length) if length else None
            is_watch = "watch=true" in self.path
            faults.seen.append(f"{self.command} {self.path.partition('?')[0]}")
            fault = faults.refuses(self.command, self.path.partition("?")[0])
            if not fault and not is_watch:
                fault = faults.next.pop(0) if faults.next else faults.always()
            if fault == CUT_BEFORE:
                self.close_connection = True
                return
            if fault > 0:
                message = f"a fault of the test, request {len(faults.seen)}"
                self._answer(fault, json.dumps({"kind": "Status", "message": message}).encode())
                return
            connection = http.client.HTTPSConnection("127.0.0.1", cluster.port, context=tls, timeout=120)
            try:
                headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                connections.append(connection.sock)
                answer = connection.getresponse()
                if is_watch:
                    with suppress(OSError):
                        self._pass_on(answer)
                    return
                data = answer.read()
            finally:
                connection.close()
            if fault == CUT_AFTER:
                self.close_connection = True
            elif fault < 0:
                self._answer(-fault, b"{}")
            else:
                self._answer(answer.status, data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def _answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(data)

        def _pass_on(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while piece := answer.read1(65536):
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    faults.kubeconfig.write_text(json.dumps(config))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield faults
    finally:
        server.shutdown()
        thread.join()
        for connection in connections:  # which their users keep open for the next request
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        server.server_close()
