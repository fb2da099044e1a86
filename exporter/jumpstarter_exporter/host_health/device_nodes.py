"""What devices of boards are of their host: by the words of their drivers, which are anybody's code."""

from __future__ import annotations

from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.guests import contained

__all__ = ["holds_gpio_output", "host_nodes_of"]


def host_nodes_of(spec: Spec) -> list[str]:
    """The device nodes that a device is, by its driver's word; none where the driver's code fails."""
    if spec.fault:
        return []
    try:
        with contained(f"{spec.kind.__name__}.host_nodes()"):
            named = list(spec.kind.host_nodes(spec.values))
    except Exception:  # any driver's code: its device says itself what is wrong with it
        return []
    return [one for one in named if _is_node(one)]


def _is_node(name: object) -> bool:
    """Whether it can be one; a driver gives what its configuration says."""
    return isinstance(name, str) and name.startswith("/dev/") and "\0" not in name


def holds_gpio_output(spec: Spec) -> bool:
    """Whether it drives a pin of this host."""
    return not spec.fault and "gpiozero" in spec.kind.packages
