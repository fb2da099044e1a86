"""A virtual machine as a board, with Debian's QEMU and a guest of one sector, by the calls of users."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.errors import DriverError
from jumpstarter_exporter.driver import DeviceFailed
from trio.testing import wait_all_tasks_blocked

from jumpstarter_drivers.qemu.client import QemuClient
from jumpstarter_drivers.qemu.driver import MachineCore, Qemu
from jumpstarter_drivers.qemu.machine_process import ConsolePty, Machine
from jumpstarter_drivers.qemu.machine_settings import (
    Hostfwd,
    MachineSettings,
    disk_fault,
    memory_fault,
    parse_disk_size,
    parse_memory,
)
from jumpstarter_drivers.qemu.qmp import QmpMessages
from jumpstarter_drivers.testing import host, serve_async
from tests.house import docs
from tests.support.peers import ROOT
from tests.support.tiny_guest import tiny_disk

SECONDS = 60.0
"""Emulation on a busy machine takes a while."""


@pytest.fixture(scope="module")
def qemu() -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("missing: qemu-system-x86_64; apt install qemu-system-x86 seabios")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.img"
    path.write_bytes(tiny_disk())
    return path


@asynccontextmanager
async def machine(**config: Any) -> AsyncIterator[QemuClient]:
    values = {"arch": "x86_64", "mem": "16M", "smp": 1, "kvm": False, **config}
    async with host(Qemu, **values) as devices, serve_async(devices) as client:
        assert isinstance(client, QemuClient)
        yield client


async def until(stream: Any, text: bytes) -> bytes:
    seen = b""
    with trio.fail_after(SECONDS):
        while text not in seen:
            seen += await stream.receive_some()
    return seen


def number_of(folder: str) -> int:
    """The process of the machine whose files are there."""
    found = subprocess.run(
        ["pgrep", "-f", f"qemu-system-x86_64.*{folder}"], capture_output=True, text=True, check=False
    )
    return int(found.stdout.split()[0])


async def test_a_machine_is_flashed_booted_and_used(qemu: None, image: Path, tmp_path: Path) -> None:
    async with machine() as client:
        assert await client.status.aio() == await client.power.status.aio() == "off"
        await client.flasher.flash.aio(image)
        with pytest.raises(DriverError, match="the machine is off; switch it on"):
            async with client.vnc.stream_async() as screen:
                await screen.receive_some()
        async with client.console.stream_async() as console:
            await client.power.on.aio()
            await client.power.on.aio()  # changes nothing
            assert (await until(console, b"tiny> ")).endswith(b"tiny 1.0\r\ntiny> ")  # from its first byte on
            assert (await client.status.aio(), await client.power.status.aio()) == ("running", "on")
            await console.send_all(b"hello\r")
            assert (await until(console, b"tiny> ")).startswith(b"hello\r\n")
            async with client.vnc.stream_async() as screen:
                assert (await until(screen, b"\n")).startswith(b"RFB 003.")
            with pytest.raises(DriverError, match="the machine runs and uses its disk; switch it off first"):
                await client.flasher.flash.aio(image)
            await client.power.cycle.aio(0)
            await until(console, b"tiny> ")  # the same console
            await client.power.off.aio()
            assert await client.status.aio() == "off"
        await client.flasher.dump.aio(tmp_path / "dump.img")
        assert (tmp_path / "dump.img").read_bytes() == image.read_bytes()


async def test_a_machine_that_ends_by_itself_is_off_and_can_be_switched_on(qemu: None, image: Path) -> None:
    async with (
        machine(default_partitions={"root": str(image)}) as client,
        client.console.stream_async() as console,
    ):
        await client.power.on.aio()
        await until(console, b"tiny> ")
        os.kill(number_of(str(image)), signal.SIGKILL)
        with trio.fail_after(SECONDS):
            while await client.status.aio() != "off":
                await trio.sleep(0.01)
        await client.power.on.aio()
        await until(console, b"tiny> ")
    assert image.read_bytes() == tiny_disk()


async def test_a_machine_stays_between_sessions_and_ends_with_the_exporter(qemu: None, image: Path) -> None:
    values = {"arch": "x86_64", "mem": "16M", "kvm": False, "default_partitions": {"root": str(image)}}
    async with host(Qemu, **values) as devices:
        async with serve_async(devices) as client:
            await client.resize.aio("memory", "17M")
            await client.power.on.aio()
            number = number_of(str(image))
            assert b"-m\x0017M\0" in Path(f"/proc/{number}/cmdline").read_bytes()
        async with serve_async(devices) as client:
            assert await client.status.aio() == "running"
            await client.power.off.aio()
            await client.power.on.aio()
            number = number_of(str(image))
            assert b"-m\x0016M\0" in Path(f"/proc/{number}/cmdline").read_bytes()
    assert subprocess.run(["pgrep", "-f", f"qemu.*{image}"], check=False).returncode == 1


async def test_an_off_that_is_cancelled_leaves_the_disk_to_the_machine_until_it_has_ended(
    qemu: None, image: Path
) -> None:
    values = {"arch": "x86_64", "mem": "16M", "kvm": False, "default_partitions": {"root": str(image)}}
    async with host(Qemu, **values) as devices, serve_async(devices) as client:
        await client.power.on.aio()
        number = number_of(str(image))
        os.kill(number, signal.SIGSTOP)  # it ends later
        slot = devices.slots[""].core
        assert slot is not None
        core = slot.core
        assert isinstance(core, MachineCore)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.power_off)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert core.is_in_use
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.power_on)
            await wait_all_tasks_blocked()
            os.kill(number, signal.SIGCONT)
        assert number_of(str(image)) != number
        assert await client.status.aio() == "running"


async def test_a_machine_for_which_there_are_no_descriptors_has_ended(tmp_path: Path) -> None:
    machine = Machine(["true"], ConsolePty(), tmp_path / "log")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            await machine.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert machine.ended.is_set()
    machine._console.close()


@pytest.mark.parametrize(
    ("accelerator", "cure"),
    [("kvm", "KVM does not work here: add `kvm: false`"), ("tcg", "check the configuration")],
)
async def test_kvm_that_does_not_work_is_said_with_what_to_do(
    tmp_path: Path, accelerator: str, cure: str
) -> None:
    said = "Could not access KVM kernel module: No such file or directory"
    command = ["sh", "-c", f"echo '{said}' >&2; exit 1", "-accel", accelerator]
    machine = Machine(command, ConsolePty(), tmp_path / "log")
    with pytest.raises(DeviceFailed, match=f"QEMU does not start: {said}; {cure}"):
        await machine.run()
    machine._console.close()


async def test_what_qemu_does_not_take_is_one_sentence(
    qemu: None, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(cpu="no-such-cpu") as client:
        with pytest.raises(
            DriverError, match=r"QEMU does not start: .*no-such-cpu.*; check the configuration"
        ):
            await client.power.on.aio()
        assert await client.status.aio() == "off"
    async with machine(default_partitions={"root": "/none"}) as client:
        with pytest.raises(DriverError, match=r"there is no file /none; check default_partitions\.root"):
            await client.power.on.aio()
    async with machine(arch="m68k_none") as client:
        with pytest.raises(
            DriverError, match="there is no qemu-system-m68k_none on the exporter's host; install"
        ):
            await client.power.on.aio()
    async with machine() as client:
        await client.flasher.off.aio()
        with pytest.raises(DriverError, match="the disk is switched to off; switch it to dut first"):
            await client.power.on.aio()


def test_the_kernel_ends_the_machine_of_a_killed_exporter(qemu: None, image: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from jumpstarter_drivers.qemu.machine_process import ConsolePty, Machine\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        f"        command = ['qemu-system-x86_64', '-nodefaults', '-display', 'none', '-name', {str(image)!r}]\n"
        f"        machine = Machine(command, ConsolePty(), Path({str(tmp_path / 'log')!r}))\n"
        "        await nursery.start(machine.run)\n"
        "        print(machine._process.pid, flush=True)\n"
        "trio.run(main)\n"
    )
    python = str(Path(sysconfig.get_path("scripts")) / "python")
    with subprocess.Popen([python, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        ended = os.pidfd_open(number)
        process.kill()
    poll = select.poll()
    poll.register(ended)
    assert poll.poll(SECONDS * 1000)
    os.close(ended)


def test_a_test_goes_from_off_to_a_shell_as_the_page_says(qemu: None, tmp_path: Path) -> None:
    """With the camera of docs/video.md, which shows the board."""
    camera = docs.blocks((ROOT / "docs/video.md").read_text())[0]
    assert camera.file == "camera.py"
    page = tmp_path / "page.md"
    with_camera = f"<!-- qemu file=camera.py -->\n```python\n{camera.body}```\n"
    page.write_text(with_camera + Path(__file__).with_name("README.md").read_text())
    (tmp_path / "tiny.img").write_bytes(tiny_disk())
    assert docs.run_as_one(page, tmp_path, "qemu") == 5
    (run,) = (tmp_path / "results").glob("*/*")
    assert "power=4.1 W" in (run / "summary.txt").read_text()
    assert (run / "shell.jpg").read_bytes().startswith(b"\xff\xd8")
    assert b"tiny 1.0" in (run / "consoles/vm.console.log").read_bytes()


def test_the_command_line_follows_the_configuration() -> None:
    settings = MachineSettings(
        arch="aarch64",
        cpu=None,
        smp=2,
        memory=parse_memory("1G"),
        uses_kvm=False,
        flash=(Path("/code"), Path("/vars")),
        disk=Path("/a,b.qcow2"),
        disk_format="qcow2",
        is_disk_kept=False,
        forwards={"ssh": Hostfwd(hostport=9022, guestport=22)},
        restrict_network=True,
    )
    line = " ".join(settings.command())
    assert "-machine virt" in line
    assert "-cpu cortex-a57 -smp 2 -m 1024M" in line
    assert "file=/a,,b.qcow2,format=qcow2,if=none,id=root,snapshot=on" in line
    assert "user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:9022-:22" in line
    assert "file=/vars,format=raw,if=pflash,unit=1,snapshot=on" in line


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"arch": "x86 -s"}, "arch is"),
        ({"smp": 0}, "smp is 0"),
        ({"mem": "much"}, "mem: 'much' is not a size"),
        ({"disk_size": 5}, "disk_size: 5 is too small for the disk"),
        ({"disk_size": "-1G"}, "is not a size"),
        ({"default_partitions": {"boot": "/x"}}, "it takes root, bios"),
        ({"mem": "512K"}, "'512K' is too small for the memory of a machine; use e.g. 20G or 512M"),
        ({"mem": "0"}, "is too small for the memory"),
        ({"mem": "512 apples"}, "is not a size"),
        ({"disk_size": "20"}, "'20' is too small for the disk of a machine; use e.g. 20G or 512M"),
        ({"hostfwd": {"power": Hostfwd(hostport=1, guestport=1)}}, "is a child of each machine"),
        ({"hostfwd": {"a": Hostfwd(hostport=0, guestport=1)}}, "wrong port"),
        ({"hostfwd": {"a": Hostfwd(hostport=1, guestport=1, protocol="udp")}}, "it takes tcp"),
        ({"hostfwd": {"a": Hostfwd(hostport=1, guestport=1, hostaddr="x,y")}}, "IPv4"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Qemu(**config)


def test_sizes_are_those_of_jumpstarter_and_qemu() -> None:
    sizes = ("512M", "1GiB", "1.5g", "21474836480")
    assert [parse_disk_size(size) for size in sizes] == [512 << 20, 1 << 30, 3 << 29, 20 << 30]
    assert parse_memory(512) == parse_memory("512")
    assert parse_disk_size(1 << 30) == 1 << 30
    assert [parse_memory(size) for size in ("512M", "512", "1.5G", "1025K")] == [
        512 << 20,
        512 << 20,
        3 << 29,
        1 << 20,
    ]


def test_sizes_are_limited_by_what_the_host_has() -> None:
    assert memory_fault(4 << 30, 4 << 30) == ""
    assert memory_fault(8 << 30, 4 << 30) == (
        "the machine would have 8.0 GiB of memory, but the host has 4.0 GiB; use less"
    )
    assert disk_fault(20 << 30, 5 << 30, 15 << 30) == ""
    assert disk_fault((20 << 30) + 1, 5 << 30, 15 << 30) == (
        "the disk would have 20.0 GiB, but the host has room for 20.0 GiB; use less, or free some space"
    )


async def test_a_user_cannot_ask_for_more_than_the_host_has(qemu: None, image: Path) -> None:
    async with machine() as client:
        with pytest.raises(
            DriverError, match=r"would have 1024000.0 GiB of memory, but the host has [0-9.]+ GiB"
        ):
            await client.resize.aio("memory", "1000T")
        with pytest.raises(
            DriverError, match=r"the disk would have 9216000.0 GiB, but the host has room for"
        ):
            await client.resize.aio("disk", "9000T")
        await client.flasher.flash.aio(image)
        await client.resize.aio("memory", "17")
        await client.resize.aio("disk", "2M")
        async with client.console.stream_async() as console:
            await client.power.on.aio()
            await until(console, b"tiny> ")
        await client.power.off.aio()


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"mem": "1000T"}, "the host has .* GiB; use less"), ({"disk_size": "9000T"}, "or free some space")],
)
async def test_a_machine_larger_than_its_host_is_not_started(
    qemu: None, image: Path, config: dict[str, str], reason: str
) -> None:
    async with machine(**config) as client:
        await client.flasher.flash.aio(image)
        with pytest.raises(DriverError, match=reason):
            await client.power.on.aio()
        assert await client.status.aio() == "off"


def test_messages_are_lines_of_json() -> None:
    messages = QmpMessages()
    assert messages.feed(b'{"QMP": {}}\r\n{"ev') == [{"QMP": {}}]
    assert messages.feed(b'ent": "X"}\n\n') == [{"event": "X"}]
    for wrong in (b"[]\n", b"x\n"):
        with pytest.raises(ValueError, match=r"."):
            QmpMessages().feed(wrong)


def test_a_console_forgets_what_was_typed_without_a_machine() -> None:
    pty = ConsolePty()
    adapter = os.open(pty.path, os.O_RDWR | os.O_NOCTTY)
    os.write(adapter, b"lost")
    assert select.select([pty.master], [], [], 30)[0]  # the kernel passes it on from a thread of its own
    pty.drop_input()
    with pytest.raises(BlockingIOError):
        os.read(pty.master, 10)
    for _ in range(300):  # or is on its way there
        os.write(adapter, b"lost")
        pty.drop_input()
        os.write(adapter, b"x")
        assert select.select([pty.master], [], [], 30)[0]
        assert os.read(pty.master, 10) == b"x"
    os.write(pty.master, b"kept")
    assert os.read(adapter, 10) == b"kept"
    os.close(adapter)
    pty.close()


def test_forwarded_ports_are_children() -> None:
    ports = {"ssh": Hostfwd(hostport=9022, guestport=22)}
    children = Qemu.parts({"hostfwd": ports})
    assert list(children) == ["power", "flasher", "console", "vnc", "ssh"]
    assert dict(children["ssh"].values) == {"host": "127.0.0.1", "port": 9022}
