"""`jumpstarter-exporter boards` and `forget`: asks the host's exporter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.terminal import print_line, print_text
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_pb2 import GetReportResponse

from jumpstarter_exporter.cli.drain import CALL_SECONDS, MAX_TEXT, asked
from jumpstarter_exporter.serve.discovered_devices import IDENTITY, IDENTITY_REASON, PROFILE
from jumpstarter_exporter.session.report import INTERFACE, NAME, REASON, STATE

__all__ = ["forget_device", "list_boards"]


def list_boards(*, output: str, socket: Path | None) -> int:
    """Returns the exit code. RpcError: no exporter is running."""

    async def ask(stub: HostServiceStub) -> host_pb2.ListBoardsResponse:
        return await stub.ListBoards(host_pb2.ListBoardsRequest(), timeout=CALL_SECONDS)

    listed = asked(ask, socket)
    if output == "text":
        for line in _lines(listed):
            print_line(line)
    elif output == "name":
        for board in listed.boards:
            print_line(board.name)
    else:
        _print_data(_described(listed), output)
    return ExitCode.OK


def forget_device(name: str, *, socket: Path | None) -> int:
    """Returns the exit code. RpcError: NOT_FOUND, there is no such device; FAILED_PRECONDITION, it is plugged in."""

    async def ask(stub: HostServiceStub) -> host_pb2.ForgetResponse:
        return await stub.Forget(host_pb2.ForgetRequest(device=name), timeout=CALL_SECONDS)

    asked(ask, socket)
    print_line(f"{shown(name)} is forgotten")
    return ExitCode.OK


def _lines(listed: host_pb2.ListBoardsResponse) -> Iterator[str]:
    for board in listed.boards:
        source = "discovered" if board.discovered else board.file
        yield f"{shown(board.name)}  {shown(source, MAX_TEXT)}"
        if board.problem:
            yield f"  not served: {shown(board.problem, MAX_TEXT)}"
            continue
        yield f"  {_registration(board)}"
        for text in (board.use, board.change):
            if text:
                yield f"  {shown(text, MAX_TEXT)}"
        devices = _devices(board.report)
        for device in devices:
            reason = f": {shown(device['reason'], MAX_TEXT)}" if device["reason"] else ""
            yield f"  {shown(device['path'])}  {shown(device['interface'])} {shown(device['state'])}{reason}"
            if identity := device["identity"]:
                why = shown(device["identity_reason"], MAX_TEXT)
                yield f"    known by its {shown(identity, MAX_TEXT)}: {why}"
        if not devices:
            yield "  no devices"
    if listed.unassigned:
        yield "Unassigned"
        for one in listed.unassigned:
            yield f"  {shown(one.name)}: {shown(one.reason, MAX_TEXT)}"
    for text in listed.problems:
        yield shown(text, MAX_TEXT)
    if not listed.boards:
        yield "this host has no board"


def _registration(board: host_pb2.Board) -> str:
    if board.exporter:
        return shown(board.exporter, MAX_TEXT)
    how = f" --board {board.name}" if board.discovered else f" --config {board.file}"
    return f"of no controller: it has no token; jumpstarter-exporter enrol HOST:PORT{shown(how, MAX_TEXT)}"


def _described(listed: host_pb2.ListBoardsResponse) -> dict[str, Any]:
    return {
        "boards": [
            {
                "name": board.name,
                "discovered": board.discovered,
                "file": board.file or None,
                "exporter": board.exporter or None,
                "problem": board.problem or None,
                "use": board.use or None,
                "change": board.change or None,
                "devices": _devices(board.report),
            }
            for board in listed.boards
        ],
        "unassigned": [{"name": one.name, "reason": one.reason} for one in listed.unassigned],
        "problems": list(listed.problems),
    }


def _devices(report: GetReportResponse) -> list[dict[str, str]]:
    """Devices without mere groups, with their paths."""
    by_uuid = {one.uuid: one for one in report.reports}
    parents = {one.parent_uuid for one in report.reports}
    found = []
    for one in report.reports:
        names: list[str] = []
        above, seen = one, set()
        while above.parent_uuid and above.uuid not in seen:  # a `ref` is in two places
            seen.add(above.uuid)
            names.append(above.labels.get(NAME, ""))
            if above.parent_uuid not in by_uuid:
                break
            above = by_uuid[above.parent_uuid]
        labels: Mapping[str, str] = one.labels
        if names and not (one.uuid in parents and labels.get(INTERFACE) == "composite"):
            found.append(
                {
                    "path": ".".join(reversed(names)),
                    "uuid": one.uuid,
                    "interface": labels.get(INTERFACE, ""),
                    "state": labels.get(STATE, ""),
                    "reason": labels.get(REASON, ""),
                    "identity": labels.get(IDENTITY, ""),
                    "identity_reason": labels.get(IDENTITY_REASON, ""),
                    "profile": labels.get(PROFILE, ""),
                }
            )
    return found


def _print_data(data: dict[str, Any], output: str) -> None:
    if output == "json":
        print_text(json.dumps(data, indent=2) + "\n")
        return
    import yaml  # noqa: PLC0415 - only needed for YAML output

    print_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=False))
