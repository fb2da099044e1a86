"""What `admin journal` does, and says."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jumpstarter_proto.durations import TimeFormatError, parse_duration
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.lab.v1.lab_grpc import AdminServiceStub
from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_controller.cli.admin_call import call_admin

__all__ = ["JournalOptions", "show"]


@dataclass(frozen=True)
class JournalOptions:
    """What of the journal."""

    board: str
    client: str
    lease: str
    since: str
    until: str
    limit: int
    namespace: str


def show(wanted: JournalOptions, output: str, *, data: Path | None) -> int:
    """Print it."""
    request = lab_pb2.ReadJournalRequest(
        namespace=wanted.namespace,
        board=wanted.board,
        client=wanted.client,
        lease=wanted.lease,
        since_seconds=_ago(wanted.since),
        until_seconds=_ago(wanted.until) if wanted.until else None,
        limit=wanted.limit,
    )

    async def ask(stub: AdminServiceStub) -> list[lab_pb2.JournalPage]:
        async with stub.ReadJournal(request) as call:
            return [page async for page in call]

    pages = call_admin(data, ask)
    entries = [entry for page in pages for entry in page.entries]
    for page in pages:
        if page.trouble:
            print_error_line(f"warning: what happened last may be missing: {page.trouble}")
        if page.left:
            print_error_line(f"{page.left} older ones are not shown; see --limit, --since and --until")
    if output == "table":
        for entry in entries:
            print_line(_line(entry))
        if not entries:
            until = f" until {wanted.until}" if wanted.until else ""
            print_error_line(f"nothing is in the journal of that since {wanted.since}{until}")
        return 0
    described = {"entries": [_described(entry) for entry in entries]}
    if output == "json":
        print_text(json.dumps(described, indent=2) + "\n")
    else:
        print_text(yaml.safe_dump(described, sort_keys=False))
    return 0


def _ago(text: str) -> float:
    """Seconds back from now. TimeFormatError if that is neither a duration nor a time."""
    try:
        return parse_duration(text)
    except TimeFormatError:
        pass
    try:
        then = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):  # the year 1 is none where the time zone puts it into the year before
        raise TimeFormatError(
            f"{text!r} is neither a duration nor a time; write for example 2h, 7d, 2026-11-28 or 2026-11-28T18:00"
        ) from None
    return time.time() - then


def _line(entry: lab_pb2.JournalEntry) -> str:
    """Format an entry as time, board, user and action; empty parts are a dash."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time.ToNanoseconds() / 1e9))
    who = entry.client
    if entry.user:
        user = f"{entry.user} of the host"
        who = f"{user}, beside {who}" if who else user
    what = entry.what
    if entry.more:
        calls = "call" if entry.is_call else "entry"
        plural = "calls" if entry.is_call else "entries"
        what = f"and {entry.more} more {calls if entry.more == 1 else plural}"
    elif entry.is_call:
        what = _call(entry)
    lease = f"  lease={entry.lease}" if entry.lease else ""
    return f"{when}  {entry.board or '-'}  {who or '-'}  {what}{lease}"


def _call(entry: lab_pb2.JournalEntry) -> str:
    name = f"{entry.device}.{entry.method}" if entry.device else entry.method
    said = f" ({entry.what})" if entry.what else ""
    if not entry.status:
        return f"{name}: begins{said}"
    moved = ""
    if entry.received_bytes or entry.sent_bytes:
        moved = f", {entry.received_bytes} bytes to it, {entry.sent_bytes} from it"
    return f"{name}: {entry.status}, {entry.seconds:.1f} s{moved}{said}"


def _described(entry: lab_pb2.JournalEntry) -> dict[str, Any]:
    """What is known; the keys of a call only in a call."""
    then = datetime.fromtimestamp(entry.time.ToNanoseconds() / 1e9, UTC)
    found: dict[str, Any] = {
        "time": then.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": "call" if entry.is_call else "event",
    }
    names = ("namespace", "board", "client", "lease", "user", "session", "device", "method", "status", "what")
    found |= {name: value for name in names if (value := getattr(entry, name))}
    if entry.more:
        found["more"] = entry.more
    elif entry.is_call and entry.status:
        found["seconds"] = round(entry.seconds, 3)
        if entry.received_bytes or entry.sent_bytes:
            found |= {"receivedBytes": entry.received_bytes, "sentBytes": entry.sent_bytes}
    return found
