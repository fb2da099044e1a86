"""Where a lab's records are kept."""

from jumpstarter_controller.store.sqlite import SqliteStore, StoreError, StoreFullError

__all__ = ["SqliteStore", "StoreError", "StoreFullError"]
