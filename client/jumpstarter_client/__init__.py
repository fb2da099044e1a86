"""Use boards from Python: `with jumpstarter_client.env() as client: client.power.on()`.

Names are imported on first use, because users of the command line wait for every import. Authors of driver clients find
`twin` and `verb` in the modules of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_client.base import DriverClient
    from jumpstarter_client.blocking import BlockingPortal, PortalThread
    from jumpstarter_client.connections.connect import connect, connect_async, env
    from jumpstarter_client.errors import (
        DriverError,
        DriverInvalidArgument,
        DriverMethodNotImplemented,
        ExporterNotReady,
    )
    from jumpstarter_client.tree import open_client

__all__ = [
    "BlockingPortal",
    "DriverClient",
    "DriverError",
    "DriverInvalidArgument",
    "DriverMethodNotImplemented",
    "ExporterNotReady",
    "PortalThread",
    "connect",
    "connect_async",
    "env",
    "open_client",
]

_HOMES = {
    "BlockingPortal": "blocking",
    "DriverClient": "base",
    "DriverError": "errors",
    "DriverInvalidArgument": "errors",
    "DriverMethodNotImplemented": "errors",
    "ExporterNotReady": "errors",
    "PortalThread": "blocking",
    "connect": "connections.connect",
    "connect_async": "connections.connect",
    "env": "connections.connect",
    "open_client": "tree",
}


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415 - this module must stay free to import

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
