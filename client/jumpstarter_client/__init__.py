"""Use boards from Python: `with jumpstarter_client.env() as client: client.power.on()`.

Names are loaded when they are first used, because a command line waits for every import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumpstarter_client.base import DriverClient
    from jumpstarter_client.blocking import Bridge, Portal
    from jumpstarter_client.connect import connect, connect_async, env
    from jumpstarter_client.errors import (
        DriverError,
        DriverInvalidArgument,
        DriverMethodNotImplemented,
        ExporterNotReady,
    )
    from jumpstarter_client.tree import open_client
    from jumpstarter_client.twin import twin, twin_context, twin_iter
    from jumpstarter_client.verb import verb

__all__ = [
    "Bridge",
    "DriverClient",
    "DriverError",
    "DriverInvalidArgument",
    "DriverMethodNotImplemented",
    "ExporterNotReady",
    "Portal",
    "connect",
    "connect_async",
    "env",
    "open_client",
    "twin",
    "twin_context",
    "twin_iter",
    "verb",
]

_HOMES = {
    "Bridge": "blocking",
    "DriverClient": "base",
    "DriverError": "errors",
    "DriverInvalidArgument": "errors",
    "DriverMethodNotImplemented": "errors",
    "ExporterNotReady": "errors",
    "Portal": "blocking",
    "connect": "connect",
    "connect_async": "connect",
    "env": "connect",
    "open_client": "tree",
    "twin": "twin",
    "twin_context": "twin",
    "twin_iter": "twin",
    "verb": "verb",
}


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415 - this module must stay free to import

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # `connect` is a function inside a module of the same name; the function is what users mean.
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
