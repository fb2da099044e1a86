"""Driver streams in the shapes that other programs want: local ports, local sockets, pexpect sessions.

The `…Adapter` ones are context managers for plain code, named as in Jumpstarter; the others are for trio tasks.
"""

from jumpstarter_client.adapters.portforward import (
    TcpPortforwardAdapter,
    UnixPortforwardAdapter,
    tcp_portforward,
    unix_portforward,
)
from jumpstarter_client.adapters.spawn import PexpectAdapter, socket_adapter

__all__ = [
    "PexpectAdapter",
    "TcpPortforwardAdapter",
    "UnixPortforwardAdapter",
    "socket_adapter",
    "tcp_portforward",
    "unix_portforward",
]
