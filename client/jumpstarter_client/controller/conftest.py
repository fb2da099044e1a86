"""The fixtures of the lease tests: a controller, a router and an exporter in this process."""

from __future__ import annotations

from jumpstarter_client.lease.conftest import board, config, issuer, lab, network, trust

__all__ = ["board", "config", "issuer", "lab", "network", "trust"]
