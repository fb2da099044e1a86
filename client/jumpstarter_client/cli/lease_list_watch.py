"""`jumpstarter lease list --watch`: how leases stand, move up in the queue, begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1.exporters_pb2 import LEASE_SCOPE_ALL, LEASE_SCOPE_OWN, WatchRequest

from jumpstarter_client.cli.arguments import Arguments
from jumpstarter_client.cli.lease import controller_of, matching, stands, table_of
from jumpstarter_client.cli.options import Options
from jumpstarter_client.cli.run_trio import run
from jumpstarter_client.cli.watch_output import Watched, watch
from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.controller.lease_view import as_data, lease_status

if TYPE_CHECKING:
    from jumpstarter_client.controller.controller_client import ControllerCalls
    from jumpstarter_client.controller.lab_snapshot import LabSnapshot

__all__ = ["SeenLease", "lease_changes", "watch_leases"]


@dataclass(frozen=True)
class SeenLease:
    """One lease, as the controller told of it last."""

    record: pb.Lease
    queue_position: int | None = None
    """1 is next; None: it does not wait in the queue, or the controller has not told."""
    told_at: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Its bare name."""
        return short_name(self.record.name)

    @property
    def has_ended(self) -> bool:
        """It goes on no more."""
        return self.record.HasField("effective_end_time")

    @property
    def sentence(self) -> str:
        """How it stands; what only time has changed is the same."""
        whose = f"{self.name} of {short_name(self.record.client)}"
        if self.has_ended:
            return f"{whose} has ended: {lease_status(self.record, time.time()).sentence}"
        return f"{whose} is {stands(self.record)}"

    @property
    def now(self) -> pb.Lease:
        """The record, with the time that has passed since."""
        aged = pb.Lease()
        aged.CopyFrom(self.record)
        if aged.HasField("effective_duration") and not self.has_ended:
            aged.effective_duration.seconds += int(time.monotonic() - self.told_at)
        return aged


def lease_changes(
    before: list[SeenLease] | None, found: list[SeenLease]
) -> Iterator[tuple[str, dict[str, object]]]:
    """Each that is not as it was: a sentence, and data."""
    old = {one.name: one for one in before or () if not one.has_ended}
    for one in found:
        was = old.pop(one.name, None)
        if was is None or (was.sentence, was.queue_position) != (one.sentence, one.queue_position):
            yield one.sentence, _data(one)
    for gone in old.values():  # no more is said of it, or it is somebody else's
        yield (
            f"{gone.name} is not {short_name(gone.record.client)}'s any more",
            _data(gone) | {"state": "ended", "reason": "", "queue_position": None},
        )


def _data(one: SeenLease) -> dict[str, object]:
    return as_data(one.now, time.time()) | {"queue_position": one.queue_position}


def watch_leases(given: Arguments, options: Options, *, everybody: bool) -> ExitCode:
    """Until Ctrl-C."""
    controller = controller_of(options)

    shown: dict[str, SeenLease] = {}

    def seen(known: LabSnapshot) -> list[SeenLease]:
        before = shown.copy()
        shown.clear()
        for name, news in sorted({**known.leases, **known.ended}.items()):
            was, found = before.get(name), SeenLease(news.lease, news.place or None)
            is_same = was is not None and (was.record, was.queue_position) == (
                found.record,
                found.queue_position,
            )
            shown[name] = was if was is not None and is_same else found
        return list(shown.values())

    async def look(calls: ControllerCalls) -> list[SeenLease]:
        found = await matching(calls, controller, given, options, everybody=everybody, ended=False)
        return [SeenLease(one) for one in found]

    request = WatchRequest(
        leases=LEASE_SCOPE_ALL if everybody else LEASE_SCOPE_OWN,
        lease_filter=options.selector or "",
        tag_filter=given.one("--tag-filter") or "",
    )

    def table(found: list[SeenLease]) -> str:
        return table_of([one.now for one in found if not one.has_ended], time.time())

    run(lambda: watch(controller, Watched(request, seen, look, lease_changes, table), options.output))
    return ExitCode.OK
