"""Use boards from Python: `with jumpstarter_client.env() as client: client.power.on()`.

Names are imported on first use, because users of the command line wait for every import. Authors of driver clients find
`twin` and `verb` in the modules of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jumpstarter_proto.lazy_names import lazy_names

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

__getattr__ = lazy_names(
    __name__,
    {
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
    },
)
