"""Several controllers of one lab: leader election, liveness, and shared keys."""

from jumpstarter_controller.replicas.election import Election, LeaderRecord
from jumpstarter_controller.replicas.leadership import Leadership, Lock
from jumpstarter_controller.replicas.members import ANNOUNCE_SECONDS, LIFETIME_SECONDS, Members, ReplicaRecord
from jumpstarter_controller.replicas.registry import Registry, ReplicaRecords
from jumpstarter_controller.replicas.shared_files import SharedSecret, share_files
from jumpstarter_controller.replicas.shared_files_watch import SharedFilesWatch

__all__ = [
    "ANNOUNCE_SECONDS",
    "LIFETIME_SECONDS",
    "Election",
    "LeaderRecord",
    "Leadership",
    "Lock",
    "Members",
    "Registry",
    "ReplicaRecord",
    "ReplicaRecords",
    "SharedFilesWatch",
    "SharedSecret",
    "share_files",
]
