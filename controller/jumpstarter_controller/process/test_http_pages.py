"""What a scraper and a probe get, and what others do not get away with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from jumpstarter_controller.process.http_pages import (
    CONNECTION_SECONDS,
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    Page,
    serve_http,
)


async def metrics() -> Page:
    return Page(b"one 1\n")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, listeners, {"/metrics": metrics})
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(port: int, request: bytes) -> bytes:
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            answer = b""
            try:
                while data := await stream.receive_some():
                    answer += data
            except trio.BrokenResourceError:
                return answer
            return answer


async def test_get_and_head(port: int) -> None:
    head, _, body = (await ask(port, b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 6" in head
    assert body == b"one 1\n"
    head, _, body = (await ask(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    assert b"Content-Length: 6" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /else HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"nonsense", b"400"),
        (b"PRI * HTTP/2.0", b"405"),
    ],
)
async def test_other_requests_are_refused(port: int, request_line: bytes, status: bytes) -> None:
    assert (await ask(port, request_line + b"\r\n\r\n")).split()[1] == status


async def test_a_head_without_end_gets_no_answer(port: int) -> None:
    assert await ask(port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1)) == b""


async def test_a_silent_connection_ends(autojump_clock: trio.testing.MockClock, port: int) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /metrics")
        with trio.fail_after(2 * CONNECTION_SECONDS):
            assert await stream.receive_some() == b""
    assert trio.current_time() >= CONNECTION_SECONDS


async def test_silent_connections_are_few(port: int) -> None:
    silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
    with trio.fail_after(10):
        while await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"):
            await trio.sleep(0.01)
        for stream in silent:
            await stream.aclose()
        while not await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"):
            await trio.sleep(0.01)
