"""Makes specifications of matches, as the builder of configurations makes them of a file's entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config.builder import build_entry
from jumpstarter_exporter.config.model import Entry
from jumpstarter_exporter.devices.match import Match
from jumpstarter_exporter.devices.spec import Spec

__all__ = ["spec_of", "spec_tree"]


def spec_of(match: Match) -> Spec:
    """One device. Without a driver, or if its driver does not take it, it has a fault with the reason.

    Imports the driver's module, so it blocks for that long. No hardware is touched.
    """
    profile = match.profile
    path = ("profiles", profile.name)
    if match.type is None:
        spec = Spec(Composite, fault=match.no_driver, description=match.description, place=path)
    else:
        entry = Entry(path, type=match.type, config=dict(match.config), description=match.description)
        spec = build_entry(profile.document, entry)
    return replace(spec, labels={**spec.labels, **match.labels})


def spec_tree(matches: Iterable[Match]) -> Spec:
    """The root of all of them, below their groups."""
    groups: dict[str, dict[str, Spec]] = {}
    for match in matches:
        groups.setdefault(match.group, {})[match.name] = spec_of(match)
    children: Mapping[str, Spec] = {
        name: Spec(Composite, children=devices) for name, devices in groups.items() if name
    }
    return Spec(Composite, children={**children, **groups.get("", {})})
