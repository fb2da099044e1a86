"""The boards of discovered devices: kept as what is plugged into the host, and as `boards.yaml`, says.

Devices that come and go change the boards' slots in the running process. What belongs to which board changes when
nobody uses the boards that it touches; what a configuration names is no discovered device.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.yaml_files import ConfigError, Document

from jumpstarter_exporter.boards.grouping import (
    Assignment,
    DiscoveredBoard,
    GroupingRules,
    Unassigned,
    board_name,
    group_devices,
    host_name,
)
from jumpstarter_exporter.config.boards_file import read_boards
from jumpstarter_exporter.config.folder import BoardFile, discovered_file
from jumpstarter_exporter.config.identities import CachedIdentities, with_identity
from jumpstarter_exporter.config.model import ExporterConfig, Metadata, TopLevel
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.devices.layout import TreeError
from jumpstarter_exporter.devices.udev_database import UdevError
from jumpstarter_exporter.devices.udev_device import DeviceTree
from jumpstarter_exporter.devices.udev_monitor import watch_devices
from jumpstarter_exporter.paths import state_directory
from jumpstarter_exporter.serve.discovered_devices import DeviceTreeContent, DiscoveredDevice, tree_of
from jumpstarter_exporter.serve.survey import Survey, Surveyor

__all__ = ["BoardHolder", "Discovery", "Trees", "plugged_devices"]

MOVING = "devices of it are to belong to another board, or others to it"
_log = logging.getLogger(__name__)

Trees = Callable[[], AbstractAsyncContextManager[AsyncIterator[DeviceTree]]]
"""The host's devices: a tree at once, and another after each change. Raises UdevError."""


@asynccontextmanager
async def plugged_devices() -> AsyncIterator[AsyncIterator[DeviceTree]]:
    """This host's devices. UdevError if they cannot be read."""
    async with watch_devices(trio.CapacityLimiter(2)) as watch:
        with subscribed(watch) as changes:

            async def trees() -> AsyncGenerator[DeviceTree, None]:
                async for _ in changes:
                    yield watch.tree

            async with aclosing(trees()) as following:
                yield following


class BoardHolder(Protocol):
    """The owner of the boards."""

    @property
    def users(self) -> Mapping[str, str]:
        """For each board the user that a change must wait for; empty if there is none."""

    def show_discovered(self, files: Mapping[str, BoardFile], waiting: Mapping[str, str]) -> None:
        """Set the discovered boards. No new user may use the `waiting` ones, for the reasons given."""


@dataclass(eq=False)
class _Content:
    """The devices of one board; see `config.model.DiscoveredContent`."""

    name: str
    host: str
    tree: DeviceTreeContent
    labels: Mapping[str, str] = field(default_factory=dict)
    made: BoardDevices | None = None
    """What was made of it, or follows it."""

    def add_to(self, inventory: Inventory) -> BoardDevices:
        devices = inventory.add(self.name, self.tree.spec, self.tree.uuids)
        devices.is_discovered = True
        self.made = devices
        self.show_presence(devices)
        return devices

    def replace_in(self, inventory: Inventory, tree: DeviceTreeContent) -> None:
        """Replace its devices. TreeError, without a change, if they are invalid."""
        devices = inventory.boards.get(self.name)
        if devices is not None and devices.is_discovered:
            # A board that is just ending may have been made of other devices.
            if devices is not self.made or not tree.same_as(self.tree):
                devices.replace(tree.spec, tree.uuids)
                self.made = devices
            self.tree = tree
            self.show_presence(devices)
        self.tree = tree

    def show_presence(self, devices: BoardDevices) -> None:
        """Update which of its devices are missing."""
        for path, missing in self.tree.missing.items():
            slot = devices.slots[path]
            if missing:
                slot.unplugged(missing, names_may_lead_elsewhere=True)
            else:
                slot.plugged()


class Discovery:
    """Discovery of one host. `begin` creates the first boards; then `run` it."""

    def __init__(self, trees: Trees, *, directory: Path | None = None, host: str | None = None) -> None:
        """`directory` is the state directory; `host` is the host's name, by default the system's."""
        self.host = host_name(socket.gethostname() if host is None else host)
        self.unassigned: list[Unassigned] = []
        """Devices that belong to no board."""
        self.unmatched: tuple[str, ...] = ()
        """Nodes without a profile."""
        self.error: ConfigError | None = None
        """Errors of `boards.yaml`."""
        self._trees = trees
        self._directory = state_directory(os.environ) if directory is None else directory
        self._surveyor = Surveyor(self._directory)
        self._identities = CachedIdentities()
        self._configs: Mapping[str, ExporterConfig | ConfigError] = {}
        """Each board's file with its identity, or its error; read in a thread."""
        self._limiter = trio.CapacityLimiter(1)
        self._looking = trio.Lock()
        self._rules: GroupingRules | None = None
        self._configured: Mapping[str, BoardFile] = {}
        self._tree: DeviceTree | None = None
        self._devices: dict[str, DiscoveredDevice] = {}
        """By key."""
        self._boards: dict[str, DiscoveredBoard] = {}
        """As they should be."""
        self._groups: Mapping[str, UUID] = {}
        self._assignment = Assignment()
        self._held: dict[str, DiscoveredDevice] = {}
        """The devices that boards have now; one that is no longer offered stays while its board is used."""
        self._contents: dict[str, _Content] = {}
        """The current boards, by name."""
        self._files: dict[str, BoardFile] = {}
        self._holder: BoardHolder | None = None
        self._inventory = Inventory()
        self._freed = AutoResetEvent()
        self._profile_errors: tuple[ConfigError, ...] = ()
        self._said: set[str] = set()

    @property
    def boards(self) -> list[DiscoveredBoard]:
        """The boards as they should be, ordered by name: for their registration."""
        return [self._boards[name] for name in sorted(self._boards)]

    @property
    def problems(self) -> list[str]:
        """Errors, and devices that are not offered, for people."""
        return [*([] if self.error is None else [str(self.error)]), *sorted(self._said)]

    @property
    def known_names(self) -> set[str]:
        """The names of all remembered devices, present or missing."""
        return {one.path for one in self._surveyor.devices.known.devices}

    @property
    def files(self) -> Mapping[str, BoardFile]:
        """The boards for `Boards`."""
        return self._files

    async def run(
        self,
        holder: BoardHolder,
        inventory: Inventory,
        configured: Mapping[str, BoardFile],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep the holder's boards true, until cancelled. It has started when it has looked once.

        Raises:
            UdevError: the devices of this host cannot be read.
        """
        self._inventory, self._configured = inventory, configured
        await trio.to_thread.run_sync(self._read_rules, limiter=self._limiter)
        async with self._trees() as trees, trio.open_nursery() as nursery:
            await self._look(await anext(trees))
            if self._tree is None:
                raise UdevError("the devices of this host cannot be discovered; see the log above")
            self._holder = holder
            task_status.started()
            nursery.start_soon(self._go_on_when_free)
            try:
                async for tree in trees:
                    await self._look(tree)
            except UdevError as error:
                _log.error("changes of devices are no longer noticed: %s", error)

    async def reload(self, configured: Mapping[str, BoardFile]) -> Sequence[ConfigError]:
        """Read profiles and `boards.yaml` again; `configured` are the boards of files now. What is wrong with them."""
        async with self._looking:
            self._configured = configured
            self._surveyor.reload()
            await trio.to_thread.run_sync(self._read_rules, limiter=self._limiter)
        if self._tree is not None:
            await self._look(self._tree)
        return [*([] if self.error is None else [self.error]), *self._profile_errors]

    async def forget(self, name: str) -> bool:
        """Forget a missing device; False if it is not missing, or if no device has that name."""
        async with self._looking:
            is_forgotten = await trio.to_thread.run_sync(self._surveyor.forget, name, limiter=self._limiter)
        if is_forgotten and self._tree is not None:
            await self._look(self._tree)
        return is_forgotten

    def free(self) -> None:
        """A waiting board is free."""
        self._freed.set()

    async def _go_on_when_free(self) -> None:
        while True:
            await self._freed.wait()
            async with self._looking:
                await self._try_apply()

    def _read_rules(self) -> None:
        """For an invalid file the previous rules stay in effect; at the start no board has devices then."""
        try:
            self._rules, self.error = read_boards(self.host), None
        except ConfigError as error:
            if self.error is None or str(error) != str(self.error):
                _log.error("%s", error)
            if self._tree is None:
                self._rules = GroupingRules()
            self.error = error

    async def _look(self, tree: DeviceTree) -> None:
        async with self._looking:
            nodes = {node for one in self._configured.values() for node in one.nodes}
            try:
                survey = await trio.to_thread.run_sync(
                    self._surveyor.survey, tree, nodes, limiter=self._limiter
                )
            except JumpstarterError as error:
                if self._tree is None:
                    raise
                _log.error("%s", error)
                return
            except Exception:  # a fault of ours, or of a driver's module, ends no board of the host
                _log.exception("inspecting the plugged devices failed")
                return
            self._tree = tree
            self._devices = {one.device.key: one for one in survey.devices}
            self._groups = self._surveyor.devices.known.groups
            self.unmatched = survey.unmatched
            self._say(survey)
            await self._try_apply()

    def _say(self, survey: Survey) -> None:
        """Log what is new, once."""
        self._profile_errors = survey.errors
        said = {f"{error}" for error in survey.errors}
        for text in sorted(said - self._said):
            _log.error("%s", text)
        hints = {
            f"{node} is not offered: no profile matches it; `jumpstarter-exporter suggest {node}` writes one"
            for node in survey.unmatched
        }
        for text in sorted(hints - self._said):
            _log.warning("%s", text)
        self._said = said | hints

    async def _try_apply(self) -> None:
        try:
            names = {*self._group()[0], *self._assignment.boards, *self._contents}
            self._configs = await trio.to_thread.run_sync(self._read_configs, names, limiter=self._limiter)
            self._apply()
        except Exception:  # a fault of ours: the boards stay unchanged until the next change
            _log.exception("grouping the plugged devices into boards failed")

    def _group(self) -> tuple[dict[str, DiscoveredBoard], list[Unassigned]]:
        """The boards if nobody used any."""
        # Beside a configuration that is named like the host.
        only = f"{self.host}-discovered" if self.host in self._configured else self.host
        devices = [one.device for one in self._devices.values()]
        return group_devices(self.host, self._rules, devices, only=only)

    def _apply(self) -> None:
        """Change the boards to what they should be, as far as their users permit."""
        held = self._held | self._devices
        configured = self._configured
        self._boards, self.unassigned = self._group()
        for name in [name for name in self._boards if name in configured]:
            reason = f"the configuration {configured[name].path} has the name of its board, {name}; rename one of them"
            self.unassigned += [Unassigned(one, reason) for one in self._boards.pop(name).devices]
        wanted = {one.key: name for name, board in self._boards.items() for one in board.devices}
        users = {} if self._holder is None else self._holder.users
        now = self._assignment.update(wanted, {name for name, user in users.items() if user})
        self._held = {key: held[key] for key in now}
        served = {name for name in self._boards if name not in configured}
        served |= {name for name in now.values() if name not in configured}
        if configured and self._rules is None and not now:
            served = set()  # the host's board exists without devices only if there is no other
        for name in list(self._contents):
            if name not in served:
                del self._contents[name]
        for name in sorted(served):
            members = [held[key] for key, board in now.items() if board == name]
            members.sort(key=lambda one: one.device.path)
            tree = tree_of(members, self._groups)
            content = self._contents.setdefault(name, _Content(name, self.host, tree))
            board = self._boards.get(name)
            content.labels = {} if board is None else board.labels
            try:
                content.replace_in(self._inventory, tree)
            except TreeError as error:
                _log.error("the board %s was not changed: %s", name, error)
        self._files = {name: self._file(self._contents[name]) for name in sorted(served)}
        self._files |= self._empty_boards(served)
        if self._holder is not None:
            self._holder.show_discovered(self._files, dict.fromkeys(self._assignment.waiting, MOVING))

    def _empty_boards(self, served: set[str]) -> dict[str, BoardFile]:
        """Boards of `boards.yaml` without devices, or with a name that is taken: each is an error."""
        found = {}
        for rule in () if self._rules is None else self._rules.boards:
            name = board_name(self.host, rule.name)
            if name in served or name in self._configured:
                continue
            place = discovered_file(self._directory, name)
            is_claimed = any(name in one.claims for one in self.unassigned)
            why = (
                "another board in there claims what it has"
                if is_claimed
                else "nothing of it was ever plugged in"
            )
            error = ConfigError(why, file=Path("boards.yaml"))
            found[name] = BoardFile(name, place, "", None, error, is_discovered=True, is_empty=True)
        return found

    def _read_configs(self, names: Iterable[str]) -> Mapping[str, ExporterConfig | ConfigError]:
        """Blocking, for more than a millisecond for each board whose identity has changed."""
        found: dict[str, ExporterConfig | ConfigError] = {}
        for name in names:
            place = discovered_file(self._directory, name)
            config = ExporterConfig(
                place,
                TopLevel(metadata=Metadata(name=name)),
                {},
                Document(place, "export", b"{}"),
                discovered=_Content(name, self.host, tree_of([], {})),
            )
            try:
                found[name] = with_identity(config, self._identities)
            except ConfigError as error:
                found[name] = error
        return found

    def _file(self, content: _Content) -> BoardFile:
        config, place = self._configs[content.name], discovered_file(self._directory, content.name)
        if isinstance(config, ConfigError):
            return BoardFile(content.name, place, "", None, config, is_discovered=True)
        return BoardFile(content.name, place, "", replace(config, discovered=content), is_discovered=True)
