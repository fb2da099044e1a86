"""Driver streams in the shapes that other programs want: local ports, local sockets, pexpect sessions.

Each is a context manager for plain code, named as in Jumpstarter; its `aio` form is for trio tasks.
"""

from jumpstarter_client.adapters.portforward import TcpPortforwardAdapter, UnixPortforwardAdapter
from jumpstarter_client.adapters.spawn import PexpectAdapter

__all__ = ["PexpectAdapter", "TcpPortforwardAdapter", "UnixPortforwardAdapter"]
