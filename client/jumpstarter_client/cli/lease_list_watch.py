"""`jumpstarter lease list --watch`: show how leases move up in the queue, start and end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1.exporters_pb2 import LEASE_SCOPE_ALL, LEASE_SCOPE_OWN, WatchRequest

from jumpstarter_client.cli.arguments import Arguments
from jumpstarter_client.cli.lease_common import controller_of, lease_table, selected_leases, status_text
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.cli.output import table as formatted
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.cli.watch_output import Watched, watch
from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.controller.lease_view import as_data, lease_status

if TYPE_CHECKING:
    from jumpstarter_client.controller.controller_client import ControllerCalls
    from jumpstarter_client.controller.lab_snapshot import LabSnapshot

__all__ = ["WatchedLease", "lease_changes", "watch_leases"]


@dataclass(frozen=True)
class WatchedLease:
    """A lease as the controller reported it last."""

    record: pb.Lease
    queue_position: int | None = None
    """1 is next; None if it is not in the queue, or the controller does not report places."""
    received_at: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """The name of the lease."""
        return short_name(self.record.name)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.record.HasField("effective_end_time")

    @property
    def sentence(self) -> str:
        """Describe its state. The text does not change with time alone."""
        whose = f"{self.name} of {short_name(self.record.client)}"
        if self.has_ended:
            return f"{whose} has ended: {lease_status(self.record, time.time()).sentence}"
        return f"{whose} is {status_text(self.record)}"

    @property
    def now(self) -> pb.Lease:
        """The record, with its elapsed time updated."""
        aged = pb.Lease()
        aged.CopyFrom(self.record)
        if aged.HasField("effective_duration") and not self.has_ended:
            aged.effective_duration.seconds += int(time.monotonic() - self.received_at)
        return aged


def lease_changes(
    before: list[WatchedLease] | None, found: list[WatchedLease]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield a sentence and data for each lease that has changed."""
    old = {one.name: one for one in before or () if not one.has_ended}
    for one in found:
        previous = old.pop(one.name, None)
        if previous is None or (previous.sentence, previous.queue_position) != (
            one.sentence,
            one.queue_position,
        ):
            yield one.sentence, _data(one)
    for gone in old.values():  # it was deleted, or transferred to somebody else
        yield (
            f"{gone.name} is not {short_name(gone.record.client)}'s any more",
            _data(gone) | {"state": "ended", "reason": "", "queue_position": None},
        )


def _data(one: WatchedLease) -> dict[str, object]:
    return as_data(one.now, time.time()) | {"queue_position": one.queue_position}


def watch_leases(parsed: Arguments, options: GlobalOptions, *, everybody: bool) -> ExitCode:
    """Watch until Ctrl-C."""
    controller = controller_of(options)

    shown: dict[str, WatchedLease] = {}

    def seen(known: LabSnapshot) -> list[WatchedLease]:
        before = shown.copy()
        shown.clear()
        for name, news in sorted({**known.leases, **known.ended}.items()):
            previous, found = before.get(name), WatchedLease(news.lease, news.place or None)
            is_same = previous is not None and (previous.record, previous.queue_position) == (
                found.record,
                found.queue_position,
            )
            shown[name] = previous if previous is not None and is_same else found
        return list(shown.values())

    async def look(calls: ControllerCalls) -> list[WatchedLease]:
        found = await selected_leases(calls, controller, parsed, options, everybody=everybody, ended=False)
        return [WatchedLease(one) for one in found]

    request = WatchRequest(
        leases=LEASE_SCOPE_ALL if everybody else LEASE_SCOPE_OWN,
        lease_filter=options.selector or "",
        tag_filter=parsed.one("--tag-filter") or "",
    )

    def table(found: list[WatchedLease]) -> str:
        return formatted(*lease_table([one.now for one in found if not one.has_ended], time.time()))

    run_trio(lambda: watch(controller, Watched(request, seen, look, lease_changes, table), options.output))
    return ExitCode.OK
