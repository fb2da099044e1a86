"""Cameras of the host end to end, with Debian's ustreamer, and a camera that is preloaded below it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError

from jumpstarter_drivers.testing import serve_async
from jumpstarter_drivers.video.conftest import jpeg
from jumpstarter_drivers.video.driver import UStreamer
from jumpstarter_drivers.video.jpeg import read_jpeg
from tests.support.fake_camera import FakeCamera, require_ustreamer

SIZE = (640, 480)
RED, BLUE = jpeg("red", SIZE), jpeg("blue", SIZE)


@pytest.fixture
def ustreamer() -> None:
    require_ustreamer()


@pytest.fixture
def camera(tmp_path: Path, ustreamer: None) -> Iterator[FakeCamera]:
    made = FakeCamera(tmp_path)
    made.show(RED)
    yield made
    assert processes_of(made) == []


def processes_of(camera: FakeCamera) -> list[int]:
    """Those that ustreamer runs in for this camera."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(camera.node) in words and b"--unix" in words:
                found.append(int(process.name))
    return found


def video(camera: FakeCamera, **more: Any) -> UStreamer:
    args = {"format": "MJPEG", "encoder": "HW", "device-error-delay": 1}
    values: dict[str, Any] = {"args": args, "device": str(camera.node), "executable": str(camera.program)}
    return UStreamer(**values | {"idle_timeout": 0.0} | more)


async def until_it_shows(client: DriverClient, picture: bytes) -> None:
    with trio.fail_after(60):
        while True:
            with suppress(DriverError):
                if await client.snapshot_bytes.aio() == picture:
                    return
            await trio.sleep(0.05)


async def until_it_fails(client: DriverClient) -> str:
    with trio.fail_after(60):
        while True:
            try:
                await client.snapshot_bytes.aio()
            except DriverError as error:
                return str(error)


async def until_there_is_no_process(camera: FakeCamera) -> None:
    with trio.fail_after(60):
        while processes_of(camera):
            await trio.sleep(0.02)


async def test_snapshot_is_the_cameras_own_picture(camera: FakeCamera) -> None:
    async with serve_async(video(camera)) as client:
        assert await client.snapshot_bytes.aio() == RED


async def test_camera_without_jpeg_is_encoded(camera: FakeCamera) -> None:
    camera.show_raw(200)
    async with serve_async(video(camera, args={})) as client:
        picture = await client.snapshot.aio()
        assert picture.size == SIZE
        assert abs(picture.convert("L").getpixel((300, 200)) - 200) < 25


@pytest.mark.parametrize("raw", [False, True])
def test_camera_is_asked_whether_it_sends_jpeg(camera: FakeCamera, raw: bool) -> None:
    if raw:
        camera.show_raw(1)
    program = (
        "import sys; from jumpstarter_drivers.video.v4l2 import sends_jpeg; print(sends_jpeg(sys.argv[1]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, camera.node],
        env=os.environ | camera.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{not raw}\n"


async def test_state(camera: FakeCamera) -> None:
    async with serve_async(video(camera)) as client:
        state = await client.state.aio()
        assert (state.online, state.width, state.height) == (True, *SIZE)
        assert state.source == f"the camera {camera.node}"


async def test_one_process_for_all_viewers_ends_with_the_last(camera: FakeCamera) -> None:
    async with serve_async(video(camera)) as client:
        assert processes_of(camera) == []
        async with client.stream_async("connect") as first, client.stream_async("connect") as second:
            for stream in (first, second):
                await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
                received = b""
                while RED not in received:
                    received += await stream.receive_some()
            assert await client.snapshot_bytes.aio() == RED
            assert len(processes_of(camera)) == 1
        await until_there_is_no_process(camera)


async def test_camera_that_is_unplugged_and_plugged_in_again(camera: FakeCamera) -> None:
    async with serve_async(video(camera)) as client:
        assert await client.snapshot_bytes.aio() == RED
        camera.unplug()
        assert f"there is no {camera.node}; check the cable" in await until_it_fails(client)
        camera.show(BLUE)
        camera.plug_in()
        await until_it_shows(client, BLUE)


async def test_camera_that_another_program_has_is_named_with_it(camera: FakeCamera, tmp_path: Path) -> None:
    other = subprocess.Popen(
        [
            camera.program,
            "--device",
            camera.node,
            "--format",
            "MJPEG",
            "--encoder",
            "HW",
            "-U",
            tmp_path / "u",
        ],
        stderr=subprocess.PIPE,
    )
    assert other.stderr is not None
    while b"Capturing" not in other.stderr.readline():
        pass
    try:
        async with serve_async(video(camera)) as client:
            with pytest.raises(
                DriverError, match=rf"{camera.node} is in use by \w+ \(process {other.pid}\); end"
            ):
                await client.snapshot_bytes.aio()
            state = await client.state.aio()
            assert not state.online
            assert f"process {other.pid}" in state.reason
            other.terminate()
            await until_it_shows(client, RED)
    finally:
        other.kill()
        other.wait()
        other.stderr.close()


async def test_process_that_is_stuck_is_ended_and_started_again(camera: FakeCamera) -> None:
    async with (
        serve_async(video(camera, stall_timeout=1.0)) as client,
        client.stream_async("connect") as stream,
    ):
        await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
        received = b""
        while RED not in received:
            received += await stream.receive_some()
        stuck = processes_of(camera)
        os.kill(stuck[0], signal.SIGSTOP)
        camera.show(BLUE)
        received = b""
        with trio.fail_after(60):
            while BLUE not in received:
                received += await stream.receive_some()
        assert set(processes_of(camera)) & set(stuck) == set()


async def test_camera_that_stalls_is_said_and_comes_back(camera: FakeCamera) -> None:
    async with serve_async(video(camera)) as client:
        await until_it_shows(client, RED)
        camera.stall()
        assert "no picture" in await until_it_fails(client)
        camera.show(BLUE)
        camera.go_on()
        await until_it_shows(client, BLUE)


async def test_program_that_ends_at_once_is_told_with_its_last_words(camera: FakeCamera) -> None:
    async with serve_async(video(camera, args={"no-such-option": 1})) as client:
        with pytest.raises(DriverError, match=f"ustreamer has ended for {camera.node}: .*no-such-option"):
            await client.snapshot_bytes.aio()


async def test_host_without_ustreamer(camera: FakeCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_async(video(camera, executable="/nowhere/ustreamer")) as client:
        with pytest.raises(DriverError, match="there is no program /nowhere/ustreamer"):
            await client.snapshot_bytes.aio()
    monkeypatch.setenv("PATH", "/nowhere")
    async with serve_async(video(camera, executable=None)) as client:
        with pytest.raises(
            DriverError, match="ustreamer is not installed on the exporter's host; there, run `apt"
        ):
            await client.snapshot_bytes.aio()


def test_process_ends_with_a_killed_exporter(camera: FakeCamera) -> None:
    """Started as an exporter starts it; nothing of ours is left to end it."""
    program = (
        "import sys, trio\n"
        "from jumpstarter_drivers.testing import serve_async\n"
        "from jumpstarter_drivers.video.driver import UStreamer\n"
        "async def main():\n"
        "    async with serve_async(UStreamer(device=sys.argv[1], executable=sys.argv[2])) as client:\n"
        "        await client.snapshot_bytes.aio()\n"
        "        print('seen', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    exporter = subprocess.Popen(
        [sys.executable, "-c", program, camera.node, camera.program],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(camera.folder)},
    )
    assert exporter.stdout is not None
    try:
        assert exporter.stdout.readline() == "seen\n"
        assert len(processes_of(camera)) == 1
    finally:
        exporter.kill()
        exporter.wait()
        exporter.stdout.close()
    trio.run(until_there_is_no_process, camera)


async def test_ustreamers_own_picture_is_not_a_picture_of_the_board(tmp_path: Path, ustreamer: None) -> None:
    """NO SIGNAL would pass for the board's screen; viewers of the stream see it."""
    node = tmp_path / "video0"
    node.touch()
    async with (
        serve_async(UStreamer(device=str(node), idle_timeout=0.0)) as client,
        client.stream_async("connect") as stream,
    ):
        await stream.send_all(b"GET /stream HTTP/1.0\r\n\r\n")
        received = b""
        while b"\xff\xd9" not in received:
            received += await stream.receive_some()
        assert b"X-UStreamer-Online: false" in received
        picture = read_jpeg(received[received.index(b"\xff\xd8") : received.index(b"\xff\xd9") + 2])
        assert (picture.width, picture.height) == SIZE
        with pytest.raises(DriverError, match=f"the camera {node} gives no picture"):
            await client.snapshot_bytes.aio()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"args": {"unix": "/tmp/x"}}, "args has 'unix', which is the driver's"),
        ({"args": {"--format": "MJPEG"}}, "write it without dashes"),
        (
            {"args": {"device": "/dev/video1"}, "device": "/dev/video0"},
            "args has 'device', which has its own key",
        ),
        ({"resolution": "big"}, "resolution is 'big'"),
        ({"fps": 0}, "fps is 0"),
    ],
)
def test_invalid_configuration(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        UStreamer(**values)


def test_configuration_of_0_9_names_its_node() -> None:
    assert UStreamer.host_nodes({"args": {"device": "/dev/video2"}}) == ["/dev/video2"]
    assert UStreamer.host_nodes({"device": "/dev/video3"}) == ["/dev/video3"]
    assert UStreamer.host_nodes({}) == ["/dev/video0"]
