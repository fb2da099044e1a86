"""Groups and second names. The exporter itself builds its tree of them, so they live there."""

from __future__ import annotations

from jumpstarter_exporter.composite import Composite, Proxy

__all__ = ["Composite", "Proxy"]
