"""The devices of a board in the order of a report, with each `ref` resolved; needs no driver objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_exporter.devices.spec import Spec, walk

__all__ = ["TreeError", "TreeLine", "layout", "tree_errors"]


class TreeError(JumpstarterError):
    """Devices that do not form a tree: a `ref` to nothing or to itself, one UUID for two devices."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


@dataclass(frozen=True)
class TreeLine:
    """One line of a report. A device appears under its own name and once more for each `ref` to it."""

    path: str
    """The device's own path, whatever name it appears under."""
    parent: str | None
    """Path of the device that it appears below; None for the root."""
    name: str


def layout(root: Spec) -> list[TreeLine]:
    """Depth first, parents before their children.

    Raises:
        TreeError: see there.
    """
    paths: dict[Spec, str] = {}
    uuids: dict[object, str] = {}
    for path, spec in walk(root):
        paths[spec] = path
        if (uuid := spec.values.get("uuid")) is not None:
            if uuid in uuids:
                raise TreeError(path, f"{uuids[uuid]} has the uuid {uuid} as well; give each its own")
            uuids[uuid] = path or "the exporter's root"
    return list(_Lines(root, paths).below(root, None, "", ()))


def tree_errors(root: Spec) -> list[TreeError]:
    """Everything that is wrong with a `ref`, one by one."""
    lines, found = _Lines(root, {}), list[TreeError]()
    for spec, path, above in _refs(root, "", ()):
        try:
            lines.follow(spec, path, above)
        except TreeError as error:
            found.append(error)
    return found


def _refs(spec: Spec, path: str, above: tuple[Spec, ...]) -> Iterator[tuple[Spec, str, tuple[Spec, ...]]]:
    """Yield each `ref` with its path, and the devices above it."""
    if spec.ref is not None:
        yield spec, path, above
    for name, child in spec.children.items():
        yield from _refs(child, f"{path}.{name}" if path else name, (*above, spec))


@dataclass(frozen=True)
class _Lines:
    root: Spec
    paths: dict[Spec, str]

    def below(self, spec: Spec, parent: str | None, name: str, trail: tuple[Spec, ...]) -> Iterator[TreeLine]:
        spec, trail = self.follow(spec, f"{parent}.{name}" if parent else name, trail)
        path = self.paths[spec]
        yield TreeLine(path, parent, name)
        for child_name, child in spec.children.items():
            yield from self.below(child, path, child_name, (*trail, spec))

    def follow(self, spec: Spec, path: str, trail: tuple[Spec, ...]) -> tuple[Spec, tuple[Spec, ...]]:
        """The device that a spec at this path means, and what led to it. TreeError if there is none."""
        while (ref := spec.ref) is not None:
            if spec in trail:
                raise TreeError(path, f"ref {ref!r} leads back to itself; let it name a device")
            trail = (*trail, spec)
            spec = _resolve(self.root, ref, path)
        if spec in trail:
            raise TreeError(path, "a ref leads to a device that contains it; let it name one beside it")
        return spec, trail


def _resolve(root: Spec, ref: str, path: str) -> Spec:
    found = root
    for name in ref.split("."):
        child = found.children.get(name)
        if child is None and found.fault:
            return found  # nobody knows what is below it; who uses the name is told why
        if child is None:
            names = ", ".join(sorted(found.children))
            choice = f"there are {names}" if names else "that device has no children"
            raise TreeError(path, f"ref {ref!r} names nothing; {choice}")
        found = child
    return found
