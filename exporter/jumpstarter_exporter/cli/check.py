"""`jumpstarter-exporter check`: a configuration's devices as a tree, without touching any."""

from __future__ import annotations

from collections.abc import Iterator

from jumpstarter_proto.terminal import print_line

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config import ExporterConfig, Identities
from jumpstarter_exporter.config.identities import is_readable_by_others, token_place
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
    for line in identity_lines(loaded, Identities()):
        print_line(line)
    return 0


def identity_lines(loaded: ExporterConfig, identities: Identities) -> Iterator[str]:
    """Which exporter of which controller it is, and what of two identities does not count."""
    stored = identities.find(loaded.board_name)
    used = configuration.with_identity(loaded, identities).enrolment
    if used is None:
        yield (
            "Identity: none, so the board is for users of this host; "
            f"join a controller: jumpstarter-exporter enrol HOST:PORT --config {loaded.file}"
        )
    else:
        yield f"Identity: {used} ({used.file})"
    if stored is not None and used != stored.enrolment:
        yield (
            f"Note: {stored.enrolment.file} is not used: it is for the board of {stored.config}; "
            "give one of the two another `metadata.name`."
        )
    if loaded.enrolment is None:
        return
    if used is not loaded.enrolment:
        yield f"Note: {token_place(loaded)} is not used: {stored.enrolment.file if stored else ''} counts; remove it."
    if is_readable_by_others(loaded.file.stat()):
        yield (
            f"Note: {token_place(loaded)} can be read by others; run: chmod 600 {loaded.file}, "
            "or enrol, which keeps a new one elsewhere."
        )


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
