"""`jumpstarter exporters`: list, show and watch the exporters of a controller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1.exporters_pb2 import LEASE_SCOPE_HELD, WatchRequest
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.command_options import EXPORTERS
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import print_described, print_table, table, write_data
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.cli.watch_output import Watched, watch
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.controller.controller_client import ControllerClient, short_name
from jumpstarter_client.controller.exporter_view import (
    ExporterView,
    describe_exporter,
    describe_problems,
    details_as_data,
    device_rows,
    exporter_changes,
    exporter_views,
    interfaces_of,
)
from jumpstarter_client.controller.lease_view import LeasePhase, lease_progress, selector_of
from jumpstarter_client.identity.client_config import load
from jumpstarter_client.node import Allowed
from jumpstarter_client.times import format_time

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb
    from jumpstarter_proto.lab.v1.exporters_pb2 import ExporterDetails

    from jumpstarter_client.controller.controller_client import ControllerCalls
    from jumpstarter_client.controller.exporter_view import ExporterView
    from jumpstarter_client.controller.lab_snapshot import LabSnapshot

__all__ = ["exporters"]

MAX_SELECTORS = 50
"""Different selectors of waiting leases that are compared with one exporter."""


def exporters(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    output, rest = take_output(arguments)
    output = output or options.output
    parsed = parse_arguments("exporters", rest, EXPORTERS)
    name = _name_to_show(parsed.words, options)
    watch = "--watch" in parsed.flags
    if watch and name:
        raise UsageError("--watch works for the list only; remove `show`")
    if watch and output in ("yaml", "name"):
        raise UsageError("--watch supports -o json only")

    controller = ControllerClient(load(options.client, os.environ))
    selector = options.selector or ""
    if watch:
        run_trio(lambda: _watch(controller, selector, output))
        return ExitCode.OK

    if name:
        return _show(controller, name, output)

    async def ask() -> tuple[list[ExporterView], dict[str, ExporterDetails] | None]:
        async with controller.open() as calls:
            return await _look(calls, selector), await calls.all_exporter_details() if shows_details else None

    shows_details = output != "name"
    found, details = run_trio(ask)
    if output == "name":
        for one in found:
            print_line(one.name)
    elif output:
        write_data(
            {"exporters": [_as_data(one, details.get(one.name) if details else None) for one in found]},
            output,
        )
    elif not found:
        print_error_line(f"the controller has no exporters{f' with {selector}' if selector else ''}")
    else:
        print_table(*_table_of(found, details))
    return ExitCode.OK


def _name_to_show(words: list[str], options: GlobalOptions) -> str:
    """Return the exporter of `exporters show`; empty for the list."""
    if not words:
        return ""
    if words[0] not in ("show", "get"):
        raise UsageError(
            f"unexpected argument {words[0]!r}; select by label, such as -l board=rpi4, or use `exporters show NAME`"
        )
    names = [*words[1:], options.exporter or options.exporter_name or ""]
    if not names[0]:
        raise UsageError(
            "no exporter named; use `jumpstarter exporters show NAME` (see: jumpstarter exporters)"
        )
    if len(words) > 2:
        raise UsageError(f"`exporters show` takes one name; {words[2]!r} is too much")
    return names[0]


def _show(controller: ControllerClient, name: str, output: str | None) -> ExitCode:

    async def ask() -> tuple[ExporterView, ExporterDetails | None, list[pb.Lease]]:
        async with controller.open() as calls:
            exporter = await calls.get_exporter(name)
            leases = [one async for one in calls.leases()]
            (view,) = exporter_views([exporter], leases)
            return view, await calls.exporter_details(name), await _waiting_for(calls, name, leases)

    view, details, waiting = run_trio(ask)
    if output == "name":
        print_line(view.name)
    elif output:
        queue = [{"lease": short_name(one.name), "client": short_name(one.client)} for one in waiting]
        write_data(_as_data(view, details) | {"queue": queue}, output)
    else:
        print_described(describe_exporter(view, details, waiting))
        if details is not None and details.devices:
            titles = ("DEVICE", "INTERFACE", "STATE", "REASON")
            print_line()
            print_table(titles, device_rows(details, Allowed()))
        if details is not None and (problems := describe_problems(details)):
            print_line()
            print_described(problems)
    return ExitCode.OK


async def _waiting_for(calls: ControllerCalls, name: str, leases: list[pb.Lease]) -> list[pb.Lease]:
    """Return the waiting leases that may get this exporter, the oldest first."""
    found: list[pb.Lease] = []
    fits: dict[str, bool] = {"": True}
    for one in leases:
        if lease_progress(one).phase is not LeasePhase.WAITING or one.exporter_name not in ("", name):
            continue
        selector = selector_of(one)
        if selector not in fits and len(fits) <= MAX_SELECTORS:
            fits[selector] = name in [short_name(other.name) async for other in calls.exporters(selector)]
        if fits.get(selector, False):
            found.append(one)
    return found


def _as_data(view: ExporterView, details: ExporterDetails | None) -> dict[str, object]:

    return view.as_data() | details_as_data(details, Allowed())


async def _look(calls: ControllerCalls, selector: str) -> list[ExporterView]:

    found = [one async for one in calls.exporters(selector)]
    return exporter_views(found, [one async for one in calls.leases()])


def _table(found: list[ExporterView]) -> str:
    return table(*_table_of(found, None))


def _table_of(
    found: list[ExporterView], details: dict[str, ExporterDetails] | None
) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows, with the interfaces of the boards if the controller keeps them."""
    titles = ["NAME", "STATE", "HELD BY", "UNTIL", "LABELS", "INTERFACES", "REASON"]
    allowed = Allowed()
    rows = [
        [
            one.name,
            one.state_text,
            one.client,
            format_time(one.until) if one.until is not None else "",
            ",".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
            ",".join(interfaces_of((details or {}).get(one.name), allowed)),
            "" if one.state == "leased" else one.reason,
        ]
        for one in found
    ]
    if details is None:
        place = titles.index("INTERFACES")
        for row in (titles, *rows):
            del row[place]
    return titles, rows


async def _watch(controller: ControllerClient, selector: str, output: str | None) -> None:
    """Watch until cancelled, also through interruptions of the controller."""

    def view(known: LabSnapshot) -> list[ExporterView]:
        return exporter_views(known.exporters.values(), [one.lease for one in known.leases.values()])

    def changed(
        before: list[ExporterView] | None, found: list[ExporterView]
    ) -> Iterator[tuple[str, dict[str, object]]]:
        if before is None:
            yield from ((f"{one.name} is {one.status_text}", one.as_data()) for one in found)
            return
        for one, sentence in exporter_changes(before, found):
            yield sentence, one.as_data() | ({} if one in found else {"state": "deleted"})

    await watch(
        controller,
        Watched(
            request=WatchRequest(exporters=True, exporter_filter=selector, leases=LEASE_SCOPE_HELD),
            of=view,
            ask=lambda calls: _look(calls, selector),
            changes=changed,
            table=_table,
        ),
        output,
    )
