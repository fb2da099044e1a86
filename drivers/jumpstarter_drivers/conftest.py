"""For tests of drivers: a driver that says of its device what cannot be is an error."""

from __future__ import annotations

from jumpstarter_exporter.device_state import Lifecycle

Lifecycle.strict = True
