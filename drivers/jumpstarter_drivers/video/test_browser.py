"""The page in a real browser: the picture moves in it, and other sites get nothing of it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from jumpstarter_proto.rpc import socket_folder
from PIL import Image

from jumpstarter_drivers.testing import serve_async
from jumpstarter_drivers.video.client import VideoClient
from jumpstarter_drivers.video.conftest import STREAM_HEAD, Request, jpeg, part, scripted_camera
from jumpstarter_drivers.video.driver import HttpVideo
from jumpstarter_drivers.video.page import serve_page

RED, BLUE = jpeg("red", (640, 480)), jpeg("blue", (640, 480))
ARTEFACTS = os.environ.get("JUMPSTARTER_TEST_ARTEFACTS", "")
"""A folder in which the screenshot is kept."""


class Browser:
    """Chromium without a window, which is told what to do over a pipe: JSON, and a zero byte behind it."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = trio.lowlevel.FdStream(commands), trio.lowlevel.FdStream(answers)
        self._buffer = b""
        self._count = 0
        self._session = ""

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers; an error of it is one of the test's, but for a page that is not shown yet."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._commands.send_all(json.dumps(message).encode() + b"\0")
        while True:
            answer = await self._message()
            if answer.get("id") == self._count and "active page" in answer.get("error", {}).get(
                "message", ""
            ):
                await trio.sleep(0.1)
                return await self.ask(method, **parameters)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return cast("dict[str, Any]", answer["result"])

    async def open(self, url: str) -> None:
        """In the page that it has begun with."""
        while not self._session:
            targets = (await self.ask("Target.getTargets"))["targetInfos"]
            for page in [one["targetId"] for one in targets if one["type"] == "page"][:1]:
                self._session = (await self.ask("Target.attachToTarget", targetId=page, flatten=True))[
                    "sessionId"
                ]
        await self.ask("Page.navigate", url=url)
        await self.ask("Page.bringToFront")

    async def screenshot(self) -> Image.Image:
        data = (await self.ask("Page.captureScreenshot", format="png"))["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    async def evaluate(self, script: str) -> Any:
        result = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return result["result"].get("value")

    async def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = await self._answers.receive_some()
            assert received, "the browser has ended"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return cast("dict[str, Any]", json.loads(message))

    async def aclose(self) -> None:
        await self._commands.aclose()
        await self._answers.aclose()


@pytest.fixture
def program() -> str:
    if (found := shutil.which("chromium")) is None:
        pytest.skip("missing: chromium; apt install chromium")
    return found


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Browser]:
    """With a home that is empty, and whose path is short, as it has sockets in it."""
    with socket_folder("jumpstarter-test-") as folder:
        async with started(program, folder) as found:
            yield found


@asynccontextmanager
async def started(program: str, folder: Path) -> AsyncIterator[Browser]:
    its_end, commands = os.pipe()
    answers, its_answers = os.pipe()
    # It reads descriptor 3 and writes descriptor 4.
    wrapper = f'exec {program} "$@" 3<&{its_end} 4>&{its_answers}'
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            wrapper,
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            "--window-size=900,640",
            f"--user-data-dir={folder}",
        ],
        pass_fds=(its_end, its_answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(folder), "TMPDIR": str(folder)},
        start_new_session=True,
    )
    os.close(its_end)
    os.close(its_answers)
    opened = Browser(commands, answers)
    try:
        yield opened
    finally:
        await opened.aclose()  # which ends it
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(process.wait, 20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


async def turns(request: Request) -> None:
    """A camera at something that is red and blue in turns."""
    await request.send(STREAM_HEAD)
    while True:
        for picture in (RED, BLUE):
            await request.send(part(picture))
            await trio.sleep(0.5)


@pytest.mark.timeout(240)
async def test_picture_moves_in_a_browser_and_other_sites_get_nothing(program: str) -> None:
    async with (
        browser(program) as chromium,
        scripted_camera(stream=turns) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/stream", idle_timeout=0.0)) as client,
        serve_page(cast("VideoClient", client)) as url,
    ):
        with trio.fail_after(200):
            await chromium.open(url)
            seen: set[str] = set()
            while seen != {"red", "blue"}:
                shot = await chromium.screenshot()
                red, _, blue = cast("tuple[int, int, int]", shot.getpixel((shot.width // 2, 200)))
                if max(red, blue) > 200:
                    seen.add("red" if red > blue else "blue")
            while "640x480" not in (
                text := await chromium.evaluate("document.getElementById('state').textContent")
            ):
                await trio.sleep(0.1)
            assert "pictures per second" in text or text == "640x480"
            if ARTEFACTS:
                (await chromium.screenshot()).save(Path(ARTEFACTS) / "video-page.png")
            await chromium.open("data:text/html,<title>another site</title>")
            embedded = (
                "new Promise(done => { const one = new Image(); one.onload = () => done('shown');"
                f" one.onerror = () => done('refused'); one.src = '{url}snapshot'; }})"
            )
            assert await chromium.evaluate(embedded) == "refused"
            asked = f"fetch('{url}state').then(() => 'read', () => 'refused')"
            assert await chromium.evaluate(asked) == "refused"
