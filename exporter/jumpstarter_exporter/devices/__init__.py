"""The devices of the host: what there is to know of them without a session, and what of them outlives one.

`spec` is what a board consists of, `layout` its devices in the order of a report, `state` what one device is.
Names are loaded when they are first used: drivers need `state`, and `spec` needs drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_exporter.devices.spec import Origin, Spec

__all__ = ["Origin", "Spec"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jumpstarter_exporter.devices import spec  # noqa: PLC0415 - see above

    value: object = getattr(spec, name)
    globals()[name] = value
    return value
