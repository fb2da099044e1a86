"""JSON over HTTPS from servers of every kind, over real TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme

from jumpstarter_proto import https
from jumpstarter_proto.https import FetchError, fetch_json

AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes().decode()

Answer = Callable[[trio.SSLStream[trio.SocketStream], bytes], Awaitable[None]]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    """A server whose every request gets that answer; its URL."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        request = b""
        try:
            while b"\r\n\r\n" not in request:
                data = await stream.receive_some()
                if not data:
                    return
                request += bytes(data)
            await answer(stream, request)
            await stream.aclose()
        except trio.BrokenResourceError:
            pass  # whoever asked has seen enough

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    inner = listeners[0].transport_listener
    assert isinstance(inner, trio.SocketListener)
    port = inner.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handle, listeners))
        yield f"https://localhost:{port}/x"
        nursery.cancel_scope.cancel()


def fixed(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> Answer:
    async def answer(stream: trio.SSLStream[trio.SocketStream], _: bytes) -> None:
        head = b"HTTP/1.1 " + status + b"\r\ncontent-length: " + str(len(body)).encode() + b"\r\n"
        await stream.send_all(head + headers + b"\r\n" + body)

    return answer


async def test_documents_and_forms() -> None:
    async with served(fixed(b'{"a": 1}')) as url:
        reply = await fetch_json(url, CA)
        assert (reply.status, reply.data) == (200, {"a": 1})
    seen: list[bytes] = []

    async def form(stream: trio.SSLStream[trio.SocketStream], request: bytes) -> None:
        seen.append(request)
        await fixed(b'{"error": "slow_down"}', b"400 Bad Request")(stream, request)

    async with served(form) as url:
        reply = await fetch_json(url, CA, {"a": "b c"})
        assert (reply.status, reply.data) == (400, {"error": "slow_down"})
    assert seen[0].startswith(b"POST /x ")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (fixed(b"no"), "answered 200, and no JSON object"),
        (fixed(b"[1]"), "no JSON object"),
        (fixed(b"[" * 100_000), "no JSON object"),
        (fixed(b"{}", b"200 OK", b"no header\r\n" * 200), "cannot be fetched"),
        (fixed(b"{}", b"no status"), "cannot be fetched"),
        (fixed(b"<html>", b"502 Bad Gateway"), "answered 502"),
        (fixed(b"", b"302 Found", b"location: https://localhost:1/\r\n"), "answered 302"),
        (fixed(b"{" + b" " * (https.MAX_BODY_BYTES + 1)), "more than 512 KiB"),
    ],
)
async def test_what_is_none_says_what_came(answer: Answer, sentence: str) -> None:
    async with served(answer) as url:
        with pytest.raises(FetchError, match=sentence):
            await fetch_json(url, CA)


async def test_a_server_that_is_not_trusted_not_there_or_not_https() -> None:
    async with served(fixed(b"{}")) as url:
        with pytest.raises(FetchError, match="cannot be fetched"):
            await fetch_json(url, trustme.CA().cert_pem.bytes().decode())
        with pytest.raises(FetchError, match="cannot be fetched"):
            await fetch_json(url)
    for other, sentence in (("http://localhost/", "not an https"), ("file:///etc/hosts", "not an https")):
        with pytest.raises(FetchError, match=sentence):
            await fetch_json(other, CA)
    with pytest.raises(FetchError, match="cannot be fetched"):
        await fetch_json(url, CA)


async def test_a_server_that_drips_takes_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "FETCH_SECONDS", 0.5)
    ended = trio.Event()

    async def drip(stream: trio.SSLStream[trio.SocketStream], _: bytes) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        try:
            while True:
                await stream.send_all(b" ")
                await trio.sleep(0.05)
        finally:
            ended.set()

    async with served(drip) as url:
        with pytest.raises(FetchError, match=r"longer than 0\.5 s|does not answer within 0\.5 s"):
            await fetch_json(url, CA)
        with trio.fail_after(30):
            await ended.wait()
