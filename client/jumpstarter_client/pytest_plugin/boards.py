"""Which exporter a test session uses, and which board each pytest-xdist process uses."""

from __future__ import annotations

from dataclasses import dataclass

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.node import Node

__all__ = ["Target", "select_worker_board", "target"]


@dataclass(frozen=True)
class Target:
    """A running exporter, a file to start one from, or a board to lease; empty means the usual order."""

    host: str | None = None
    config: str | None = None
    request: LeaseRequest | None = None
    """Each process leases its own board."""


def target(
    exporter: str | None,
    selector: str | None,
    lease: str | None,
    workers: tuple[int, int],
    duration: str | None = None,
    *,
    board: str | None = None,
) -> Target:
    """Return the target that the options select.

    Raises:
        ConnectError: the options contradict each other, or several processes would start an exporter for the same
            hardware.
        TimeFormatError: the duration is invalid.
    """
    if selector or lease:
        if exporter:
            raise ConnectError(
                "--jumpstarter-exporter names an exporter, --jumpstarter-selector and --jumpstarter-lease ask a "
                "controller for one; use one of them"
            )
        if board:
            raise ConnectError(
                "--jumpstarter-board names one of the boards that a host serves, --jumpstarter-selector and "
                "--jumpstarter-lease ask a controller for one; use one of them"
            )
        return Target(
            request=LeaseRequest.from_options({}, selector=selector, lease=lease, duration=duration)
        )
    if exporter is None or not exporter.endswith((".yaml", ".yml")):
        return Target(host=exporter)
    if board:
        raise ConnectError(
            f"--jumpstarter-board names one of the boards of a host, but {exporter} is a single board; "
            "remove one of the two"
        )
    if workers[1] > 1:
        raise ConnectError(
            f"{workers[1]} processes cannot each start an exporter from {exporter} for the same hardware; "
            "start one with `jumpstarter-exporter run`, and give its socket to --jumpstarter-exporter"
        )
    return Target(config=exporter)


def select_worker_board(root: Node, worker: int, workers: int) -> None:
    """Keep only the board of one process in the tree.

    A board is a top-level node with devices below. An exporter without such nodes is one board.

    Raises:
        ConnectError: there are more processes than boards.
    """
    if workers == 1:
        return
    boards = [name for name, node in root.children.items() if node.children]
    count = len(boards) or 1
    if worker >= count:
        there = f"{count} boards ({', '.join(boards)})" if boards else "one board"
        raise ConnectError(
            f"the exporter has {there} for {workers} processes of pytest-xdist; run pytest with -n {count}"
        )
    own = boards[worker] if boards else ""
    root.filter_children(lambda node: node.name == own or not node.children)
