"""All devices of the host, by board and path: one inventory for a process, of which sessions see a part.

No I/O. Methods that only read may be called from any thread. Each change of the devices or of a device state creates a
new revision; see `devices.changes` for subscriptions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from uuid import UUID, uuid4

import trio
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.process import DescriptorStore

from jumpstarter_exporter.devices.layout import TreeLine, layout
from jumpstarter_exporter.devices.opening import Closings
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.spec import Spec, adopt, walk
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.threads import BoardThreads

__all__ = ["BoardDevices", "Inventory", "RevisionCounter"]

_NONE: Mapping[str, UUID] = {}


class RevisionCounter:
    """A number that increases with each change, and its watchers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._revision = 0
        self._watchers: list[Callable[[int], None]] = []

    @property
    def revision(self) -> int:
        """The number of the newest change."""
        return self._revision

    def watch(self, watcher: Callable[[int], None]) -> Callable[[], None]:
        """Call `watcher` with each new revision, in the thread that made the change, until the result is called."""
        with self._lock:
            self._watchers.append(watcher)

        def stop() -> None:
            with self._lock, suppress(ValueError):
                self._watchers.remove(watcher)

        return stop

    def _change(self) -> None:
        with self._lock:
            self._revision += 1
            revision, watchers = self._revision, tuple(self._watchers)
        for watcher in watchers:
            watcher(revision)


class BoardDevices(RevisionCounter):
    """The devices of one board: a tree of slots. `changed` is called with each change.

    Raises:
        TreeError: a `ref` leads nowhere, or two devices have one UUID.
    """

    def __init__(
        self,
        name: str,
        spec: Spec,
        uuids: Mapping[str, UUID] = _NONE,
        *,
        changed: Callable[[], None] = lambda: None,
        root: Driver | None = None,
        threads: BoardThreads | None = None,
        closings: Closings | None = None,
        descriptors: DescriptorStore | None = None,
    ) -> None:
        """Devices that are not in `uuids` get a new UUID.

        `closings` and `descriptors` are those of all boards. `root` are driver objects that were made by hand.
        """
        super().__init__()
        self.name = name
        self._threads = BoardThreads() if threads is None else threads
        self._closings = Closings() if closings is None else closings
        self._descriptors = DescriptorStore() if descriptors is None else descriptors
        self.slots: dict[str, Slot] = {}
        """By path, parents before their children."""
        self.lines: list[TreeLine] = []
        """In the order of a report, with each `ref` resolved."""
        self.arranged: list[Callable[[], None]] = []
        """Called in the trio loop when devices were replaced, before watchers are."""
        self.is_discovered = False
        """Whether its devices come and go; such a board does not exist while it has none."""
        self._changed = changed
        self._root = root
        self.looking = trio.CapacityLimiter(1)
        """For the thread that looks at devices without opening them; see `look`."""
        self._nursery: trio.Nursery | None = None
        self._context: Context | None = None
        self._arrange(spec, uuids)

    @classmethod
    def of(cls, root: Driver) -> BoardDevices:
        """The devices of driver objects that were created by hand, for one session of these objects."""
        return cls("", adopt(root), root=root)

    @property
    def spec(self) -> Spec:
        """Its specification."""
        return self.slots[""].spec

    def make(self) -> Driver:
        """The root of new driver objects for a session, or of those that were created by hand."""
        return self.spec.make() if self._root is None else self._root

    def slot(self, path: str, driver: Driver) -> Slot:
        """The device at that path. A part that its parent's driver has created only now is added."""
        found = self.slots.get(path)
        if found is None:
            found = self._slot(path, adopt(driver), driver.uuid, _parent(path, self.slots), driver)
            found.make_core(driver)
            self._attach(found)
            self.slots = {**self.slots, path: found}
            self._change()
        return found

    def replace(self, spec: Spec, uuids: Mapping[str, UUID] = _NONE) -> None:
        """Replace the board's devices. A device that is still at its path stays the same, with its UUID.

        Where `uuids` has another one, it is another device.

        The cores of devices that change are closed, soon. To be called in the trio loop in which they live, if they
        do.

        Raises:
            TreeError: see there; nothing has changed.
        """
        if self._root is not None:
            raise JumpstarterUsageError("devices that were made by hand cannot be replaced")
        self._arrange(spec, uuids)
        for listener in tuple(self.arranged):
            listener()
        self._change()

    def _arrange(self, spec: Spec, uuids: Mapping[str, UUID]) -> None:
        lines = layout(spec)
        slots: dict[str, Slot] = {}
        before = self.slots
        drivers = {} if self._root is None else _by_path(self._root)
        for path, each in walk(spec):
            old = before.get(path)
            if old is not None and old.spec.same_as(each) and uuids.get(path, old.uuid) == old.uuid:
                old.spec = each
                old.parent = _parent(path, slots)
                slots[path] = old
                continue
            driver = drivers.get(path)
            uuid = uuids.get(path) or (old.uuid if old else driver.uuid if driver else uuid4())
            uuid = each.values.get("uuid") or uuid
            slot = slots[path] = self._slot(path, each, uuid, _parent(path, slots), driver)
            slot.is_kept = path in uuids or ("uuid" in each.values and driver is None)
            slot.make_core(driver)
        self.slots, self.lines = slots, lines  # at once, as threads may read them
        for slot in slots.values():
            self._attach(slot)
        gone = [slot for path, slot in before.items() if slots.get(path) is not slot]
        for slot in reversed(gone):
            if slot.core is not None and self._nursery is not None:
                slot.core.opening.retire(self._nursery)

    def attach(self, nursery: trio.Nursery | None, context: Context | None = None) -> None:
        """Allow or forbid opening cores: in this nursery, with this context for their code; see `cores.living`."""
        self._nursery, self._context = nursery, context
        for slot in self.slots.values():
            self._attach(slot)

    def _attach(self, slot: Slot) -> None:
        if slot.core is not None:
            slot.core.opening.attach(self._nursery, self._context)

    def _slot(self, path: str, spec: Spec, uuid: UUID, parent: Slot | None, driver: Driver | None) -> Slot:
        slot = Slot(
            path,
            spec,
            uuid,
            parent=parent,
            threads=self._threads,
            closings=self._closings,
            descriptors=self._descriptors,
            board=self.name,
            driver=driver,
        )
        slot.lifecycle.watch(lambda *_: self._change() if self.slots.get(slot.path) is slot else None)
        return slot

    def _change(self) -> None:
        super()._change()
        self._changed()


class Inventory(RevisionCounter):
    """Boards by name, and a revision that increases with each change. Only the exporter's trio loop changes it.

    Neither drivers' code nor watchers are called with its lock held: a device that changes its state in another thread
    has the lock of that state, and wants this one then.
    """

    def __init__(self, descriptors: DescriptorStore | None = None) -> None:
        """`descriptors` keeps ports over a restart of the process; without it, none are kept."""
        super().__init__()
        self.closings = Closings()
        """For the devices of all boards, as hardware can move from one to another."""
        self._descriptors = DescriptorStore() if descriptors is None else descriptors
        self._boards: dict[str, BoardDevices] = {}
        self._threads: dict[str, BoardThreads] = {}
        """By the board's name: threads that never returned are counted for the next board of that name."""

    @property
    def boards(self) -> Mapping[str, BoardDevices]:
        """All current boards, by name."""
        with self._lock:
            return dict(self._boards)

    def add(self, name: str, spec: Spec, uuids: Mapping[str, UUID] = _NONE) -> BoardDevices:
        """Add a board.

        Raises:
            JumpstarterUsageError: there is one of that name.
            TreeError: see `BoardDevices`; nothing has changed.
        """
        with self._lock:
            if name in self._boards:
                raise JumpstarterUsageError(f"there is a board {name!r} already")
            threads = self._threads.setdefault(name, BoardThreads())

        def changed() -> None:
            if self._boards.get(name) is board:
                self._change()

        board = BoardDevices(
            name,
            spec,
            uuids,
            changed=changed,
            threads=threads,
            closings=self.closings,
            descriptors=self._descriptors,
        )
        with self._lock:
            self._boards[name] = board
        self._change()
        return board

    def remove(self, name: str) -> None:
        """Remove a board; its watchers get no more changes. KeyError if there is none."""
        with self._lock:
            del self._boards[name]
            if not self._threads[name].held:
                del self._threads[name]
        self._change()

    def replace(self, name: str, spec: Spec, uuids: Mapping[str, UUID] = _NONE) -> None:
        """Replace a board's devices; see `BoardDevices.replace`. KeyError if there is no such board."""
        with self._lock:
            board = self._boards[name]
        board.replace(spec, uuids)


def _parent(path: str, slots: Mapping[str, Slot]) -> Slot | None:
    return slots.get(path.rpartition(".")[0]) if path else None


def _by_path(root: Driver) -> dict[str, Driver]:
    found: dict[str, Driver] = {}

    def below(driver: Driver, path: str) -> None:
        found[path] = driver
        for name, child in driver.children.items():
            below(child, f"{path}.{name}" if path else name)

    below(root, "")
    return found
