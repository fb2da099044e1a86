"""Where a lab is kept: what a store has to be, and those that are."""

from jumpstarter_controller.store.contract import (
    Change,
    Conflict,
    DamagedError,
    Half,
    Snapshot,
    Store,
    Stored,
    StoreError,
    StoreEvent,
    StoreFullError,
    TooOldError,
    Unknown,
    Written,
)
from jumpstarter_controller.store.memory import MemoryStore
from jumpstarter_controller.store.sqlite import SqliteStore

__all__ = [
    "Change",
    "Conflict",
    "DamagedError",
    "Half",
    "MemoryStore",
    "Snapshot",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreEvent",
    "StoreFullError",
    "Stored",
    "TooOldError",
    "Unknown",
    "Written",
]
