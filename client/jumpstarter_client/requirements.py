"""What a test requires of the hardware, and what of it is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from jumpstarter_client.node import Node

__all__ = ["lacking", "missing_interfaces"]


def missing_interfaces(root: Node, interfaces: Collection[str]) -> list[str]:
    """Those that no device has."""
    there = {node.interface for node in root.walk()}
    return [name for name in interfaces if name not in there]


def lacking(
    root: Node, interfaces: Collection[str], labels: Mapping[str, str], among: Iterable[Node] | None = None
) -> str:
    """What the hardware lacks, as the reason for a skipped test; empty when it has all.

    One device has to have all the labels: one of `among`, if given, else any.
    """
    if missing := missing_interfaces(root, interfaces):
        return f"no device has the interface {missing[0]!r}, which the test requires"
    nodes = root.walk() if among is None else among
    if labels and not any(labels.items() <= node.labels.items() for node in nodes):
        wanted = ", ".join(f"{key}={value}" for key, value in labels.items())
        return f"no device has the labels {wanted}, which the test requires"
    return ""
