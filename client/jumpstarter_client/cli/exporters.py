"""`jumpstarter exporters`: list, show and watch the exporters of a controller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1.exporters_pb2 import LEASE_SCOPE_HELD, WatchRequest
from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.command_options import EXPORTERS
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import table, write_data
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.cli.watch_output import Watched, watch
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.controller.exporter_view import (
    ExporterView,
    describe_exporter,
    details_as_data,
    device_rows,
    exporter_changes,
    exporter_views,
)
from jumpstarter_client.identity.client_config import load
from jumpstarter_client.node import Allowed
from jumpstarter_client.times import format_time

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporters_pb2 import ExporterDetails

    from jumpstarter_client.controller.controller_client import ControllerCalls
    from jumpstarter_client.controller.exporter_view import ExporterView
    from jumpstarter_client.controller.lab_snapshot import LabSnapshot

__all__ = ["exporters"]


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
            return await _look(calls, selector), await calls.all_exporter_details() if is_data else None

    is_data = output in ("json", "yaml")
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
        print_text(_table(found))
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

    async def ask() -> tuple[ExporterView, ExporterDetails | None]:
        async with controller.open() as calls:
            exporter = await calls.get_exporter(name)
            (view,) = exporter_views([exporter], [one async for one in calls.leases()])
            return view, await calls.exporter_details(name)

    view, details = run_trio(ask)
    if output == "name":
        print_line(view.name)
    elif output:
        write_data(_as_data(view, details), output)
    else:
        for line in describe_exporter(view, details):
            print_line(line)
        if details is not None and details.devices:
            titles = ("DEVICE", "INTERFACE", "STATE", "REASON")
            print_text("\n" + table(titles, device_rows(details, Allowed())))
    return ExitCode.OK


def _as_data(view: ExporterView, details: ExporterDetails | None) -> dict[str, object]:

    return view.as_data() | details_as_data(details, Allowed())


async def _look(calls: ControllerCalls, selector: str) -> list[ExporterView]:

    found = [one async for one in calls.exporters(selector)]
    return exporter_views(found, [one async for one in calls.leases()])


def _table(found: list[ExporterView]) -> str:

    rows = [
        (
            one.name,
            one.state_text,
            one.client,
            format_time(one.until) if one.until is not None else "",
            ",".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
            "" if one.state == "leased" else one.reason,
        )
        for one in found
    ]
    return table(("NAME", "STATE", "HELD BY", "UNTIL", "LABELS", "REASON"), rows)


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
