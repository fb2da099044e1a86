"""The virtual board's hardware: its firmware on a real pty, with trio at the rim.

The pty is what a USB serial adapter is in the field, so the serial driver above it runs the code that it runs
there. As on a UART there is no flow control: bytes that the other end does not read are lost.
"""

from __future__ import annotations

import os
import pty
import tty
from collections.abc import Awaitable, Callable

import trio

from jumpstarter_drivers.virtual.firmware import Event, Firmware, FirmwareState, LoadImage, Transmit
from jumpstarter_drivers.virtual.image import BadImage, BootImage

__all__ = ["SimulatedBoard"]

_MAX_LAG_SECONDS = 1.0
"""Seconds that a reader may lag behind a full pty before bytes are lost."""

_READ_BYTES = 4096


class SimulatedBoard:
    """One board, alive while `run` runs.

    `load` reads the card when the boot loader does: an Image, or BadImage (or OSError) for what it prints
    instead. The other methods are called from trio's thread and return at once.
    """

    def __init__(self, firmware: Firmware, load: Callable[[], Awaitable[BootImage]]) -> None:
        self._firmware = firmware
        self._load = load
        self._wake = trio.Event()
        self._output = bytearray()
        self._output_ready = trio.Event()
        self._loading = trio.CancelScope()
        self._load_wanted = trio.Event()
        self.console = ""
        """Path of the pty's far end, while the board is alive."""

    @property
    def powered(self) -> bool:
        """Whether power is on."""
        return self._firmware.state is not FirmwareState.OFF

    def power_on(self) -> None:
        """Switch on; nothing happens when it is on."""
        self._do(self._firmware.power_on(trio.current_time()))

    def power_off(self) -> None:
        """Switch off; nothing is transmitted from here on."""
        self._do(self._firmware.power_off())
        self._output.clear()
        self._loading.cancel()

    def card_removed(self) -> None:
        """The card leaves the slot."""
        self._do(self._firmware.card_removed(trio.current_time()))

    def card_inserted(self) -> None:
        """A card is in the slot."""
        self._do(self._firmware.card_inserted(trio.current_time()))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be alive until cancelled; started once the pty is there. Raises OSError when none is left."""
        master, slave = pty.openpty()
        try:
            # Before anybody opens the far end: no echo, or the board would read what it prints.
            tty.setraw(slave)
            os.set_blocking(master, False)
            self.console = os.ttyname(slave)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._load_images)
                nursery.start_soon(self._receive, master)
                nursery.start_soon(self._transmit, master)
                task_status.started()
        finally:
            self.console = ""
            os.close(slave)
            os.close(master)

    def _do(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Transmit):
                self._output += event.data
                self._output_ready.set()
            elif isinstance(event, LoadImage):
                self._load_wanted.set()
        self._wake.set()

    async def _keep_time(self) -> None:
        while True:
            self._wake = trio.Event()
            deadline = self._firmware.deadline
            with trio.move_on_at(trio.current_time() + 3600 if deadline is None else deadline):
                await self._wake.wait()
            self._do(self._firmware.advance(trio.current_time()))

    async def _load_images(self) -> None:
        while True:
            await self._load_wanted.wait()
            self._load_wanted = trio.Event()
            with trio.CancelScope() as self._loading:
                try:
                    image = await self._load()
                except BadImage as error:
                    self._do(self._firmware.image_missing(str(error), trio.current_time()))
                except OSError as error:
                    reason = f"card error, {error.strerror or error}"
                    self._do(self._firmware.image_missing(reason, trio.current_time()))
                else:
                    self._do(self._firmware.image_found(image, trio.current_time()))

    async def _receive(self, master: int) -> None:
        while True:
            await trio.lowlevel.wait_readable(master)
            try:
                data = os.read(master, _READ_BYTES)
            except BlockingIOError:
                continue
            self._do(self._firmware.receive(data, trio.current_time()))

    async def _transmit(self, master: int) -> None:
        patience = _MAX_LAG_SECONDS
        while True:
            await self._output_ready.wait()
            try:
                sent = os.write(master, self._output)
            except BlockingIOError:
                with trio.move_on_after(patience) as waiting:
                    await trio.lowlevel.wait_writable(master)
                if waiting.cancelled_caught:
                    self._output.clear()
                    patience = 0.0
            else:
                del self._output[:sent]
                patience = _MAX_LAG_SECONDS
            if not self._output:
                self._output_ready = trio.Event()
