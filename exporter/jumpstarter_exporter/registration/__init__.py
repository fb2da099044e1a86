"""The exporter with a controller: registered, leased, and reached through tunnels."""

from jumpstarter_exporter.registration.registered_exporter import (
    RegisteredExporter,
    create_registered_exporter,
)

__all__ = ["RegisteredExporter", "create_registered_exporter"]
