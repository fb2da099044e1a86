"""Lines of one GPIO chip, by their numbers or names: on hosts that are no Raspberry Pi, and of chips on USB.

gpiozero's factory for lgpio opens any chip, but looks its pins up in tables of Raspberry Pis. Here the chip itself says
which lines it has. Everything here is blocking.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jumpstarter_exporter.driver import DeviceMissing

__all__ = ["close_chip", "is_raspberry_pi", "number_of", "open_chip", "selected_board"]

_NODE = re.compile(r"gpiochip([0-9]{1,4})")


def number_of(path: str) -> int:
    """The kernel's number of the chip that this node, or link to one, is.

    Raises:
        DeviceMissing: There is none, or it is something else.
    """
    if not os.path.exists(path):
        raise DeviceMissing(f"there is no GPIO chip {path}; plug it in; `gpiodetect` lists those that exist")
    found = _NODE.fullmatch(os.path.basename(os.path.realpath(path)))
    if found is None:
        raise DeviceMissing(f"{path} is not a GPIO chip; `gpiodetect` lists those that exist")
    return int(found[1])


def selected_board(label: str, names: Sequence[str]) -> Any:
    """What gpiozero calls a board: one header whose pins are the chip's lines.

    Args:
        label: The chip's, by which its driver is known.
        names: Those of its lines, in order; empty for one without.
    """
    from gpiozero.compat import frozendict  # noqa: PLC0415 - with the first pin, as the rest of gpiozero
    from gpiozero.pins import BoardInfo, HeaderInfo, PinInfo  # noqa: PLC0415

    taken = {str(number) for number in range(len(names))} | {f"GPIO{number}" for number in range(len(names))}
    pins = {}
    for number, name in enumerate(names):
        own = {number, str(number), f"GPIO{number}"}
        # A name that a line of this chip has already means that one.
        if name and name not in taken:
            own.add(name)
            taken.add(name)
        pins[number + 1] = PinInfo(
            number=number + 1,
            name=f"GPIO{number}",
            names=frozenset(own),
            pull="",
            row=number + 1,
            col=1,
            interfaces=frozenset({"gpio"}),
        )
    header = HeaderInfo(name="LINES", rows=len(names), columns=1, pins=frozendict(pins))
    unknown = dict.fromkeys(BoardInfo._fields)
    return BoardInfo(**{**unknown, "model": label, "headers": frozendict({header.name: header})})


def open_chip(path: str) -> Any:
    """A pin factory of gpiozero for this chip alone.

    Raises:
        DeviceMissing: There is no such chip.
        ImportError: lgpio is not installed.
        lgpio.error: It cannot be opened.
    """
    number = number_of(path)
    import lgpio  # noqa: PLC0415
    from gpiozero.pins.lgpio import LGPIOFactory  # noqa: PLC0415

    factory = LGPIOFactory(number)
    handle = factory._handle  # noqa: SLF001 - it asks for nothing but the chip's number
    _, count, _, label = lgpio.gpio_get_chip_info(handle)
    names = [str(lgpio.gpio_get_line_info(handle, line)[3]) for line in range(count)]
    # gpiozero keeps pins of all factories in one place, where lines of two chips would be taken for each other's.
    factory.pins = {}
    factory._info = selected_board(str(label), names)  # noqa: SLF001 - else it looks for a Raspberry Pi's
    return factory


def close_chip(factory: Any) -> None:
    """Give up a chip that was unplugged; its lines are gone already."""
    import lgpio  # noqa: PLC0415

    handle, factory._handle = factory._handle, None  # noqa: SLF001 - close() would drive the lines that are gone
    with suppress(lgpio.error):
        lgpio.gpiochip_close(handle)


def is_raspberry_pi(factory: Any) -> bool:
    """Whether the chip is one of a Raspberry Pi's own, by its driver."""
    return str(factory.board_info.model).startswith(("pinctrl-bcm", "pinctrl-rp1"))
