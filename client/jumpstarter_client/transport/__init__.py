"""A channel that outlives its connections: after a connection broke, the next call makes a new one."""

from jumpstarter_client.transport.connection_state import FinalError
from jumpstarter_client.transport.reconnect import (
    ConnectionLostError,
    Dial,
    ReconnectingChannel,
    open_reconnecting,
)

__all__ = ["ConnectionLostError", "Dial", "FinalError", "ReconnectingChannel", "open_reconnecting"]
