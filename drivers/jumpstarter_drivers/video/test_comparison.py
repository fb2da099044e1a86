"""Whether a board shows what it should: references, tolerances and regions, and the steps of tests that wait for it."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.yamltest.machine import RunOutcome
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.run import Runner
from jumpstarter_client.yamltest.run_events import Event, RunEnded
from PIL import Image, ImageDraw

from jumpstarter_drivers.composite.driver import Composite
from jumpstarter_drivers.testing import serve_async
from jumpstarter_drivers.video.client import NoMatchError
from jumpstarter_drivers.video.comparison import DamagedPicture, PictureError, Reference
from jumpstarter_drivers.video.conftest import (
    Request,
    ScriptedCamera,
    films,
    one_picture,
    says,
    scripted_camera,
)
from jumpstarter_drivers.video.driver import HttpVideo

SIZE = (640, 360)


def screen(*, dialog: bool = False, noise: int = 0, dim: float = 1.0) -> Image.Image:
    """A board's screen, through a camera."""
    image = Image.new("RGB", SIZE, (20, 20, 60))
    draw = ImageDraw.Draw(image)
    for row in range(12):
        draw.rectangle((40, 20 + row * 25, 40 + (row * 97) % 400, 30 + row * 25), fill=(220, 220, 220))
    if dialog:
        draw.rectangle((500, 280, 600, 340), fill=(200, 200, 120))
    image = image.point(lambda value: int(value * dim))
    if noise:
        grain = random.Random(1)
        pixels: Any = image.load()
        for _ in range(60_000):
            x, y = grain.randrange(SIZE[0]), grain.randrange(SIZE[1])
            pixels[x, y] = tuple(max(0, min(255, one + grain.randint(-noise, noise))) for one in pixels[x, y])
    return image


def encoded(image: Image.Image, quality: int = 60) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    screen().save(tmp_path / "login.png")
    return tmp_path / "login.png"


def test_the_same_screen_through_a_noisy_camera_is_like_it(reference: Path) -> None:
    wanted = Reference(reference)
    assert wanted.difference(encoded(screen())) < 0.03
    assert wanted.difference(encoded(screen(noise=40, dim=0.95), 40)) < 0.1


def test_a_dialog_in_a_corner_is_a_difference_unless_the_region_is_elsewhere(reference: Path) -> None:
    picture = encoded(screen(dialog=True))
    assert Reference(reference).difference(picture) > 0.3
    assert Reference(reference, [0, 0, 480, 360]).difference(picture) < 0.05
    assert Reference(reference, [480, 270, 160, 90]).difference(picture) > 0.3


def test_sizes_may_differ(reference: Path) -> None:
    assert Reference(reference).difference(encoded(screen().resize((1280, 720)))) < 0.05


@pytest.mark.parametrize(
    ("region", "sentence"),
    [([1, 2], "it takes left, top"), ([600, 0, 100, 100], "not inside of"), ([0, 0, 0, 10], "not inside of")],
)
def test_region_that_is_none(reference: Path, region: list[int], sentence: str) -> None:
    with pytest.raises(PictureError, match=sentence):
        Reference(reference, region)


def test_reference_that_is_not_a_picture_and_picture_that_is_too_large(
    tmp_path: Path, reference: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PictureError, match="cannot be read as a picture"):
        Reference(tmp_path / "text.png")
    data = encoded(screen())
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(PictureError, match="60000x60000 pixels, which are too many"):
        Reference(reference).difference(data[:at] + b"\xea\x60\xea\x60" + data[at + 4 :])
    with pytest.raises(DamagedPicture, match="cannot be decoded"):
        Reference(reference).difference(data[: at + 20] + b"\xff\xd9")


async def test_board_is_waited_for(reference: Path) -> None:
    boot, login = encoded(Image.new("RGB", SIZE)), encoded(screen())
    async with (
        scripted_camera(now=one_picture(boot)) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/now", interval=0.05, idle_timeout=0.0)) as client,
    ):
        assert await client.compare.aio(reference) > 0.5
        with pytest.raises(
            NoMatchError, match=r"showed nothing like .*login.png within 0.2 s: the last picture differs by 0"
        ):
            await client.wait_like.aio(reference, timeout=0.2)
        async with trio.open_nursery() as nursery:

            async def boots() -> None:
                await trio.sleep(0.3)
                camera.answers["/now"] = one_picture(login)

            nursery.start_soon(boots)
            found = await client.wait_like.aio(reference, timeout=60)
        assert found.data == login
        assert found.difference < 0.1
        camera.answers["/now"] = one_picture(boot)
        assert (await client.wait_unlike.aio(reference, timeout=60)).data == boot


async def test_camera_without_pictures_may_still_come_in_time(reference: Path) -> None:
    async with (
        scripted_camera(now=says(b"HTTP/1.1 503 No\r\n\r\n")) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/now", interval=0.05, idle_timeout=0.0)) as client,
    ):
        with pytest.raises(NoMatchError, match=r"within 0.2 s: .*is busy \(503\)"):
            await client.wait_like.aio(reference, timeout=0.2)
        camera.answers["/now"] = one_picture(encoded(screen()))
        assert (await client.wait_like.aio(reference, timeout=60)).difference < 0.1


async def test_a_damaged_picture_does_not_end_the_wait(reference: Path) -> None:
    login = encoded(screen())
    at = login.index(b"\xff\xc0")  # behind the header that has the size nothing is left to decode
    damaged = [login[: at + 20] + b"\xff\xd9", login[: len(login) // 2]]
    answers = iter([*map(one_picture, damaged), one_picture(login)])

    async def answer(request: Request) -> None:
        await next(answers)(request)

    async with scripted_camera(now=answer, no=says(b"HTTP/1.1 404 No\r\n\r\n")) as camera:
        device = HttpVideo(url=f"{camera.url}/no", snapshot_url=f"{camera.url}/now", idle_timeout=0.0)
        async with serve_async(device) as client:
            assert (await client.wait_like.aio(reference, timeout=60)).data == login


async def run_steps(camera: ScriptedCamera, folder: Path, text: str) -> tuple[RunEnded, Path]:
    file = folder / "test.yaml"
    file.write_text(text)
    results = folder / "results"
    results.mkdir()
    device = HttpVideo(url=f"{camera.url}/stream", idle_timeout=0.0)
    events: list[Event] = []
    async with serve_async(Composite(children={"video": device})) as root:
        ended = await Runner(read(file, None), root.node, tell=events.append, folder=results).run()
    return ended, results


async def test_steps_save_into_the_folder_of_the_run(reference: Path, tmp_path: Path) -> None:
    login = encoded(screen())
    text = (
        "steps:\n  - video.snapshot\n  - video.snapshot\n  - video.snapshot: screen.jpg\n"
        "  - video.wait: login.png\n  - video.record: 0.2\n"
    )
    async with scripted_camera(stream=films(login)) as camera:
        ended, results = await run_steps(camera, tmp_path, text)
    assert ended.reason == ""
    assert {path.name for path in results.iterdir()} >= {
        "snapshot.jpg",
        "snapshot-2.jpg",
        "screen.jpg",
        "match.jpg",
        "clip.mkv",
    }
    assert (results / "snapshot-2.jpg").read_bytes() == login
    assert ended.steps[0].result == {"file": str(results / "snapshot.jpg"), "width": 640, "height": 360}


async def test_step_that_waits_in_vain_leaves_the_last_picture(reference: Path, tmp_path: Path) -> None:
    boot = encoded(Image.new("RGB", SIZE))
    text = "steps:\n  - video.wait: {like: login.png, region: [0, 0, 320, 360]}\n    timeout: 1s\n"
    async with scripted_camera(stream=films(boot)) as camera:
        ended, results = await run_steps(camera, tmp_path, text)
    assert ended.outcome is RunOutcome.FAILED
    assert "showed nothing like" in ended.reason
    assert (results / "no-match.jpg").read_bytes() == boot
