"""The base of every driver, and all that a driver's author needs from the exporter.

A driver is a keyword-only dataclass whose fields are the `config:` keys of the exporter's YAML. It opens its
hardware in `open`, releases it in `close`, and offers methods marked with `@export` and `@export_stream`.
"""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import trio
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.value import JSON

from jumpstarter_exporter.decorators import export, export_stream
from jumpstarter_exporter.device_state import Lifecycle, State
from jumpstarter_exporter.errors import DeviceBusy, DeviceError, DeviceFailed, DeviceMissing, ResourceError
from jumpstarter_exporter.grpc_interface import GrpcInterface
from jumpstarter_exporter.isolation import in_thread, run_plain_methods_in_threads
from jumpstarter_exporter.resources import Resources, Sink, Source
from jumpstarter_exporter.threads import DeviceThreads
from jumpstarter_exporter.visibility import sees_since

if TYPE_CHECKING:
    from jumpstarter_exporter.devices import Spec

__all__ = [
    "DeviceBusy",
    "DeviceError",
    "DeviceFailed",
    "DeviceMissing",
    "Driver",
    "GrpcInterface",
    "ResourceError",
    "Sink",
    "Source",
    "State",
    "export",
    "export_stream",
]

T = TypeVar("T")


@dataclass(kw_only=True, eq=False)
class Driver(ABC):
    """One device, or one function of a device.

    A subclass says in its docstring what `close` does to the board. Calls to one driver are not serialised:
    streams live long, so a driver locks where its hardware needs it, or takes the device with `exclusive`.
    """

    client: ClassVar[str]
    """Import path of the client class, as Jumpstarter 0.9 knows it."""
    interface: ClassVar[str] = ""
    """The word after `jumpstarter` on the command line: power, serial, network, storage..."""
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = ()
    """The gRPC services by which programs drive it, beside DriverCall; the first is the one that reports describe."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Python packages that it imports at its first use; a configuration reports a missing one by name."""

    core_of: ClassVar[type[Any] | None] = None
    """The class, a `core.Core`, of what lives as long as the device's hardware, and not only as long as a session."""

    waits_for_hardware: ClassVar[bool] = False
    """Whether it, and its core, may be opened while the hardware is missing, stay open when it is unplugged, and
    notice its return. Other drivers are opened again."""

    uuid: UUID = field(default_factory=uuid4)
    labels: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    methods_description: dict[str, str] = field(default_factory=dict)
    log_level: str = "INFO"
    """Name of the lowest level that reaches the log, for all devices of the class."""
    children: dict[str, Driver] = field(default_factory=dict)

    logger: logging.Logger = field(init=False, repr=False)
    """Its messages go to the users' log streams."""
    lifecycle: Lifecycle = field(init=False, repr=False, default_factory=Lifecycle)
    """Its state; drivers change it with `missing`, `failed` and `ready` below."""
    resources: Resources = field(init=False, repr=False, default_factory=Resources)
    """Files on their way to and from users; drivers use `read_resource` and `write_resource`.

    `read_resource` and `write_resource` are how a driver uses them.
    """

    core: Any = field(init=False, repr=False, default=None)
    """The device's core, of the class `core_of`, once the driver is in a tree. It is open before the driver is."""

    threads: DeviceThreads = field(init=False, repr=False, default_factory=DeviceThreads)
    """Its worker threads, which plain methods and `in_thread` share."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        run_plain_methods_in_threads(cls, "open", "close", "end_session", "reset")

    def __post_init__(self) -> None:
        """Check the configuration without touching hardware. ValueError for invalid values."""
        self.logger = logging.getLogger(f"driver.{type(self).__name__}")
        level = self.log_level.upper()
        if level not in logging.getLevelNamesMapping():
            raise ValueError(
                f"log_level is {self.log_level!r}; it takes DEBUG, INFO, WARNING, ERROR or CRITICAL"
            )
        self.logger.setLevel(level)
        self._nursery: trio.Nursery | None = None
        self._opener: Callable[[], Awaitable[None]] | None = None
        self.tree_path = ""
        """Names from the top of the device tree, joined by dots; set when it is in one."""
        self.session_since = 0.0
        """Recordings from this time on are visible to the session's users, in seconds since the epoch; 0 is
        everything."""
        self.parent_driver: Driver | None = None
        """The driver whose child it is; set after the `__post_init__` of both."""

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        """The children that each such device has by itself, by name, beside those of the configuration.

        `values` are the constructor's arguments, as configured: no more than those. The parts' drivers are made beside
        this one's and find it as their `parent_driver`. Must not touch hardware.
        """
        return {}

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """What of the host it is, by names that udev knows: `/dev/ttyUSB0` or a link to it, a USB port such as `1-1`.

        `values` are the constructor's arguments, as configured. While the host knows that one of these is not there,
        the device is `missing`. Nothing that is there only at times, such as a card that a multiplexer switches away.
        Must not touch hardware.
        """
        return ()

    @property
    def visible_since(self) -> float:
        """The start of recordings that the current call's user may see, in seconds since the epoch; 0 is everything."""
        return sees_since(self.session_since)

    @property
    def opens_at_start(self) -> bool:
        """Whether a daemon opens it at its start, and again after a failure, without waiting for a user."""
        return False

    async def open(self) -> None:  # noqa: B027 - many drivers have nothing to acquire
        """Acquire the hardware. Called before the first use, and again before the next one after a failure.

        Parents are open before their children. Raise DeviceMissing, DeviceBusy, OSError...
        """

    async def close(self) -> None:  # noqa: B027 - as above
        """Release the hardware. Called once for every `open`, also one that failed half-way or was cancelled.

        It runs shielded and has `jumpstarter_exporter.devices.opening.CLOSE_SECONDS`; children are closed before.
        """

    async def end_session(self) -> None:  # noqa: B027 - as above
        """Leave the board as the configuration wants it between sessions.

        Called once at the end of a session that has used the device, while it is open.
        """

    async def reset(self) -> None:  # noqa: B027 - as above
        """Bring the device into the state that a new user expects, on the user's request."""

    def look_at_hardware(self) -> str:
        """What of its hardware can be seen without opening it, in a sentence for `jumpstarter devices`.

        Empty if nothing can be seen. It replaces the sentence about what `host_nodes` names, which must be there.
        Called on a driver that is not open, and never will be; it may block for a moment, and must neither change nor
        ask anything. Raises what `open` raises.
        """
        return ""

    def describe_hardware(self) -> str:
        """What hardware it would use, and how, in one sentence for `jumpstarter-exporter check`; empty for none.

        Called on a driver that is not open, and never will be; it may block, and must not change anything. Raises what
        `open` raises.
        """
        return ""

    def extra_labels(self) -> dict[str, str]:
        """Further labels for the report, determined by the driver."""
        return {}

    @property
    def nursery(self) -> trio.Nursery:
        """For background tasks, from `open` (inside of it as well) until after `close`.

        A task that raises closes the device, which is then `failed` with that reason.
        """
        if self._nursery is None:
            raise JumpstarterUsageError(f"{type(self).__name__} has a nursery only between open and close")
        return self._nursery

    async def ensure_open(self) -> None:
        """Open this device as its first use does; for a driver that uses another one, such as a child of its.

        A driver's `open` must not wait for its own children: they are opened after it.
        """
        if self._opener is None:
            raise JumpstarterUsageError(f"{type(self).__name__} can be opened only inside of a session")
        await self._opener()

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks in one of the device's worker threads. Cancellation is too late once it has begun.

        A user who leaves waits `isolation.GRACE_SECONDS` for it; then the device is `failed` until it returns.
        """
        return await in_thread(self.threads, function, *arguments)

    def join(self, path: str, opener: Callable[[], Awaitable[None]]) -> None:
        """Become a part of a device tree, which knows how to open it; for the tree."""
        self.tree_path = path
        self._opener = opener

    def attach_session(self, nursery: trio.Nursery | None) -> None:  # noqa: B027 - few drivers share something
        """Set or remove the nursery of the session, for what several drivers of a board share; for the tree."""

    def attach(self, nursery: trio.Nursery | None) -> None:
        """Set or remove the driver's nursery; for the tree."""
        self._nursery = nursery

    def missing(self, reason: str) -> None:
        """Report that the hardware is gone. The driver stays open and calls `ready()` when it is back."""
        self.lifecycle.missing(reason)

    def failed(self, reason: str) -> None:
        """Report that the hardware is broken. The next use closes the driver and opens it again."""
        self.lifecycle.failed(reason)

    def ready(self) -> None:
        """Report that the hardware is there and works (again)."""
        self.lifecycle.ready()

    def exclusive(self, what: str) -> AbstractContextManager[None]:
        """Hold the device exclusively for a `with` block; `what` is the state's reason, such as "being flashed".

        Raises:
            DeviceBusy: it is already held; the message says for what.
        """
        return self.lifecycle.exclusive(what)

    def read_resource(self, handle: dict[str, JSON]) -> AbstractAsyncContextManager[Source]:
        """The file that a user (or a URL) sends, as plain bytes; `handle` is the argument of the call.

        Leaving the block tells the sender that no more is wanted.

        Raises:
            ValueError: the handle is none.
            ResourceError: there is no such resource on this device, or it was used already. While reading: it
                was cut before its end, which is never mistaken for its end.
        """
        return self.resources.read(handle)

    def write_resource(self, handle: dict[str, JSON]) -> AbstractAsyncContextManager[Sink]:
        """The file that a user (or a URL) receives; write plain bytes to it.

        Leaving the block ends the file; leaving it with an exception tells the receiver that it is cut.

        Raises:
            ValueError: the handle is none.
            ResourceError: there is no such resource on this device, or it was used already. While writing:
                the receiver went away.
        """
        return self.resources.write(handle)

    def exchange_resource(self, handle: dict[str, JSON]) -> AbstractAsyncContextManager[tuple[Source, Sink]]:
        """Both directions of a user's stream, for a call that answers what it reads; never a URL.

        Raises:
            ValueError: the handle is none, or a URL.
            ResourceError: as with `read_resource` and `write_resource`.
        """
        return self.resources.exchange(handle)
