"""Connections to an exporter: at an address, the local daemon's, a built-in one, or the exporter of a leased board."""

from __future__ import annotations
