"""Which device nodes boards use, as their drivers say; drivers are arbitrary code."""

from __future__ import annotations

from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.isolation import isolated

__all__ = ["holds_gpio_output", "host_nodes_of"]


def host_nodes_of(spec: Spec) -> list[str]:
    """The device nodes of a device, as its driver says; none if the driver's code fails."""
    if spec.fault:
        return []
    try:
        with isolated(f"{spec.kind.__name__}.host_nodes()"):
            named = list(spec.kind.host_nodes(spec.values))
    except Exception:  # any driver's code: its device reports the error itself
        return []
    return [one for one in named if _is_node(one)]


def _is_node(name: object) -> bool:
    """Whether it is a possible node; drivers return what their configuration says."""
    return isinstance(name, str) and name.startswith("/dev/") and "\0" not in name


def holds_gpio_output(spec: Spec) -> bool:
    """Whether it drives a GPIO pin of this host."""
    return not spec.fault and "gpiozero" in spec.kind.packages
