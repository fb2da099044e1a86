"""`jumpstarter exporters`: what a controller has, who has it until when, and how that changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_client.cli.arguments import asks_for_help, take
from jumpstarter_client.cli.options import Options, UsageError, take_output

if TYPE_CHECKING:
    from jumpstarter_proto.lab.v1.exporters_pb2 import ExporterDetails

    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient
    from jumpstarter_client.controller.exporter_view import ExporterView
    from jumpstarter_client.controller.lab_snapshot import LabSnapshot

__all__ = ["exporters"]

HELP = """Usage: jumpstarter exporters [show NAME] [-l SELECTOR] [--watch] [-o json|yaml|name] [--client FILE]

The exporters of a controller: which are free, who has the others and until when, which are disabled or offline.

  jumpstarter exporters
  jumpstarter exporters -l board=rpi4 --watch       until Ctrl-C; in a pipe, a line for each change
  jumpstarter exporters show NAME                   one of them with its devices, and why one is not ready
  jumpstarter exporters -o json | jq -r '.exporters[] | select(.state == "free") | .name'
  jumpstarter exporters --watch -o json             a JSON object a line, for each that is not as it was

States are free, leased, busy (between two leases), offline and disabled.
"""


def exporters(arguments: list[str], options: Options) -> ExitCode:
    """The command."""
    if asks_for_help(arguments):
        print_text(HELP)
        return ExitCode.OK
    output, rest = take_output(arguments)
    output = output or options.output
    # Jumpstarter's own client shows disabled exporters, and leases, only if it is told to.
    given = take("exporters", rest, {"--with": "--with"}, {"--watch": "--watch", "--allow-disabled": "all"})
    name = _name_to_show(given.words, options)
    watch = "--watch" in given.flags
    if watch and name:
        raise UsageError("--watch goes with the list of all; leave `show` out")
    if watch and output in ("yaml", "name"):
        raise UsageError("--watch goes with -o json, or with none")
    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415 - not for --help
    from jumpstarter_client.controller.controller_client import ControllerClient  # noqa: PLC0415
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415

    controller = ControllerClient(load(options.client, os.environ))
    selector = options.selector or ""
    if watch:
        run(lambda: _watch(controller, selector, output))
        return ExitCode.OK

    if name:
        return _show(controller, name, output)

    async def ask() -> tuple[list[ExporterView], dict[str, ExporterDetails] | None]:
        async with controller.open() as calls:
            return await _look(calls, selector), await calls.all_exporter_details() if is_data else None

    is_data = output in ("json", "yaml")
    found, details = run(ask)
    if output == "name":
        for one in found:
            print_line(one.name)
    elif output:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415

        write_data(
            {"exporters": [_as_data(one, details.get(one.name) if details else None) for one in found]},
            output,
        )
    elif not found:
        print_error_line(f"the controller has no exporters{f' with {selector}' if selector else ''}")
    else:
        print_text(_table(found))
    return ExitCode.OK


def _name_to_show(words: list[str], options: Options) -> str:
    """The exporter that `show` is about; empty for the list of all."""
    if not words:
        return ""
    if words[0] not in ("show", "get"):
        raise UsageError(
            f"`exporters` takes no {words[0]!r}; choose by label, such as -l board=rpi4, or `exporters show NAME`"
        )
    names = [*words[1:], options.exporter or options.exporter_name or ""]
    if not names[0]:
        raise UsageError(
            "which exporter? `jumpstarter exporters show NAME`; `jumpstarter exporters` shows all"
        )
    if len(words) > 2:
        raise UsageError(f"`exporters show` takes one name, and no {words[2]!r}")
    return names[0]


def _show(controller: ControllerClient, name: str, output: str | None) -> ExitCode:
    from jumpstarter_client.cli.output import table, write_data  # noqa: PLC0415 - not for a wrong command line
    from jumpstarter_client.cli.run_trio import run  # noqa: PLC0415 - not for a wrong command line
    from jumpstarter_client.controller.exporter_view import (  # noqa: PLC0415
        describe_exporter,
        device_rows,
        look,
    )
    from jumpstarter_client.node import Allowed  # noqa: PLC0415

    async def ask() -> tuple[ExporterView, ExporterDetails | None]:
        async with controller.open() as calls:
            exporter = await calls.get_exporter(name)
            (seen,) = look([exporter], [one async for one in calls.leases()])
            return seen, await calls.exporter_details(name)

    seen, details = run(ask)
    if output == "name":
        print_line(seen.name)
    elif output:
        write_data(_as_data(seen, details), output)
    else:
        for line in describe_exporter(seen, details):
            print_line(line)
        if details is not None and details.devices:
            titles = ("DEVICE", "INTERFACE", "STATE", "REASON")
            print_text("\n" + table(titles, device_rows(details, Allowed())))
    return ExitCode.OK


def _as_data(seen: ExporterView, details: ExporterDetails | None) -> dict[str, object]:
    from jumpstarter_client.controller.exporter_view import details_as_data  # noqa: PLC0415
    from jumpstarter_client.node import Allowed  # noqa: PLC0415

    return seen.as_data() | details_as_data(details, Allowed())


async def _look(calls: ControllerCalls, selector: str) -> list[ExporterView]:
    from jumpstarter_client.controller.exporter_view import look  # noqa: PLC0415

    found = [one async for one in calls.exporters(selector)]
    return look(found, [one async for one in calls.leases()])


def _table(found: list[ExporterView]) -> str:
    from jumpstarter_client.cli.output import table  # noqa: PLC0415
    from jumpstarter_client.times import when  # noqa: PLC0415

    rows = [
        (
            one.name,
            one.words,
            one.client,
            when(one.until) if one.until is not None else "",
            ",".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
            "" if one.state == "leased" else one.reason,
        )
        for one in found
    ]
    return table(("NAME", "STATE", "HELD BY", "UNTIL", "LABELS", "REASON"), rows)


async def _watch(controller: ControllerClient, selector: str, output: str | None) -> None:
    """Until cancelled; the controller may go away and come back."""
    from jumpstarter_proto.lab.v1.exporters_pb2 import LEASE_SCOPE_HELD, WatchRequest  # noqa: PLC0415

    from jumpstarter_client.cli.watch_output import Watched, watch  # noqa: PLC0415
    from jumpstarter_client.controller.exporter_view import changes, look  # noqa: PLC0415

    def seen(known: LabSnapshot) -> list[ExporterView]:
        return look(known.exporters.values(), [one.lease for one in known.leases.values()])

    def changed(
        before: list[ExporterView] | None, found: list[ExporterView]
    ) -> Iterator[tuple[str, dict[str, object]]]:
        if before is None:
            yield from ((f"{one.name} is {one.told}", one.as_data()) for one in found)
            return
        for one, sentence in changes(before, found):
            yield sentence, one.as_data() | ({} if one in found else {"state": "deleted"})

    await watch(
        controller,
        Watched(
            request=WatchRequest(exporters=True, exporter_filter=selector, leases=LEASE_SCOPE_HELD),
            of=seen,
            ask=lambda calls: _look(calls, selector),
            changes=changed,
            table=_table,
        ),
        output,
    )
