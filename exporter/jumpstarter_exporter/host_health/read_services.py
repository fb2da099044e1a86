"""Queries systemd for our units, with a time limit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import trio
from jumpstarter_proto.numbers import find_number

from jumpstarter_exporter.host_health.facts import ServiceUnit, Unread
from jumpstarter_exporter.host_health.host_files import HostFiles

__all__ = ["SYSTEMCTL", "parse_units", "read_services"]

SYSTEMCTL = "systemctl"
SYSTEMCTL_SECONDS = 5.0
MAX_UNITS = 140
MAX_OUTPUT = 256 * 1024
_UNITS = ("jumpstarter-exporter.service", "jumpstarter-exporter.socket", "jumpstarter-exporter@*.service")
_PROPERTIES = (
    "Id",
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "User",
    "SupplementaryGroups",
)


async def read_services(
    files: HostFiles, program: Sequence[str] = (SYSTEMCTL,)
) -> tuple[ServiceUnit, ...] | Unread:
    """The exporter's units. A cancellation kills the program."""
    if not files.exists("/run/systemd/system"):
        return Unread("this host was not started by systemd")
    command = [*program, "show", f"--property={','.join(_PROPERTIES)}", *_UNITS]
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    try:
        with trio.fail_after(SYSTEMCTL_SECONDS):
            ended = await trio.run_process(
                command,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment,
                deliver_cancel=_kill,
            )
    except trio.TooSlowError:
        return Unread(f"systemctl did not answer within {SYSTEMCTL_SECONDS:g} s")
    except OSError as error:
        return Unread(f"systemctl cannot be run: {error.strerror}")
    if ended.returncode:
        said = " ".join(ended.stderr.decode(errors="replace").split())[:200]
        return Unread(f"systemctl ended with {ended.returncode}: {said}")
    return parse_units(ended.stdout[:MAX_OUTPUT].decode(errors="replace"))


async def _kill(process: trio.Process) -> None:
    """Kill it: it changes nothing, and a hanging one must not delay the caller."""
    process.kill()


def parse_units(text: str) -> tuple[ServiceUnit, ...]:
    """The units in the output of `systemctl show`: lines of `Name=value`, separated by empty lines."""
    found = []
    for block in text.split("\n\n")[:MAX_UNITS]:
        said = {key: value for key, _, value in (line.partition("=") for line in block.strip().splitlines())}
        if said.get("Id"):
            found.append(_unit(said))
    return tuple(found)


def _unit(said: Mapping[str, str]) -> ServiceUnit:
    return ServiceUnit(
        said["Id"],
        said.get("LoadState", ""),
        said.get("UnitFileState", ""),
        said.get("ActiveState", ""),
        said.get("SubState", ""),
        said.get("Result", ""),
        find_number(said.get("NRestarts", "")) or 0,
        said.get("User", ""),
        tuple(said.get("SupplementaryGroups", "").split()),
    )
