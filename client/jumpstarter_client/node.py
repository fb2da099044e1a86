"""The devices of a report, as a tree of nodes. Driver clients are loaded when they are used.

A command that uses one device loads the client class of that device only, and a list of devices loads none.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from jumpstarter_proto import driver_packages
from jumpstarter_proto.report_labels import CLIENT, INTERFACE, NAME, REASON, STATE, UNTRIED
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.errors import DriverError
from jumpstarter_client.manifests import client_classes

if TYPE_CHECKING:
    from jumpstarter_client.base import DriverClient
    from jumpstarter_client.connection import ExporterConnection

__all__ = ["INTERFACE", "NAME", "Allowed", "Node", "import_client"]


class Allowed:
    """Which classes of a report may be imported: those of installed driver packages, others by shell-style patterns."""

    def __init__(self, patterns: Sequence[str] = (), *, unsafe: bool = False) -> None:
        self._patterns = tuple(patterns)
        self._unsafe = unsafe or "UNSAFE" in self._patterns
        self._classes: dict[str, tuple[str, str]] | None = None
        self._has_installed = False

    @classmethod
    def from_environment(cls) -> Allowed:
        """As JMP_DRIVERS_ALLOW (a comma list; UNSAFE in it means all) and JMP_DRIVERS_UNSAFE say."""
        patterns = [
            part.strip() for part in os.environ.get("JMP_DRIVERS_ALLOW", "").split(",") if part.strip()
        ]
        unsafe = os.environ.get("JMP_DRIVERS_UNSAFE", "").lower() in ("1", "true", "yes", "on")
        return cls(patterns, unsafe=unsafe)

    def find(self, class_path: str) -> tuple[str, str]:
        """Return the class of an installed driver package for a class path of a report, and its interface.

        Both are empty if no package has it. Entry points are read only for a class that no driver folder has.
        """
        if self._classes is None:
            self._classes = client_classes(driver_packages.folder_packages())
        if class_path and class_path not in self._classes and not self._has_installed:
            self._has_installed = True
            self._classes = client_classes(driver_packages.installed_packages()) | self._classes
            driver_packages.report_problems()
        return self._classes.get(class_path, ("", ""))

    def interface(self, class_path: str) -> str:
        """The interface of the devices that this class uses; empty for a class that no package has."""
        return self.find(class_path)[1]

    def load(self, class_path: str) -> type[DriverClient]:
        """Import the class.

        Raises:
            DriverError: it may not be imported, or it cannot be; says what to do.
        """
        if not class_path:
            raise DriverError("the exporter names no client class for this device; update the exporter")
        ours, _ = self.find(class_path)
        if (
            not ours
            and not self._unsafe
            and not any(fnmatch.fnmatchcase(class_path, p) for p in self._patterns)
        ):
            raise DriverError(
                f"the class {class_path} may not be loaded; allow it with JMP_DRIVERS_ALLOW={class_path}"
            )
        return import_client(ours or class_path)


def import_client(class_path: str) -> type[DriverClient]:
    """Import a client class.

    Raises:
        DriverError: it cannot be imported, or is not a class of this client; says what to do.
    """
    from jumpstarter_client.base import DriverClient  # noqa: PLC0415 - it imports this module

    module_name, _, class_name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (Exception, SystemExit) as error:  # whatever the package of somebody else raises
        package = module_name.partition(".")[0]
        raise DriverError(
            f"the class {class_path} cannot be loaded ({error}); install {package!r} beside this client"
        ) from error
    if not (isinstance(found, type) and issubclass(found, DriverClient)):
        raise DriverError(f"{class_path} is not made for this client; ask its author for one that is")
    return found


class Node:
    """One device of a report."""

    def __init__(
        self,
        report: jumpstarter_pb2.DriverInstanceReport,
        parent: Node | None,
        connection: ExporterConnection,
        allowed: Allowed,
        name: str,
    ) -> None:
        self._uuid = report.uuid
        self._gone = False
        self.labels = dict(report.labels)
        self.description: str | None = report.description or None
        self.methods_description = dict(report.methods_description)
        self.parent = parent
        self.name = name
        self.children: dict[str, Node] = {}
        self._connection = connection
        self._allowed = allowed
        self._client: DriverClient | None = None
        self._child_filter: Callable[[Node], bool] = lambda child: True

    @property
    def uuid(self) -> str:
        """The UUID of the device in the exporter's session.

        Raises:
            DriverError: the exporter no longer has this device.
        """
        if self._gone:
            raise DriverError(
                f"{self.path or 'this device'} is gone: the exporter no longer has it; check the exporter's "
                "configuration and the list of devices: jumpstarter devices"
            )
        return self._uuid

    def has_uuid(self, uuid: str) -> bool:
        """Whether the node has this UUID, also after it is gone."""
        return self._uuid == uuid

    def update(self, fresh: Node) -> None:
        """Update this node and its children from a new report. Children missing from the report are marked gone."""
        self._uuid, self._gone = fresh._uuid, False
        self.labels.clear()
        self.labels.update(fresh.labels)
        self.description = fresh.description
        self.methods_description.clear()
        self.methods_description.update(fresh.methods_description)
        for name, child in list(self.children.items()):
            if name in fresh.children:
                child.update(fresh.children[name])
            else:
                child.mark_gone()
        for name, child in fresh.children.items():
            if name not in self.children and self._child_filter(child):
                child.parent = self
                self.children[name] = child

    def filter_children(self, predicate: Callable[[Node], bool]) -> None:
        """Keep only the children that match, also from later reports."""
        self._child_filter = predicate
        for name, child in list(self.children.items()):
            if not predicate(child):
                del self.children[name]

    def mark_gone(self) -> None:
        """Mark this node and everything below it as gone."""
        self._gone = True
        for child in self.children.values():
            child.mark_gone()

    @property
    def path(self) -> str:
        """The names from below the root, joined by dots; empty for the root."""
        if self.parent is None:
            return ""
        return f"{self.parent.path}.{self.name}" if self.parent.path else self.name

    @property
    def interface(self) -> str:
        """Such as "power"; empty if unknown."""
        return self.labels.get(INTERFACE) or self._allowed.interface(self.labels.get(CLIENT, ""))

    @property
    def state(self) -> str:
        """Such as "ready"; empty if the exporter does not report it."""
        return self.labels.get(STATE, "")

    @property
    def reason(self) -> str:
        """Why it is in that state; may be empty."""
        return self.labels.get(REASON, "")

    @property
    def is_untried(self) -> bool:
        """Whether it is ready only as far as its exporter knows, because nobody has used it yet."""
        return UNTRIED in self.labels

    @property
    def client(self) -> DriverClient:
        """Its driver client, loaded on first use; a stub that fails with the reason if it cannot be loaded."""
        if self._client is None:
            from jumpstarter_client.base import StubClient  # noqa: PLC0415 - it imports this module

            try:
                self._client = self._allowed.load(self.labels.get(CLIENT, ""))(self, self._connection)
            except DriverError as error:
                self._client = StubClient(self, self._connection, str(error))
        return self._client

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it, parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()
