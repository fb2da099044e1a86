"""The controller as its clients use it: its API, watches, views of leases and exporters, login and token renewal."""

from __future__ import annotations
