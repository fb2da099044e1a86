"""Transfers by proxies and around them, from real servers on the loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
import trio
import trustme

from jumpstarter_proto.reach import AddressRefused, Reach
from jumpstarter_proto.transfer import TransferError, TransferLimits, TransferRequest, get, put
from jumpstarter_proto.transfer.http import _http_threads
from jumpstarter_proto.transfer.proxy import ProxyError, proxy_for

BODY = b"an image" * 1000
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class _Handler(BaseHTTPRequestHandler):
    """A web server, and a proxy, that answers all by itself."""

    seen: ClassVar[list[tuple[str, str, dict[str, str]]]] = []
    context: ClassVar[ssl.SSLContext | None] = None
    status: ClassVar[int] = 200
    location: ClassVar[str] = ""

    def handle_one_request(self) -> None:
        self.close_connection = True
        super().handle_one_request()

    def do_CONNECT(self) -> None:
        self._note()
        self.send_response(200)
        self.end_headers()
        assert self.context is not None
        with self.context.wrap_socket(self.connection, server_side=True) as inner:
            request = b""
            while b"\r\n\r\n" not in request:
                request += inner.recv(65536)
            self.seen.append(("inside", request.decode().split()[1], {}))
            inner.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY))

    def do_GET(self) -> None:
        self._note()
        self.send_response(self.status)
        if self.location:
            self.send_header("Location", self.location)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def do_PUT(self) -> None:
        while self.rfile.readline() != b"0\r\n":
            pass
        self.rfile.readline()
        self.do_GET()

    def _note(self) -> None:
        self.seen.append((self.command, self.path, dict(self.headers)))

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(handler: type[_Handler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[tuple[type[_Handler], int]]:
    handler: Any = type("Handler", (_Handler,), {"seen": []})
    with serving(handler) as port:
        yield handler, port


async def fetched(url: str, reach: Reach | None = None) -> bytes:
    limits = TransferLimits(reach) if reach else TransferLimits()
    async with get(TransferRequest("GET", url), limits) as (receive, _):
        data = b""
        while chunk := await receive():
            data += chunk
        return data


async def test_http_goes_by_the_proxy(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, port = server
    monkeypatch.setenv("http_proxy", f"http://user:p%40ss@127.0.0.1:{port}")
    assert await fetched("http://images.invalid:8080/a%2Fb?x=1") == BODY
    [(command, path, headers)] = handler.seen
    assert (command, path) == ("GET", "http://images.invalid:8080/a%2Fb?x=1")
    assert headers["Host"] == "images.invalid:8080"
    assert headers["HttpProxy-Authorization"] == "Basic dXNlcjpwQHNz"


async def test_https_goes_through_the_proxy_and_only_the_server_sees_it(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    handler, port = server
    authority = trustme.CA()
    handler.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("images.invalid").configure_cert(handler.context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
    assert await fetched("https://images.invalid/image?signature=x") == BODY
    assert [(command, path) for command, path, _ in handler.seen] == [
        ("CONNECT", "images.invalid:443"),
        ("inside", "/image?signature=x"),
    ]
    with pytest.raises(TransferError):  # the certificate is for another name
        await fetched("https://images.other:8443/image")
    assert handler.seen[2][1] == "images.other:8443"


async def test_uploads_go_by_the_proxy(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, port = server
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    async with put(TransferRequest("PUT", "http://images.invalid/up")) as send:
        await send(b"data")
    assert [(command, path) for command, path, _ in handler.seen] == [("PUT", "http://images.invalid/up")]
    assert handler.seen[0][2]["Host"] == "images.invalid"


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*", "10.0.0.0/8, 127.0.0.0/8"])
async def test_no_proxy_names_who_is_reached_directly(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    handler, port = server
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(TransferError, match="refused"):
        await fetched(f"http://127.0.0.1:{port}/x")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert await fetched(f"http://127.0.0.1:{port}/x") == BODY
    assert [path for _, path, _ in handler.seen] == ["/x"]


@pytest.mark.parametrize("proxy", ["socks5://user:secret@proxy:1080", "https://proxy", "http://proxy:99999"])
def test_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ProxyError, match=r"cannot be used; give one as http://HOST:PORT") as refused:
        proxy_for("https", "images.lab", 443)
    assert "secret" not in str(refused.value)


async def test_proxy_is_not_a_way_to_the_host_itself(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, port = server
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(AddressRefused):
        await fetched("http://localhost:80/secret", Reach.limited())
    assert handler.seen == []
    assert await fetched("http://images.invalid/", Reach.limited()) == BODY


async def test_each_hop_of_a_redirect_is_checked(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, port = server
    other: Any = type("Other", (_Handler,), {"seen": []})
    with serving(other) as other_port:
        handler.status, handler.location = 302, f"http://127.0.0.2:{other_port}/secret"
        reach = Reach.limited(["127.0.0.1"])
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.2 leads to"):
            await fetched(f"http://127.0.0.1:{port}/x", reach)
        with pytest.raises(AddressRefused):
            async with put(
                TransferRequest("PUT", f"http://127.0.0.2:{other_port}/up"), TransferLimits(reach)
            ):
                pass
    assert [path for _, path, _ in handler.seen] == ["/x"]
    assert other.seen == []


SECRETS = dict.fromkeys(
    ("authorization", "Cookie", "PROXY-AUTHORIZATION", "x-amz-date", "X-Ms-Blob-Type", "X-Goog-Meta-Key"), "s"
)


@pytest.mark.parametrize(
    ("location", "goes_on"),
    [
        ("/elsewhere?x=1", True),
        ("https://store.lab:443/elsewhere", True),
        ("https://store.lab:8443/x", False),
        ("http://store.lab/x", False),
        ("http://store.lab:443/x", False),
        ("//store.lab.other/x", False),
    ],
)
def test_secrets_stay_with_scheme_host_and_port(location: str, goes_on: bool) -> None:
    request = TransferRequest("GET", "https://store.lab/image", {**SECRETS, "X-Plain": "kept"})
    headers = request.redirected(location).headers
    assert headers == ({**SECRETS, "X-Plain": "kept"} if goes_on else {"X-Plain": "kept"})


async def test_own_authorization_counts_before_that_of_the_url(server: tuple[type[_Handler], int]) -> None:
    handler, port = server
    request = TransferRequest("GET", f"http://user:word@127.0.0.1:{port}/x", {"Authorization": "Bearer mine"})
    async with get(request) as (receive, length):
        assert length == len(BODY)
        while await receive():
            pass
    assert handler.seen[0][2]["Authorization"] == "Bearer mine"


async def test_part_that_nobody_asked_for_is_an_error(server: tuple[type[_Handler], int]) -> None:
    handler, port = server
    handler.status = 206
    with pytest.raises(TransferError, match="a part"):
        await fetched(f"http://127.0.0.1:{port}/x")
    request = TransferRequest("GET", f"http://127.0.0.1:{port}/x", {"Range": f"bytes=0-{len(BODY) - 1}"})
    async with get(request) as (receive, length):
        assert length == len(BODY)
        assert await receive() == BODY


async def test_cancelled_transfer_holds_no_thread_while_it_agrees_on_tls() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(fetched, f"https://127.0.0.1:{port}/x")
        silent = await listener.accept()
        assert await silent.receive_some()  # the thread is in its handshake now, for a minute
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        while await silent.receive_some():
            pass
    await silent.aclose()


async def test_cancelled_transfer_that_connects_later_says_nothing(
    server: tuple[type[_Handler], int],
) -> None:
    handler, port = server
    is_connecting, goes_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    before = _http_threads.borrowed_tokens

    class Slow(Reach):
        def connect(self, host: str, port: int, seconds: float) -> socket.socket:
            token.run_sync_soon(is_connecting.set)
            goes_on.wait()
            return super().connect(host, port, seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetched, f"http://127.0.0.1:{port}/x", Slow())
        await is_connecting.wait()
        nursery.cancel_scope.cancel()
    assert _http_threads.borrowed_tokens > before
    goes_on.set()
    with trio.fail_after(10):
        while _http_threads.borrowed_tokens > before:  # the thread's end is no event of ours
            await trio.sleep(0.01)
    assert handler.seen == []


async def test_certificate_authorities_are_read_in_a_thread(
    server: tuple[type[_Handler], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = server
    threads: set[threading.Thread] = set()
    real = ssl._create_default_https_context

    def recorded(*arguments: Any) -> ssl.SSLContext:
        threads.add(threading.current_thread())
        return real(*arguments)

    monkeypatch.setattr(ssl, "_create_default_https_context", recorded)
    with pytest.raises(TransferError):
        await fetched(f"https://127.0.0.1:{port}/x")
    assert threads
    assert threading.current_thread() not in threads
