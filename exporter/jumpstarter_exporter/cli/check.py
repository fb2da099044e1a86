"""`jumpstarter-exporter check`: a configuration's devices as a tree, without touching any."""

from __future__ import annotations

from collections.abc import Iterator

from jumpstarter_proto.terminal import print_line

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.devices import Spec

__all__ = ["check_file"]


def check_file(name: str | None) -> int:
    """Print what is there. Raises ConfigError for what is wrong."""
    loaded = configuration.load(configuration.locate(name))
    root = configuration.build(loaded)
    print_line(f"{loaded.file} is right.")
    for line in _lines(root, ""):
        print_line(line)
    if not root.children:
        print_line("Note: nothing is exported; add a device below `export:`.")
    return 0


def _lines(spec: Spec, indent: str) -> Iterator[str]:
    for index, (name, child) in enumerate(spec.children.items()):
        last = index == len(spec.children) - 1
        yield f"{indent}{'└─' if last else '├─'} {name}{_what(child)}"
        yield from _lines(child, indent + ("   " if last else "│  "))


def _what(spec: Spec) -> str:
    if spec.ref is not None:
        return f" = {spec.ref}"
    kind = spec.kind
    if kind is Composite:
        return ""
    package, _, rest = kind.__module__.partition(".")
    ours = package == "jumpstarter_drivers" and rest.endswith(".driver")
    return (
        f": {rest.removesuffix('.driver')}.{kind.__name__}"
        if ours
        else f": {kind.__module__}.{kind.__name__}"
    )
