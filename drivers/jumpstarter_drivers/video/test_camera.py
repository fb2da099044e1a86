"""When a camera is used and when it is let go, by trio's clock."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from jumpstarter_exporter.driver import DeviceError, DeviceFailed

from jumpstarter_drivers.video.camera import Camera, CameraState, Show
from jumpstarter_drivers.video.conftest import jpeg

PICTURE = jpeg("red")


class Ticking:
    """A source with ten pictures a second; with `faults`, that many of its starts fail."""

    name = "the source"

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.running = 0

    async def run(self, show: Show) -> None:
        if self.faults:
            self.faults -= 1
            raise DeviceFailed("it does not start")
        self.running += 1
        try:
            while True:
                show(PICTURE)
                await trio.sleep(0.1)
        finally:
            self.running -= 1

    async def fault(self) -> DeviceError | None:
        return None


@asynccontextmanager
async def used(source: Ticking, idle_seconds: float) -> AsyncIterator[Camera]:
    camera = Camera(source, idle_seconds=idle_seconds, stall_seconds=5, logger=logging.getLogger("driver"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(camera.run)
        yield camera
        nursery.cancel_scope.cancel()


async def test_snapshots_now_and_then_keep_it_warm(autojump_clock: trio.testing.MockClock) -> None:
    source = Ticking()
    async with used(source, 10) as camera:
        for _ in range(30):
            with camera.viewing() as viewer:
                assert (await viewer.fresh(20)).data == PICTURE
            await trio.sleep(3)
        assert camera.starts == 1
        await trio.sleep(6.5)
        assert source.running == 1
        await trio.sleep(1)
        assert (source.running, camera.state, camera.latest) == (0, CameraState.IDLE, None)


async def test_it_is_let_go_with_its_last_viewer(autojump_clock: trio.testing.MockClock) -> None:
    source = Ticking()
    async with used(source, 0) as camera:
        with camera.viewing() as first, camera.viewing() as second:
            await first.next()
            await second.next()
            assert (source.running, camera.starts) == (1, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert source.running == 0


async def test_who_asks_is_told_of_a_failure_and_it_is_started_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = Ticking(faults=3)
    async with used(source, 10) as camera:
        with camera.viewing() as viewer:
            with pytest.raises(DeviceFailed, match="it does not start"):
                await viewer.fresh(20)
            assert camera.state is CameraState.WAITING
            began = trio.current_time()
            assert (await viewer.next()).data == PICTURE
            assert trio.current_time() - began < 10
        assert camera.failures == 3
        assert camera.fault is None


async def test_slow_viewer_gets_the_newest_picture_once(autojump_clock: trio.testing.MockClock) -> None:
    async with used(Ticking(), 10) as camera:
        with camera.viewing() as viewer:
            first = await viewer.next()
            await trio.sleep(5.05)
            second = await viewer.next()
            third = await viewer.next()
        assert second.number >= first.number + 50
        assert third.number == second.number + 1


async def test_frame_rate_is_that_of_the_last_pictures(autojump_clock: trio.testing.MockClock) -> None:
    async with used(Ticking(), 10) as camera:
        with camera.viewing() as viewer:
            await viewer.next()
            await viewer.next()
            assert camera.fps is None
            await trio.sleep(8)
            assert camera.fps == pytest.approx(10, abs=0.5)
