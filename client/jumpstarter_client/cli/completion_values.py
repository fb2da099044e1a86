"""The values that completion offers: names from the exporter, the controller and this machine.

Peers get one second to answer, and every failure means: no names.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.cli.options import LOG_LEVELS, SYSTEM_EXPORTERS, GlobalOptions
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.connections.connect import connect_async
from jumpstarter_client.connections.endpoint import BuiltIn, candidates
from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient, short_name
from jumpstarter_client.identity.client_config import config_home, load
from jumpstarter_client.identity.config_files import ConfigFiles
from jumpstarter_client.verb import verbs

if TYPE_CHECKING:
    from jumpstarter_client.host_boards import HostBoard
    from jumpstarter_client.node import Node

__all__ = [
    "boards",
    "configurations",
    "devices",
    "exporters",
    "labels",
    "leases",
    "local_exporters",
    "log_levels",
    "named_exporters",
    "tree_words",
]

ASK_SECONDS = 1.0
"""The time limit for a peer, because the user waits for the prompt."""


def leases(options: GlobalOptions) -> list[str]:
    """Return the names of the client's leases."""

    async def ask(calls: ControllerCalls, controller: ControllerClient) -> list[str]:
        return [short_name(one.name) async for one in calls.leases() if one.client == controller.own_name]

    return _ask_controller(options, ask)


def exporters(options: GlobalOptions) -> list[str]:
    """Return the names of the controller's exporters."""

    async def ask(calls: ControllerCalls, _: ControllerClient) -> list[str]:
        return [short_name(one.name) async for one in calls.exporters()]

    return _ask_controller(options, ask)


def labels(options: GlobalOptions) -> list[str]:
    """Return the labels of the controller's exporters, as selectors."""

    async def ask(calls: ControllerCalls, _: ControllerClient) -> list[str]:
        return [f"{key}={value}" async for one in calls.exporters() for key, value in one.labels.items()]

    return _ask_controller(options, ask)


def configurations(_: GlobalOptions) -> list[str]:
    """Return the aliases of the client configurations."""
    return ConfigFiles(config_home(os.environ)).aliases()


def local_exporters(_: GlobalOptions) -> list[str]:
    """Return the names of the exporter configurations of this machine."""
    found: set[str] = set()
    for folder in (str(config_home(os.environ) / "exporters"), SYSTEM_EXPORTERS):
        with suppress(OSError):
            found |= {name[: -len(".yaml")] for name in os.listdir(folder) if name.endswith(".yaml")}
    return sorted(found)


def named_exporters(options: GlobalOptions) -> list[str]:
    """Return the values for --exporter: configurations of this machine, and exporters of the controller."""
    return [*local_exporters(options), *exporters(options)]


def boards(options: GlobalOptions) -> list[str]:
    """Return the names of the host's boards, or else of its exporter configurations."""
    return [board for board, _ in _roots(options) if board] or local_exporters(options)


def log_levels(_: GlobalOptions) -> list[str]:
    """Return the values for --log-level."""
    return list(LOG_LEVELS)


def devices(options: GlobalOptions, interface: str) -> list[str]:
    """Return names for the devices of a running exporter; none is started for completion."""
    names = [
        (board or node.path.partition(".")[0], f"{board}.{node.path}" if board else node.path)
        for board, root in _roots(options)
        for node in root.walk()
        if node.interface == interface or (not interface and node.path)
    ]
    # Users type the name of the board if it has only one device with the interface.
    tops = [top for top, _ in names]
    return sorted({top if tops.count(top) == 1 else path for top, path in names})


def tree_words(options: GlobalOptions, words: list[str]) -> tuple[list[str], bool]:
    """Return what may follow the words after `j`, and whether names of files fit."""
    roots = _roots(options)
    if len(roots) > 1 or (roots and roots[0][0]):
        if not words:
            return [board for board, _ in roots], False
        roots = [(board, root) for board, root in roots if board == words[0]]
        words = words[1:]
    if not roots:
        return [], False
    node = roots[0][1]
    while words and words[0] in node.children:
        node, words = node.children[words[0]], words[1:]
    known = verbs(type(node.client))
    if not words:
        return [*node.children, *known], False
    return [], words[0] in known and known[words[0]].takes_files


def _roots(options: GlobalOptions) -> list[tuple[str, Node]]:
    """Return the root of the only running board, without a name, or the roots of several by name."""

    async def ask() -> list[tuple[str, Node]]:
        with trio.move_on_after(ASK_SECONDS):
            for candidate in candidates(options.host, os.environ):
                if isinstance(candidate, BuiltIn):
                    break
                try:
                    async with connect_async(str(candidate), board=options.board) as client:
                        return [("", client.node)]
                except JumpstarterError as error:
                    several: list[HostBoard] = getattr(error, "boards", [])
                    if several:
                        return [(one.name, one.root) for one in several if one.root is not None]
        return []

    return run_trio(ask)


def _ask_controller(
    options: GlobalOptions, question: Callable[[ControllerCalls, ControllerClient], Awaitable[list[str]]]
) -> list[str]:
    async def ask() -> list[str]:
        with trio.move_on_after(ASK_SECONDS):
            controller = ControllerClient(load(options.client, os.environ))
            async with controller.open() as calls:
                return await question(calls, controller)
        return []

    with suppress(JumpstarterError):
        return sorted(set(run_trio(ask)))
    return []
