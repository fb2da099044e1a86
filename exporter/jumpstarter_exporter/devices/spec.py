"""Specifications of the devices of a board, without driver objects: class, values and children.

A specification comes from a file (`config.build`), from a driver class that lists the parts of its devices
(`Driver.parts`), or from an existing driver object (`adopt`). `Spec.make` creates new driver objects from it, any
number of times; they share no state.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jumpstarter_proto.yaml_files import PathInFile

from jumpstarter_exporter.composite import Proxy, Unavailable
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.grpc_interface import GrpcInterface
from jumpstarter_exporter.isolation import isolated

__all__ = ["Spec", "SpecOrigin", "adopt", "parts_of", "walk"]

_BASE = frozenset(field.name for field in dataclasses.fields(Driver))
_PER_DEVICE = frozenset({"labels", "log_level"})


class SpecOrigin(enum.Enum):
    """What creates the driver object of a device."""

    CONFIGURED = "configured"
    """It is created first, and passed to its parent's constructor."""
    PART = "part"
    """Its parent's class returns it in `Driver.parts`; it is added to its parent's children."""
    FOUND = "found"
    """Its parent's constructor creates it, as in drivers without `Driver.parts`; it was found in such an object."""


@dataclass(frozen=True, eq=False)
class Spec:
    """One device and those below it."""

    kind: type[Driver]
    """Its driver class; `Composite` for a group, `Proxy` for a second name."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, checked, without its children and texts."""
    children: Mapping[str, Spec] = field(default_factory=dict)
    origin: SpecOrigin = SpecOrigin.CONFIGURED
    description: str | None = None
    methods_description: Mapping[str, str] = field(default_factory=dict)
    type_name: str = ""
    """As in the file."""
    place: PathInFile = ()
    """Its position in the file."""
    fault: str = ""
    """Why it cannot be created; empty if it can."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Further labels from its driver (`Driver.extra_labels`)."""
    given_labels: Mapping[str, str] = field(default_factory=dict)
    """Further facts about the device, such as its port; it stays the same device when they change."""
    required: bool = False
    """The board is not leased while this device, or one below it, is missing or has failed."""

    @property
    def client(self) -> str:
        """Import path of its client class."""
        return Unavailable.client if self.fault else self.kind.client

    @property
    def interface(self) -> str:
        """The word after `jumpstarter` on the command line."""
        return "" if self.fault else self.kind.interface

    @property
    def grpc_interfaces(self) -> tuple[GrpcInterface, ...]:
        """The services of its class, also while no driver object of it can be created."""
        return () if self.fault else self.kind.grpc_interfaces

    @property
    def ref(self) -> str | None:
        """The path of the device that a second name refers to."""
        return self.values["ref"] if self.kind is Proxy else None

    def make(self) -> Driver:
        """A new driver object with all below it. A device that cannot be created becomes `Unavailable`."""
        children = {
            name: child.make()
            for name, child in self.children.items()
            if child.origin is not SpecOrigin.FOUND
        }
        reason = self.fault
        if not reason:
            try:
                with isolated(f"{self.kind.__name__}.__init__()"):
                    return self.construct(children)
            except Exception as error:  # any driver's constructor; its neighbours must be served
                reason = f"{self.kind.__name__} cannot be made: {error}"
        made = Unavailable(reason=reason, children=children, description=self.description)
        _tell_parent(made)
        return made

    def construct(self, children: Mapping[str, Driver]) -> Driver:
        """The driver object alone, with existing children. Raises what its class raises."""
        values = {key: _copied(value) for key, value in self.values.items()}
        configured = {
            name: child
            for name, child in children.items()
            if self.children[name].origin is SpecOrigin.CONFIGURED
        }
        if configured:
            values["children"] = configured
        if self.description is not None:
            values["description"] = self.description
        if self.methods_description:
            values["methods_description"] = dict(self.methods_description)
        driver = self.kind(**values)
        parts = {name: child for name, child in children.items() if name not in configured}
        if parts:
            driver.children = {**driver.children, **parts}
        _tell_parent(driver)
        return driver

    def same_as(self, other: Spec) -> bool:
        """Whether both describe the same device, apart from the devices below."""
        return (
            self.kind is other.kind
            and self.fault == other.fault
            and dict(self.values) == dict(other.values)
            and self.description == other.description
            and dict(self.methods_description) == dict(other.methods_description)
            and self.origin is other.origin
        )


def walk(root: Spec) -> Iterator[tuple[str, Spec]]:
    """Every device once with its path, parents before their children, without second names (`ref`)."""

    def below(spec: Spec, path: str) -> Iterator[tuple[str, Spec]]:
        yield path, spec
        for name, child in spec.children.items():
            if child.ref is None:
                yield from below(child, f"{path}.{name}" if path else name)

    return below(root, "")


def parts_of(kind: type[Driver], values: Mapping[str, Any]) -> dict[str, Spec]:
    """The parts that a driver class returns, and their parts. Raises what its code raises."""
    return {
        name: replace(
            part, origin=SpecOrigin.PART, children={**part.children, **parts_of(part.kind, part.values)}
        )
        for name, part in kind.parts(values).items()
    }


def adopt(driver: Driver, origin: SpecOrigin = SpecOrigin.CONFIGURED) -> Spec:
    """Return the specification of an existing driver object. Missing parts are created.

    The values are the objects of this driver, because the specification describes it and is not used to create more.
    """
    values = {
        each.name: getattr(driver, each.name)
        for each in dataclasses.fields(driver)
        if each.init and (each.name not in _BASE or each.name in _PER_DEVICE) and hasattr(driver, each.name)
    }
    if origin is not SpecOrigin.FOUND:  # whose parent creates it each time
        values["uuid"] = driver.uuid
    parts = parts_of(type(driver), values)
    missing = {name: part.make() for name, part in parts.items() if name not in driver.children}
    if missing:
        driver.children = {**driver.children, **missing}
    _tell_parent(driver)
    children = {
        name: adopt(child, SpecOrigin.PART if name in missing else SpecOrigin.CONFIGURED)
        for name, child in driver.children.items()
    }
    return Spec(
        type(driver),
        values,
        children,
        origin,
        driver.description,
        driver.methods_description,
        fault=driver.reason if isinstance(driver, Unavailable) else "",
    )


def _tell_parent(driver: Driver) -> None:
    for child in driver.children.values():
        child.parent_driver = driver


def _copied(value: Any) -> Any:
    return copy.deepcopy(value) if type(value) in (list, dict, set) else value
