"""The exporter with a controller: registered, leased, and reached through tunnels."""

from jumpstarter_exporter.registration.registered import Registered, registered_exporter

__all__ = ["Registered", "registered_exporter"]
