"""A channel that outlives its connections: it connects again for the next call when one broke."""

from jumpstarter_client.lasting.channel import ConnectionLostError, Dial, LastingChannel, open_lasting
from jumpstarter_client.lasting.line import FinalError

__all__ = ["ConnectionLostError", "Dial", "FinalError", "LastingChannel", "open_lasting"]
