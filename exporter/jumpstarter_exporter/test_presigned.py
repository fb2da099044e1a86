"""Files behind URLs, from a real server on the loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio

from jumpstarter_exporter import presigned
from jumpstarter_exporter.presigned import PresignedError, PresignedRequest, PresignedTimeout
from jumpstarter_exporter.resources import Resources

BODY = bytes(range(256)) * 20_000


class Server:
    """What it does is the handlers in `get` and `put`; what it saw is in `requests`."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.get: Callable[[Any], None] = lambda handler: answer(handler, 200, BODY)
        self.put: Callable[[Any], None] = lambda handler: answer(handler, 201, b"")
        self.url = ""
        self.read_body = True
        self.cut = threading.Event()


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _wait(done: threading.Event) -> None:
    done.wait(30)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append((self.path, dict(self.headers), b""))
            self.close_connection = True
            state.get(self)

        def do_PUT(self) -> None:
            body = b""
            while state.read_body and (size := self.rfile.readline()) != b"0\r\n":
                if not size:
                    state.cut.set()
                    self.close_connection = True
                    return
                body += self.rfile.read(int(size, 16))
                self.rfile.readline()
            state.requests.append((self.path, dict(self.headers), body))
            self.close_connection = True
            state.put(self)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        yield state
        http.shutdown()
        thread.join()


def handle(url: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    return {"kind": "presigned_request", "url": url, "method": method, "headers": headers}


async def fetched(url: str, **headers: str) -> bytes:
    async with Resources().read(handle(url, **headers)) as source:
        return b"".join([chunk async for chunk in source])


async def upload(url: str, data: bytes, **headers: str) -> None:
    async with Resources().write(handle(url, "PUT", **headers)) as sink:
        await sink.send_all(data)


async def test_get_gives_the_body_and_its_length(server: Server) -> None:
    async with Resources().read(handle(server.url + "/a%2Fb?x=%20y", **{"X-Key": "1"})) as source:
        assert source.size_hint == len(BODY)
        assert b"".join([chunk async for chunk in source]) == BODY
    path, headers, _ = server.requests[0]
    assert path == "/a%2Fb?x=%20y"
    assert headers["X-Key"] == "1"
    assert headers["Accept-Encoding"] == "identity"


async def test_credentials_in_a_url_are_used(server: Server) -> None:
    await fetched(server.url.replace("//", "//user:p%40ss@") + "/x")
    assert server.requests[0][1]["Authorization"] == "Basic dXNlcjpwQHNz"


async def test_redirects_are_followed_and_secrets_stay_with_their_server(server: Server) -> None:
    other = server.url.replace("127.0.0.1", "localhost")

    def get(handler: Any) -> None:
        if handler.path == "/start":
            answer(handler, 302, b"moved", Location="/same?sig=a%2fb")
        elif handler.path.startswith("/same"):
            answer(handler, 307, b"", Location=other + "/elsewhere")
        else:
            answer(handler, 200, b"found")

    server.get = get
    secrets = {"Authorization": "Bearer x", "X-Amz-Key": "y", "Cookie": "z", "X-Plain": "kept"}
    assert await fetched(server.url + "/start", **secrets) == b"found"
    _, (path, same, _), (_, elsewhere, _) = server.requests
    assert path == "/same?sig=a%2fb"
    assert secrets.items() <= same.items()
    assert elsewhere["X-Plain"] == "kept"
    assert not {"Authorization", "X-Amz-Key", "Cookie"} & elsewhere.keys()


async def test_endless_redirects_end(server: Server) -> None:
    server.get = lambda handler: answer(handler, 302, b"", Location="/again")
    with pytest.raises(PresignedError, match="more than 10 redirects"):
        await fetched(server.url)
    assert len(server.requests) == presigned.MAX_REDIRECTS + 1


async def test_a_redirect_to_something_else_is_refused(server: Server) -> None:
    server.get = lambda handler: answer(handler, 302, b"", Location="file:///etc/passwd")
    with pytest.raises(ValueError, match="not an http or https URL"):
        await fetched(server.url)


async def test_a_refusal_is_told_without_what_a_url_keeps_secret(server: Server) -> None:
    server.get = lambda handler: answer(handler, 403, b"")
    with pytest.raises(PresignedError) as caught:
        await fetched(server.url.replace("//", "//user:pass@") + "/image?signature=secret")
    assert str(caught.value).startswith("Presigned HTTP GET request failed: status=403")
    assert "/image?<redacted>" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_cut_is_never_an_end(server: Server, chunked: bool) -> None:
    def get(handler: Any) -> None:
        if chunked:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"10000\r\nthe beginning")
        else:
            answer(handler, 200, b"the beginning", **{"Content-Length": "10000"})

    server.get = get
    with pytest.raises(PresignedError, match=r"broke off|IncompleteRead"):
        await fetched(server.url)


async def test_nobody_there() -> None:
    with pytest.raises(PresignedError, match="Connection refused"):
        await fetched("http://127.0.0.1:1/x")


async def test_a_server_that_says_nothing_is_a_timeout(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    server.get = lambda _: _wait(done)
    monkeypatch.setattr(presigned, "IDLE_SECONDS", 0.05)
    with pytest.raises(PresignedTimeout, match="timed out"):
        await fetched(server.url)
    done.set()


async def test_a_transfer_has_a_total_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    server.get = lambda _: _wait(done)
    monkeypatch.setattr(presigned, "TOTAL_SECONDS", 0.05)
    with pytest.raises(PresignedTimeout):
        await fetched(server.url)
    done.set()


async def test_a_cancelled_transfer_lets_go_at_once(server: Server) -> None:
    started, done = threading.Event(), threading.Event()

    def get(_: Any) -> None:
        started.set()
        done.wait(30)

    server.get = get
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetched, server.url)
            await trio.to_thread.run_sync(started.wait)
            nursery.cancel_scope.cancel()
    done.set()


async def test_put_sends_all_of_it(server: Server) -> None:
    await upload(
        server.url + "/up?sig=1", BODY, **{"Content-Type": "application/x-image", "Content-Length": "7"}
    )
    path, headers, body = server.requests[0]
    assert (path, body) == ("/up?sig=1", BODY)
    assert headers["Content-Type"] == "application/x-image"
    assert "Content-Length" not in headers


@pytest.mark.parametrize("early", [False, True])
async def test_a_refused_upload_says_so(server: Server, early: bool) -> None:
    server.put = lambda handler: answer(handler, 507, b"")
    server.read_body = not early
    with pytest.raises(PresignedError, match=r"PUT request failed: (status=507|.*reset)"):
        await upload(server.url, bytes(20_000_000))


async def test_a_driver_that_fails_breaks_the_upload_off(server: Server) -> None:
    async def fail() -> None:
        async with Resources().write(handle(server.url, "PUT")) as sink:
            await sink.send_all(b"the beginning")
            raise OSError("the card came out")

    with pytest.raises(OSError, match="the card came out"):
        await fail()
    assert await trio.to_thread.run_sync(server.cut.wait, 30)
    assert server.requests == []


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "/etc/passwd", "http://x:99999/", "https:///path"])
def test_what_is_not_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        PresignedRequest.of(handle(url), "GET")


def test_text_that_http_cannot_carry_is_encoded_and_nothing_else() -> None:
    request = PresignedRequest("GET", "http://x/ä b%2f~'?q=ü&sig=%2B+#fragment", {})
    assert request.target == "/%C3%A4%20b%2f~'?q=%C3%BC&sig=%2B+"
