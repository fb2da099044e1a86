"""Opens the store of a lab: the file in its folder, or the objects of a namespace."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jumpstarter_controller.process.data_folder import DataError, DataFolder, KubernetesLab
from jumpstarter_controller.replicas import Lock, ReplicaRecords, SharedSecret
from jumpstarter_controller.store.contract import Store
from jumpstarter_controller.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from jumpstarter_controller.store.kubernetes import KubernetesStore

__all__ = ["Shared", "open_kubernetes", "open_store"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What the controllers of a lab share, besides its records."""

    lock: Lock
    secret: SharedSecret
    replicas: ReplicaRecords
    url: str
    """URL of the API server."""


def open_store(folder: DataFolder, lab: KubernetesLab | None) -> tuple[Store, Shared | None]:
    """Open the store. The second value is None if the lab can have only one controller.

    Raises:
        DataError: what it needs is not installed; or the folder's lab is in Kubernetes.
        StoreError: it cannot be used; says why.
    """
    if lab is None:
        if folder.is_in_kubernetes and not folder.database.exists():
            raise DataError(
                f"the records of the lab of {folder.path} are in Kubernetes; start with --store kubernetes, or get "
                "them with admin import first"
            )
        # The database is created before the keys: where they are, it was.
        return SqliteStore(folder.database, create=not folder.has_keys), None
    if folder.database.exists():
        _log.warning("%s is not used: the records of this lab are in Kubernetes", folder.database)
    return open_kubernetes(lab)


def open_kubernetes(lab: KubernetesLab) -> tuple[KubernetesStore, Shared]:
    """Open the store of a lab in Kubernetes. Raises as `open_store`."""
    try:
        # Only for who asks for it: it is large.
        from jumpstarter_controller.replicas.kubernetes import (  # noqa: PLC0415
            KubernetesSecret,
            LeaderLock,
            ReplicaLeases,
        )
        from jumpstarter_controller.store.kubernetes import (  # noqa: PLC0415
            EventRecorder,
            KubernetesStore,
            connect,
        )
    except ModuleNotFoundError as error:
        raise DataError(
            f"a lab in Kubernetes needs the package {error.name}; install jumpstarter-sbc[controller,kubernetes]"
        ) from None
    api = connect(Path(lab.kubeconfig) if lab.kubeconfig else None)
    namespace = lab.namespace or api.namespace
    store = KubernetesStore(api, namespace, events=EventRecorder(api, namespace))
    store.expect_no_answer()
    return store, Shared(
        LeaderLock(api, namespace), KubernetesSecret(api, namespace), ReplicaLeases(api, namespace), api.host
    )
