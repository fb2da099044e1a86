"""The devices of the host: what there is to know of them without a session, and what of them outlives one.

`spec` is what a board consists of, `layout` its devices in the order of a report.
"""

from __future__ import annotations

from jumpstarter_exporter.devices.spec import Origin, Spec

__all__ = ["Origin", "Spec"]
