"""What the verbs of `jumpstarter lease` share: arguments, calls to the controller, and output."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.identifiers import short_form
from jumpstarter_proto.terminal import print_line, print_text

from jumpstarter_client.cli.arguments import Arguments, parse_arguments
from jumpstarter_client.cli.options import GlobalOptions, Option
from jumpstarter_client.cli.output import write_data
from jumpstarter_client.cli.run_trio import run_trio
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient, short_name
from jumpstarter_client.controller.lease_view import (
    as_data,
    beginning,
    expiry,
    lease_status,
    remaining,
    selector_of,
)
from jumpstarter_client.identity.client_config import load
from jumpstarter_client.lease.own_leases import find_lease, only_lease
from jumpstarter_client.times import format_duration, format_time

__all__ = [
    "call_controller",
    "controller_of",
    "implied_lease",
    "lease_name",
    "lease_table",
    "named_lease",
    "parse_verb",
    "print_lease",
    "require_no_words",
    "selected_leases",
    "status_text",
]

T = TypeVar("T")


def parse_verb(verb: str, arguments: list[str], options: Sequence[Option] = ()) -> Arguments:
    """Parse the arguments of a verb of `lease`."""
    return parse_arguments(f"lease {verb}", arguments, options)


def controller_of(options: GlobalOptions) -> ControllerClient:
    """Return the controller of the selected client configuration."""
    return ControllerClient(load(options.client, os.environ))


def lease_name(parsed: Arguments, options: GlobalOptions, others: int = 0) -> str:
    """Return the named lease: the first word if there are more than `others`; else the lease of the shell.

    Empty means the only lease of the client. `named_lease` finds what the name means.
    """
    if len(parsed.words) > others:
        return parsed.words.pop(0)
    return implied_lease(options) or ""


async def named_lease(calls: ControllerCalls, controller: ControllerClient, name: str) -> pb.Lease:
    """Return the lease with that name or short form; without a name, the only lease of the client."""
    if not name:
        return await only_lease(calls, controller)
    return await find_lease(calls, controller.own_name, name)


def call_controller(controller: ControllerClient, question: Callable[[ControllerCalls], Awaitable[T]]) -> T:
    """Run `question` on one connection to the controller and return its result."""

    async def main() -> T:
        async with controller.open() as calls:
            return await question(calls)

    return run_trio(main)


def implied_lease(options: GlobalOptions) -> str | None:
    """Return the lease from --lease or JMP_LEASE."""
    return options.lease or os.environ.get("JMP_LEASE")


def require_no_words(parsed: Arguments, verb: str) -> None:
    """Raise UsageError if words are left over."""
    if parsed.words:
        raise UsageError(
            f"unexpected argument {parsed.words[0]!r} of `lease {verb}`; `jumpstarter lease --help` shows examples"
        )


def print_lease(one: pb.Lease, options: GlobalOptions, sentence: str) -> None:
    """Print a lease in the selected format; `sentence` is for people."""
    if options.output == "name":
        print_line(short_name(one.name))
    elif options.output:
        write_data(as_data(one, time.time()), options.output)
    else:
        print_text(f"{sentence}\n")


def status_text(one: pb.Lease) -> str:
    """Describe the state of a lease, for the end of a sentence."""
    found = lease_status(one, time.time())
    end = expiry(one)
    until = f", until {format_time(end)}" if end and found.state in ("ready", "scheduled") else ""
    return f"{found.state}: {found.sentence}{until}"


async def selected_leases(
    calls: ControllerCalls,
    controller: ControllerClient,
    parsed: Arguments,
    options: GlobalOptions,
    *,
    everybody: bool,
    ended: bool,
) -> list[pb.Lease]:
    """Return the leases that the options select."""
    return [
        one
        async for one in calls.leases(
            options.selector or "", tags=parsed.one("--tag-filter") or "", ended_too=ended
        )
        if everybody or one.client == controller.own_name
    ]


def lease_table(found: list[pb.Lease], now: float) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles and rows of a table of leases; `now` in seconds since the epoch."""
    rows: list[tuple[str, ...]] = []
    for one in found:
        begin, end, left = beginning(one), expiry(one), remaining(one, now)
        rows.append(
            (
                short_form(short_name(one.name)),
                selector_of(one) or f"(exporter {one.exporter_name})",
                format_time(begin) if begin else "",
                format_time(end) if end else "",
                format_duration(left) if left is not None else "",
                short_name(one.client),
                short_name(one.exporter),
                _short(one, now),
            )
        )
    return ("NAME", "SELECTOR", "BEGINS", "EXPIRES", "REMAINING", "CLIENT", "EXPORTER", "STATE"), rows


def _short(one: pb.Lease, now: float) -> str:

    found = lease_status(one, now)
    return found.state if found.state in ("ready", "scheduled") else f"{found.state}: {found.sentence}"
