"""`jumpstarter lease extend|update|transfer|release`: change existing leases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.identifiers import SHORT_LENGTH, short_form
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.arguments import Arguments
from jumpstarter_client.cli.command_options import LEASE_EXTEND, LEASE_RELEASE, LEASE_UPDATE
from jumpstarter_client.cli.lease_common import (
    call_controller,
    controller_of,
    lease_name,
    named_lease,
    parse_verb,
    print_lease,
    require_no_words,
    selected_leases,
    status_text,
)
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.controller.controller_client import is_not_found, short_name, translate_errors
from jumpstarter_client.errors import NotFoundError
from jumpstarter_client.lease.own_leases import releasable_lease
from jumpstarter_client.times import TimeFormatError, parse_duration, parse_time

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient

__all__ = ["change"]


def change(verb: str, arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run one of the four commands."""
    match verb:
        case "extend":
            return _extend(parse_verb("extend", arguments, LEASE_EXTEND), options)
        case "update":
            return _update(parse_verb("update", arguments, LEASE_UPDATE), options)
        case "transfer":
            return _transfer(parse_verb("transfer", arguments), options)
        case _:
            return _release(parse_verb("release", arguments, LEASE_RELEASE), options)


def _extend(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    total = parsed.one("--total") or options.duration
    by = parsed.one("--by")
    if not total and not by:
        by = parsed.words.pop() if parsed.words else ""
        if not by or (not parsed.words and not _is_duration(by)):
            raise UsageError(f"no time given; for example `jumpstarter lease extend {by or 'NAME'} 30m`")
    elif parsed.words and _is_duration(parsed.words[-1]):
        by = by or parsed.words[-1]
    if total and by:
        raise UsageError("--total sets the whole duration, a time alone is added; use one of them")
    name = lease_name(parsed, options)
    require_no_words(parsed, "extend")

    time = math.ceil(parse_duration(total or by or ""))
    controller = controller_of(options)

    async def extend(calls: ControllerCalls) -> pb.Lease:
        before = await named_lease(calls, controller, name)
        if time < before.duration.seconds and total and not parsed.one("--total"):
            of = short_form(short_name(before.name))
            raise UsageError(
                f"--duration is the whole duration, and {total} would shorten the lease; "
                f"for more time: jumpstarter lease extend {of} {total}; to shorten it: --total {total}"
            )
        changes = client_pb2.Lease()
        changes.duration.FromSeconds(time if total else time + before.duration.seconds)
        return await calls.update_lease(short_name(before.name), changes)

    _print_changed(call_controller(controller, extend), options)
    return ExitCode.OK


def _is_duration(text: str) -> bool:
    """Whether it is a time, and not the short form of a name, which may be eight digits: that would be months."""
    if text.isdigit() and len(text) == SHORT_LENGTH:
        return False
    try:
        parse_duration(text)
    except TimeFormatError:
        return False
    return True


def _update(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    """Set the duration, the start or the owner, as Jumpstarter's own client does."""
    name = lease_name(parsed, options)
    require_no_words(parsed, "update")
    begin, client = parsed.one("--begin-time"), parsed.one("--to-client")
    if not options.duration and not begin and not client:
        raise UsageError("`lease update` changes --duration, --begin-time or --to-client; give one of them")

    duration = math.ceil(parse_duration(options.duration)) if options.duration else None
    start = int(parse_time(begin).timestamp()) if begin else None

    controller = controller_of(options)

    async def update(calls: ControllerCalls) -> pb.Lease:
        one = await named_lease(calls, controller, name)
        found = short_name(one.name)
        if duration or start:
            changes = client_pb2.Lease()
            # A controller requires the duration together with the begin time.
            changes.duration.FromSeconds(duration or one.duration.seconds)
            if start:
                changes.begin_time.FromSeconds(start)
            one = await calls.update_lease(found, changes)
        return await calls.transfer_lease(found, client) if client else one

    _print_changed(call_controller(controller, update), options)
    return ExitCode.OK


def _transfer(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    name = lease_name(parsed, options, 1)
    if not parsed.words:
        raise UsageError("no client named; use `jumpstarter lease transfer NAME CLIENT`")
    client = parsed.words.pop(0)
    require_no_words(parsed, "transfer")
    controller = controller_of(options)

    async def transfer(calls: ControllerCalls) -> pb.Lease:
        found = await named_lease(calls, controller, name)
        return await calls.transfer_lease(short_name(found.name), client)

    one = call_controller(controller, transfer)
    print_lease(one, options, f"{short_form(short_name(one.name))} now belongs to {client}")
    return ExitCode.OK


def _print_changed(one: pb.Lease, options: GlobalOptions) -> None:
    print_lease(one, options, f"{short_form(short_name(one.name))}: {status_text(one)}")


def _release(parsed: Arguments, options: GlobalOptions) -> ExitCode:
    many = bool(options.selector or "--all" in parsed.flags or parsed.one("--tag-filter"))
    names = list(parsed.words)
    if not many and not names:
        names = [lease_name(parsed, options)]
    if many and names:
        raise UsageError("name leases or select them with -l, --tag-filter or --all, not both")

    controller = controller_of(options)
    failures: list[JumpstarterError] = []

    async def release(calls: ControllerCalls) -> list[str]:
        found = names
        if many:
            mine = await selected_leases(calls, controller, parsed, options, everybody=False, ended=False)
            found = [short_name(one.name) for one in mine]
        for name in found:
            try:
                with translate_errors(controller.config):
                    name = await _release_one(calls, controller, name)  # noqa: PLW2901
            except JumpstarterError as error:  # the other leases are still released
                failures.append(error)
                continue
            print_line(name if options.output == "name" else f"{name} is released")
        return found

    found = call_controller(controller, release)
    if failures:
        raise _combined(failures)
    if not found and "--all" not in parsed.flags:
        raise NotFoundError("none of your leases matches (see: jumpstarter lease list)")
    if not found and options.output != "name":
        print_line("there is no lease to release")
    return ExitCode.OK


async def _release_one(calls: ControllerCalls, controller: ControllerClient, name: str) -> str:
    """Release a lease by its name or short form, or the only one without a name. Returns its name."""
    if name:
        try:
            await calls.delete_lease(name)
            return name
        except RpcError as error:
            if not is_not_found(error):
                raise
    if name:
        lease = await named_lease(calls, controller, name)
    else:
        lease = await releasable_lease(calls, controller)
    found = short_name(lease.name)
    await calls.delete_lease(found)
    return found


def _combined(failures: list[JumpstarterError]) -> JumpstarterError:
    """Combine errors into one, with the exit code of the first."""
    error = JumpstarterError("; ".join(map(str, failures)))
    error.exit_code = failures[0].exit_code
    return error
