"""What the replicas of a lab share in a Kubernetes cluster. Importing this loads the package `kubernetes`."""

from jumpstarter_controller.replicas.kubernetes.leader_lock import LeaderLock
from jumpstarter_controller.replicas.kubernetes.replica_leases import ReplicaLeases
from jumpstarter_controller.replicas.kubernetes.shared_secret import KubernetesSecret

__all__ = ["KubernetesSecret", "LeaderLock", "ReplicaLeases"]
