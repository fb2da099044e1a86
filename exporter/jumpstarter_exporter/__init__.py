"""Offers a board's interfaces over gRPC: driver base, device tree, session and daemon.

Names are loaded when they are first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jumpstarter_proto.lazy_names import lazy_names

if TYPE_CHECKING:
    from jumpstarter_exporter.composite import Composite, Proxy
    from jumpstarter_exporter.core import Core
    from jumpstarter_exporter.decorators import export, export_stream
    from jumpstarter_exporter.device_state import State
    from jumpstarter_exporter.driver import Driver
    from jumpstarter_exporter.errors import (
        DeviceBusy,
        DeviceError,
        DeviceFailed,
        DeviceMissing,
        ResourceError,
    )
    from jumpstarter_exporter.resources import Sink, Source
    from jumpstarter_exporter.session.session import Session

__all__ = [
    "Composite",
    "Core",
    "DeviceBusy",
    "DeviceError",
    "DeviceFailed",
    "DeviceMissing",
    "Driver",
    "Proxy",
    "ResourceError",
    "Session",
    "Sink",
    "Source",
    "State",
    "export",
    "export_stream",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Composite": "composite",
        "Core": "core",
        "DeviceBusy": "errors",
        "DeviceError": "errors",
        "DeviceFailed": "errors",
        "DeviceMissing": "errors",
        "Driver": "driver",
        "Proxy": "composite",
        "ResourceError": "errors",
        "Session": "session.session",
        "Sink": "resources",
        "Source": "resources",
        "State": "device_state",
        "export": "decorators",
        "export_stream": "decorators",
    },
)
