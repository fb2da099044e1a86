"""One camera and its viewers: it is used from the first viewer on, and released some seconds after the last one.

A source delivers the pictures. When it ends for any reason, it is started again while there are viewers. Viewers get
the newest picture: a slow viewer misses some, and does not delay the others.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import trio
from jumpstarter_exporter.driver import DeviceError, DeviceMissing
from jumpstarter_proto.tasks import collapsed, first_of

from jumpstarter_drivers.video.jpeg import JpegError, read_jpeg

__all__ = ["Camera", "CameraState", "CameraViewer", "Frame", "PictureSource", "Show"]

FRESH_SECONDS = 0.25
"""A picture of this age or younger counts as current."""
OFFLINE_SECONDS = 4.0
"""Seconds for which a program may show a placeholder before a waiting viewer gets an error."""
RETRY_SECONDS = (0.5, 8.0)
"""Between two starts of a source: at first, and at most."""
FPS_FRAMES = 30
"""The frame rate is that of so many pictures."""
MIN_FPS_SECONDS = 0.5
"""Of shorter times it is not told: the first pictures may come at once."""


class CameraState(Enum):
    """What a camera does."""

    IDLE = "idle"
    """There is no viewer."""
    STARTING = "starting"
    LIVE = "live"
    WAITING = "waiting"
    """It has failed, and is started again a moment later."""


@dataclass(frozen=True)
class Frame:
    """A picture."""

    number: int
    """Counted since the camera was opened."""
    data: bytes
    """JPEG."""
    width: int
    height: int
    time: float
    """When it came, in seconds since 1970, by the clock of the consoles' recordings."""
    age_base: float
    """`time` by trio's clock."""
    is_online: bool = True
    """False for what a program shows in the place of pictures, such as NO SIGNAL."""


class Show(Protocol):
    """Takes one picture from a source."""

    def __call__(self, data: bytes, *, is_online: bool = True) -> None:
        """Show a picture. A damaged one is not shown."""


class PictureSource(Protocol):
    """What brings pictures."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    async def run(self, show: Show) -> None:
        """Bring pictures until it is cancelled, which leaves nothing open.

        Raises:
            DeviceError: There are no more; the message says why.
        """

    async def fault(self) -> DeviceError | None:
        """Return why it shows a placeholder or no pictures, if it knows."""


class Camera:
    """The pictures of one source."""

    def __init__(
        self,
        source: PictureSource,
        *,
        idle_seconds: float,
        stall_seconds: float,
        logger: logging.Logger,
        on_missing: Callable[[str], None] = lambda _reason: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_missing` and `on_ready` are called when pictures end and begin."""
        self.source = source
        self.state = CameraState.IDLE
        self.fault: DeviceError | None = None
        """Why it brings no pictures; None when it does."""
        self.failures = 0
        """How often the source has failed."""
        self.latest: Frame | None = None
        self.viewers = 0
        self.starts = 0
        self._idle_seconds = idle_seconds
        self._stall_seconds = stall_seconds
        self._logger = logger
        self._on_missing, self._on_ready = on_missing, on_ready
        self._changed = trio.Event()
        self._came = trio.Event()
        self._count = 0
        self._last_viewed = float("-inf")
        self._damaged = 0
        self._damage = ""
        self._times: deque[float] = deque(maxlen=FPS_FRAMES)
        self._patience = trio.CancelScope()

    @property
    def fps(self) -> float | None:
        """Pictures per second now; None when there are too few of them."""
        times = self._times
        if self.state is not CameraState.LIVE or len(times) < 2:
            return None
        span = max(times[-1], trio.current_time() - 1) - times[0]
        return (len(times) - 1) / span if span >= MIN_FPS_SECONDS else None

    @contextmanager
    def viewing(self) -> Iterator[CameraViewer]:
        """Be a viewer during the block."""
        self.viewers += 1
        self._came.set()
        self._change()
        try:
            yield CameraViewer(self)
        finally:
            self.viewers -= 1
            self._last_viewed = trio.current_time()
            self._change()

    async def changed(self) -> None:
        """Wait for the next picture, state or viewer."""
        await self._changed.wait()

    async def run(self) -> None:
        """Run the source while there are viewers, until cancelled."""
        while True:
            await self._until(lambda: self.viewers > 0)
            await first_of(self._keep_running, self._until_idle)
            self._enter(CameraState.IDLE)
            self.latest = None
            self._times.clear()

    def show(self, data: bytes, *, is_online: bool = True) -> None:
        """Show a picture to the viewers. A damaged one is counted and not shown."""
        try:
            picture = read_jpeg(data)
        except JpegError as error:
            self._damaged += 1
            self._damage = str(error)
            return
        now = trio.current_time()
        self._patience.deadline = now + self._stall_seconds
        self._count += 1
        self._times.append(now)
        self.latest = Frame(self._count, *picture, time.time(), now, is_online)
        self._damaged = 0
        if is_online and self.state is not CameraState.LIVE:
            self.fault = None
            self._enter(CameraState.LIVE)
            self._on_ready()
        elif not is_online and self.state is CameraState.LIVE:
            self._enter(CameraState.STARTING)
        self._change()

    def still(self, data: bytes, name: str) -> Frame:
        """A picture that came beside the source, from what has that name. DeviceMissing if it is not whole."""
        try:
            picture = read_jpeg(data)
        except JpegError as error:
            raise DeviceMissing(
                f"{name} sent a damaged picture: {error}; if that repeats, check the camera and its URL"
            ) from None
        return Frame(0, *picture, time.time(), trio.current_time())

    async def _keep_running(self) -> None:
        pause, longest = RETRY_SECONDS
        while True:
            self._came = trio.Event()
            before = self._count
            self.starts += 1
            self._enter(CameraState.STARTING)
            fault = await self._run_once()
            self.failures += 1
            self.fault = fault
            self._logger.warning("%s", fault)
            self._on_missing(str(fault))
            self._times.clear()
            self._enter(CameraState.WAITING)
            if self._count > before:
                pause = RETRY_SECONDS[0]
            await trio.sleep(RETRY_SECONDS[0])
            with trio.move_on_after(pause - RETRY_SECONDS[0]):
                await self._came.wait()
            pause = min(pause * 2, longest)

    async def _run_once(self) -> DeviceError:
        """Run the source until it fails, or brings no picture for too long; returns why."""
        self._damaged, self._damage = 0, ""
        with trio.CancelScope(deadline=trio.current_time() + self._stall_seconds) as self._patience:
            try:
                with collapsed():
                    await self.source.run(self.show)
            except DeviceError as error:
                return error
            return DeviceMissing(f"{self.source.name} sends no more pictures; check the camera")
        if (fault := await self.source.fault()) is not None:
            return fault
        within = f"within {self._stall_seconds:g} s"
        if self._damaged:
            return DeviceMissing(
                f"{self.source.name} sent {self._damaged} pictures and no whole one {within} (of the last one: "
                f"{self._damage}); it is started again, and if that does not help, check the camera and its cable"
            )
        return DeviceMissing(
            f"{self.source.name} sent no picture {within}; it is started again, and if that does not help, "
            "switch the camera off and on"
        )

    async def _until_idle(self) -> None:
        while True:
            await self._until(lambda: self.viewers == 0)
            # A viewer that finds a current picture comes and goes between two checks.
            left = self._last_viewed + self._idle_seconds - trio.current_time()
            if left <= 0:
                return
            with trio.move_on_after(left):
                await self._until(lambda: self.viewers > 0)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _enter(self, state: CameraState) -> None:
        self.state = state
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class CameraViewer:
    """A viewer of a camera."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._seen = 0

    async def next(self) -> Frame:
        """The newest picture that this viewer has not seen; waits for it, over failures as well."""
        while (frame := self._camera.latest) is None or frame.number <= self._seen:
            await self._camera.changed()
        self._seen = frame.number
        return frame

    async def fresh(self, seconds: float) -> Frame:
        """Return a current picture.

        Raises:
            DeviceError: The camera fails meanwhile, or shows none within `seconds`.
        """
        camera = self._camera
        began, failures = trio.current_time() - FRESH_SECONDS, camera.failures
        with trio.move_on_after(seconds) as scope:
            while True:
                frame = camera.latest
                if frame is not None and frame.age_base >= began:
                    if frame.is_online:
                        return frame
                    scope.deadline = min(scope.deadline, began + FRESH_SECONDS + OFFLINE_SECONDS)
                if camera.failures > failures and camera.fault is not None:
                    raise _again(camera.fault)
                await camera.changed()
        fault = await camera.source.fault() or camera.fault
        if fault is not None:
            raise _again(fault)
        raise DeviceMissing(f"{camera.source.name} sent no picture within {seconds:g} s; check the camera")


def _again(fault: DeviceError) -> DeviceError:
    return type(fault)(str(fault))  # one for each who asks
