"""`jumpstarter lease …`: boards for more than one command, or for later."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.texts import printable

from jumpstarter_client.cli.arguments import Arguments, asks_for_help, take
from jumpstarter_client.cli.options import Options, UsageError, nearest, take_output
from jumpstarter_client.errors import NotFoundError

if TYPE_CHECKING:
    from jumpstarter_proto.client.v1 import client_pb2 as pb

    from jumpstarter_client.leasing.controller import Calls, Controller

__all__ = ["lease"]

HELP = """Usage: jumpstarter lease create|list|show|extend|transfer|release [ARGUMENT ...] [--client FILE]

A lease is a board of a controller that is yours for a time. `-l board=rpi4` on any command leases one for that
command; these keep one for longer, for later, or for somebody else.

  jumpstarter lease create -l board=rpi4 --duration 2h    waits until it is yours; Ctrl-C gives it up
  jumpstarter lease create -n rpi4-1 --no-wait            that board; stands in the queue without you
  jumpstarter lease create -l board=rpi4 --begin-time 2027-01-31T08:00 --duration 4h
  export JMP_LEASE=$(jumpstarter lease create -l board=rpi4 -o name)
  jumpstarter lease list                                  yours; -A: everybody's; -a: those that ended, too
  jumpstarter lease show NAME
  jumpstarter lease extend NAME 30m                       30 minutes more; --total 2h: two hours from its begin
  jumpstarter lease transfer NAME bob
  jumpstarter lease release NAME                          or -l SELECTOR, or --all

Inside `jumpstarter shell` the shell's lease needs no name: jumpstarter lease extend 30m

Options of create:
  -l SELECTOR            labels of the board: k=v, k!=v, 'k in (a,b)', k, '!k'; joined with commas
  -n, --exporter NAME    one board by the name of its exporter
  --duration TIME        such as 90 (seconds), 30m, 1h30m, 1d; 30m if left out
  --begin-time TIME      when it begins, in ISO 8601; then it is not waited for
  --lease-id NAME        a name of your own
  --tag KEY=VALUE        to find it again with `list --tag-filter KEY=VALUE`; several are fine
  --context KEY=VALUE    handed to the exporter's hooks
  --allow-disabled       also boards that are taken out of service
  --no-wait              do not wait until it is ready
  --acquisition-timeout TIME   how long to wait; 2h if left out
Options of list and release:
  -l SELECTOR            leases that were asked for with these labels
  --tag-filter SELECTOR  with these tags
  -A, --all-clients      everybody's (list)
  -a, --all              list: ended ones, too; release: all of yours
"""

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


def lease(arguments: list[str], options: Options) -> ExitCode:
    """The command."""
    if not arguments or asks_for_help(arguments):
        sys.stdout.write(HELP)
        return ExitCode.OK if arguments else ExitCode.USAGE
    word, rest = arguments[0], arguments[1:]
    if word not in _VERBS:
        raise UsageError(f"`lease` has no verb {word!r}{nearest(word, set(_VERBS.values()) - {'update'})}")
    output, rest = take_output(rest)
    options.output = output or options.output
    match _VERBS[word]:
        case "create":
            return _create(_taken("create", rest, _CREATE, ("--allow-disabled", "--no-wait")), options)
        case "list":
            flags = ("-a", "--all", "-A", "--all-clients")
            return _list(_taken("list", rest, ("--tag-filter",), flags), options)
        case "show":
            return _show(_taken("show", rest), options)
        case "extend":
            return _extend(_taken("extend", rest, ("--by", "--total")), options)
        case "update":
            return _update(_taken("update", rest, ("--begin-time", "--to-client")), options)
        case "transfer":
            return _transfer(_taken("transfer", rest), options)
        case _:
            return _release(_taken("release", rest, ("--tag-filter",), ("-a", "--all")), options)


_CREATE = ("-n", "--name", "--begin-time", "--lease-id", "--tag", "--context")
_LONG = {"-n": "--name", "-a": "--all", "-A": "--all-clients"}


def _taken(
    verb: str, arguments: list[str], valued: tuple[str, ...] = (), flags: tuple[str, ...] = ()
) -> Arguments:
    return take(
        f"lease {verb}",
        arguments,
        {name: _LONG.get(name, name) for name in valued},
        {name: _LONG.get(name, name) for name in flags},
    )


def _controller(options: Options) -> Controller:
    from jumpstarter_client.leasing.configs import load  # noqa: PLC0415 - not for --help
    from jumpstarter_client.leasing.controller import Controller  # noqa: PLC0415

    return Controller(load(options.client, os.environ))


def _name(given: Arguments, options: Options, verb: str, others: int = 0) -> str:
    """The lease that is meant: the first word, if there is one more than the verb needs; else the shell's."""
    if len(given.words) > others:
        return given.words.pop(0)
    if name := _known(options):
        return name
    raise UsageError(f"which lease? `jumpstarter lease {verb} NAME`; `jumpstarter lease list` shows yours")


def _known(options: Options) -> str | None:
    """A lease that is meant without being named."""
    return options.lease or os.environ.get("JMP_LEASE")


def _no_more(given: Arguments, verb: str) -> None:
    if given.words:
        raise UsageError(
            f"`lease {verb}` takes no {given.words[0]!r}; `jumpstarter lease --help` shows examples"
        )


def _print(one: pb.Lease, options: Options, sentence: str) -> None:
    """One lease, as it was asked for."""
    from jumpstarter_client.leasing.controller import bare  # noqa: PLC0415

    if options.output == "name":
        sys.stdout.write(f"{bare(one.name)}\n")
    elif options.output:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415
        from jumpstarter_client.leasing.facts import as_data  # noqa: PLC0415

        write_data(as_data(one, time.time()), options.output)
    else:
        sys.stdout.write(f"{printable(sentence)}\n")


def _create(given: Arguments, options: Options) -> ExitCode:
    _no_more(given, "create")
    exporter = given.one("--name") or options.exporter or options.exporter_name or ""
    if not options.selector and not exporter:
        raise UsageError(
            "which board? Name its labels (-l board=rpi4) or its exporter (-n rpi4-1); "
            "`jumpstarter exporters` shows what there is"
        )
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415 - not for a wrong command line
    from jumpstarter_client.leasing import acquire  # noqa: PLC0415
    from jumpstarter_client.leasing.controller import bare  # noqa: PLC0415
    from jumpstarter_client.leasing.times import moment, seconds  # noqa: PLC0415
    from jumpstarter_client.leasing.wanted import DURATION, Wanted  # noqa: PLC0415
    from jumpstarter_client.waiting import WaitingLine  # noqa: PLC0415

    duration = seconds(options.duration) if options.duration else DURATION
    patience = seconds(options.acquisition_timeout) if options.acquisition_timeout else None
    request = Wanted(options.selector or "", exporter, duration=duration).request()
    begin = given.one("--begin-time")
    if begin:
        request.begin_time.FromSeconds(int(moment(begin).timestamp()))
    request.tags.update(given.pairs("--tag"))
    request.context.update(given.pairs("--context"))
    request.allow_disabled = "--allow-disabled" in given.flags
    controller = _controller(options)
    name = given.one("--lease-id") or acquire.new_name()
    waits = "--no-wait" not in given.flags and not begin

    async def ask() -> pb.Lease:
        made = await acquire.create(controller, name, request)
        if not waits:
            return made
        line = WaitingLine("Waiting for a board")
        try:
            limit = patience or controller.config.acquisition_timeout
            ready, _ = await acquire.until_ready(controller, made, line, timeout=limit)
        except BaseException:  # whatever it was, nobody waits any more
            await acquire.release(controller, name)
            raise
        finally:
            line.finish()
        return ready

    made = run(ask)
    sentence = f"{name}: {bare(made.exporter)} is yours" if made.exporter else f"{name}: {_stands(made)}"
    _print(made, options, sentence)
    return ExitCode.OK


def _stands(one: pb.Lease) -> str:
    from jumpstarter_client.leasing.facts import expiry, standing  # noqa: PLC0415
    from jumpstarter_client.leasing.times import when  # noqa: PLC0415

    found = standing(one, time.time())
    end = expiry(one)
    until = f", until {when(end)}" if end and found.state in ("ready", "scheduled") else ""
    return f"{found.state}: {found.sentence}{until}"


async def _matching(
    calls: Calls, controller: Controller, given: Arguments, options: Options, *, everybody: bool, ended: bool
) -> list[pb.Lease]:
    return [
        one
        async for one in calls.leases(
            options.selector or "", tags=given.one("--tag-filter") or "", ended_too=ended
        )
        if everybody or one.client == controller.own_name
    ]


def _list(given: Arguments, options: Options) -> ExitCode:
    _no_more(given, "list")
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415
    from jumpstarter_client.leasing.controller import bare  # noqa: PLC0415
    from jumpstarter_client.leasing.facts import as_data, expiry, remaining, selector_of  # noqa: PLC0415
    from jumpstarter_client.leasing.times import spell, when  # noqa: PLC0415

    controller = _controller(options)

    async def ask() -> list[pb.Lease]:
        async with controller.open() as calls:
            return await _matching(
                calls,
                controller,
                given,
                options,
                everybody="--all-clients" in given.flags,
                ended="--all" in given.flags,
            )

    found = run(ask)
    now = time.time()
    if options.output == "name":
        sys.stdout.write("".join(f"{bare(one.name)}\n" for one in found))
    elif options.output:
        from jumpstarter_client.cli.output import write_data  # noqa: PLC0415

        write_data({"leases": [as_data(one, now) for one in found]}, options.output)
    elif not found:
        whose = "no leases" if "--all-clients" in given.flags else "no leases of yours"
        sys.stderr.write(f"{whose}; `jumpstarter lease create -l board=rpi4` makes one\n")
    else:
        from jumpstarter_client.cli.table import table  # noqa: PLC0415

        rows = []
        for one in found:
            end, left = expiry(one), remaining(one, now)
            rows.append(
                (
                    bare(one.name),
                    selector_of(one) or f"(exporter {one.exporter_name})",
                    when(end) if end else "",
                    spell(left) if left is not None else "",
                    bare(one.client),
                    bare(one.exporter),
                    _short(one, now),
                )
            )
        titles = ("NAME", "SELECTOR", "EXPIRES", "REMAINING", "CLIENT", "EXPORTER", "STATE")
        sys.stdout.write(table(titles, rows))
    return ExitCode.OK


def _short(one: pb.Lease, now: float) -> str:
    from jumpstarter_client.leasing.facts import standing  # noqa: PLC0415

    found = standing(one, now)
    return found.state if found.state in ("ready", "scheduled") else f"{found.state}: {found.sentence}"


def _show(given: Arguments, options: Options) -> ExitCode:
    name = _name(given, options, "show")
    _no_more(given, "show")
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415
    from jumpstarter_client.leasing.facts import describe  # noqa: PLC0415

    controller = _controller(options)

    async def ask() -> pb.Lease:
        async with controller.open() as calls:
            return await calls.get_lease(name)

    one = run(ask)
    _print(one, options, "\n".join(describe(one, time.time())))
    return ExitCode.OK


def _change(name: str, changes: pb.Lease, options: Options) -> pb.Lease:
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415

    controller = _controller(options)

    async def ask() -> pb.Lease:
        async with controller.open() as calls:
            return await calls.update_lease(name, changes)

    return run(ask)


def _extend(given: Arguments, options: Options) -> ExitCode:
    total = given.one("--total") or options.duration
    by = given.one("--by")
    if not total and not by:
        if not given.words or (len(given.words) == 1 and not _known(options)):
            raise UsageError("by how much? For example `jumpstarter lease extend NAME 30m`")
        by = given.words.pop()
    name = _name(given, options, "extend")
    _no_more(given, "extend")
    if total and by:
        raise UsageError("--total is the whole duration, a time alone is added to it; use one of them")
    from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415
    from jumpstarter_client.leasing.times import seconds  # noqa: PLC0415

    change = int(seconds(total or by or ""))
    controller = _controller(options)

    async def ask() -> pb.Lease:
        async with controller.open() as calls:
            whole = change if total else change + (await calls.get_lease(name)).duration.seconds
            changes = client_pb2.Lease()
            changes.duration.FromSeconds(whole)
            return await calls.update_lease(name, changes)

    one = run(ask)
    _print(one, options, f"{name}: {_stands(one)}")
    return ExitCode.OK


def _update(given: Arguments, options: Options) -> ExitCode:
    """As Jumpstarter's own client has it: each option says what the lease has from then on."""
    name = _name(given, options, "update")
    _no_more(given, "update")
    begin, client = given.one("--begin-time"), given.one("--to-client")
    if not options.duration and not begin and not client:
        raise UsageError("`lease update` changes --duration, --begin-time or --to-client; give one of them")
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415
    from jumpstarter_client.leasing.times import moment, seconds  # noqa: PLC0415

    duration = int(seconds(options.duration)) if options.duration else None
    start = int(moment(begin).timestamp()) if begin else None
    controller = _controller(options)

    async def ask() -> pb.Lease:
        from jumpstarter_proto.client.v1 import client_pb2  # noqa: PLC0415

        async with controller.open() as calls:
            one = await calls.get_lease(name)
            if duration or start:
                changes = client_pb2.Lease()
                # A controller wants the duration with the begin, even if it stays.
                changes.duration.FromSeconds(duration or one.duration.seconds)
                if start:
                    changes.begin_time.FromSeconds(start)
                one = await calls.update_lease(name, changes)
            return await calls.transfer_lease(name, client) if client else one

    one = run(ask)
    _print(one, options, f"{name}: {_stands(one)}")
    return ExitCode.OK


def _transfer(given: Arguments, options: Options) -> ExitCode:
    name = _name(given, options, "transfer", 1)
    if not given.words:
        raise UsageError("to whom? `jumpstarter lease transfer NAME CLIENT`")
    client = given.words.pop(0)
    _no_more(given, "transfer")
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415

    controller = _controller(options)

    async def ask() -> pb.Lease:
        async with controller.open() as calls:
            return await calls.transfer_lease(name, client)

    _print(run(ask), options, f"{name} is {client}'s")
    return ExitCode.OK


def _release(given: Arguments, options: Options) -> ExitCode:
    many = bool(options.selector or "--all" in given.flags or given.one("--tag-filter"))
    names = list(given.words)
    if not many and not names:
        names = [_name(given, options, "release")]
    if many and names:
        raise UsageError("name the leases, or say which with -l, --tag-filter or --all; not both")
    from jumpstarter_client.cli.asynchronous import run  # noqa: PLC0415
    from jumpstarter_client.leasing.controller import bare  # noqa: PLC0415

    controller = _controller(options)

    async def ask() -> list[str]:
        async with controller.open() as calls:
            found = names
            if many:
                mine = await _matching(calls, controller, given, options, everybody=False, ended=False)
                found = [bare(one.name) for one in mine]
            for name in found:
                await calls.delete_lease(name)
                sys.stdout.write(f"{name}\n" if options.output == "name" else f"{name} is released\n")
            return found

    if not run(ask) and "--all" not in given.flags:
        raise NotFoundError("no lease of yours is like that; `jumpstarter lease list` shows yours")
    return ExitCode.OK
