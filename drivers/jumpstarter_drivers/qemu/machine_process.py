"""One run of a virtual machine: its process, the sockets to it, and its console on a pty that outlives it.

QEMU gets its sockets as open descriptors, so nobody else can connect to them, and none has to be waited for. It starts
paused and runs when its console is connected, so no output is lost. The kernel kills it if the exporter is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tty
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio
from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.qemu.qmp import QmpConnection

__all__ = ["ConsolePty", "Machine"]

STOP_SECONDS = 5.0
"""From SIGTERM, after which QEMU writes what it has of the disk, to SIGKILL."""
CONSOLE_BYTES = 4096
MOST_DROPPED_READS = 64
"""More than a pty holds; someone who goes on typing does not keep the machine from its start."""


class ConsolePty:
    """The board's serial port, which is there whether the machine runs or not."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)

    def drop_input(self) -> None:
        """Forget what was typed while nothing was connected."""
        with suppress(BlockingIOError):
            for _ in range(MOST_DROPPED_READS):
                os.read(self.master, CONSOLE_BYTES)

    def close(self) -> None:
        """Unplug it."""
        os.close(self._slave)
        os.close(self.master)


class Machine:
    """A process of QEMU."""

    def __init__(self, command: Sequence[str], console: ConsolePty, log: Path) -> None:
        """`command` is without sockets for QMP and console; what QEMU complains about goes to `log`."""
        self._command = command
        self._console = console
        self._log = log
        self._qmp: QmpConnection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    @property
    def qmp(self) -> QmpConnection:
        """The connection for commands. DeviceMissing if the machine does not run."""
        if self._qmp is None or self.ended.is_set():
            raise DeviceMissing("the machine is off; switch it on")
        return self._qmp

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until it ends by itself, or is cancelled. Started when its firmware runs.

        Raises:
            DeviceMissing: QEMU is not installed.
            DeviceFailed: It does not start.
        """
        pairs: list[tuple[socket.socket, socket.socket]] = []
        try:
            self._console.drop_input()
            pairs += (socket.socketpair() for _ in range(2))
            self._start([theirs.fileno() for _, theirs in pairs])
        except BaseException:
            self.ended.set()
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            for _, theirs in pairs:
                theirs.close()
        qmp, serial = (trio.SocketStream(trio.socket.from_stdlib_socket(ours)) for ours, _ in pairs)
        try:
            with self.scope:
                async with qmp, serial, trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_exit, nursery.cancel_scope)
                    nursery.start_soon(self._from_machine, serial)
                    nursery.start_soon(self._to_machine, serial)
                    connection = QmpConnection(qmp)
                    with suppress(DeviceFailed):  # QEMU has ended, and its complaint says more
                        await connection.start()
                        await connection.execute("cont")
                        self._qmp = connection
                        task_status.started()
                        await connection.drop_events()
                    with trio.move_on_after(STOP_SECONDS):
                        await trio.sleep_forever()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._stop()
            self.ended.set()
        if self._qmp is None and not self.scope.cancelled_caught:
            complaint = self._complaint()
            cure = (
                "KVM does not work here: add `kvm: false`"
                if "kvm" in complaint.lower() and "kvm" in self._command
                else "check the configuration"
            )
            raise DeviceFailed(f"QEMU does not start{complaint}; {cure}")

    def _start(self, descriptors: list[int]) -> None:
        control, serial = descriptors
        command = [
            *("setpriv", "--pdeathsig", "KILL"),
            *self._command,
            "-S",
            *("-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"),
            *("-chardev", f"socket,id=console,fd={serial}", "-serial", "chardev:console"),
        ]
        try:
            with self._log.open("wb") as log:
                # Not from a worker thread: the kernel takes the end of the thread that starts a process for its
                # parent's.
                self._process = subprocess.Popen(  # noqa: S603 - the configuration's program
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=descriptors,
                    start_new_session=True,
                )
        except OSError as error:
            raise DeviceMissing(
                f"{command[0]} cannot be started: {error.strerror}; install util-linux and QEMU"
            ) from error

    async def _until_exit(self, scope: trio.CancelScope) -> None:
        assert self._process is not None
        descriptor = os.pidfd_open(self._process.pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        scope.cancel()

    async def _from_machine(self, serial: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await serial.receive_some(CONSOLE_BYTES):
                view = memoryview(data)
                while view:
                    try:
                        view = view[os.write(self._console.master, view) :]
                    except (
                        BlockingIOError
                    ):  # nobody reads fast enough; the machine waits, as with flow control
                        await trio.lowlevel.wait_writable(self._console.master)

    async def _to_machine(self, serial: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await trio.lowlevel.wait_readable(self._console.master)
                with suppress(BlockingIOError):
                    await serial.send_all(os.read(self._console.master, CONSOLE_BYTES))

    async def _stop(self) -> None:
        process = self._process
        assert process is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                return
            process.send_signal(number)
            descriptor = os.pidfd_open(process.pid)
            try:
                with trio.move_on_after(STOP_SECONDS):
                    await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        process.poll()

    def _complaint(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            if lines:
                return f": {shown(lines[-1])}"
        return ""
