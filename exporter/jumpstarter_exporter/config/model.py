"""The structure of an exporter's configuration file: msgspec structs whose fields are its keys."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
from jumpstarter_proto.addresses import CONTROLLER_PORT, AddressSyntaxError, split_host_port
from jumpstarter_proto.reach import Reach
from jumpstarter_proto.yaml_files import ConfigError, Document, FieldError, PathInFile

from jumpstarter_exporter.boards.occupancy import OccupancyLimits
from jumpstarter_exporter.config.host_labels import host_labels

if TYPE_CHECKING:
    from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory

__all__ = [
    "DeviceEntry",
    "DiscoveredContent",
    "Enrolment",
    "ExporterConfig",
    "FailureDetection",
    "Fetch",
    "Hook",
    "Hooks",
    "Metadata",
    "OccupancySeconds",
    "Tls",
    "TopLevel",
    "check_command",
    "check_endpoint",
    "relative_python",
]

Seconds = Annotated[int, msgspec.Meta(gt=0)]
MAX_PATIENCE_SECONDS = 280
"""0.9's shell waits for 300 s, and must get the reason before that."""


class Metadata(msgspec.Struct, frozen=True):
    """The exporter's name; Kubernetes users may have more keys here than are used."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Tls(msgspec.Struct, frozen=True):
    """How the controller proves its identity."""

    ca: str = ""
    """Base64 of a PEM bundle."""
    insecure: bool = False


class Hook(msgspec.Struct, frozen=True, rename="camel"):
    """A program that runs before or after a lease."""

    script: str
    exec: str | None = None
    timeout: Seconds = 120
    on_failure: Literal["warn", "endLease", "exit"] = "warn"


class Hooks(msgspec.Struct, frozen=True, rename="camel"):
    """Both of them."""

    before_lease: Hook | None = None
    after_lease: Hook | None = None


class FailureDetection(msgspec.Struct, frozen=True, rename="camel"):
    """When an exporter that fails repeatedly gives up; without it, never."""

    max_rapid_failures: int = 5
    rapid_failure_window: int = 60


class Fetch(msgspec.Struct, frozen=True):
    """URLs that the exporter fetches from or uploads to for users of a lease or of the network."""

    allow: list[str] = []
    """Addresses, networks and host names in addition to what `Reach.limited` permits for everybody."""

    def __post_init__(self) -> None:
        """Check the entries. FieldError names the wrong one."""
        for index, entry in enumerate(self.allow):
            try:
                Reach.limited([entry])
            except ValueError as error:
                raise FieldError(str(error), "allow", index) from None

    def reach(self) -> Reach:
        """The limit for such a user."""
        return Reach.limited(self.allow)


class OccupancySeconds(msgspec.Struct, frozen=True, rename="camel"):
    """How long local users keep a board that is also leased."""

    leave: Seconds = 10
    """Local use ends this long after the last connection is closed."""
    idle: Seconds = 3600
    """An idle connection loses the board after this time."""
    idle_if_wanted: Seconds = 120
    """The same while a lease waits for the board."""
    patience: Annotated[int, msgspec.Meta(gt=0, le=MAX_PATIENCE_SECONDS)] = 240
    """A waiting lease is returned after this time."""

    @property
    def limits(self) -> OccupancyLimits:
        """The limits for the board's occupancy."""
        return OccupancyLimits(self.leave, self.idle, self.idle_if_wanted, self.patience)


class TopLevel(msgspec.Struct, frozen=True, rename="camel"):
    """The file's own keys."""

    api_version: Literal["jumpstarter.dev/v1alpha1"] = "jumpstarter.dev/v1alpha1"
    kind: Literal["ExporterConfig"] = "ExporterConfig"
    metadata: Metadata = Metadata()
    endpoint: str | None = None
    token: str | None = None
    tls: Tls = Tls()
    grpc_options: dict[str, str | int] = {}
    description: str | None = None
    motd: str = ""
    export: Any = None
    """Devices by name; parsed into entries separately."""
    hooks: Hooks = Hooks()
    fetch: Fetch = Fetch()
    occupancy: OccupancySeconds = OccupancySeconds()
    failure_detection: FailureDetection | None = None
    exit_on_lease_end: bool = False
    own_process: bool = False
    """The host's daemon leaves it to `jumpstarter-exporter run --board NAME`."""
    python: str | None = None
    """The interpreter for devices whose drivers are those of Jumpstarter 0.9."""

    def __post_init__(self) -> None:
        """Check the controller's address and the interpreter. FieldError shows the format."""
        if self.endpoint:
            check_endpoint(self.endpoint)
        if self.python is not None and not Path(self.python).is_absolute():
            raise FieldError(relative_python(self.python), "python")


def check_command(file: Path) -> str:
    """The command that lists all mistakes of a configuration."""
    return f"jumpstarter-exporter check {shlex.quote(str(file))}"


def relative_python(python: str) -> str:
    """The error for a key `python` that is not an absolute path."""
    return f"{python!r} is not the path of an interpreter; give one such as /opt/jumpstarter/bin/python"


def check_endpoint(endpoint: str) -> None:
    """Check the value of a key `endpoint`. FieldError shows the format."""
    try:
        split_host_port(endpoint, default_port=CONTROLLER_PORT)
    except AddressSyntaxError as error:
        raise FieldError(str(error), "endpoint") from None


@dataclass(frozen=True)
class Enrolment:
    """An exporter's identity at its controller. Its text representations never contain the token."""

    endpoint: str
    namespace: str
    name: str
    token: str = field(repr=False)
    tls: Tls
    file: Path
    """The file that contains it."""
    host: Enrolment | None = None
    """The host's identity if the host registers the board; until then the token is empty."""

    def __str__(self) -> str:
        """For messages."""
        return f"exporter {self.namespace}/{self.name} of {self.endpoint}"


@dataclass(frozen=True)
class DeviceEntry:
    """One device of the file: with a `type`, a group of `children`, or a `ref` to another."""

    path: PathInFile
    type: str | None = None
    ref: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    description: str | None = None
    methods_description: dict[str, str] = field(default_factory=dict)
    required: bool = False
    """The board is not leased while this device, or one below it, is missing or has failed."""
    children: dict[str, DeviceEntry] = field(default_factory=dict)
    python: str | None = None
    """The interpreter of an environment with Jumpstarter 0.9, whose driver it is."""
    own_process: bool = False
    """Such a driver does not share its process with others of the board."""
    fault: ConfigError | None = field(default=None, compare=False)
    """Its mistakes; see `read_parts`."""
    is_partial: bool = field(default=False, compare=False)
    """It may have a configuration that is not known, for its mistakes."""


class DiscoveredContent(Protocol):
    """A board's devices instead of a file's entries: devices that come and go."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The current labels of its exporter."""

    @property
    def host(self) -> str:
        """The host's name, with which the board's name begins."""

    def add_to(self, inventory: Inventory) -> BoardDevices:
        """Add the board to an inventory. Raises what `Inventory.add` raises."""


@dataclass(frozen=True)
class ExporterConfig:
    """A parsed file; `build` checks whether its types exist."""

    file: Path
    settings: TopLevel
    entries: dict[str, DeviceEntry]
    document: Document
    """For the positions of errors that are found later."""
    enrolment: Enrolment | None = None
    """None if it has no controller. `load` sets the file's own, `with_identity` the stored one."""
    discovered: DiscoveredContent | None = field(default=None, compare=False)
    """Instead of entries."""
    ignored: list[ConfigError] = field(default_factory=list, compare=False)
    """Its unknown keys. Those of a device's `config` are added when it is built."""

    @property
    def board_name(self) -> str:
        """The board's name on this host."""
        return self.settings.metadata.name or self.file.stem

    @property
    def labels(self) -> Mapping[str, str]:
        """The current labels of the exporter. A board that its host registers also has the host's labels."""
        own = self.settings.metadata.labels if self.discovered is None else self.discovered.labels
        is_of_host = self.enrolment is not None and self.enrolment.host is not None
        return {**host_labels(), **own} if is_of_host else own

    @property
    def exporter_name(self) -> str | None:
        """The exporter's name at the controller; without one, its name in the file, if any."""
        return self.settings.metadata.name if self.enrolment is None else self.enrolment.name
