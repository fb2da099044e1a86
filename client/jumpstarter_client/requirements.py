"""The requirements of a test on the hardware, and the unmet ones. For YAML tests and the pytest plugin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from jumpstarter_client.node import Node

__all__ = ["missing_interfaces", "unmet_requirement"]


def missing_interfaces(root: Node, interfaces: Collection[str]) -> list[str]:
    """Return the interfaces that no device has."""
    there = {node.interface for node in root.walk()}
    return [name for name in interfaces if name not in there]


def unmet_requirement(
    root: Node, interfaces: Collection[str], labels: Mapping[str, str], among: Iterable[Node] | None = None
) -> str:
    """Return the first unmet requirement, as the reason for a skipped test; empty if all are met.

    One device must have all the labels: one of `among` if given, or else any device.
    """
    if missing := missing_interfaces(root, interfaces):
        return f"no device has the interface {missing[0]!r}, which the test requires"
    nodes = root.walk() if among is None else among
    if labels and not any(labels.items() <= node.labels.items() for node in nodes):
        wanted = ", ".join(f"{key}={value}" for key, value in labels.items())
        return f"no device has the labels {wanted}, which the test requires"
    return ""
