"""Driver streams for other programs: local ports, local sockets and pexpect sessions.

The `…Adapter` ones are context managers for plain code, with the names of Jumpstarter; the others are for trio tasks.
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
