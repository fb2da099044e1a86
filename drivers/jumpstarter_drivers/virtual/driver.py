"""The virtual board as a device tree: power, serial and storage of one board."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.driver import DeviceError, DeviceMissing, Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

from jumpstarter_drivers.power.driver import PowerInterface
from jumpstarter_drivers.power.reading import PowerReading
from jumpstarter_drivers.serial.driver import PySerial, SerialCore
from jumpstarter_drivers.storage.driver import FileCore, FileStorage
from jumpstarter_drivers.storage.state import ContentState, Position
from jumpstarter_drivers.virtual.firmware import Firmware
from jumpstarter_drivers.virtual.image import BadImage, BootImage, make_image, read_image
from jumpstarter_drivers.virtual.loader import PROMPT
from jumpstarter_drivers.virtual.quirks import Quirks
from jumpstarter_drivers.virtual.virtual_board import SimulatedBoard

__all__ = ["VirtualBoard"]

_VOLTS = 5.0
_AMPERES = 0.6


class BoardCore(Core["VirtualBoard"]):
    """The board on its bench: it stays as it is between sessions, and its plug is pulled when the exporter ends."""

    def __init__(self, config: VirtualBoard) -> None:
        super().__init__(config)
        self._hardware = SimulatedBoard(config.firmware(), self._load)
        self._reading = trio.CapacityLimiter(2)

    async def open(self) -> None:
        """Put the board on the bench: the power is off."""
        await self.nursery.start(self._hardware.run)

    async def close(self) -> None:
        """Pull the plug."""
        self._hardware.power_off()

    @property
    def hardware(self) -> SimulatedBoard:
        """The board itself. Raises DeviceMissing while it is closed."""
        if not self._hardware.console:
            raise DeviceMissing("the virtual board is closed; use it through its session")
        return self._hardware

    async def _load(self) -> BootImage:
        """Read the card as the boot loader does."""
        card = self.below["storage"]
        assert isinstance(card, CardCore)
        try:
            await card.ensure_open()
        except DeviceError as error:
            raise BadImage(f"no card, {error}") from None
        state = card.state
        if state.position is not Position.DUT:
            raise BadImage(f"no card, the storage is switched to {state.position}")
        if state.content in (ContentState.INCOMPLETE, ContentState.WRITING):
            raise BadImage(f"the image is incomplete, {state.reason}")
        digest = state.image.sha256 if state.image else ""
        return await trio.to_thread.run_sync(
            read_image, card.file, digest, abandon_on_cancel=True, limiter=self._reading
        )


@dataclass(kw_only=True, eq=False)
class VirtualBoard(Driver):
    """A board without hardware, with children `power`, `serial` and `storage`.

        export:
          rpi4:
            type: virtual.VirtualBoard
            config:
              hostname: rpi4
              boot_seconds: 1.5        # from power to login prompt
              boot_delay: 3            # seconds in which a key stops the boot loader; left out: a moment
              factory_image: true      # a new card holds an image that boots; false: an empty card
              storage: /lab/card.img   # left out: a private card, thrown away when the exporter ends
              storage_size: 268435456  # bytes of the card; left out: what the disk has room for
              root_password: raspberry # left out: root has none
              change_password: true    # the first login has to change it
              loader_prompt: "ZynqMP> "
              quirks: [escapes, profile-errors, short-lines, carriage-returns]

    The board and its card stay as they are between sessions; the end of the exporter switches it off, as pulling its
    plug would.
    """

    client: ClassVar[str] = "jumpstarter_driver_composite.client.CompositeClient"
    interface: ClassVar[str] = "composite"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("composite"),)
    packages: ClassVar[tuple[str, ...]] = ("serial",)
    core_of: ClassVar[type[BoardCore]] = BoardCore

    hostname: str = "virtual"
    model: str = "Jumpstarter Virtual Board"
    boot_seconds: float = 1.5
    factory_image: bool = True
    storage: str | None = None
    storage_size: int | None = None
    root_password: str = ""
    """The password of root, for trying logins; a lab's secrets do not belong here."""
    change_password: bool = False
    """Whether the first login has to change it; the board forgets the new one when the exporter ends."""
    loader_prompt: str = PROMPT
    """What its boot loader prompts with."""
    boot_delay: int = 0
    """Seconds of its boot loader's countdown, at most 9; with -1 nothing boots by itself."""
    quirks: list[str] = field(default_factory=list)
    """What odd boards do on their consoles; see quirks.py."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.children:
            raise ValueError(
                "a virtual board has its own children; leave `children` out, or put them beside it"
            )
        if self.change_password and not self.root_password:
            raise ValueError("change_password needs a password to change; set `root_password`")
        self.firmware()

    def firmware(self) -> Firmware:
        """A board of this kind. Raises ValueError for a configuration that makes no sense."""
        return Firmware(
            hostname=self.hostname,
            model=self.model,
            boot_seconds=self.boot_seconds,
            root_password=self.root_password,
            change_password=self.change_password,
            loader_prompt=self.loader_prompt,
            boot_delay=self.boot_delay,
            quirks=Quirks(frozenset(self.quirks)),
        )

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        """Its power, its console and its card."""
        card = {
            "path": values.get("storage"),
            "size": values.get("storage_size"),
            "factory_image": values.get("factory_image", True),
        }
        return {"power": Spec(_Power), "serial": Spec(_Console), "storage": Spec(_Card, card)}


def _board_of(part: Core[Any]) -> BoardCore:
    board = part.above
    assert isinstance(board, BoardCore)
    return board


class PowerCore(Core["_Power"]):
    """The switch in the board's supply."""

    @property
    def hardware(self) -> SimulatedBoard:
        """What it supplies."""
        return _board_of(self).hardware


@dataclass(kw_only=True, eq=False)
class _Power(PowerInterface):
    """The switch in the board's supply, which can measure."""

    core_of: ClassVar[type[PowerCore]] = PowerCore

    @export
    async def on(self) -> None:
        """Power comes."""
        self.core.hardware.power_on()

    @export
    async def off(self) -> None:
        """Power goes."""
        self.core.hardware.power_off()

    @export(reads=True)
    async def status(self) -> str:
        """Return the state of the switch: on or off."""
        return "on" if self.core.hardware.powered else "off"

    @export(reads=True)
    async def read(self) -> AsyncIterator[PowerReading]:  # type: ignore[override]
        """One reading of a supply that always gives the same."""
        on = self.core.hardware.powered
        yield PowerReading(voltage=_VOLTS if on else 0.0, current=_AMPERES if on else 0.0)


class ConsoleCore(SerialCore):
    """The serial adapter of the field, on the board's pty."""

    async def open(self) -> None:
        """Plug the adapter in; which pty it is, is known only now."""
        self.settings.url = _board_of(self).hardware.console
        await super().open()


@dataclass(kw_only=True, eq=False)
class _Console(PySerial):
    """The serial driver of the field, on the board's pty."""

    core_of: ClassVar[type[SerialCore]] = ConsoleCore

    url: str = "the virtual board's pty"

    def recording_name(self, path: str) -> str:
        """Its pty is another one each time; the board is the same."""
        return path or "virtual"


class CardCore(FileCore):
    """The card, new or used."""

    async def open(self) -> None:
        """Put an image on a card that is new."""
        await super().open()
        card = self.config
        assert isinstance(card, _Card)
        if card.factory_image:
            await self.in_thread(_fill, self.file, _board_of(self).config.hostname)

    @property
    def hardware(self) -> SimulatedBoard:
        """The simulated board that the card is inserted in."""
        return _board_of(self).hardware


@dataclass(kw_only=True, eq=False)
class _Card(FileStorage):
    """The storage multiplexer of the board, which notices when its card comes and goes."""

    core_of: ClassVar[type[FileCore]] = CardCore

    factory_image: bool

    @property
    def switches(self) -> bool:
        """The board writes to its card."""
        return True

    async def switch(self, position: Position) -> None:
        """The card is in the board's slot, or it is not."""
        hardware: SimulatedBoard = self.core.hardware
        if position is Position.DUT:
            hardware.card_inserted()
        else:
            hardware.card_removed()


def _fill(path: Path, name: str) -> None:
    if not path.stat().st_size:
        make_image(path, f"{name}-factory")
