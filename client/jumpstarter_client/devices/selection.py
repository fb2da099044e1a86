"""Which device of a tree a command means, by its name, its path or its interface."""

from __future__ import annotations

from jumpstarter_proto.texts import shown

from jumpstarter_client.command_errors import UnknownDeviceError, UsageError, nearest
from jumpstarter_client.node import INTERFACE, Node

__all__ = ["available", "check_created", "find", "is_named", "select", "with_interface"]

MAX_REASON_LENGTH = 400
MAX_FAILED = 3
"""How many failed devices an error lists."""


def find(root: Node, interface: str, token: str) -> list[Node]:
    """Return the nodes with this interface that `token` can mean.

    A path means its own node. A name means every node with that name, and the nodes below one with that name, which
    may be the exporter itself. The exporter's name may also stand before a path.
    """
    nodes = [node for node in root.walk() if node.interface == interface]
    if exact := [node for node in nodes if node.path == token]:
        return exact
    if named := [node for node in nodes if node.name == token and node.parent is not None]:
        return named
    found = []
    for node in nodes:
        above: Node | None = node.parent
        while above is not None:
            if token in (above.path, above.name):
                found.append(node)
                break
            above = above.parent
    prefix = f"{root.name}."
    if not found and token.startswith(prefix):
        return find(root, interface, token.removeprefix(prefix))
    return _unique(found)


def is_named(root: Node, token: str) -> bool:
    """Whether a device has this name or path, whatever its interface."""
    return any(token in (node.path, node.name) for node in root.walk())


def with_interface(root: Node, interface: str) -> list[Node]:
    """Return all devices with this interface, each once."""
    return _unique([node for node in root.walk() if node.interface == interface])


def _unique(nodes: list[Node]) -> list[Node]:
    """Return each device once, under the first of its names."""
    first: dict[str, Node] = {}
    for node in nodes:
        first.setdefault(node.uuid, node)
    return list(first.values())


def select(root: Node, interface: str, arguments: list[str], takes_arguments: bool) -> tuple[Node, list[str]]:
    """Return the device that the first argument names (or the last one, after options), and the other arguments.

    Without a name it is the only device with the interface. If there is only one, and the verb takes arguments, a word
    that is not a device belongs to the verb.

    Raises:
        UnknownDeviceError: no device has the interface, or the name.
        UsageError: several devices are possible.
    """
    nodes = with_interface(root, interface)
    if arguments and not arguments[0].startswith("-"):
        check_created(root, interface, arguments[0])
    if not nodes:
        raise UnknownDeviceError(
            f"no device has the interface {interface!r}; the board has {available(root)}"
        )
    paths = [node.path for node in nodes]
    own = arguments.index("--") if "--" in arguments else len(arguments)  # words after it belong to the verb
    for index in {0, own - 1} if own else ():
        token = arguments[index]
        if token.startswith("-"):
            continue
        found = find(root, interface, token)
        if len(found) == 1:
            return found[0], arguments[:index] + arguments[index + 1 :]
        if len(found) > 1:
            raise UsageError(f"{token!r} is ambiguous; use one of {', '.join(shown(n.path) for n in found)}")
    named = own > 0 and not arguments[0].startswith("-")
    if len(nodes) == 1 and (takes_arguments or not named):
        return nodes[0], arguments
    if named:
        boards = {path.partition(".")[0] for path in paths}
        hint = nearest(arguments[0], paths, also=boards)
        raise UnknownDeviceError(f"no device {arguments[0]!r} with the interface {interface!r}{hint}")
    raise UsageError(f"several devices; name one of {', '.join(map(shown, paths))}")


def check_created(root: Node, interface: str, token: str) -> None:
    """Raise UnknownDeviceError with the reason if `token` names a device that the exporter could not create."""
    named = [node for node in root.walk() if node.parent is not None and token in (node.path, node.name)]
    if len(named) == 1 and _is_not_created(named[0]):
        raise UnknownDeviceError(
            f"no device {token!r} with the interface {interface!r}: it has failed: "
            f"{shown(named[0].reason, MAX_REASON_LENGTH)}"
        )


def available(root: Node) -> str:
    """List the interfaces of a board, and the devices that the exporter could not create."""
    nodes = list(root.walk())
    interfaces = sorted({shown(node.interface) for node in nodes} - {"", "composite"})
    failed = [
        f"{shown(node.path)} has failed: {shown(node.reason, MAX_REASON_LENGTH)}"
        for node in nodes
        if _is_not_created(node)
    ]
    text = "; ".join([", ".join(interfaces) or "no devices", *failed[:MAX_FAILED]])
    more = len(failed) - MAX_FAILED
    return f"{text}; {more} more have failed: jumpstarter devices" if more > 0 else text


def _is_not_created(node: Node) -> bool:
    # Such a device has a placeholder class, or none, and so no interface.
    return node.state == "failed" and not node.labels.get(INTERFACE) and bool(node.reason)
