"""The store of a lab in a Kubernetes cluster. Importing this loads the package `kubernetes`, which is large."""

from jumpstarter_controller.store.kubernetes.api import Api, connect
from jumpstarter_controller.store.kubernetes.events import EventRecorder
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

__all__ = [
    "Api",
    "EventRecorder",
    "KubernetesStore",
    "connect",
]
