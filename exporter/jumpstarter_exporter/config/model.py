"""The shape of an exporter's configuration file, as msgspec structs whose fields are its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
from jumpstarter_proto.addresses import CONTROLLER_PORT, AddressSyntaxError, split_host_port
from jumpstarter_proto.documents import Document, FieldError, PathInFile
from jumpstarter_proto.reach import Reach

from jumpstarter_exporter.boards.occupancy import Limits
from jumpstarter_exporter.config.host_labels import host_labels

if TYPE_CHECKING:
    from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory

__all__ = [
    "DiscoveredContent",
    "Enrolment",
    "Entry",
    "ExporterConfig",
    "FailureDetection",
    "Fetch",
    "Hook",
    "Hooks",
    "Metadata",
    "OccupancySeconds",
    "Tls",
    "TopLevel",
    "check_endpoint",
]

Seconds = Annotated[int, msgspec.Meta(gt=0)]
MAX_PATIENCE_SECONDS = 280
"""0.9's shell waits for 300, and is to read the reason before it gives up."""


class Metadata(msgspec.Struct, frozen=True):
    """Who the exporter is; Kubernetes users may have more here than we need."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Tls(msgspec.Struct, frozen=True):
    """How the controller proves who it is."""

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
    """When an exporter that fails again and again gives up; without it, never."""

    max_rapid_failures: int = 5
    rapid_failure_window: int = 60


class Fetch(msgspec.Struct, frozen=True):
    """URLs that the exporter fetches from or uploads to for users of a lease or of the network."""

    allow: list[str] = []
    """Addresses, networks and host names beyond what `Reach.limited` lets everybody reach."""

    def __post_init__(self) -> None:
        """Check the entries. FieldError names the one that is wrong."""
        for index, entry in enumerate(self.allow):
            try:
                Reach.limited([entry])
            except ValueError as error:
                raise FieldError(str(error), "allow", index) from None

    def reach(self) -> Reach:
        """That of such a user."""
        return Reach.limited(self.allow)


class OccupancySeconds(msgspec.Struct, frozen=True, rename="camel"):
    """How long users of the host keep a board that is leased, too."""

    leave: Seconds = 10
    """Local use ends so long after the last connection that used the board."""
    idle: Seconds = 3600
    """Who has done nothing for so long loses the board."""
    idle_if_wanted: Seconds = 120
    """The same while a lease waits for it."""
    patience: Annotated[int, msgspec.Meta(gt=0, le=MAX_PATIENCE_SECONDS)] = 240
    """A lease that waits for the board is given back so late."""

    @property
    def limits(self) -> Limits:
        """The same for the board's occupancy."""
        return Limits(self.leave, self.idle, self.idle_if_wanted, self.patience)


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
    """Devices by name; read into entries separately."""
    hooks: Hooks = Hooks()
    fetch: Fetch = Fetch()
    occupancy: OccupancySeconds = OccupancySeconds()
    failure_detection: FailureDetection | None = None
    exit_on_lease_end: bool = False
    own_process: bool = False
    """Its host's daemon leaves it to `jumpstarter-exporter run --board NAME`."""

    def __post_init__(self) -> None:
        """Check the controller's address. FieldError says how one is written."""
        if self.endpoint:
            check_endpoint(self.endpoint)


def check_endpoint(endpoint: str) -> None:
    """Check the value of a key `endpoint`. FieldError says how one is written."""
    try:
        split_host_port(endpoint, default_port=CONTROLLER_PORT)
    except AddressSyntaxError as error:
        raise FieldError(str(error), "endpoint") from None


@dataclass(frozen=True)
class Enrolment:
    """Who an exporter is to its controller. The token is in no text made from this object."""

    endpoint: str
    namespace: str
    name: str
    token: str = field(repr=False)
    tls: Tls
    file: Path
    """Where it is written."""
    host: Enrolment | None = None
    """Who its host is, if that registers the board by itself; then the token is empty until it has done so."""

    def __str__(self) -> str:
        """For users."""
        return f"exporter {self.namespace}/{self.name} of {self.endpoint}"


@dataclass(frozen=True)
class Entry:
    """One device of the file: of a `type`, a group of `children`, or a `ref` to another."""

    path: PathInFile
    type: str | None = None
    ref: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    description: str | None = None
    methods_description: dict[str, str] = field(default_factory=dict)
    required: bool = False
    """Nobody is given a lease of the board while it, or something below it, is missing or has failed."""
    children: dict[str, Entry] = field(default_factory=dict)


class DiscoveredContent(Protocol):
    """What a board consists of in place of a file's entries: devices that come and go."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Of its exporter, now."""

    @property
    def host(self) -> str:
        """What the host is called here, with which the board's name begins."""

    def add_to(self, inventory: Inventory) -> BoardDevices:
        """Put the board into an inventory. Raises what `Inventory.add` raises."""


@dataclass(frozen=True)
class ExporterConfig:
    """A file that was read; whether its types exist is for `build` to find out."""

    file: Path
    settings: TopLevel
    entries: dict[str, Entry]
    document: Document
    """For the line of what turns out to be wrong later."""
    enrolment: Enrolment | None = None
    """None if there is no controller for it. `load` finds what the file itself says, `with_identity` the rest."""
    discovered: DiscoveredContent | None = field(default=None, compare=False)
    """In place of entries."""

    @property
    def board_name(self) -> str:
        """What users of this host call the board."""
        return self.settings.metadata.name or self.file.stem

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the exporter, now. A board that its host registers has the host's, too."""
        own = self.settings.metadata.labels if self.discovered is None else self.discovered.labels
        is_of_host = self.enrolment is not None and self.enrolment.host is not None
        return {**host_labels(), **own} if is_of_host else own

    @property
    def exporter_name(self) -> str | None:
        """What the controller calls the exporter; without one, what the file calls it, if it does."""
        return self.settings.metadata.name if self.enrolment is None else self.enrolment.name
