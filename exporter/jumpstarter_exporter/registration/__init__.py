"""The exporter with a controller: registered, leased, and reached through tunnels."""

from jumpstarter_exporter.registration.registered import run_registered

__all__ = ["run_registered"]
