"""The virtual board as a device tree: power, serial and storage of one board."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import trio
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.driver import DeviceMissing, Driver, export

from jumpstarter_drivers.power.driver import PowerInterface
from jumpstarter_drivers.power.reading import PowerReading
from jumpstarter_drivers.serial.driver import PySerial
from jumpstarter_drivers.storage.driver import FileStorage
from jumpstarter_drivers.storage.state import Content, Position
from jumpstarter_drivers.virtual.board import Board
from jumpstarter_drivers.virtual.firmware import Firmware
from jumpstarter_drivers.virtual.image import BadImage, Image, make_image, read_image
from jumpstarter_drivers.virtual.loader import PROMPT
from jumpstarter_drivers.virtual.quirks import Quirks

__all__ = ["VirtualBoard"]

_VOLTS = 5.0
_AMPERES = 0.6


@dataclass(kw_only=True, eq=False)
class VirtualBoard(Driver):
    """A board without hardware, with children `power`, `serial` and `storage`.

        export:
          rpi4:
            type: virtual.VirtualBoard
            config:
              hostname: rpi4
              boot_seconds: 1.5        # from power to login prompt
              factory_image: true      # a new card holds an image that boots; false: an empty card
              storage: /lab/card.img   # left out: a private card that closing throws away
              storage_size: 268435456  # bytes of the card; left out: what the disk has room for
              root_password: raspberry # left out: root has none
              change_password: true    # the first login has to change it
              loader_prompt: "ZynqMP> "
              quirks: [escapes, profile-errors, short-lines, carriage-returns]

    Closing it switches the board off, as pulling its plug would.
    """

    client: ClassVar[str] = "jumpstarter_driver_composite.client.CompositeClient"
    interface: ClassVar[str] = "composite"
    packages: ClassVar[tuple[str, ...]] = ("serial",)

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
        firmware = Firmware(
            hostname=self.hostname,
            model=self.model,
            boot_seconds=self.boot_seconds,
            root_password=self.root_password,
            change_password=self.change_password,
            loader_prompt=self.loader_prompt,
            quirks=Quirks(frozenset(self.quirks)),
        )
        self._hardware = Board(firmware, self._load)

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        """Its power, its console and its card."""
        card = {
            "path": values.get("storage"),
            "size": values.get("storage_size"),
            "factory_image": values.get("factory_image", True),
        }
        return {"power": Spec(_Power), "serial": Spec(_Console), "storage": Spec(_Card, card)}

    async def open(self) -> None:
        """Put the board on the bench: the power is off."""
        await self.nursery.start(self._hardware.run)

    async def close(self) -> None:
        """Pull the plug."""
        self._hardware.power_off()

    @property
    def hardware(self) -> Board:
        """The board itself. Raises DeviceMissing while it is closed."""
        if not self._hardware.console:
            raise DeviceMissing("the virtual board is closed; use it through its session")
        return self._hardware

    async def _load(self) -> Image:
        """Read the card as the boot loader does."""
        card = self.children["storage"]
        assert isinstance(card, _Card)
        await card.ensure_open()
        state = card.state
        if state.position is not Position.DUT:
            raise BadImage(f"no card, the storage is switched to {state.position}")
        if state.content in (Content.INCOMPLETE, Content.WRITING):
            raise BadImage(f"the image is incomplete, {state.reason}")
        digest = state.image.sha256 if state.image else ""
        return await trio.to_thread.run_sync(
            read_image, card.file, digest, abandon_on_cancel=True, limiter=self.threads
        )


def _board_of(part: Driver) -> VirtualBoard:
    board = part.parent_driver
    assert isinstance(board, VirtualBoard)
    return board


@dataclass(kw_only=True, eq=False)
class _Power(PowerInterface):
    """The switch in the board's supply, which can measure."""

    @export
    async def on(self) -> None:
        """Power comes."""
        _board_of(self).hardware.power_on()

    @export
    async def off(self) -> None:
        """Power goes."""
        _board_of(self).hardware.power_off()

    @export
    async def read(self) -> AsyncIterator[PowerReading]:  # type: ignore[override]
        """One reading of a supply that always gives the same."""
        on = _board_of(self).hardware.powered
        yield PowerReading(voltage=_VOLTS if on else 0.0, current=_AMPERES if on else 0.0)


@dataclass(kw_only=True, eq=False)
class _Console(PySerial):
    """The serial driver of the field, on the board's pty."""

    url: str = "the virtual board's pty"

    async def open(self) -> None:
        """Plug the adapter in; which pty it is, is known only now."""
        self.url = self._settings.url = _board_of(self).hardware.console
        await super().open()

    def recording_name(self) -> str:
        """Its pty is another one each time; the board is the same."""
        return self.tree_path or "virtual"


@dataclass(kw_only=True, eq=False)
class _Card(FileStorage):
    """The storage multiplexer of the board, which notices when its card comes and goes."""

    factory_image: bool

    async def open(self) -> None:
        """Put an image on a card that is new."""
        await super().open()
        if self.factory_image:
            await self.in_thread(_fill, self.file, self.hostname)

    @property
    def hostname(self) -> str:
        """The board's name, for the factory image."""
        return _board_of(self).hostname

    async def switch(self, position: Position) -> None:
        """The card is in the board's slot, or it is not."""
        hardware = _board_of(self).hardware
        if position is Position.DUT:
            hardware.card_inserted()
        else:
            hardware.card_removed()


def _fill(path: Path, name: str) -> None:
    if not path.stat().st_size:
        make_image(path, f"{name}-factory")
