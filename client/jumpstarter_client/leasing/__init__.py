"""Boards of a controller: who we are to it, the lease, and the way to the board."""

from jumpstarter_client.leasing.wanted import Wanted

__all__ = ["Wanted"]
