"""A virtual machine as a device tree: power, console, disk, screen and network of one board."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing, Driver, export, export_stream
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_proto.rpc import socket_folder
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.network.driver import NetworkInterface, TcpNetwork
from jumpstarter_drivers.power.driver import PowerInterface
from jumpstarter_drivers.qemu.machine_process import ConsolePty, Machine
from jumpstarter_drivers.qemu.machine_settings import (
    Hostfwd,
    MachineSettings,
    disk_fault,
    memory_fault,
    parse_disk_size,
    parse_memory,
)
from jumpstarter_drivers.serial.driver import PySerial, SerialCore
from jumpstarter_drivers.storage.driver import FileCore, FileStorage
from jumpstarter_drivers.storage.mux import WriteOptions
from jumpstarter_drivers.storage.state import ContentState, Position

__all__ = ["Qemu"]

PARTITIONS = ("root", "bios", "OVMF_CODE.fd", "OVMF_VARS.fd")
START_SECONDS = 30.0
END_SECONDS = 5.0
"""From the end of its connections to that of a machine."""
KVM = "/dev/kvm"
_CHILDREN = ("power", "flasher", "console", "vnc")


class MachineCore(Core["Qemu"]):
    """The machine: it runs from `on` to `off`, through all sessions, and ends with the exporter."""

    def __init__(self, config: Qemu) -> None:
        super().__init__(config)
        self._stack = ExitStack()
        self._pty: ConsolePty | None = None
        self._folder: Path | None = None
        self._machine: Machine | None = None
        self._lock = trio.Lock()
        self.memory = parse_memory(config.mem)
        self.disk_size = parse_disk_size(config.disk_size) if config.disk_size else 0

    async def open(self) -> None:
        """Plug in the console; the power is off."""
        self._folder = await self.in_thread(self._stack.enter_context, socket_folder("jumpstarter-qemu-"))
        self._pty = await self.in_thread(ConsolePty)

    async def close(self) -> None:
        """Pull the plug."""
        await self.power_off()
        pty, self._pty = self._pty, None
        if pty is not None:
            pty.close()
        await self.in_thread(self._stack.close)

    async def restore(self) -> None:
        """Forget sizes that a user has set."""
        self.memory = parse_memory(self.config.mem)
        self.disk_size = parse_disk_size(self.config.disk_size) if self.config.disk_size else 0

    @property
    def is_on(self) -> bool:
        """Whether the machine runs."""
        return self._machine is not None and not self._machine.ended.is_set()

    @property
    def is_in_use(self) -> bool:
        """Whether the machine runs, or is being switched."""
        return self.is_on or self._lock.locked()

    @property
    def console(self) -> str:
        """The pty of its console. DeviceMissing while it is closed."""
        if self._pty is None:
            raise DeviceMissing("the machine is closed; use it through its session")
        return self._pty.path

    @property
    def screen(self) -> Path:
        """The socket of its VNC server, which is there while it runs."""
        assert self._folder is not None
        return self._folder / "vnc"

    async def power_on(self) -> None:
        """Start the machine, if it does not run, and return when its firmware does."""
        async with self._lock:
            if self._machine is not None and self._machine.scope.cancel_called:  # an `off` that was cancelled
                await self._machine.ended.wait()
            if self.is_on:
                return
            pty, folder = self._pty, self._folder
            if pty is None or folder is None:
                raise DeviceMissing("the machine is closed; use it through its session")
            settings = await self._settings(folder)
            self._machine = machine = Machine(settings.command(), pty, folder / "log")
            with trio.move_on_after(START_SECONDS) as scope:
                await self.nursery.start(self._run, machine)
            if scope.cancelled_caught:
                raise DeviceFailed(f"QEMU does not start within {START_SECONDS:g} s; try again")

    async def power_off(self) -> None:
        """Pull the plug. After a cancellation the machine is on, and uses its disk, until QEMU has ended."""
        async with self._lock:
            machine = self._machine
            if machine is not None:
                machine.scope.cancel()
                await machine.ended.wait()
                self._machine = None

    async def status(self) -> str:
        """off, or what QEMU says."""
        machine = self._machine
        if machine is None or machine.ended.is_set():
            return "off"
        try:
            said = await machine.qmp.execute("query-status")
        except DeviceFailed:
            with trio.move_on_after(END_SECONDS):
                await machine.ended.wait()
                return "off"
            raise
        return str(said.get("status", "")) if isinstance(said, dict) else ""

    async def disk_fault(self, size: int) -> str:
        """Why the flashed disk cannot have that size; empty if it can."""
        disk = self.below["flasher"]
        assert isinstance(disk, FileCore)
        await disk.ensure_open()
        return await self.in_thread(_disk_fault, disk.file, size)

    async def _run(self, machine: Machine, task_status: trio.TaskStatus[None]) -> None:
        await machine.run(task_status)
        self.logger.info("the machine is off")

    async def _settings(self, folder: Path) -> MachineSettings:
        config = self.config
        disk = self.below["flasher"]
        assert isinstance(disk, FileCore)
        await disk.ensure_open()
        if disk.state.position is not Position.DUT:
            raise DeviceBusy(f"the disk is switched to {disk.state.position}; switch it to dut first")
        if disk.state.content in (ContentState.INCOMPLETE, ContentState.WRITING):
            raise DeviceFailed(f"the image on the disk is incomplete ({disk.state.reason}); flash it again")
        return await self.in_thread(self._make_settings, config, folder, disk.file)

    def _make_settings(self, config: Qemu, folder: Path, flashed: Path) -> MachineSettings:
        config.describe_hardware()
        if fault := memory_fault(self.memory, _host_memory()):
            raise DeviceFailed(fault)
        parts = {name: Path(path) for name, path in config.default_partitions.items()}
        disk, is_flashed = parts.get("root"), flashed.stat().st_size > 0
        if is_flashed:
            disk = flashed
            if flashed.stat().st_size < self.disk_size:
                if fault := _disk_fault(flashed, self.disk_size):
                    raise DeviceFailed(fault)
                os.truncate(flashed, self.disk_size)
        cloud_init = folder / "cidata"
        cloud_init.mkdir(exist_ok=True)
        meta_data, user_data = config.cloud_init()
        (cloud_init / "meta-data").write_text(meta_data)
        (cloud_init / "user-data").write_text(user_data)
        code, variables = parts.get("OVMF_CODE.fd"), parts.get("OVMF_VARS.fd")
        self.screen.unlink(missing_ok=True)
        return MachineSettings(
            arch=config.arch,
            cpu=config.cpu,
            smp=config.smp,
            memory=self.memory,
            uses_kvm=config.arch == platform.machine() and os.access(KVM, os.R_OK | os.W_OK)
            if config.kvm is None
            else config.kvm,
            firmware=parts.get("bios"),
            flash=(code, variables) if code and variables else None,
            disk=disk,
            disk_format="qcow2" if disk and not is_flashed and disk.suffix == ".qcow2" else "raw",
            is_disk_kept=is_flashed,
            cloud_init=cloud_init,
            vnc=self.screen,
            forwards=config.hostfwd,
            restrict_network=config.restrict_network,
        )


@dataclass(kw_only=True, eq=False)
class Qemu(Driver):
    """A virtual machine, with children `power`, `flasher`, `console`, `vnc`, and one for each forwarded port.

        export:
          vm:
            type: qemu.Qemu
            config:
              arch: x86_64
              mem: 512M
              default_partitions:
                root: /var/lib/images/debian.qcow2
              hostfwd:
                ssh: {hostport: 9022, guestport: 22}

    The machine stays as it is between sessions; the end of the exporter switches it off.
    """

    client: ClassVar[str] = "jumpstarter_driver_qemu.client.QemuClient"
    interface: ClassVar[str] = "qemu"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("qemu"),)
    packages: ClassVar[tuple[str, ...]] = ("serial",)
    core_of: ClassVar[type[MachineCore]] = MachineCore

    arch: str = field(default_factory=platform.machine)
    cpu: str | None = None
    smp: int = 2
    mem: str | int = "512M"
    """A number without a unit is MiB."""
    disk_size: str | int | None = None
    """The least size of a flashed disk; a number without a unit is bytes."""
    hostname: str = "demo"
    username: str = "jumpstarter"
    password: str = field(default="password", repr=False)
    default_partitions: dict[str, str] = field(default_factory=dict)
    """Files for root (until the disk is flashed; never written), bios, OVMF_CODE.fd and OVMF_VARS.fd."""
    hostfwd: dict[str, Hostfwd] = field(default_factory=dict)
    kvm: bool | None = None
    """Whether KVM is used; None: if the host offers it for this architecture."""
    restrict_network: bool = False
    """Whether the machine reaches neither the host nor other machines; forwarded ports work."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[a-z0-9_]{1,20}", self.arch):
            raise ValueError(f"arch is {self.arch!r}; it takes x86_64, aarch64 or another one of QEMU")
        if not 1 <= self.smp <= 255:
            raise ValueError(f"smp is {self.smp}; it takes 1 to 255 processors")
        for key, size, parse in (
            ("mem", self.mem, parse_memory),
            ("disk_size", self.disk_size, parse_disk_size),
        ):
            try:
                if size is not None:
                    parse(size)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        for name in self.default_partitions:
            if name not in PARTITIONS:
                raise ValueError(f"default_partitions has {name!r}; it takes {', '.join(PARTITIONS)}")
        for name, one in self.hostfwd.items():
            if name in _CHILDREN:
                raise ValueError(
                    f"hostfwd has {name!r}, which is a child of each machine; choose another name"
                )
            if one.protocol != "tcp":
                raise ValueError(f"hostfwd.{name}.protocol is {one.protocol!r}; it takes tcp")
            if not (0 < one.hostport < 65536 and 0 < one.guestport < 65536):
                raise ValueError(f"hostfwd.{name} has a wrong port; ports are 1 to 65535")
            try:
                ipaddress.IPv4Address(one.hostaddr)
            except ValueError:
                raise ValueError(
                    f"hostfwd.{name}.hostaddr is {one.hostaddr!r}; it takes an IPv4 address of the host"
                ) from None

    def describe_hardware(self) -> str:
        """Look for QEMU and the files of the machine. DeviceMissing, DeviceFailed."""
        program = f"qemu-system-{self.arch}"
        if shutil.which(program) is None:
            raise DeviceMissing(
                f"there is no {program} on the exporter's host; install QEMU for this architecture"
            )
        for name, path in self.default_partitions.items():
            if not Path(path).is_file():
                raise DeviceMissing(f"there is no file {path}; check default_partitions.{name}")
        if fault := memory_fault(parse_memory(self.mem), _host_memory()):
            raise DeviceFailed(fault)
        return f"a machine of {program}, {self.smp} processors, {parse_memory(self.mem) >> 20} MiB of memory"

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        """Its power, its disk, its console, its screen, and its ports."""
        found = {
            "power": Spec(_Power),
            "flasher": Spec(_Disk),
            "console": Spec(_Console),
            "vnc": Spec(_Screen),
        }
        for name, one in (values.get("hostfwd") or {}).items():
            if isinstance(one, Hostfwd) and name not in found:
                found[name] = Spec(TcpNetwork, {"host": one.hostaddr, "port": one.hostport})
        return found

    def cloud_init(self) -> tuple[str, str]:
        """The files meta-data and user-data of cloud-init's NoCloud source. JSON is YAML."""
        user = {
            "name": self.username,
            "plain_text_passwd": self.password,
            "lock_passwd": False,
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
        }
        return (
            json.dumps({"instance-id": str(self.uuid), "local-hostname": self.hostname}),
            "#cloud-config\n" + json.dumps({"ssh_pwauth": True, "users": [user]}),
        )

    @export
    def get_hostname(self) -> str:
        """The host name that cloud-init gives to the machine."""
        return self.hostname

    @export
    def get_username(self) -> str:
        """The user that cloud-init creates."""
        return self.username

    @export
    def get_password(self) -> str:
        """The password of that user."""
        return self.password

    @export
    async def set_disk_size(self, size: str) -> None:
        """Set the size of the flashed disk from the next power-on. It never becomes smaller."""
        core: MachineCore = self.core
        wanted = parse_disk_size(size)
        if fault := await core.disk_fault(wanted):
            raise ValueError(fault)
        core.disk_size = wanted

    @export
    async def set_memory_size(self, size: str) -> None:
        """Set the memory from the next power-on."""
        wanted = parse_memory(size)
        if fault := memory_fault(wanted, _host_memory()):
            raise ValueError(fault)
        self.core.memory = wanted

    @export
    async def status(self) -> str:
        """off, or what QEMU says: running, paused, internal-error..."""
        return str(await self.core.status())


def _disk_fault(file: Path, size: int) -> str:
    return disk_fault(size, file.stat().st_blocks * 512, shutil.disk_usage(file.parent).free)


def _host_memory() -> int:
    """Bytes of memory of this host."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _core_of(part: Driver) -> MachineCore:
    assert part.parent_driver is not None
    core = part.parent_driver.core
    assert isinstance(core, MachineCore)
    return core


@dataclass(kw_only=True, eq=False)
class _Power(PowerInterface):
    """The machine's plug."""

    @export
    async def on(self) -> None:
        """Start the machine."""
        await _core_of(self).power_on()

    @export
    async def off(self) -> None:
        """Pull the plug: QEMU ends, and writes what it has of the disk."""
        await _core_of(self).power_off()

    @export(reads=True)
    async def status(self) -> str:
        """Return on or off: whether QEMU runs."""
        return "on" if _core_of(self).is_on else "off"


class MachineConsoleCore(SerialCore):
    """The serial adapter of the field, on the machine's pty."""

    async def open(self) -> None:
        """Plug the adapter in; which pty it is, is known only now."""
        board = self.above
        assert isinstance(board, MachineCore)
        self.settings.url = board.console
        await super().open()


@dataclass(kw_only=True, eq=False)
class _Console(PySerial):
    """The serial driver of the field, on the machine's pty."""

    core_of: ClassVar[type[SerialCore]] = MachineConsoleCore

    url: str = "the machine's pty"

    def recording_name(self, path: str) -> str:
        """Its pty is another one each time; the machine is the same."""
        return path or "qemu"


@dataclass(kw_only=True, eq=False)
class _Disk(FileStorage):
    """The machine's disk, in a file of the host. It can be switched and written while the machine is off."""

    @property
    def switches(self) -> bool:
        """The machine writes to its disk."""
        return True

    async def switch(self, position: Position) -> None:
        """Refuse it if the machine was switched on meanwhile."""
        if position is not Position.DUT:
            self._check_off()

    @export
    async def host(self) -> None:
        """Connect the disk to the host."""
        self._check_off()
        await super().host()

    @export
    async def off(self) -> None:
        """Connect the disk to neither."""
        self._check_off()
        await super().off()

    @export
    async def write(self, handle: dict[str, JSON], options: WriteOptions | None = None) -> JSON:
        """Write an image to the disk, which is at the host."""
        self._check_off()
        return await super().write(handle, options)

    @export
    async def flash(
        self, handle: dict[str, JSON], target: str | None = None, options: WriteOptions | None = None
    ) -> JSON:
        """Write an image to the disk; the target `root`, which Jumpstarter's clients name, is the disk, too."""
        self._check_off()
        return await super().flash(handle, None if target == "root" else target, options)

    @export
    async def dump(self, handle: dict[str, JSON], target: str | None = None) -> JSON:
        """Read the disk."""
        self._check_off()
        return await super().dump(handle, None if target == "root" else target)

    def _check_off(self) -> None:
        if _core_of(self).is_in_use:
            raise DeviceBusy("the machine runs and uses its disk; switch it off first")


@dataclass(kw_only=True, eq=False)
class _Screen(NetworkInterface):
    """The machine's VNC server."""

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A new connection to it."""
        core = _core_of(self)
        if not core.is_on:
            raise DeviceMissing("the machine is off; switch it on")
        try:
            stream = await trio.open_unix_socket(str(core.screen))
        except OSError as error:
            raise DeviceMissing(f"the machine has no screen: {error.strerror}") from error
        async with stream:
            yield stream
