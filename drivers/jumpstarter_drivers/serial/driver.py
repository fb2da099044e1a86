"""Serial consoles on the host, through pyserial."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceBusy, DeviceMissing, Driver, export, export_stream
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_exporter.record_clock import RECORD_CLOCK
from jumpstarter_exporter.recording import (
    ConsoleRecord,
    Recorder,
    RecordingFolder,
    TakenError,
    state_directory,
)
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.run_folders import RunFolder
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.serial.console import Console, ConsoleReader
from jumpstarter_drivers.serial.port import ControlLine, Port, PortSettings, open_port

__all__ = ["PySerial", "SerialCore"]

LOADER_PROMPT = "jumpstarter.dev/loader-prompt"
MAX_MARK_LENGTH = 500
_PART_BYTES = 256 * 1024


class _Stream:
    """A user's end of the console."""

    def __init__(self, console: Console, reader: ConsoleReader) -> None:
        self._console = console
        self._reader = reader

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._reader.receive()

    async def send_all(self, data: bytes) -> None:
        await self._console.send(data)

    async def send_eof(self) -> None:
        """A console has no end of input; output goes on."""

    async def finish(self, *, discard: bool = False) -> None:
        """Wait until what was sent has left the port."""
        await self._console.drain()

    async def aclose(self) -> None:
        self._reader.close()


class Input(_Stream):
    """Input only. Its output is nothing but an end, once all input has left the port."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, ConsoleReader(0))
        self._done = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._done.wait()
        return b""

    async def finish(self, *, discard: bool = False) -> None:
        await super().finish(discard=discard)
        self._done.set()


class SerialCore(Core["PySerial"]):
    """The open port, its readers, and its recording."""

    def __init__(self, config: PySerial) -> None:
        super().__init__(config)
        self.settings = PortSettings(config.url, config.baudrate, config.disable_hupcl)
        self._console: Console | None = None
        self._recorder: Recorder | None = None
        self._private: Path | None = None
        """The folder of the recording of a device whose UUID is not kept."""

    @property
    def opens_at_start(self) -> bool:
        """It does, to be recorded, and if it was open before the exporter was started, so that it stays open."""
        return self.config.record or (self.settings.is_path and self.descriptors.has(self.settings.url))

    async def open(self) -> None:
        """Open the port and start reading it; if it is not there, when it comes.

        Raises DeviceBusy or DeviceFailed.
        """
        if self.config.record:
            await self.nursery.start(self._record)
        port, missing = await self._open_port()
        self._console = Console(
            self.settings.url,
            self._reopen_port,
            gone=self.missing,
            back=self.ready,
            came=lambda: self.came if self.is_followed else None,
            held=self.held,
            logger=self.logger,
            cps=self.config.cps,
            recorder=self.recorder if self.config.record else None,
        )
        self._console.why_missing = missing
        self._console.had_port = port is not None
        self._running, self._ended = trio.CancelScope(), trio.Event()
        self.nursery.start_soon(self._run, self._console, port)

    async def close(self) -> None:
        """Close the port; users see the end of their streams.

        DTR and RTS drop, unless `disable_hupcl`, or systemd keeps the port for the next start of the exporter.
        """
        if self._console is not None:
            self._running.cancel()
            await self._ended.wait()

    async def restore(self) -> None:
        """Raise the control lines that a user has dropped, as opening the port raised them."""
        dropped = [line for line, value in self.settings.lines.items() if not value]
        self.settings.lines.clear()
        for line in dropped:
            await self.console.set_line(line, True)

    @property
    def console(self) -> Console:
        """Return the console. Raises DeviceMissing while it is closed."""
        if self._console is None:
            raise DeviceMissing(f"{self.settings.url} is closed; connect again")
        return self._console

    @property
    def recorder(self) -> Recorder:
        """The recording, whether something is written now or not."""
        if self._recorder is None:
            self._recorder = Recorder(self._recording_folder(), logger=self.logger)
        return self._recorder

    async def _record(self, *, task_status: trio.TaskStatus[None]) -> None:
        if self.is_kept:
            await self.recorder.run(task_status=task_status)
            return
        try:
            private = await self.in_thread(RunFolder, "jumpstarter-console-")
        except OSError:  # the recorder says that it cannot write: a disk costs output, never the console
            await self.recorder.run(task_status=task_status)
            return
        self._private, self._recorder = private.path, None
        try:
            await self.recorder.run(task_status=task_status)
        finally:
            self._private = self._recorder = None
            with trio.CancelScope(shield=True):
                await self.in_thread(private.remove)

    def _recording_folder(self) -> Path:
        """By the device's UUID. Where that is new at each start, as in tests of drivers, a private folder."""
        if not self.is_kept:
            return self._private or Path(os.devnull, "closed")
        consoles = state_directory(os.environ) / "consoles"
        former = consoles / safe_name(self.config.recording_name(self.path))
        return _moved(former, consoles / safe_name(str(self.uuid)))

    async def set_line(self, line: ControlLine, value: bool) -> None:
        """Set a control line, now and whenever the port returns, to the end of the session."""
        await self.console.set_line(line, value)
        self.settings.lines[line] = value

    async def _reopen_port(self) -> Port:
        self._check_not_gone()
        port = await open_port(self.settings, self.descriptors)
        try:
            self._check_not_gone()
        except DeviceMissing:
            await port.aclose()
            raise
        return port

    def _check_not_gone(self) -> None:
        """Another device may be plugged in where it was. DeviceMissing if it is known not to be there."""
        if why := self.why_gone:
            raise DeviceMissing(f"{self.settings.url} is not there: {why}")

    async def _open_port(self) -> tuple[Port | None, DeviceMissing | None]:
        try:
            return await self._reopen_port(), None
        except DeviceMissing as missing:
            self.missing(str(missing))
            return None, missing

    async def _run(self, console: Console, port: Port | None) -> None:
        try:
            with self._running:
                await console.run(port)
        finally:
            self._console = None
            self._ended.set()


def _moved(former: Path, folder: Path) -> Path:
    """Where a recording is that an exporter began under the name that it had before devices had UUIDs."""
    if former.is_dir() and not folder.exists():
        recording = RecordingFolder(former)
        try:
            recording.open()
            former.rename(folder)
        except TakenError:
            return folder  # it is that of another exporter, which runs
        except OSError:
            return former
        finally:
            recording.close()
    return folder


@dataclass(kw_only=True, eq=False)
class PySerial(Driver):
    """A serial port that any number of users read and write.

        export:
          console:
            type: serial.PySerial
            config:
              url: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0
              baudrate: 115200

    A daemon opens it when it starts, records what it says (see `record`) and closes it when it ends; sessions begin and
    end without the port noticing. An exporter that is started for one command opens it with its first use. A port that
    goes away is `missing` until it returns; attached users notice a pause. Opening raises DTR and RTS, as pyserial
    does; closing drops them, which resets some boards, unless `disable_hupcl`. What a session sets them to is set back
    at its end. With the unit of systemd a device node stays open while the exporter is started again.
    """

    client: ClassVar[str] = "jumpstarter_driver_pyserial.client.PySerialClient"
    interface: ClassVar[str] = "serial"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("serial"),)
    packages: ClassVar[tuple[str, ...]] = ("serial",)
    core_of: ClassVar[type[SerialCore]] = SerialCore
    waits_for_hardware: ClassVar[bool] = True
    core: SerialCore = field(init=False, repr=False)

    url: str
    """A device node, or a URL of pyserial: socket://host:port, rfc2217://host:port, loop://."""
    baudrate: int = 115200
    check_present: bool = True
    """Using it fails when the port is not there, nor comes in `port_wait` seconds; if false, it waits for it."""
    port_wait: float = 10.0
    """Seconds that a use waits for a port that is not there yet: that of a board which was switched on just now."""
    cps: float | None = None
    """Characters per second at most, for boards that lose input that comes faster."""
    disable_hupcl: bool = False
    """Leave DTR and RTS as they are when the port is closed."""
    loader_prompt: str | None = None
    """The boot loader's prompt, if it is not `=>`."""
    recording_access: Literal["lease", "all"] = "lease"
    """What users of a lease see of the recording: from its begin on, or all; the same of a visit over the network.
    Local users see all."""
    record: bool = True
    """Record the output of the console, 16 MiB, across sessions and restarts. Without, nothing opens it before its
    first use, so nothing raises DTR."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.url:
            raise ValueError("url is empty; it takes a device such as /dev/serial/by-id/..., or a URL")
        if self.baudrate <= 0:
            raise ValueError(f"baudrate is {self.baudrate}; it takes a number above 0, such as 115200")
        if self.cps is not None and not 0 < self.cps < float("inf"):
            raise ValueError(f"cps is {self.cps}; it takes characters per second, above 0")
        if not 0 <= self.port_wait < float("inf"):
            raise ValueError(f"port_wait is {self.port_wait}; it takes seconds, 0 or more")
        self._readers: set[ConsoleReader] = set()

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The device node, or the link to it."""
        return [url] if "://" not in (url := str(values.get("url", ""))) else []

    def extra_labels(self) -> dict[str, str]:
        """Labels that clients need."""
        return {} if self.loader_prompt is None else {LOADER_PROMPT: self.loader_prompt}

    def recording_name(self, path: str) -> str:
        """The folder that its recording had before devices had UUIDs: by port and place in the tree."""
        return f"{path or 'console'}-{sha256(self.url.encode()).hexdigest()[:8]}"

    async def close(self) -> None:
        """End this session's streams. The port stays open."""
        self._end_streams()

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_Stream]:
        """The console, both ways, from now on. Waits for the port, and raises DeviceMissing when it does not come."""
        console = await self._usable()
        with self._attached(console) as reader:
            yield _Stream(console, reader)

    @export_stream
    @asynccontextmanager
    async def connect_early(self) -> AsyncIterator[_Stream]:
        """Like `connect`, also while there is no port: for clients that need every byte from the first one on."""
        console = self.core.console
        with self._attached(console) as reader:
            yield _Stream(console, reader)

    @export(reads=True)
    async def watch(self) -> AsyncGenerator[dict[str, JSON], None]:
        """Yield the output of the console from now on, also while there is no port; ends when the console is closed.

        Each piece has `data`, in base64, and `position`, that of the console behind it: see there. The first one has
        no data.
        """
        console = self.core.console
        with self._attached(console) as reader:
            yield {"position": reader.position, "data": ""}
            while data := await reader.receive():
                yield {"position": reader.position, "data": b64encode(data).decode()}

    @export(reads=True)
    async def position(self) -> int:
        """Return how many bytes the console has printed since it was opened: the position of a watcher."""
        return self.core.console.position

    @export(reads=True)
    async def waits_for(self) -> str:
        """Why there is no port now, in a sentence; empty when there is one."""
        why = self.core.console.why_missing
        return "" if why is None else str(why)

    @export_stream
    @asynccontextmanager
    async def input(self) -> AsyncIterator[_Stream]:
        """The console's input alone; ends when the sender has ended and everything has left the port."""
        console = await self._usable()
        yield Input(console)

    @export
    async def set_dtr(self, value: bool) -> None:
        """Set Data Terminal Ready; it stays so when the port returns after it was gone."""
        await self._set_line("dtr", value)

    @export
    async def set_rts(self, value: bool) -> None:
        """Set Request To Send; it stays so when the port returns after it was gone."""
        await self._set_line("rts", value)

    @export(name="close")
    async def force_close(self) -> None:
        """End the streams of this session, and of no other. The port stays open, and is recorded."""
        self._end_streams()

    @export(opens=False, reads=True)
    async def log(
        self, since: float | None = None, lines: int | None = None, follow: bool = False
    ) -> AsyncGenerator[list[dict[str, JSON]], None]:
        """What was recorded, from a time (seconds since 1970) or the last lines on, in batches; then what comes.

        Each record has `time`, `kind` (data, mark, gap or note) and `data`, in base64. Raises DeviceBusy when the
        console is not recorded.
        """
        if not self.record:
            raise DeviceBusy(
                "this console is not recorded; set `record: true` in the exporter's configuration"
            )
        if lines is not None and lines < 1:
            raise ValueError(f"lines is {lines}; it takes 1 or more")
        if follow:
            await self.ensure_open()
        oldest = 0.0 if self.recording_access == "all" else self.visible_since
        start = int(max(oldest, since or 0.0) * 1e9)
        batches = self.core.recorder.read(since=start, lines=lines, follow=follow, until_now=oldest > 0)
        async with aclosing(batches):
            async for batch in batches:
                for part in _parts(batch):
                    yield part

    @export(opens=False, reads=True)
    async def clock(self) -> float:
        """The time that a record would have now, in seconds since 1970: users' clocks may be others."""
        return RECORD_CLOCK.now() / 1e9

    @export
    async def mark(self, text: str = "") -> None:
        """Put a bookmark into the recording."""
        if not self.record:
            raise DeviceBusy(
                "this console is not recorded; set `record: true` in the exporter's configuration"
            )
        self.core.recorder.mark(text[:MAX_MARK_LENGTH])

    async def _set_line(self, line: ControlLine, value: bool) -> None:
        await self._usable()
        await self.core.set_line(line, value)

    @contextmanager
    def _attached(self, console: Console) -> Iterator[ConsoleReader]:
        with console.attach() as reader:
            self._readers.add(reader)
            try:
                yield reader
            finally:
                self._readers.discard(reader)

    def _end_streams(self) -> None:
        for reader in self._readers:
            reader.close()

    async def _usable(self) -> Console:
        """The console with its port, unless that makes a pause. Raises DeviceMissing, or why else it does not open."""
        console = self.core.console
        if console.had_port or not self.check_present:
            return console
        if not await console.wait_for_port(self.port_wait) and (why := console.why_missing) is not None:
            raise type(why)(str(why))  # one for each who asks
        return console


def _parts(batch: list[ConsoleRecord]) -> Iterator[list[dict[str, JSON]]]:
    """A batch in messages that are not too large."""
    part: list[dict[str, JSON]] = []
    size = 0
    for record in batch:
        part.append(
            {
                "time": record.time / 1e9,
                "kind": record.kind.name.lower(),
                "data": b64encode(record.data).decode(),
            }
        )
        size += len(record.data)
        if size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
