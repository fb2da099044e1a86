"""The page for a user's browser: it shows the camera to that user, and to nobody else who reaches the port."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import trio

from jumpstarter_drivers.testing import serve_async
from jumpstarter_drivers.video.client import VideoClient
from jumpstarter_drivers.video.conftest import ScriptedCamera, films, jpeg, part, says, scripted_camera
from jumpstarter_drivers.video.driver import HttpVideo
from jumpstarter_drivers.video.page import PageError, serve_page

RED = jpeg("red")


@dataclass
class Page:
    url: str
    camera: ScriptedCamera
    client: Any

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", urlsplit(self.url).port or 0)

    async def ask(self, path: str, *, host: str | None = None, method: str = "GET") -> tuple[int, str, bytes]:
        """Status, head and body."""
        return await self.send(f"{method} {path} HTTP/1.1\r\nHost: {host or self.host}\r\n\r\n".encode())

    async def send(self, request: bytes) -> tuple[int, str, bytes]:
        with trio.fail_after(30):
            async with await self.connect() as stream:
                await stream.send_all(request)
                answer = b""
                async for data in stream:
                    answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), body


@asynccontextmanager
async def shown(camera_url: str = "/stream") -> AsyncIterator[Page]:
    async with (
        scripted_camera(stream=films(RED), gone=says(b"HTTP/1.1 404 No\r\n\r\n")) as camera,
        serve_async(HttpVideo(url=f"{camera.url}{camera_url}", idle_timeout=0.0)) as client,
        serve_page(cast("VideoClient", client)) as url,
    ):
        yield Page(url, camera, client)


async def test_page_with_its_picture_its_state_and_a_snapshot() -> None:
    async with shown() as page:
        status, head, body = await page.ask(page.path)
        assert status == 200
        nonce = re.search(r"script-src 'nonce-([\w-]+)'", head)
        assert nonce is not None
        assert f'<script nonce="{nonce[1]}">'.encode() in body
        assert b'src="stream"' in body
        assert (await page.ask(f"{page.path}snapshot"))[2] == RED
        state = json.loads((await page.ask(f"{page.path}state"))[2])
        assert (state["online"], state["width"], state["height"]) == (True, 64, 48)


async def test_stream_moves_and_ends_with_its_viewer() -> None:
    async with shown() as page:
        async with await page.connect() as stream:
            await stream.send_all(f"GET {page.path}stream?1 HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode())
            received = b""
            with trio.fail_after(30):
                while received.count(RED) < 3:
                    received += await stream.receive_some()
        assert b"Content-Type: multipart/x-mixed-replace;boundary=" in received
        with trio.fail_after(30):
            await page.camera.until_unused()


async def test_name_that_was_made_to_lead_here_is_refused() -> None:
    async with shown() as page:
        port = urlsplit(page.url).port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.evil.example"):
            assert (await page.ask(page.path, host=host))[0] == 403
        assert (await page.ask(page.path, host=f"localhost:{port}"))[0] == 200


async def test_who_does_not_know_the_token_sees_nothing() -> None:
    async with shown() as page:
        for path in ("/", "/stream", "/snapshot", f"{page.path[:-2]}/snapshot", "//stream", "*"):
            status, _, body = await page.ask(path)
            assert status == 404
            assert RED not in body
        assert page.camera.requests == []


async def test_other_sites_may_not_embed_what_is_sent() -> None:
    async with shown() as page:
        for what in ("", "snapshot", "state"):
            _, head, _ = await page.ask(f"{page.path}{what}")
            assert "Cross-Origin-Resource-Policy: same-origin" in head
            assert "frame-ancestors 'none'" in head
            assert "default-src 'none'" in head
            assert "X-Content-Type-Options: nosniff" in head
            assert "Access-Control-Allow-Origin" not in head


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"x" * 20_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
async def test_what_is_not_a_request_is_answered_and_the_page_goes_on(request_: bytes) -> None:
    async with shown() as page:
        assert (await page.send(request_))[0] == 400
        assert (await page.ask(page.path, method="POST"))[0] == 405
        assert (await page.ask(page.path))[0] == 200


async def test_an_error_of_one_connection_ends_only_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with shown() as page:
        with monkeypatch.context() as changed:
            changed.setattr("jumpstarter_drivers.video.page._PAGE", tmp_path / "removed.html")
            with pytest.raises(IndexError):  # there is no answer
                await page.ask(page.path)
        assert (await page.ask(page.path))[0] == 200
    assert "a connection to the page ended with an error" in caplog.text


async def test_camera_that_brings_no_pictures_is_said_on_the_page() -> None:
    async with shown("/gone") as page:
        status, head, body = await page.ask(f"{page.path}snapshot")
        assert (status, b"has no /gone (404)" in body) == (503, True)
        assert "text/plain" in head
        state = json.loads((await page.ask(f"{page.path}state"))[2])
        assert not state["online"]
        assert "has no /gone (404)" in state["reason"]


async def test_what_a_camera_says_is_never_a_document_of_the_page() -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>"
    async with shown() as page:
        page.camera.answers["/stream"] = says(evil)
        _, head, body = await page.ask(f"{page.path}snapshot")
        assert "text/plain" in head
        assert b"<script>" not in body
        part_of_it = part(b"<script>alert(1)</script>").replace(b"image/jpeg", b"text/html") + part(RED)
        page.camera.answers["/stream"] = says(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=camera-boundary\r\n\r\n"
            + part_of_it
        )
        async with await page.connect() as stream:
            await stream.send_all(f"GET {page.path}stream HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode())
            received = b""
            with trio.fail_after(30):
                while RED not in received:
                    received += await stream.receive_some()
        assert b"text/html" not in received
        assert b"<script>" not in received


async def test_port_that_is_taken() -> None:
    async with shown() as page:
        with pytest.raises(
            PageError, match=r"cannot listen on 127.0.0.1:\d+: .* in use; choose another port"
        ):
            async with serve_page(page.client, urlsplit(page.url).port or 0):
                pass


async def test_viewers_are_bounded() -> None:
    async with shown() as page:
        waiting = [await page.connect() for _ in range(16)]
        with trio.fail_after(30):
            while (await page.ask(page.path))[0] != 503:
                pass
        for stream in waiting:
            await stream.aclose()
        with trio.fail_after(30):
            while (await page.ask(page.path))[0] != 200:
                pass
