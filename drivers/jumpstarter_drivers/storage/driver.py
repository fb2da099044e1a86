"""Storage backed by a file, by a block device, or by commands that drive a multiplexer; and 0.9's mocks."""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.driver import Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_exporter.node_errors import permission_hint
from jumpstarter_proto.file_names import safe_name, user_path
from jumpstarter_proto.images import Verdict, check_content
from jumpstarter_proto.run_folders import RunFolder
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.storage.blocks import StorageDevice, StorageError
from jumpstarter_drivers.storage.content import ImageStream
from jumpstarter_drivers.storage.incomplete_marker import IncompleteMarker, marker_in_state_folder
from jumpstarter_drivers.storage.mux import StorageCore, StorageMux
from jumpstarter_drivers.storage.state import Position, StorageState

__all__ = [
    "BlockStorage",
    "FileStorage",
    "MockFlasher",
    "MockStorageMux",
    "MockStorageMuxFlasher",
    "StorageMux",
]

_LOOK_SECONDS = 0.1
_LINK_SECONDS = 1.0
"""The same for a node that udev will tell of: a link to it may be one of the admin's, of which udev knows nothing."""
DEFAULT_SIZE_BYTES = 16 * 1024**3
"""Of a file without a configured size: more than cards' images have, less than fills a host unnoticed."""


class FileCore(StorageCore):
    """The private file of a storage that has none configured; it is there as long as the exporter."""

    def __init__(self, config: FileStorage) -> None:
        super().__init__(config)
        self._path = None if config.path is None else user_path(config.path)
        self._private: RunFolder | None = None

    @property
    def file(self) -> Path:
        """The backing file. Raises StorageError while a private one does not exist."""
        if self._path is not None:
            return self._path
        if self._private is None:
            raise StorageError("the storage is closed; use it through its session")
        return self._private.path / "card.img"

    async def open(self) -> None:
        """Make the file if there is none."""
        if self._path is None:
            self._private = await self.in_thread(RunFolder, "jumpstarter-storage-")
            self.state = StorageState(self.config.initial_position())
        await self.in_thread(_touch, self.file)

    async def close(self) -> None:
        """Leave the configured file; remove a private one."""
        if self._private is not None:
            private, self._private = self._private, None
            await self.in_thread(private.remove)


@dataclass(kw_only=True, eq=False)
class FileStorage(StorageMux):
    """A file that stands for a card: for virtual boards, QEMU and tests.

        export:
          storage:
            type: storage.FileStorage
            config:
              path: /var/lib/lab/card.img   # left out: a private file, until the exporter ends
              size: 1073741824              # bytes that the "card" holds; left out: 16 GiB, and what the
                                            # disk has room for

    Closing it leaves the file as it is. Beside the file, `<path>.incomplete` notes a write that did not end
    well.
    """

    core_of: ClassVar[type[FileCore]] = FileCore

    path: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size is not None and self.size <= 0:
            raise ValueError(f"size is {self.size}; a storage holds at least one byte")

    @property
    def file(self) -> Path:
        """The backing file. Raises StorageError while a private one does not exist."""
        core: FileCore = self.core
        return core.file

    async def open(self) -> None:
        """Make the file if there is none."""
        await self.in_thread(_touch, self.file)
        await super().open()

    @property
    def switches(self) -> bool:
        """A file is always at the host."""
        return False

    async def switch(self, position: Position) -> None:
        """There is nothing to switch."""

    async def device(self) -> Path:
        """The file."""
        return self.file

    def incomplete_marker(self) -> IncompleteMarker:
        """Return the marker beside the file."""
        return IncompleteMarker(self.file.with_name(self.file.name + ".incomplete"))

    def limit(self) -> int | None:
        """The configured size, or what no card's image should exceed."""
        return DEFAULT_SIZE_BYTES if self.size is None else self.size

    @property
    def has_size(self) -> bool:
        """Whether a size is configured."""
        return self.size is not None


@dataclass(kw_only=True, eq=False)
class BlockStorage(StorageMux):
    """A card in a reader, with or without a multiplexer that commands switch.

        export:
          storage:
            type: storage.BlockStorage
            config:
              path: /dev/disk/by-path/platform-...-usb-0:1.3:1.0-scsi-0:0:0:0
              commands:                      # left out: nothing switches, the card stays in the reader
                host: [usbsdmux, /dev/usb-sd-mux/id-00012, host]
                dut: [usbsdmux, /dev/usb-sd-mux/id-00012, dut]
                "off": [usbsdmux, /dev/usb-sd-mux/id-00012, "off"]

    Use a path that names the physical port or the card, not `/dev/sda`, which may be another disk tomorrow.
    Writing is refused while something has the device mounted. Closing it leaves the multiplexer where it is.
    """

    path: str
    commands: dict[str, list[str]] = field(default_factory=dict)
    state_dir: str | None = None
    """Where unfinished writes are noted; else systemd's state directory, else ~/.local/state/jumpstarter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {position.value for position in Position} - {Position.UNKNOWN.value}
        for name, command in self.commands.items():
            if name not in known:
                raise ValueError(f"commands has {name!r}; it takes {', '.join(sorted(known))}")
            if not command:
                raise ValueError(f"commands.{name} is empty; give the program and its arguments as a list")

    def initial_position(self) -> Position:
        """Commands cannot be asked, so nothing is known until the first one has run."""
        return Position.UNKNOWN if self.commands else Position.HOST

    @property
    def switches(self) -> bool:
        """Whether there are commands; without them the card stays in the reader."""
        return bool(self.commands)

    async def switch(self, position: Position) -> None:
        """Run the position's command, if there is one."""
        command = self.commands.get(position.value)
        if command is None:
            if self.commands:
                raise StorageError(
                    f"no command switches to {position}; add commands.{position} to the configuration"
                )
            return
        done = await trio.run_process(
            command, stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False
        )
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
            detail = f": {said[-1]}" if said else ""
            raise StorageError(
                f"`{' '.join(command)}` failed with exit code {done.returncode}{detail}; "
                "check the multiplexer"
            )

    async def device(self) -> Path:
        """Wait until the path leads to a block device with a medium in it."""
        from jumpstarter_exporter.devices.udev_monitor import heard_devices  # noqa: PLC0415 - not for the prompt

        path = Path(self.path)
        watch = heard_devices()
        with nullcontext() if watch is None else subscribed(watch) as changes:
            while not await trio.to_thread.run_sync(_is_ready, path, limiter=self._disk):
                is_there = await trio.to_thread.run_sync(path.exists, limiter=self._disk)
                if changes is None or is_there:
                    # That a new card is in a reader the kernel notices when somebody opens that, or in seconds.
                    await trio.sleep(_LOOK_SECONDS)
                else:
                    with trio.move_on_after(_LINK_SECONDS):
                        await anext(changes)
        return path

    def incomplete_marker(self) -> IncompleteMarker:
        """Return the marker in the state directory, named after the device."""
        return marker_in_state_folder(self.path.strip("/").replace("/", "-"), self.state_dir)


@dataclass(kw_only=True, eq=False)
class MockStorageMuxFlasher(FileStorage):
    """Jumpstarter 0.9's mock: a private file, no hardware."""


@dataclass(kw_only=True, eq=False)
class MockStorageMux(FileStorage):
    """MockStorageMuxFlasher with the client that has no `flash`."""

    client: ClassVar[str] = "jumpstarter_driver_opendal.client.StorageMuxClient"


class FlasherCore(Core["MockFlasher"]):
    """The folder of a flasher's targets."""

    def __init__(self, config: MockFlasher) -> None:
        super().__init__(config)
        self._folder: RunFolder | None = None

    @property
    def folder(self) -> Path:
        """Where the targets are. Raises StorageError while it is closed."""
        if self._folder is None:
            raise StorageError("the storage is closed; use it through its session")
        return self._folder.path

    async def open(self) -> None:
        """Make the folder of the targets."""
        self._folder = await self.in_thread(RunFolder, "jumpstarter-flasher-")

    async def close(self) -> None:
        """Remove all targets."""
        if self._folder is not None:
            folder, self._folder = self._folder, None
            await self.in_thread(folder.remove)


@dataclass(kw_only=True, eq=False)
class MockFlasher(Driver):
    """Targets by name, each a private file until the exporter ends; no multiplexer."""

    client: ClassVar[str] = "jumpstarter_driver_opendal.client.FlasherClient"
    interface: ClassVar[str] = "storage"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("storage"),)
    core_of: ClassVar[type[FlasherCore]] = FlasherCore

    def __post_init__(self) -> None:
        super().__post_init__()
        self._disk = trio.CapacityLimiter(2)

    @export
    async def flash(self, handle: dict[str, JSON], target: str | None = None) -> JSON:
        """Write one target; what was there before stays until all of the new image has arrived."""
        path = self._path(target)
        new = path.with_name(path.name + ".new")
        await self.in_thread(_touch, new)
        try:
            device = StorageDevice(new, writable=True, limiter=self._disk)
            async with device, self.read_resource(handle) as source:
                image = ImageStream(source, "auto", self.threads)
                await image.start()
                check_content(image.content, force=image.content.verdict is Verdict.UNKNOWN)
                image.has_medium_size = False
                length, _ = await device.write(
                    image, limit=DEFAULT_SIZE_BYTES, hashed=False, progress=_ignore
                )
            await self.in_thread(new.replace, path)
        finally:
            with trio.CancelScope(shield=True):  # an unlink of a file in a temporary folder
                await self.in_thread(new.unlink, True)
        return {"bytes": length}

    @export
    async def dump(self, handle: dict[str, JSON], target: str | None = None) -> JSON:
        """Read one target."""
        path = self._path(target)
        device = StorageDevice(path, writable=False, limiter=self._disk)
        async with device, self.write_resource(handle) as sink:
            return {"bytes": await device.read(sink, progress=_ignore)}

    def _path(self, target: str | None) -> Path:
        name = target or "default"
        if safe_name(name) != name:
            raise ValueError(f"{name!r} is not a valid target name; use letters, digits, - and _")
        folder: Path = self.core.folder
        return folder / safe_name(name)


def _ignore(_done: int) -> None:
    """Ignore progress: this driver does not report it."""


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o644))


def _is_ready(path: Path) -> bool:
    """Tell whether there is a block device with a medium; blocking. Raises StorageError for a plain file."""
    try:
        facts = path.stat()
        if not stat.S_ISBLK(facts.st_mode):
            raise StorageError(f"{path} is not a block device; for a file use storage.FileStorage")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, OSError) as error:
        if isinstance(error, PermissionError):
            raise StorageError(f"the exporter may not open {path}; {permission_hint(path)}") from error
        return False
    try:
        return os.lseek(fd, 0, os.SEEK_END) > 0
    finally:
        os.close(fd)
