"""Opens the store of a lab: the file in its folder, or the objects of a namespace."""

from __future__ import annotations

import logging
from pathlib import Path

from jumpstarter_controller.folder import DataError, DataFolder, KubernetesLab
from jumpstarter_controller.store.contract import Store
from jumpstarter_controller.store.sqlite import SqliteStore

__all__ = ["open_store"]

_log = logging.getLogger(__name__)


def open_store(folder: DataFolder, lab: KubernetesLab | None) -> Store:
    """The store in which the records are.

    Raises:
        DataError: what it needs is not installed.
        StoreError: it cannot be used; says why.
    """
    if lab is None:
        return SqliteStore(folder.database)
    try:
        # Only for who asks for it: it is large.
        from jumpstarter_controller.store.kubernetes import (  # noqa: PLC0415
            EventRecorder,
            KubernetesStore,
            connect,
        )
    except ModuleNotFoundError as error:
        raise DataError(
            f"a lab in Kubernetes needs the package {error.name}; install jumpstarter-sbc[controller,kubernetes]"
        ) from None
    if folder.database.exists():
        _log.warning("%s is not used: the records of this lab are in Kubernetes", folder.database)
    api = connect(Path(lab.kubeconfig) if lab.kubeconfig else None)
    namespace = lab.namespace or api.namespace
    store = KubernetesStore(api, namespace, events=EventRecorder(api, namespace))
    store.expect_no_answer()
    return store
