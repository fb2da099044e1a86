"""Groups for the user: their children are attributes."""

from __future__ import annotations

from typing import ClassVar

from jumpstarter_client.base import DriverClient

__all__ = ["CompositeClient"]


class CompositeClient(DriverClient):
    """A group of devices: `client.rpi4.power.on()`."""

    interface: ClassVar[str] = "composite"
