"""`jumpstarter lease extend|update|transfer|release`: what is done to leases that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.arguments import Arguments
from jumpstarter_client.cli.lease import (
    ask,
    controller_of,
    known,
    matching,
    name_of,
    no_more,
    print_lease,
    stands,
    taken,
)
from jumpstarter_client.cli.options import Options, UsageError
from jumpstarter_client.errors import NotFoundError

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.controller.controller_client import ControllerCalls

__all__ = ["change"]


def change(verb: str, arguments: list[str], options: Options) -> ExitCode:
    """One of the four commands."""
    match verb:
        case "extend":
            return _extend(taken("extend", arguments, ("--by", "--total")), options)
        case "update":
            return _update(taken("update", arguments, ("--begin-time", "--to-client")), options)
        case "transfer":
            return _transfer(taken("transfer", arguments), options)
        case _:
            return _release(taken("release", arguments, ("--tag-filter",), ("-a", "--all")), options)


def _extend(given: Arguments, options: Options) -> ExitCode:
    total = given.one("--total") or options.duration
    by = given.one("--by")
    if not total and not by:
        if not given.words or (len(given.words) == 1 and not known(options)):
            raise UsageError("by how much? For example `jumpstarter lease extend NAME 30m`")
        by = given.words.pop()
    name = name_of(given, options, "extend")
    no_more(given, "extend")
    if total and by:
        raise UsageError("--total is the whole duration, a time alone is added to it; use one of them")
    from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

    from jumpstarter_client.times import seconds  # noqa: PLC0415

    time = int(seconds(total or by or ""))

    async def extend(calls: ControllerCalls) -> pb.Lease:
        whole = time if total else time + (await calls.get_lease(name)).duration.seconds
        changes = client_pb2.Lease()
        changes.duration.FromSeconds(whole)
        return await calls.update_lease(name, changes)

    one = ask(controller_of(options), extend)
    print_lease(one, options, f"{name}: {stands(one)}")
    return ExitCode.OK


def _update(given: Arguments, options: Options) -> ExitCode:
    """As Jumpstarter's own client has it: each option says what the lease has from then on."""
    name = name_of(given, options, "update")
    no_more(given, "update")
    begin, client = given.one("--begin-time"), given.one("--to-client")
    if not options.duration and not begin and not client:
        raise UsageError("`lease update` changes --duration, --begin-time or --to-client; give one of them")
    from jumpstarter_client.times import moment, seconds  # noqa: PLC0415

    duration = int(seconds(options.duration)) if options.duration else None
    start = int(moment(begin).timestamp()) if begin else None

    async def update(calls: ControllerCalls) -> pb.Lease:
        from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

        one = await calls.get_lease(name)
        if duration or start:
            changes = client_pb2.Lease()
            # A controller wants the duration with the begin, even if it stays.
            changes.duration.FromSeconds(duration or one.duration.seconds)
            if start:
                changes.begin_time.FromSeconds(start)
            one = await calls.update_lease(name, changes)
        return await calls.transfer_lease(name, client) if client else one

    one = ask(controller_of(options), update)
    print_lease(one, options, f"{name}: {stands(one)}")
    return ExitCode.OK


def _transfer(given: Arguments, options: Options) -> ExitCode:
    name = name_of(given, options, "transfer", 1)
    if not given.words:
        raise UsageError("to whom? `jumpstarter lease transfer NAME CLIENT`")
    client = given.words.pop(0)
    no_more(given, "transfer")
    one = ask(controller_of(options), lambda calls: calls.transfer_lease(name, client))
    print_lease(one, options, f"{name} is {client}'s")
    return ExitCode.OK


def _release(given: Arguments, options: Options) -> ExitCode:
    many = bool(options.selector or "--all" in given.flags or given.one("--tag-filter"))
    names = list(given.words)
    if not many and not names:
        names = [name_of(given, options, "release")]
    if many and names:
        raise UsageError("name the leases, or say which with -l, --tag-filter or --all; not both")
    from jumpstarter_proto.rpc import RpcError  # noqa: PLC0415

    from jumpstarter_client.controller.controller_client import explained, short_name  # noqa: PLC0415

    controller = controller_of(options)
    failures: list[JumpstarterError] = []

    async def release(calls: ControllerCalls) -> list[str]:
        found = names
        if many:
            mine = await matching(calls, controller, given, options, everybody=False, ended=False)
            found = [short_name(one.name) for one in mine]
        for name in found:
            try:
                with explained():
                    await calls.delete_lease(name)
            except RpcError as error:  # the others are given back all the same
                failures.append(error)
                continue
            print_line(name if options.output == "name" else f"{name} is released")
        return found

    found = ask(controller, release)
    if failures:
        raise _all_of(failures)
    if not found and "--all" not in given.flags:
        raise NotFoundError("no lease of yours is like that; `jumpstarter lease list` shows yours")
    return ExitCode.OK


def _all_of(failures: list[JumpstarterError]) -> JumpstarterError:
    """One error for several; its exit code is the first one's."""
    error = JumpstarterError("; ".join(map(str, failures)))
    error.exit_code = failures[0].exit_code
    return error
