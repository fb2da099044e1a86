"""Cameras behind HTTP end to end: a user, the exporter, and a server on the loopback interface that may lie."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from jumpstarter_client.errors import DriverError

from jumpstarter_drivers.testing import host, serve_async
from jumpstarter_drivers.video.client import VideoClient
from jumpstarter_drivers.video.conftest import (
    STREAM_HEAD,
    Answer,
    Request,
    chunked,
    films,
    jpeg,
    one_picture,
    part,
    says,
    scripted_camera,
    streams,
)
from jumpstarter_drivers.video.driver import HttpVideo
from jumpstarter_drivers.video.jpeg import read_jpeg

RED, BLUE = jpeg("red"), jpeg("blue", (32, 16))


def video(url: str, **more: Any) -> HttpVideo:
    return HttpVideo(url=url, **{"stall_timeout": 5.0, "idle_timeout": 0.0} | more)


async def test_snapshot_of_a_stream() -> None:
    async with (
        scripted_camera(stream=streams(part(RED))) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        assert await client.snapshot_bytes.aio() == RED


async def test_snapshot_as_a_picture_of_pillow() -> None:
    async with (
        scripted_camera(stream=streams(part(RED))) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        picture = await client.snapshot.aio()
        assert picture.size == (64, 48)
        assert picture.getpixel((5, 5))[0] > 250


async def test_snapshot_is_saved(tmp_path: Path) -> None:
    file = tmp_path / "board.jpg"
    async with (
        scripted_camera(stream=streams(part(BLUE))) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        saved = await client.save_snapshot.aio(output=file)
    assert file.read_bytes() == BLUE
    assert str(saved) == f"saved {file}: 32x16, {len(BLUE)} bytes"


async def test_state_of_a_stream() -> None:
    async with (
        scripted_camera(stream=films(BLUE)) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        state = await client.state.aio()
        assert (state.online, state.width, state.height, state.reason) == (True, 32, 16, "")
        assert state.source == camera.url
        assert state.ok
        assert state.result.source.resolution.width == 32
        assert "resolution: 32x16" in str(state)


async def test_state_says_why_there_are_no_pictures() -> None:
    async with serve_async(video("http://127.0.0.1:1/stream")) as client:
        state = await client.state.aio()
    assert not state.online
    assert "http://127.0.0.1:1 cannot be reached (Connection refused)" in state.reason


async def test_url_of_single_pictures() -> None:
    async with (
        scripted_camera(now=one_picture(RED)) as camera,
        serve_async(video(f"{camera.url}/now", interval=0.01)) as client,
    ):
        assert await client.snapshot_bytes.aio() == RED


async def test_snapshot_url_is_asked_while_nobody_looks_at_the_stream() -> None:
    async with (
        scripted_camera(stream=films(RED), now=one_picture(BLUE)) as camera,
        serve_async(video(f"{camera.url}/stream", snapshot_url=f"{camera.url}/now")) as client,
    ):
        assert await client.snapshot_bytes.aio() == BLUE
        assert [one.target for one in camera.requests] == ["/now"]


async def test_stream_in_chunks() -> None:
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    pieces = [chunked(part(RED)[at : at + 100]) for at in range(0, len(part(RED)), 100)]
    async with (
        scripted_camera(stream=streams(*pieces, head=head)) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        assert await client.snapshot_bytes.aio() == RED


@pytest.mark.parametrize(
    "parts",
    [
        [part(RED[:100]), part(BLUE)],
        [part(b"no picture"), part(BLUE)],
        [part(RED, 10), part(BLUE, 10), part(BLUE)],
        [part(RED, 10**9), part(BLUE, 10**9), part(BLUE)],
        [part(RED[:-2]), part(BLUE)],
    ],
    ids=["cut", "no picture", "longer than it says", "shorter than it says", "without its end"],
)
async def test_only_whole_pictures_are_shown(parts: list[bytes]) -> None:
    async with (
        scripted_camera(stream=streams(*parts)) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        picture = await client.snapshot_bytes.aio()
        assert picture == BLUE or (picture == RED and b"1000000000" in parts[0])


async def refused(answer: Answer, path: str = "/stream", **more: Any) -> str:
    async with (
        scripted_camera(stream=answer) as camera,
        serve_async(video(f"{camera.url}{path}", **more)) as client,
    ):
        camera.answers.setdefault("/elsewhere", says(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"))
        with pytest.raises(DriverError) as error:
            await client.snapshot_bytes.aio()
        return str(error.value)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (says(b""), "ended the connection without an answer|connection ended before its answer"),
        (says(b"SSH-2.0-OpenSSH\r\n"), "is not a camera: it does not speak HTTP; check the URL"),
        (says(b"HTTP/1.1 404 Not Found\r\n\r\n"), r"has no /stream \(404\); check the URL"),
        (
            says(b"HTTP/1.1 401 Unauthorized\r\n\r\n"),
            r"wants a user and a password in the configuration \(401\)",
        ),
        (says(b"HTTP/1.1 503 Busy\r\n\r\n"), r"is busy \(503\)"),
        (says(b"HTTP/1.1 500 Oh\r\n\r\n"), "answers 500 to /stream"),
        (
            says(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n"),
            "redirects to http://10.0.0.1, which the",
        ),
        (says(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"), "which is not a URL"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"), "redirects again and again"),
        (
            says(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>"),
            "sends text/html, and no JPEG pictures",
        ),
        (says(STREAM_HEAD + part(b"x")), "ended its stream"),
        (says(STREAM_HEAD.replace(b"camera-boundary", b"x" * 300)), "its boundary is not valid"),
        (says(STREAM_HEAD + b"x" * 100_000), "there is no boundary in it"),
    ],
)
async def test_server_that_brings_no_pictures_is_one_sentence(answer: Answer, sentence: str) -> None:
    said = await refused(answer)
    assert re.search(sentence, said)
    assert "http://127.0.0.1:" in said


async def test_stream_that_stalls_is_started_again() -> None:
    answers = iter([streams(part(RED[:200])), streams(part(BLUE))])

    async def answer(request: Request) -> None:
        await next(answers)(request)

    async with (
        scripted_camera(stream=answer) as camera,
        serve_async(video(f"{camera.url}/stream", stall_timeout=0.3)) as client,
    ):
        with pytest.raises(
            DriverError, match=r"sent 1 pictures and no whole one within 0.3 s .*its end is missing"
        ):
            await client.snapshot_bytes.aio()
        assert await client.snapshot_bytes.aio() == BLUE


async def test_server_that_takes_the_request_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: Request) -> None:
        await request.stream.receive_some()

    assert "sent no picture within 0.3 s" in await refused(answer, stall_timeout=0.3)


async def test_picture_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: Request) -> None:
        await request.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8")
        while True:
            await request.send(b"x" * 1024 * 1024)

    assert "sends a picture of more than 16 MiB" in await refused(answer)


async def test_basic_authentication() -> None:
    async def answer(request: Request) -> None:
        told = request.headers.get("authorization")
        if told == "Basic " + base64.b64encode("lab:pä:ss".encode()).decode():
            await streams(part(RED))(request)
        else:
            await request.send(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n')

    async with scripted_camera(stream=answer) as camera:
        async with serve_async(video(f"{camera.url}/stream", user="lab", password="pä:ss")) as client:
            assert await client.snapshot_bytes.aio() == RED
        url = f"{camera.url}/stream".replace("//", "//lab:wrong@")
        async with serve_async(video(url)) as client:
            with pytest.raises(
                DriverError, match="refuses the user and password of the configuration"
            ) as error:
                await client.snapshot_bytes.aio()
            assert "wrong" not in str(error.value)


@pytest.mark.parametrize(("algorithm", "hashed"), [("MD5", hashlib.md5), ("SHA-256", hashlib.sha256)])
async def test_digest_authentication(algorithm: str, hashed: Any) -> None:
    def digest(text: str) -> str:
        return str(hashed(text.encode()).hexdigest())

    counts: list[str] = []

    async def answer(request: Request) -> None:
        told = dict(re.findall(r'(\w+)="?([^",]*)', request.headers.get("authorization", "")))
        secret, asked = digest('lab:the "realm":pass'), digest("GET:/stream")
        wanted = digest(f"{secret}:n0nce:{told.get('nc')}:{told.get('cnonce')}:auth:{asked}")
        if told.get("response") == wanted and told["opaque"] == "0p":
            counts.append(told["nc"])
            await request.send(STREAM_HEAD, part(RED))
        else:
            await request.send(
                b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\n'
                b'WWW-Authenticate: Digest realm="the \\"realm\\"", '
                + f'qop="auth,auth-int", nonce="n0nce", opaque="0p", algorithm={algorithm}\r\n\r\n'.encode()
            )

    async with (
        scripted_camera(stream=answer) as camera,
        serve_async(video(f"{camera.url}/stream", user="lab", password="pass")) as client,
    ):
        assert await client.snapshot_bytes.aio() == RED
        await camera.until_unused()
        assert await client.snapshot_bytes.aio() == RED
    assert counts[:2] == ["00000001", "00000002"]


async def test_password_goes_to_no_other_host_and_path_of_the_same_is_followed() -> None:
    async with scripted_camera(now=one_picture(RED)) as camera, scripted_camera() as other:
        for path, where in [("/away", other.url), ("/stream", camera.url)]:
            camera.answers[path] = says(f"HTTP/1.1 302 Found\r\nLocation: {where}/now\r\n\r\n".encode())
        async with serve_async(video(f"{camera.url}/stream", user="lab", password="pass")) as client:
            assert await client.snapshot_bytes.aio() == RED
        async with serve_async(video(f"{camera.url}/away", user="lab", password="pass")) as client:
            with pytest.raises(DriverError, match="which the exporter does not follow"):
                await client.snapshot_bytes.aio()
        assert other.requests == []


async def test_one_connection_for_all_viewers_ends_after_the_last() -> None:
    async with (
        scripted_camera(stream=films(RED)) as camera,
        host(HttpVideo, url=f"{camera.url}/stream", idle_timeout=0.0) as devices,
        serve_async(devices) as client,
    ):
        assert isinstance(client, VideoClient)
        with trio.fail_after(10):
            async with client.stream_async("connect") as first, client.stream_async("connect") as second:
                for stream in (first, second):
                    await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
                    received = b""
                    while RED not in received:
                        received += await stream.receive_some()
                assert (await client.state.aio()).viewers == 2
                assert camera.open == 1
                assert len(camera.requests) == 1
            await camera.until_unused()


async def test_0_9_clients_read_the_state_and_the_snapshot() -> None:
    """By the names and types that its client checks: whole numbers, text in base64."""
    async with (
        scripted_camera(stream=films(BLUE)) as camera,
        serve_async(video(f"{camera.url}/stream")) as client,
    ):
        state: Any = await client.call_async("state")
        picture: Any = await client.call_async("snapshot")
    assert state["ok"] is True
    assert state["result"]["source"]["resolution"] == {"width": 32, "height": 16}
    assert state["result"]["source"]["captured_fps"].is_integer()
    assert set(state["result"]["encoder"]) == {"type", "quality"}
    assert read_jpeg(base64.b64decode(picture)).width == 32


async def test_camera_of_single_pictures_is_not_taken_for_one_that_stalls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        scripted_camera(now=one_picture(RED)) as camera,
        serve_async(video(f"{camera.url}/now", stall_timeout=0.4)) as client,
    ):
        with trio.fail_after(60):
            async with aclosing(client.pictures.aio()) as pictures:
                for _ in range(4):
                    await anext(pictures)
    assert "sent no picture" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://lab:s3cr%t@camera:x1/", "http://lab:s3cr%t@[camera/", "http://lab:s3cr%t@a..b/"]
)
def test_a_password_of_a_url_is_in_no_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="url: ") as caught:
        HttpVideo(url=url)
    assert "s3cr" not in str(caught.value)


def test_a_password_of_a_url_is_in_no_representation() -> None:
    url = "http://lab:s3cret@camera.lab/"
    assert "s3cret" not in repr(HttpVideo(url=url, snapshot_url=url))


async def test_certificates_are_read_once_and_a_wrong_file_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)

    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            await secured.receive_some()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(RED)}\r\n\r\n"
            await secured.send_all(head.encode() + RED)
        await trio.aclose_forcefully(secured)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        async with serve_async(video(url, snapshot_url=url, ca_file=str(ca_file))) as client:
            assert await client.snapshot_bytes.aio() == RED
            ca_file.unlink()
            assert await client.snapshot_bytes.aio() == RED
        for wrong in (tmp_path / "none.pem", tmp_path / "empty.pem"):
            (tmp_path / "empty.pem").touch()
            async with serve_async(video(url, snapshot_url=url, ca_file=str(wrong))) as client:
                with pytest.raises(
                    DriverError, match=rf"the certificates in ca_file \({wrong}\) cannot be read"
                ):
                    await client.snapshot_bytes.aio()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("url", "rtsp://camera/1", "url: it takes a URL such as"),
        ("url", "http://camera/a b", "characters that a URL must not have"),
        ("url", "http://camera:99999/", "url: it takes a URL such as"),
        ("url", "http://camera..lab/", "url: its host is invalid: it takes a host name"),
        ("url", f"http://{'a' * 64}.lab/", "url: its host is invalid: it takes a host name"),
        ("snapshot_url", "camera", "snapshot_url: it takes a URL"),
        ("interval", 0.0, "interval is 0.0"),
        ("interval", 10.0, "interval is 10.0; .* less than `stall_timeout`"),
        ("idle_timeout", -1.0, "idle_timeout is -1.0"),
        ("stall_timeout", 0.0, "stall_timeout is 0.0"),
    ],
)
def test_invalid_configuration(key: str, value: object, sentence: str) -> None:
    values: dict[str, Any] = {"url": "http://camera.lab/"} | {key: value}
    with pytest.raises(ValueError, match=sentence):
        HttpVideo(**values)
