"""`jumpstarter lease …`: create, list and show leases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.identifiers import short_form
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_client.cli import lease_changes
from jumpstarter_client.cli.arguments import Arguments
from jumpstarter_client.cli.command_options import LEASE_CREATE, LEASE_LIST
from jumpstarter_client.cli.lease_common import (
    call_controller,
    controller_of,
    lease_name,
    lease_table,
    named_lease,
    parse_verb,
    print_lease,
    require_no_words,
    selected_leases,
    status_text,
)
from jumpstarter_client.cli.lease_list_watch import watch_leases
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import print_described, print_table, write_data
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.controller.controller_client import short_name
from jumpstarter_client.controller.lease_view import as_data, describe
from jumpstarter_client.lease import lease as leases
from jumpstarter_client.lease.own_leases import record_created
from jumpstarter_client.lease.request import DEFAULT_DURATION_SECONDS, LeaseRequest
from jumpstarter_client.status_line import StatusLine
from jumpstarter_client.times import parse_duration, parse_time

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb


__all__ = ["lease"]

T = TypeVar("T")

_VERBS = {
    "create": "create",
    "c": "create",
    "list": "list",
    "ls": "list",
    "show": "show",
    "get": "show",
    "extend": "extend",
    "update": "update",
    "transfer": "transfer",
    "release": "release",
    "delete": "release",
    "del": "release",
    "d": "release",
}


def lease(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    word, rest = arguments[0], arguments[1:]
    if word not in _VERBS:
        raise UsageError(f"`lease` has no verb {word!r}{nearest(word, set(_VERBS.values()) - {'update'})}")
    output, rest = take_output(rest)
    options.output = output or options.output
    verb = _VERBS[word]
    if verb in ("extend", "update", "transfer", "release"):
        return lease_changes.change(verb, rest, options)
    match verb:
        case "create":
            return _create(parse_verb("create", rest, LEASE_CREATE), options)
        case "list":
            return _list(parse_verb("list", rest, LEASE_LIST), options)
        case _:
            return _show(parse_verb("show", rest), options)


def _create(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    require_no_words(parsed, "create")
    exporter = parsed.one("--name") or options.exporter or options.exporter_name or ""
    if not options.selector and not exporter:
        raise UsageError(
            "no board selected; use labels (-l board=rpi4) or the name of an exporter (-n rpi4-1), see "
            "`jumpstarter exporters`"
        )

    duration = parse_duration(options.duration) if options.duration else DEFAULT_DURATION_SECONDS
    patience = parse_duration(options.acquisition_timeout) if options.acquisition_timeout else None
    request = LeaseRequest(options.selector or "", exporter, duration=duration).to_message()
    begin = parsed.one("--begin-time")
    if begin:
        request.begin_time.FromSeconds(int(parse_time(begin).timestamp()))
    request.tags.update(parsed.pairs("--tag"))
    request.context.update(parsed.pairs("--context"))
    request.allow_disabled = "--allow-disabled" in parsed.flags
    controller = controller_of(options)
    name = parsed.one("--lease-id") or leases.new_lease_name()
    waits = "--no-wait" not in parsed.flags and not begin

    async def ask() -> pb.Lease:
        made = await leases.create_lease(
            controller, name, request, waits=waits, for_board=options.wait_for_board
        )
        if not waits:
            return made
        line = StatusLine("Waiting for a board")
        try:
            limit = patience or controller.config.acquisition_timeout
            ready, _ = await leases.wait_for_lease(controller, made, line, timeout=limit)
            await leases.acknowledge_lease(controller, name, timeout=leases.RELEASE_SECONDS)
        except BaseException:  # also a cancellation: nobody waits for this lease
            await leases.release_lease(controller, name)
            raise
        finally:
            line.finish()
        return ready

    made = run_trio(ask)
    record_created(controller.config, name)
    short = short_form(name)
    sentence = f"{short}: {status_text(made)}; show it with: jumpstarter lease show {short}"
    if made.exporter:
        sentence = (
            f"{short}: {short_name(made.exporter)} is yours; use it with: jumpstarter shell --lease {short}"
        )
    print_lease(made, options, sentence)
    return ExitCode.OK


def _list(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    require_no_words(parsed, "list")

    everybody, ended = "--all-clients" in parsed.flags, "--all" in parsed.flags
    if "--watch" in parsed.flags:
        if ended:
            raise UsageError("--watch shows active leases and how each ends; remove -a")
        if options.output in ("yaml", "name"):
            raise UsageError("--watch supports -o json only")

        return watch_leases(parsed, options, everybody=everybody)
    controller = controller_of(options)
    found = call_controller(
        controller,
        lambda calls: selected_leases(calls, controller, parsed, options, everybody=everybody, ended=ended),
    )
    now = time.time()
    if options.output == "name":
        for one in found:
            print_line(short_name(one.name))
    elif options.output:
        write_data({"leases": [as_data(one, now) for one in found]}, options.output)
    elif not found:
        whose = "no leases" if everybody else "you have no leases"
        print_error_line(f"{whose}; `jumpstarter lease create -l board=rpi4` creates one")
    else:
        print_table(*lease_table(found, now))
    return ExitCode.OK


def _show(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    name = lease_name(parsed, options)
    require_no_words(parsed, "show")
    controller = controller_of(options)
    one = call_controller(controller, lambda calls: named_lease(calls, controller, name))
    if options.output:
        print_lease(one, options, "")
    else:
        print_described(describe(one, time.time()))
    return ExitCode.OK
