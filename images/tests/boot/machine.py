"""An emulated computer that boots our image: its start, a shell in it, and its USB devices.

The shell is systemd's debug shell on a console of its own (``systemd.debug_shell``): nothing in the image is made for
tests. QEMU's control socket (QMP) plugs USB devices and reads memory. Plain emulation: no acceleration is needed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import trio
from console_text import last_lines
from jumpstarter_proto.tasks import collapsed

Model = Literal["q35", "virt", "raspi3b"]
COMMON = (
    "systemd.setenv=SYSTEMD_COLORS=0 net.ifnames=0 "
    # On a busy machine, an action of a second may take minutes.
    "systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=900 "
    # Nor does a timer that comes late prove a fault of the hardware. A kernel that panics ends QEMU.
    "no_timer_check panic=-1"
)
FIRMWARE_AT = "4M"
"""The place of a card's first partition, in the notation of mtools."""
OUTSIDE = "10.0.2.2"
"""The address at which the guest finds this computer's loopback. It reaches nothing else: tests run in a network
namespace that has no way out, and where this address is the loopback's, too (see the Makefile)."""


@dataclass(frozen=True, slots=True)
class Image:
    """The result of the build: the card, and its kernel and initial file system, as a boot loader would load them."""

    disk: Path
    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    def command_line(self) -> list[str]:
        """The kernel's command line from cmdline.txt on a Raspberry Pi's card, without its consoles."""
        done = subprocess.run(
            ["mtype", "-i", f"{self.disk}@@{FIRMWARE_AT}", "::cmdline.txt"], check=True, capture_output=True
        )
        return [word for word in done.stdout.decode().split() if not word.startswith("console=")]


@dataclass(frozen=True, slots=True)
class Setup:
    """The hardware of the computer. ``card`` is the size of its card in bytes, larger than the image."""

    model: Model = "q35"
    memory: int = 1024
    card: int = 2 << 30
    append: str = ""
    extra: Sequence[str] = ()
    forward: Sequence[str] = ()
    """Ports of the guest that are also reachable at OUTSIDE, such as ``tcp:8082``, by the guest itself, too."""
    root: str = "LABEL=root"
    is_read_only: bool = False
    """Whether the card refuses writes, like a worn-out card."""
    log: Path | None = None
    """The file to which the card's writes and flushes are appended (QEMU's blklogwrites); the card is then raw."""


def overlay(image: Path, folder: Path, size: int) -> Path:
    """Make a card with the contents of the image, whose changes are in a separate file."""
    file = folder / "card.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(file), str(size)]
    subprocess.run(command, check=True)
    return file


def _card(setup: Setup, card: Path) -> list[str]:
    if setup.log is None:
        read_only = ",readonly=on" if setup.is_read_only else ""
        return ["-drive", f"if=none,id=card,file={card},format=qcow2,cache=unsafe{read_only}"]
    setup.log.touch()
    # The guest's flushes reach the log. Below it none is waited for: a flush stands in the log where the guest has
    # begun it, and no write that was completed meanwhile stands before it.
    unsafe = {"cache": {"no-flush": True}}
    node: dict[str, Any] = {
        "driver": "blklogwrites",
        "node-name": "card",
        "discard": "unmap",
        "file": {"driver": "raw", **unsafe, "file": {"driver": "file", "filename": str(card), **unsafe}},
        "log": {"driver": "file", "filename": str(setup.log), **unsafe},
    }
    node |= {"log-append": True} if setup.log.stat().st_size else {"log-sector-size": 512}
    return ["-blockdev", json.dumps(node)]


def arguments(setup: Setup, image: Image, folder: Path, card: Path, snapshot: str | None = None) -> list[str]:
    """QEMU's command line."""
    shell = f"socket,id=shell,path={folder}/shell.sock,server=on,wait=off"
    common = [
        *("-display", "none", "-no-reboot", "-monitor", "none"),
        *("-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off"),
        *("-accel", "tcg,thread=multi", "-kernel", str(image.kernel), "-initrd", str(image.initrd)),
    ]
    network = ["user,id=net", *(f"hostfwd={_forwarded(port)}" for port in setup.forward)]
    common += ["-netdev", ",".join(network)]
    if snapshot is not None:
        common += ["-loadvm", snapshot]
    if setup.model == "raspi3b":
        # What units write to the console goes to the screen, beside the shell.
        console = (
            f"{' '.join(image.command_line())} console=ttyS1,115200 console=tty0 quiet loglevel=1 "
            "systemd.show_status=0 systemd.debug_shell=ttyS1 systemd.mask=serial-getty@ttyS1.service"
        )
        machine = [
            *("-M", "raspi3b", "-dtb", str(_device_tree(image, folder))),
            *("-drive", f"if=sd,index=0,file={card},format=qcow2,cache=unsafe"),
            *(
                "-chardev",
                f"{shell},logfile={folder}/console.log",
                "-serial",
                "null",
                "-serial",
                "chardev:shell",
            ),
            # One root port: all else is plugged into the hub. The first is the network, with an address of Raspberry
            # Pi's, which Linux calls eth0 as it does the Pi's own, behind USB as well.
            *("-device", "usb-hub,id=hub,port=1"),
            *("-device", "usb-net,netdev=net,mac=b8:27:eb:00:00:01,port=1.1"),
        ]
        program = "qemu-system-aarch64"
    else:
        serial = "ttyS0" if setup.model == "q35" else "ttyAMA0"
        console = (
            f"console={serial} systemd.show_status=1 "
            "systemd.debug_shell=hvc0 systemd.mask=serial-getty@hvc0.service"
        )
        if setup.model == "q35":
            # On a busy machine the kernel measures too slow a TSC, by which a guest's minute is over in three seconds.
            console += " clocksource=acpi_pm tsc=unstable"
        chosen = (
            # On a busy machine a kernel that has found QEMU's HPET may stay there for ever; it has other clocks.
            ["-M", "q35,hpet=off", "-cpu", "max"]
            if setup.model == "q35"
            else ["-M", "virt,gic-version=3", "-cpu", "cortex-a53"]
        )
        machine = [
            *chosen,
            *("-smp", "2", "-m", str(setup.memory), "-vga", "none"),
            *("-device", "virtio-net-pci,netdev=net"),
            *_card(setup, card),
            *("-device", "virtio-blk-pci,drive=card,write-cache=on", "-device", "virtio-rng-pci"),
            *("-device", "qemu-xhci,id=xhci,p2=4,p3=4", "-device", "virtio-serial-pci"),
            *(
                "-chardev",
                shell,
                "-device",
                "virtconsole,chardev=shell",
                "-serial",
                f"file:{folder}/console.log",
            ),
        ]
        program = "qemu-system-x86_64" if setup.model == "q35" else "qemu-system-aarch64"
    line = f"root={setup.root} ro {COMMON} {console} {setup.append}".strip()
    return [program, *machine, *common, "-append", line, *setup.extra]


def _forwarded(port: str) -> str:
    kind, _, number = port.partition(":")
    return f"{kind}::{number}-:{number}"


def _device_tree(image: Image, folder: Path) -> Path:
    """Debian's device tree for a Pi 3, with the model that the boot loader would add: a 3B with 1 GB."""
    file = folder / "pi.dtb"
    shutil.copyfile(image.folder / "dtb/bcm2837-rpi-3-b.dtb", file)
    subprocess.run(["fdtput", "-p", "-t", "x", str(file), "/system", "linux,revision", "a02082"], check=True)
    return file


class MachineError(Exception):
    """The computer did not start, or a command failed. The message has the end of its console."""


@dataclass
class Machine:
    """A computer that runs."""

    folder: Path
    process: trio.Process
    _qmp: trio.SocketStream
    _shell: trio.SocketStream
    _begun: float
    _rest: bytearray = field(default_factory=bytearray)
    events: list[dict[str, Any]] = field(default_factory=list)
    may_end: bool = False
    """Whether it was told to switch off or to reboot, which ends the emulator."""

    @property
    def seconds(self) -> float:
        """Since its start."""
        return trio.current_time() - self._begun

    def console(self) -> str:
        """The end of the output of its first console."""
        file = self.folder / "console.log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def console_lines(self, count: int = 25) -> str:
        """The same as a page can show it."""
        file = self.folder / "console.log"
        return last_lines(file.read_bytes() if file.exists() else b"", count)

    def processor_seconds(self) -> float:
        """The processor time of the emulator since the start."""
        used = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")

    async def qmp(self, command: str, **arguments: Any) -> Any:
        """One command of QEMU's control protocol, and its answer."""
        with trio.fail_after(300):
            await self._qmp.send_all(
                json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
            )
            while True:
                answer = await self._line()
                if "event" in answer:
                    self.events.append(answer)
                elif "error" in answer:
                    raise MachineError(f"{command}: {answer['error']['desc']}")
                else:
                    return answer.get("return")

    async def monitor(self, line: str) -> str:
        """One line of QEMU's monitor for people, and its answer."""
        return str(await self.qmp("human-monitor-command", **{"command-line": line}))

    async def save(self, snapshot: str) -> None:
        """Save a snapshot in the card's file (qcow2), from which `start` can continue.

        Raises:
            MachineError: The snapshot cannot be saved, for example while a device with a file of its own is plugged in.
        """
        if said := (await self.monitor(f"savevm {snapshot}")).strip():
            raise MachineError(f"no snapshot: {said}")

    async def cut_power(self) -> None:
        """Switch off immediately; the emulator's buffers are written to the card's file."""
        self.may_end = True
        with suppress(MachineError):  # as it may end before it answers
            await self.qmp("quit")
        await self.wait_for_end()

    async def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            received = await self._qmp.receive_some()
            if not received:
                raise MachineError(f"QEMU has ended; its console:\n{self.console()}")
            self._rest += received
        line, _, rest = bytes(self._rest).partition(b"\n")
        self._rest[:] = rest
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _hear(self) -> bytes:
        """The next output of the shell. Raises MachineError if the machine has ended."""
        try:
            heard = await self._shell.receive_some()
        except trio.BrokenResourceError:
            heard = b""
        if not heard:
            raise MachineError(f"QEMU has ended; its console:\n{self.console()}")
        return bytes(heard)

    async def _say(self, text: bytes) -> None:
        """Send text to the shell. Raises MachineError if the machine has ended."""
        try:
            await self._shell.send_all(text)
        except trio.BrokenResourceError:
            raise MachineError(f"QEMU has ended; its console:\n{self.console()}") from None

    async def wait_for_shell(self, seconds: float = 900) -> float:
        """Wait until the shell answers. Returns the seconds since the start."""
        heard = b""
        deadline = trio.current_time() + seconds
        while b"ready-42" not in heard:
            if trio.current_time() > deadline:
                raise MachineError(f"no shell after {seconds:.0f} s; the console:\n{self.console()}")
            await self._say(b"\necho ready''-$((40+2))\n")
            with trio.move_on_after(3):
                while b"ready-42" not in heard:
                    heard += await self._hear()
        reached = self.seconds
        await self.sh(
            "stty -echo; PS1=; export TERM=dumb PAGER=cat; bind 'set enable-bracketed-paste off' 2>/dev/null; true"
        )
        return reached

    async def sh(self, command: str, *, seconds: float = 120, check: bool = True) -> str:
        """Run a command as root in the guest. Returns its standard output and error.

        Raises:
            MachineError: Its exit code is not 0 (unless ``check`` is off), or it exceeded its time limit.
        """
        tag = uuid.uuid4().hex[:8]
        encoded = base64.b64encode(command.encode()).decode()
        # A terminal accepts lines of up to 4,095 bytes.
        parts = [encoded[at : at + 900] for at in range(0, len(encoded), 900)]
        lines = [": >/run/.sent", *(f"printf %s {part} >>/run/.sent" for part in parts)]
        # Use a pipe: on a terminal, programs print more than their output.
        run = "bash -c 'bash /run/.run 2>&1 </dev/null | cat; exit ${PIPESTATUS[0]}'"
        lines.append(f"base64 -d /run/.sent >/run/.run; echo B''{tag}; {run}; echo E''{tag}:$?")
        heard = b""
        found = None
        with trio.move_on_after(seconds):
            for line in lines:
                await self._say(line.encode() + b"\n")
            while found is None:
                heard += await self._hear()
                found = re.search(rf"B{tag}\r*\n(.*?)E{tag}:(\d+)".encode(), heard, re.DOTALL)
        if found is None:
            said = heard.decode(errors="replace")[-2000:]
            raise MachineError(f"no end after {seconds:.0f} s: {command}\n{said}\n{self.console()}")
        output = found[1].decode(errors="replace").replace("\r\n", "\n")
        if check and found[2] != b"0":
            raise MachineError(f"exit code {int(found[2])}: {command}\n{output}")
        return output

    async def wait_until_running(self, seconds: float = 900) -> float:
        """Wait until systemd has started everything. Returns the seconds since the start.

        Raises:
            MachineError: A unit failed: its name and log.
        """
        state = (await self.sh("systemctl is-system-running --wait", seconds=seconds, check=False)).strip()
        reached = self.seconds
        if state != "running":
            failed = await self.sh(
                "for unit in $(systemctl --failed --no-legend --plain | cut -d' ' -f1); do "
                "echo $unit; journalctl -b --no-pager -u $unit -n 30; done",
                check=False,
            )
            raise MachineError(f"the system is {state}:\n{failed}")
        return reached

    async def until(self, command: str, *, seconds: float = 60) -> str:
        """Repeat a command until its exit code is 0. Returns its output."""
        # Use the time since the boot, because the clock may be set meanwhile.
        return await self.sh(
            f"now() {{ cut -d. -f1 /proc/uptime; }}; end=$(($(now)+{int(seconds)})); "
            f"until out=$({{ {command}\n}} 2>&1); do "
            f'[ $(now) -lt $end ] || {{ echo "$out"; exit 1; }}; sleep 0.2; done; echo "$out"',
            seconds=seconds + 30,
        )

    async def put(self, path: str, data: bytes) -> None:
        """Write a file in the guest."""
        encoded = base64.b64encode(data).decode()
        await self.sh(f"mkdir -p $(dirname {path}); : >{path}.b64")
        for at in range(0, len(encoded), 60_000):
            await self.sh(f"printf %s {encoded[at : at + 60_000]} >>{path}.b64")
        await self.sh(f"base64 -d {path}.b64 >{path}; rm {path}.b64")

    async def plug_serial(self, name: str, port: str, serial: str) -> Path:
        """Plug in an FTDI adapter. Returns the Unix socket of its other end."""
        socket = self.folder / f"{name}.sock"
        backend = {
            "type": "socket",
            "data": {"addr": {"type": "unix", "data": {"path": str(socket)}}, "server": True, "wait": False},
        }
        await self.qmp("chardev-add", id=f"{name}-chars", backend=backend)
        await self.qmp(
            "device_add",
            driver="usb-serial",
            id=name,
            chardev=f"{name}-chars",
            serial=serial,
            port=port,
            **{"always-plugged": True},
        )
        return socket

    async def plug_stick(self, name: str, port: str, serial: str, file: Path) -> None:
        """Plug in a USB stick with the contents of a file."""
        await self.qmp(
            "blockdev-add",
            **{
                "driver": "raw",
                "node-name": f"{name}-node",
                "file": {"driver": "file", "filename": str(file)},
            },
        )
        await self.qmp(
            "device_add", driver="usb-storage", id=name, drive=f"{name}-node", serial=serial, port=port
        )

    async def wait_for_end(self, seconds: float = 300) -> None:
        """Wait until it has switched itself off, or wants to reboot.

        Raises:
            MachineError: It did not, within the time limit.
        """
        self.may_end = True
        with trio.move_on_after(seconds) as scope:
            await self.process.wait()
        if scope.cancelled_caught:
            raise MachineError(f"still on after {seconds:.0f} s; the console:\n{self.console()}")

    async def watch(self) -> None:
        """Wait until it ends. Raises MachineError if nothing told it to end, because a test would wait without end."""
        code = await self.process.wait()
        if not self.may_end:
            raise MachineError(f"it ended by itself, with exit code {code}; the console:\n{self.console()}")

    async def unplug(self, name: str) -> None:
        """Unplug the device."""
        await self.qmp("device_del", id=name)


async def _connect(path: Path, process: trio.Process, output: Path) -> trio.SocketStream:
    with trio.move_on_after(30):
        while process.poll() is None:
            try:
                return await trio.open_unix_socket(path)
            except OSError:
                await trio.sleep(0.05)
    raise MachineError(f"QEMU did not start: {output.read_text(errors='replace')}")


@asynccontextmanager
async def start(
    setup: Setup, image: Image, folder: Path, card: Path | None = None, snapshot: str | None = None
) -> AsyncIterator[Machine]:
    """Start a computer, and switch it off at the end of the block in every case.

    Args:
        setup: Its hardware.
        image: The image that it boots.
        folder: For sockets, console and the card's changes.
        card: An existing card, qcow2 or, with a log, raw; None for a new one.
        snapshot: The snapshot in the card's file to restore instead of a boot. Nothing is plugged in then.
    """
    card = card or overlay(image.disk, folder, setup.card)
    output = folder / "qemu.out"
    with output.open("wb") as file:
        process = await trio.lowlevel.open_process(
            arguments(setup, image, folder, card, snapshot),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    try:
        begun = trio.current_time()
        async with (
            await _connect(folder / "qmp.sock", process, output) as qmp,
            await _connect(folder / "shell.sock", process, output) as shell,
        ):
            machine = Machine(folder, process, qmp, shell, begun)
            await machine._line()
            await machine.qmp("qmp_capabilities")
            with collapsed():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(machine.watch)
                    yield machine
                    machine.may_end = True
                    nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
