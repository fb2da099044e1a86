"""Devices without hardware: a group, a second name for another device, and a device that cannot be created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

__all__ = ["Composite", "Proxy", "Unavailable"]


@dataclass(kw_only=True, eq=False)
class Composite(Driver):
    """A group of devices. Opening and closing it does nothing; its children see to themselves.

    export:
      rpi4:
        children:
          power:
            type: power.GpioRelay
            config:
              pin: 17
    """

    client: ClassVar[str] = "jumpstarter_driver_composite.client.CompositeClient"
    interface: ClassVar[str] = "composite"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("composite"),)


@dataclass(kw_only=True, eq=False)
class Unavailable(Driver):
    """Replaces a device that could not be created; it is failed, and its children work without it."""

    client: ClassVar[str] = Composite.client

    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lifecycle.failed(self.reason)


@dataclass(kw_only=True, eq=False)
class Proxy(Driver):
    """A second name for a device, which appears in its stead. It is never opened and never reported itself.

    export:
      console:
        ref: rpi4.serial
    """

    client: ClassVar[str] = ""

    ref: str
    """Path of the device from the top, such as `rpi4.serial`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.children:
            raise ValueError("a ref cannot have children; remove `children`")
        if not all(self.ref.split(".")):
            raise ValueError(f"ref is {self.ref!r}; it takes a path from the top such as rpi4.serial")
