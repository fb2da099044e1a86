"""Films: what is in the file, read by the standard and not by us, and where its times come from."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_client.errors import DriverError
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.testing import serve_async
from jumpstarter_drivers.video.conftest import films, hears_no_more, jpeg, part, scripted_camera, streams
from jumpstarter_drivers.video.driver import HttpVideo
from jumpstarter_drivers.video.matroska import MatroskaWriter

RED, BLUE = jpeg("red"), jpeg("blue")
CONTAINERS = {0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0x1A45DFA3}
EPOCH_2001 = 978307200


def elements(data: bytes) -> list[tuple[int, bytes]]:
    """All elements in their order, those inside of others as well (RFC 8794); a size of ones is to the end."""
    found, at = [], 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        identifier = int.from_bytes(data[at : at + width])
        at += width
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width]) & ((1 << 7 * width) - 1)
        is_unknown = size == (1 << 7 * width) - 1
        at += width
        content = data[at:] if is_unknown else data[at : at + size]
        found.append((identifier, content))
        if identifier in CONTAINERS:
            found += elements(content)
        at += len(content)
    return found


def film(data: bytes) -> tuple[float, float, list[tuple[float, bytes]]]:
    """When it began, how long it is, and its pictures with their seconds."""
    pictures, cluster = [], 0
    date = duration = 0.0
    for identifier, content in elements(data):
        match identifier:
            case 0x4461:
                date = EPOCH_2001 + struct.unpack(">q", content)[0] / 1e9
            case 0x4489:
                duration = struct.unpack(">d", content)[0] / 1000
            case 0xE7:
                cluster = int.from_bytes(content)
            case 0xA3:
                track, since, flags = struct.unpack(">BhB", content[:4])
                assert (track, flags) == (0x81, 0x80)
                pictures.append(((cluster + since) / 1000, content[4:]))
    return date, duration, pictures


@given(gaps=st.lists(st.floats(-1, 40), max_size=20))
def test_pictures_keep_their_times_and_order(gaps: list[float]) -> None:
    file = io.BytesIO()
    writer = MatroskaWriter(file, width=64, height=48, begin=1_800_000_000.25)
    times = [1_800_000_000.25]
    for gap in gaps:
        times.append(times[-1] + gap)
    for number, moment in enumerate(times):
        writer.write(bytes([number]), moment)
    writer.finish()
    date, duration, pictures = film(file.getvalue())
    assert date == pytest.approx(1_800_000_000.25, abs=1e-6)
    assert [data for _, data in pictures] == [bytes([number]) for number in range(len(times))]
    shown = [since for since, _ in pictures]
    assert shown == sorted(set(shown))
    assert duration == shown[-1]
    if all(gap >= 0.002 for gap in gaps):
        assert shown == pytest.approx([moment - times[0] for moment in times], abs=0.002)


def test_film_that_is_cut_off_is_one_up_to_there() -> None:
    file = io.BytesIO()
    writer = MatroskaWriter(file, width=64, height=48, begin=0.0)
    for second in range(12):
        writer.write(RED, float(second))
    _, _, pictures = film(file.getvalue())
    assert len(pictures) == 10


async def test_recording_has_the_pictures_of_its_seconds_and_the_exporters_time(tmp_path: Path) -> None:
    file = tmp_path / "clip.mkv"
    async with (
        scripted_camera(stream=films(RED, BLUE)) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/stream", idle_timeout=0.0)) as client,
    ):
        before = time.time()
        saved = await client.record.aio(0.5, output=file)
        after = time.time()
        with trio.fail_after(30):
            await camera.until_unused()
    date, duration, pictures = film(file.read_bytes())
    assert before <= date <= after
    assert saved.begin == pytest.approx(date, abs=1e-5)
    assert saved.pictures == len(pictures) >= 2
    assert saved.seconds == duration <= after - before
    assert {data for _, data in pictures} == {RED, BLUE}
    assert f"saved {file}: {len(pictures)} pictures in" in str(saved)


async def test_camera_that_brings_no_picture_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_drivers.video.client.FIRST_PICTURE_SECONDS", 0.2)
    async with (
        scripted_camera(stream=hears_no_more) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/stream", stall_timeout=0.3, idle_timeout=0.0)) as client,
    ):
        with pytest.raises(DriverError, match=r"sent no picture within 0.3 s"):
            await client.record.aio(5, output=tmp_path / "clip.mkv")
    assert list(tmp_path.iterdir()) == []


async def test_camera_that_stops_in_the_middle_does_not_stretch_the_film(tmp_path: Path) -> None:
    async with (
        scripted_camera(stream=streams(part(RED), part(BLUE))) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/stream", idle_timeout=0.0)) as client,
    ):
        with trio.fail_after(30):
            saved = await client.record.aio(0.3, output=tmp_path / "clip.mkv")
    assert saved.pictures <= 2
    assert film((tmp_path / "clip.mkv").read_bytes())[2][-1][1] == BLUE


async def test_file_that_cannot_be_written_and_seconds_that_are_none(tmp_path: Path) -> None:
    async with (
        scripted_camera(stream=films(RED)) as camera,
        serve_async(HttpVideo(url=f"{camera.url}/stream", idle_timeout=0.0)) as client,
    ):
        for call in (
            client.record.aio(1, output=tmp_path / "no" / "x"),
            client.save_snapshot.aio(output=tmp_path),
        ):
            with pytest.raises(
                JumpstarterError, match=r"cannot be written: .*; name another file with --output"
            ):
                await call
        with pytest.raises(ValueError, match="seconds is 0"):
            await client.record.aio(0)
