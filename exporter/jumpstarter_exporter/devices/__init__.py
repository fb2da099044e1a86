"""The devices of the host, which outlive every session: their specifications, slots and hardware.

Names are loaded when they are first used, so that a driver that uses one module of this room does not load all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_exporter.devices.spec import Spec, SpecOrigin

__all__ = ["Spec", "SpecOrigin"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jumpstarter_exporter.devices import spec  # noqa: PLC0415 - see above

    value: object = getattr(spec, name)
    globals()[name] = value
    return value
