"""A camera or capture stick of the host, through a process of ustreamer on a private unix socket.

The process is started with the first viewer and ended with the last one. The kernel ends it if the exporter is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceBusy, DeviceError, DeviceFailed, DeviceMissing
from jumpstarter_exporter.node_errors import explain_open_error, users_of
from jumpstarter_proto.rpc import socket_folder
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.video.camera import Show
from jumpstarter_drivers.video.http_camera import HttpCamera
from jumpstarter_drivers.video.http_server import CameraCredentials, HttpServer
from jumpstarter_drivers.video.v4l2 import sends_jpeg

__all__ = ["OptionValue", "UStreamerCamera", "find_executable"]

START_SECONDS = 15.0
"""From the start of the process until its socket takes connections."""
TERM_SECONDS = 2.0
"""From SIGTERM to SIGKILL, and from that to the end."""
EXIT_SECONDS = 0.5
"""From the end of the stream to that of the process, if that is why."""
HELP_SECONDS = 5.0
POLL_SECONDS = 0.01
MAX_LOG_LINE_BYTES = 4096
KEPT_LOG_LINES = 50

_PARENT_DEATH = "exit-on-parent-death"
_STREAM_TARGET = "/stream?extra_headers=1"
_BUSY = "resource busy"
"""As strerror has it."""

OptionValue = str | int | float | bool | None
"""Of an option of ustreamer: True or None for one without a value, False for one that is left out."""


def find_executable(configured: str | None) -> str:
    """Where ustreamer is. Blocking. DeviceFailed if it is not installed."""
    found = shutil.which(configured or "ustreamer")
    if found is None and configured is not None:
        raise DeviceFailed(f"there is no program {configured}; check `executable` in the configuration")
    if found is None:
        raise DeviceFailed(
            "ustreamer is not installed on the exporter's host; there, run `apt install ustreamer`"
        )
    return found


class UStreamerCamera:
    """The pictures of one V4L2 device."""

    def __init__(
        self, core: Core[Any], device: str, options: Mapping[str, OptionValue], executable: str | None
    ) -> None:
        """`core` is the device's, whose threads are used; `options` are those of ustreamer, without dashes."""
        self._core = core
        self._device = device
        self._options = options
        self._executable = executable
        self._log: deque[str] = deque(maxlen=KEPT_LOG_LINES)
        self._log_ended = trio.Event()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"the camera {self._device}"

    async def run(self, show: Show) -> None:
        """See `camera.PictureSource`. Cancelling it ends the process."""
        self._log.clear()
        command = await self._core.in_thread(self._command)
        with socket_folder("jumpstarter-video-") as folder:
            socket = folder / "socket"
            async with self._running([*command, "--unix", str(socket)]) as ended:
                try:
                    await self._until_listening(socket, ended)
                    server = HttpServer("localhost", unix_path=str(socket), label=self.name)
                    await HttpCamera(server, _STREAM_TARGET, CameraCredentials(), interval=0).run(show)
                except DeviceError:
                    with trio.move_on_after(EXIT_SECONDS):
                        await ended.wait()
                    if ended.is_set():
                        raise await self._exit_fault() from None
                    raise

    async def fault(self) -> DeviceError | None:
        """Why the device gives no picture: it is not there, somebody else has it, or what ustreamer says."""
        return await self._core.in_thread(self._explain)

    def _command(self) -> list[str]:
        executable = find_executable(self._executable)
        options: dict[str, OptionValue] = {"device": self._device}
        try:
            is_chosen = "format" in self._options or "encoder" in self._options
            if not is_chosen and sends_jpeg(self._device):
                options |= {"format": "MJPEG", "encoder": "HW"}
        except OSError as error:
            raise explain_open_error(self._device, error, "a camera") from error
        if _knows(executable, _PARENT_DEATH):
            options[_PARENT_DEATH] = True
        command = [executable]
        for name, value in (options | dict(self._options)).items():
            if value is not False:
                command += [f"--{name}"] if value is True or value is None else [f"--{name}", str(value)]
        return command

    @asynccontextmanager
    async def _running(self, command: list[str]) -> AsyncIterator[trio.Event]:
        """The process, during the block, whose value is set when it has ended by itself."""
        # Not from a worker thread: the kernel takes the end of the thread that starts a process for its parent's.
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - the configuration's program; takes a millisecond
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceFailed(
                f"{command[0]} cannot be started: {error.strerror}; install ustreamer again"
            ) from error
        assert process.stderr is not None
        self._process = process
        ended, self._log_ended = trio.Event(), trio.Event()
        try:
            with collapsed():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(
                        self._read_log, trio.lowlevel.FdStream(os.dup(process.stderr.fileno()))
                    )
                    nursery.start_soon(_wait, process, ended)
                    yield ended
                    nursery.cancel_scope.cancel()
        finally:
            process.stderr.close()
            self._process = None
            with trio.CancelScope(shield=True):
                await self._end(process)

    async def _until_listening(self, socket: Path, ended: trio.Event) -> None:
        with trio.move_on_after(START_SECONDS):
            while True:
                if ended.is_set():
                    raise await self._exit_fault()
                with suppress(OSError):
                    await trio.aclose_forcefully(await trio.open_unix_socket(socket))
                    return
                await trio.sleep(POLL_SECONDS)  # nothing else says in all versions that it listens
        raise DeviceFailed(f"ustreamer does not start for {self._device}; start it by hand to see why")

    async def _read_log(self, stream: trio.lowlevel.FdStream) -> None:
        rest = b""
        async with stream:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-MAX_LOG_LINE_BYTES:]
                for line in lines:
                    text = line[:MAX_LOG_LINE_BYTES].decode("utf-8", "replace").strip()
                    if text.strip("="):
                        self._log.append(text)
                        self._core.logger.debug("ustreamer: %s", shown(text, 500))
        self._log_ended.set()

    def _last_error(self) -> str:
        lines = [line for line in self._log if "ERROR" in line] or list(self._log)
        return shown(lines[-1].rpartition("-- ")[2], 200) if lines else ""

    async def _exit_fault(self) -> DeviceError:
        with trio.move_on_after(EXIT_SECONDS):
            await self._log_ended.wait()
        said = self._last_error()
        return DeviceFailed(
            f"ustreamer has ended for {self._device}"
            + (f": {said}" if said else "")
            + "; check `args` in the configuration, and the camera"
        )

    def _explain(self) -> DeviceError | None:
        process = self._process
        try:
            os.close(os.open(self._device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            return explain_open_error(self._device, error, "a camera")
        said = self._last_error()
        if _BUSY in said:
            own = "" if process is None else f"(process {process.pid})"
            others = [user for user in users_of(self._device) if not own or own not in user]
            return DeviceBusy(
                f"{self._device} is in use by {' and '.join(others) or 'another program'}; end that first"
            )
        return DeviceMissing(
            f"{self.name} gives no picture"
            + (f" ({said})" if said else "")
            + "; check its cable and its signal"
        )

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process.send_signal(number)
            ended = trio.Event()
            with trio.move_on_after(TERM_SECONDS):
                await _wait(process, ended)
                return
        self._core.logger.warning("ustreamer (process %d) does not end; the kernel has it", process.pid)


async def _wait(process: subprocess.Popen[bytes], ended: trio.Event) -> None:
    """Wait until the process has ended."""
    if process.poll() is None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            process.poll()
        else:
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
            process.poll()
    ended.set()


def _knows(executable: str, option: str) -> bool:
    """Whether this version of ustreamer has an option. Blocking."""
    with suppress(OSError, subprocess.TimeoutExpired):
        told = subprocess.run(  # noqa: S603 - the configuration's program
            [executable, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HELP_SECONDS,
            check=False,
        )
        return f"--{option}".encode() in told.stdout + told.stderr
    return False
