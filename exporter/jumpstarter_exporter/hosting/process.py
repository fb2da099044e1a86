"""Runs a child process: starts it, reads what it says, connects to it, and ends it with all that it has started.

The child gets no descriptor but its three standard streams, and no variable that is not in `VARIABLES`. It ends when
its stdin does, so it does not outlive the exporter, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import trio
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.rpc import RpcError, connect_unix, open_channel, socket_folder
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.router_grpc import RouterServiceStub

from jumpstarter_exporter.hosting.child_messages import Job, LineSplitter, LogMessage, Ready, decode_message
from jumpstarter_exporter.hosting.groups import HostedGroup
from jumpstarter_exporter.hosting.lifecycle import ChildLifecycle, ChildStep

__all__ = ["ChildProcess"]

START_SECONDS = 30.0
"""From the start of the process until it is ready; constructors of drivers may look for hardware."""
END_SECONDS = 5.0
"""From SIGTERM to SIGKILL, for `close()` of the drivers."""
EXIT_SECONDS = 1.0
"""From the end of its connection to that of its process, if that is why; from its end to that of its output."""
MAX_OUTPUT_LINE_BYTES = 16 * 1024
MAX_LOG_LENGTH = 16 * 1024
VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
)
"""What a child gets of the exporter's environment: nothing that leads to the exporter, or is secret."""

_PROGRAM = Path(__file__).with_name("child.py")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DRIVERS = "driver."
_OUTPUT_LOGGER = "driver.hosted"
_LEVELS = logging.getLevelNamesMapping()

_log = logging.getLogger(__name__)


class ChildProcess:
    """One child. `run` is its task; the rest may be used meanwhile, in the same loop."""

    def __init__(
        self,
        group: HostedGroup,
        uuids: Mapping[str, str] | None = None,
        *,
        on_lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """With `uuids` (by path) it serves its devices, otherwise it only reports them.

        `on_lost` gets the reason why it can no longer be used, unless that was requested with `end`.
        """
        self.name = str(group)
        """For messages."""
        self.life = ChildLifecycle(self.name)
        self.settled = trio.Event()
        """It can be used, or is over."""
        self.ended = trio.Event()
        """Its process has ended, and all that it has started."""
        self.exporter: ExporterServiceStub
        self.router: RouterServiceStub
        """Set when it can be used."""
        self._group = group
        self._uuids = uuids
        self._on_lost = on_lost
        self._is_lost = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = trio.Event()
        self._ending = trio.Event()
        self._exited = trio.Event()
        self._is_stuck = False
        """Not even SIGKILL has ended it."""
        self._last_output: deque[str] = deque(maxlen=1)

    @property
    def memory(self) -> int:
        """Bytes of memory that its process has; 0 if it does not run."""
        if self._process is None:
            return 0
        try:
            resident = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(resident) * _PAGE_BYTES

    def end(self) -> None:
        """Nobody needs it any more. `ended` is set later."""
        self._do(self.life.released())

    async def run(self) -> None:
        """From start to end. Cancelling it ends the process, with its time limit. Raises nothing else."""
        try:
            with socket_folder("jumpstarter-hosted-") as folder:
                await self._run("" if self._uuids is None else str(folder / "socket"))
        except OSError as error:
            self._do(
                self.life.fail(f"{self._group.python} cannot be started: {error.strerror}; check `python`")
            )
        finally:
            self._do(self.life.exited(0))
            self.settled.set()
            self.ended.set()

    async def _run(self, socket: str) -> None:
        job = Job(parse_json(self._group.devices), self._uuids or {}, socket).encoded()
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdin, process.stdout, process.stderr:
            pipes = [_stream(one.fileno()) for one in (process.stdin, process.stdout, process.stderr)]
            try:
                async with trio.open_nursery() as nursery, pipes[0], pipes[1], pipes[2]:
                    reading = [trio.Event(), trio.Event()]
                    nursery.start_soon(_write, pipes[0], job)
                    nursery.start_soon(self._read_messages, pipes[1], reading[0])
                    nursery.start_soon(self._read_output, pipes[2], reading[1])
                    nursery.start_soon(self._end_in_time, process, nursery.cancel_scope)
                    nursery.start_soon(self._serve, socket)
                    await _wait(process)
                    _kill_group(process)  # what it has started may hold its pipes
                    with trio.move_on_after(EXIT_SECONDS):
                        for one in reading:
                            await one.wait()
                    self._has_exited(process)
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await self._terminate(process)

    def _start(self) -> subprocess.Popen[bytes]:
        variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603 - the configuration's program; takes a millisecond
            [self._group.python, "-I", "-u", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,
        )
        return self._process

    async def _read_messages(self, stream: trio.abc.ReceiveStream, done: trio.Event) -> None:
        splitter = LineSplitter()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                for line in splitter.feed(bytes(data)):
                    self._take(line)
                for _ in range(splitter.skipped):
                    self._do(self.life.faulty_line())
                splitter.skipped = 0
        done.set()

    def _take(self, line: bytes) -> None:
        if self.life.is_over:
            return
        try:
            message = decode_message(line)
        except ValueError as error:
            _log.warning("%s sent a message that cannot be read: %s", self._group, error)
            self._do(self.life.faulty_line())
            return
        if isinstance(message, Ready):
            self._do(self.life.is_ready(message))
        else:
            _pass_on(message)

    async def _read_output(self, stream: trio.abc.ReceiveStream, done: trio.Event) -> None:
        """What its drivers print."""
        splitter = LineSplitter(MAX_OUTPUT_LINE_BYTES)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                for line in splitter.feed(bytes(data)):
                    text = line.decode("utf-8", "replace").rstrip()
                    if text:
                        self._last_output.append(shown(text))
                        _pass_on(LogMessage("INFO", _OUTPUT_LOGGER, text))
        done.set()

    async def _serve(self, socket: str) -> None:
        with trio.move_on_after(START_SECONDS) as limit:
            await self._ready.wait()
        if limit.cancelled_caught:
            self._do(self.life.start_expired(START_SECONDS))
            return
        if not socket:
            self.settled.set()
            await trio.sleep(END_SECONDS)  # for `close()` of its drivers; it ends by itself
            self.end()
            return
        try:
            async with open_channel(await connect_unix(socket)) as channel:
                self.exporter, self.router = ExporterServiceStub(channel), RouterServiceStub(channel)
                self.settled.set()
                why = await channel.wait_closed()
        except RpcError as error:
            why = error
        with trio.move_on_after(EXIT_SECONDS):
            await self._exited.wait()
        said = shown(why.details)
        self._do(
            self.life.fail(f"{self._group} closed its connection ({said}); it starts again at the next use")
        )

    async def _end_in_time(self, process: subprocess.Popen[bytes], running: trio.CancelScope) -> None:
        await self._ending.wait()
        with trio.CancelScope(shield=True):
            await self._terminate(process)
        if self._is_stuck:
            running.cancel()  # nothing more is to be heard of it

    async def _terminate(self, process: subprocess.Popen[bytes]) -> None:
        if self._exited.is_set() or self._is_stuck:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        with trio.move_on_after(END_SECONDS):
            await _wait(process)
            self._has_exited(process)
            return
        self._do(self.life.end_expired())
        _log.warning("%s did not end within %g s and was killed", self._group, END_SECONDS)
        with trio.move_on_after(END_SECONDS):
            await _wait(process)
            self._has_exited(process)
            return
        self._is_stuck = True
        _log.error(
            "%s (process %d) was killed and does not end: its driver waits in the kernel for a device; unplug the "
            "device, or restart the host",
            self._group,
            process.pid,
        )

    def _has_exited(self, process: subprocess.Popen[bytes]) -> None:
        """Its process is a zombie, so that its group cannot be another one by now."""
        if self._exited.is_set():
            return
        _kill_group(process)
        code = process.wait()
        self._exited.set()
        self._do(self.life.exited(code, " ".join(self._last_output)))

    def _do(self, step: ChildStep) -> None:
        if step is ChildStep.SERVE:
            self._ready.set()
        elif step is ChildStep.TERMINATE:
            self._ending.set()
        elif step is ChildStep.KILL and self._process is not None and not self._exited.is_set():
            _kill_group(self._process)
        if self.life.is_over:
            self.settled.set()
            if self.life.reason and not self._is_lost:
                self._is_lost = True
                self._on_lost(self.life.reason)


def _stream(descriptor: int) -> trio.lowlevel.FdStream:
    return trio.lowlevel.FdStream(os.dup(descriptor))


async def _write(stream: trio.abc.SendStream, job: bytes) -> None:
    """Send the job, and keep the stream open."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it has ended
        await stream.send_all(job)
    await trio.sleep_forever()


async def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has ended. It stays a zombie."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _pass_on(message: LogMessage) -> None:
    """Log a record of the child here, in the context of this task."""
    level = _LEVELS.get(message.level, logging.INFO)
    name = shown(message.logger, 100)
    record = logging.makeLogRecord(
        {
            "name": name if name.startswith(_DRIVERS) else f"hosted.{name}",
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": message.text[:MAX_LOG_LENGTH],
        }
    )
    if level >= logging.INFO:
        logging.getLogger().handle(record)
