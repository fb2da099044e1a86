"""Reads each area of a host in a thread of its own, with a time limit, so that nothing hangs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError
from msgspec.structs import replace

from jumpstarter_exporter.host_health import read_hardware, read_system
from jumpstarter_exporter.host_health.alarm import until_undervoltage
from jumpstarter_exporter.host_health.facts import Account, ExporterFacts, HostFacts, ServiceUnit, Unread
from jumpstarter_exporter.host_health.host_files import HostFiles
from jumpstarter_exporter.host_health.read_services import SYSTEMCTL, read_services
from jumpstarter_exporter.paths import SYSTEM_STATE_FOLDER, state_directory

__all__ = ["HostLook", "host_root"]

AREA_SECONDS = 5.0
"""Time limit for one area; a faulty disk may never answer."""
MAX_THREADS = 8
"""Threads at a time, including those that hang and were abandoned."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


def host_root(environment: Mapping[str, str]) -> Path:
    """The folder with the host's `sys`, `proc`, `etc`, …: `JUMPSTARTER_HOST_ROOT` sets it in a container."""
    return Path(environment.get("JUMPSTARTER_HOST_ROOT") or "/")


class HostLook:
    """Examines a host, any number of times."""

    def __init__(
        self,
        root: Path | None = None,
        *,
        state: Path | None = None,
        systemctl: Sequence[str] = (SYSTEMCTL,),
        seconds: float = AREA_SECONDS,
    ) -> None:
        """`root` has the host's `sys`, `proc`, `etc`, `dev` and `run`; `state` is below it."""
        self._files = HostFiles(host_root(os.environ) if root is None else root)
        self._state = str((state or state_directory(os.environ)).absolute())
        self._systemctl = tuple(systemctl)
        self._seconds = seconds
        self._limiter = trio.CapacityLimiter(MAX_THREADS)

    async def hardware(self, facts: HostFacts | None = None) -> HostFacts:
        """Supply, temperature, disks, memory, clock, USB: some dozens of small files, and no program is started.

        A cancellation leaves threads behind that end by themselves, as do those that take too long.
        """
        files = self._files
        system = str(SYSTEM_STATE_FOLDER)  # the service's, whoever asks
        state = system if files.exists(system) else self._state
        uses = [("/", "the system"), (state, "the exporter's state"), ("/var/log", "logs")]
        areas: dict[str, Callable[[], object]] = {
            "power": partial(read_hardware.read_power, files),
            "temperature": partial(read_hardware.read_temperature, files),
            "storage": partial(read_system.read_storage, files, uses),
            "memory": partial(read_system.read_memory, files),
            "clock": partial(read_system.read_clock, files),
            "usb": partial(read_hardware.read_usb, files),
        }
        return await self._read(facts or HostFacts(), areas)

    async def system(
        self,
        facts: HostFacts,
        nodes: Mapping[str, Sequence[str]],
        gpio_outputs: Sequence[str] = (),
        *,
        is_service: bool = False,
    ) -> HostFacts:
        """The same with units, users' permissions for the nodes, udev's files and other programs.

        The permissions are those of the unit's user, where there is a unit and this `is_service` not by itself.
        """
        services = await read_services(self._files, self._systemctl)
        facts = replace(facts, services=services)
        account = None if is_service else _service_account(services)
        read = (
            partial(read_system.current_account, self._files)
            if account is None
            else partial(read_system.account_named, self._files, account.user, account.supplementary_groups)
        )
        areas: dict[str, Callable[[], object]] = {
            "account": read,
            "udev": partial(read_system.read_udev, self._files),
            "programs": partial(read_system.read_programs, self._files),
            "gpio": partial(read_system.read_gpio, self._files, gpio_outputs),
        }
        facts = await self._read(facts, areas)
        if isinstance(facts.account, Account):
            devices = partial(self._devices, facts.account, nodes)
            facts = await self._read(facts, {"devices": devices})
        return facts

    def _devices(self, account: Account, nodes: Mapping[str, Sequence[str]]) -> object:
        consoles: dict[str, Sequence[str]] = dict.fromkeys(read_system.serial_nodes(self._files), ())
        return read_system.read_devices(self._files, account, _resolved(self._files, consoles | dict(nodes)))

    async def undervoltage(self) -> None:
        """Returns when the kernel reports under-voltage; see `until_undervoltage`."""
        await until_undervoltage(self._files)

    async def host(self) -> HostFacts:
        """Everything, including controllers, the running exporter and the configuration."""
        from jumpstarter_exporter.host_health.reach import exporter_socket, reach_controllers, reach_exporter  # noqa: PLC0415 - the daemon does not use it
        from jumpstarter_exporter.host_health.read_configuration import ConfiguredHost, read_configuration  # noqa: PLC0415 - as above

        facts = await self.hardware()
        configured = await self._one(read_configuration)
        if isinstance(configured, ConfiguredHost):
            facts = replace(facts, configuration=configured.facts)
            facts = await self.system(facts, configured.nodes, configured.gpio_outputs)
            if isinstance(facts.account, Account) and facts.account.is_exporters:
                read = partial(
                    read_system.read_unreadable, self._files, facts.account, configured.facts.files
                )
                facts = await self._read(facts, {"unreadable": read})
            facts = replace(facts, controllers=await reach_controllers(configured.controllers))
        else:
            facts = await self.system(replace(facts, configuration=configured), {})
        if _waits_for_first_call(facts.services):
            return replace(facts, exporter=ExporterFacts(is_running=False))
        return replace(facts, exporter=await reach_exporter(exporter_socket()))

    async def _read(self, facts: HostFacts, areas: Mapping[str, Callable[[], object]]) -> HostFacts:
        found: dict[str, Any] = {}  # each area is read by its own function

        async def one(area: str, read: Callable[[], object]) -> None:
            found[area] = await self._one(read)

        async with trio.open_nursery() as nursery:
            for area, read in areas.items():
                nursery.start_soon(one, area, read)
        return replace(facts, **found)

    async def _one(self, read: Callable[[], T]) -> T | Unread:
        try:
            with trio.fail_after(self._seconds):
                return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            return Unread(f"it took longer than {self._seconds:g} s, as on a disk that does not answer")
        except (OSError, ValueError, JumpstarterError) as error:
            return Unread(_sentence(error))
        except (
            Exception
        ) as error:  # a fault of ours in one area does not affect the others, and ends no board
            _log.exception("a part of this host cannot be looked at")
            return Unread(f"it failed here: {type(error).__name__}: {error}")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _resolved(files: HostFiles, nodes: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The nodes themselves instead of links to them."""
    found: dict[str, list[str]] = {}
    root = os.path.realpath(files.root)
    for node, boards in nodes.items():
        real = os.path.realpath(files.path(node)).removeprefix(root.rstrip("/"))
        found.setdefault(real, []).extend(boards)
    return found


def _service_account(services: tuple[ServiceUnit, ...] | Unread) -> ServiceUnit | None:
    """The unit whose user uses the boards; None for the caller."""
    if isinstance(services, Unread):
        return None
    units = (one for one in services if one.name == "jumpstarter-exporter.service")
    unit = next(units, None)
    return unit if unit is not None and unit.load == "loaded" and unit.user else None


def _waits_for_first_call(services: tuple[ServiceUnit, ...] | Unread | None) -> bool:
    """Whether a connection would start the exporter."""
    if not isinstance(services, tuple):
        return False
    active = {one.name: one.active for one in services}
    return (
        active.get("jumpstarter-exporter.socket") == "active"
        and active.get("jumpstarter-exporter.service") == "inactive"
    )
