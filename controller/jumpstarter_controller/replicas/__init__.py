"""Several controllers of one lab: which of them leads, and what they have in common."""

from jumpstarter_controller.replicas.election import Claim, Election
from jumpstarter_controller.replicas.leadership import Leadership, Lock
from jumpstarter_controller.replicas.shared_files import SharedSecret, share_files

__all__ = ["Claim", "Election", "Leadership", "Lock", "SharedSecret", "share_files"]
