"""Where a lab is kept: what a store has to be, and those that are."""

from jumpstarter_controller.store.contract import (
    Change,
    Conflict,
    DamagedError,
    Event,
    Half,
    Snapshot,
    Store,
    Stored,
    StoreError,
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
    "Event",
    "Half",
    "MemoryStore",
    "Snapshot",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreFullError",
    "Stored",
    "TooOldError",
    "Unknown",
    "Written",
]
