"""Findings about a host's system, services and configuration. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from jumpstarter_exporter.host_health.facts import (
    Account,
    ClockFacts,
    ConfigurationFacts,
    ControllerFacts,
    DeviceAccess,
    ExporterFacts,
    FileAccess,
    MemoryFacts,
    ProgramFacts,
    ServiceUnit,
    UdevFacts,
)
from jumpstarter_exporter.host_health.findings import HealthFinding, Severity

__all__ = [
    "judge_clock",
    "judge_configuration",
    "judge_controllers",
    "judge_devices",
    "judge_exporter",
    "judge_memory",
    "judge_programs",
    "judge_services",
    "judge_udev",
    "judge_unreadable",
]

FEW_BYTES = 64 * 1024 * 1024
FEW_SHARE = 0.08
FIRST_YEAR = 2026
"""The year of this version: an earlier year means a wrong clock."""
TOKEN_DAYS = 30
MANY_RESTARTS = 3
_SERVICE = "jumpstarter-exporter.service"
_SOCKET = "jumpstarter-exporter.socket"


def judge_memory(facts: MemoryFacts) -> Iterator[HealthFinding]:
    """Whether there is enough memory."""
    is_short = facts.available < max(FEW_BYTES, int(facts.total * FEW_SHARE))
    yield HealthFinding(
        "memory.available",
        Severity.WARNING if is_short else Severity.OK,
        f"{facts.available / 1e6:.0f} MB of {facts.total / 1e6:.0f} MB memory available",
        "end other programs, or move boards to another host" if is_short else "",
    )
    if facts.kills:
        times = "once" if facts.kills == 1 else f"{facts.kills} times"
        yield HealthFinding(
            "memory.killed",
            Severity.WARNING,
            f"the kernel has ended programs {times} since the boot because there was not enough memory",
            "see which with `journalctl -k -g oom`, and move something to another host",
        )


def judge_clock(facts: ClockFacts) -> Iterator[HealthFinding]:
    """Certificates and tokens have a validity: with a wrong clock no controller can be trusted."""
    year = time.gmtime(facts.now).tm_year
    ntp = "let it reach a time server: timedatectl set-ntp true, and `chronyc sources` or `timedatectl timesync-status`"
    if year < FIRST_YEAR:
        yield HealthFinding(
            "clock.year",
            Severity.ERROR,
            f"the clock says that it is the year {year}, with which no controller's certificate is good yet",
            ntp,
        )
    if facts.is_synchronised is None:
        yield HealthFinding(
            "clock.synchronised", Severity.UNKNOWN, "this user may not ask whether the clock is synchronised"
        )
    elif facts.is_synchronised:
        yield HealthFinding("clock.synchronised", Severity.OK, "the clock is synchronised")
    else:
        after = "" if facts.has_rtc else ", and the host has no battery-backed clock"
        yield HealthFinding(
            "clock.synchronised",
            Severity.WARNING,
            f"the clock is not synchronised with a time server{after}",
            ntp,
        )


def judge_devices(account: Account | None, devices: Sequence[DeviceAccess]) -> Iterator[HealthFinding]:
    """Whether the exporter may open the boards' devices."""
    if account is None:
        return
    who = f"the exporter's user {account.name}" if account.is_exporters else f"user {account.name}"
    refused = [one for one in devices if not one.is_allowed]
    for one in refused:
        node = one.node
        boards = f" of {', '.join(one.boards[:4])}" if one.boards else ""
        if node.mode & 0o060 != 0o060 or node.group in ("root", "0"):
            cure = "install the udev rules and plug it in again (docs/systemd.md)"
        elif node.group in account.groups and not account.is_exporters:
            cure = f"the group {node.group} takes effect with the next login: log in again"
        else:
            again = "`systemctl restart jumpstarter-exporter`" if account.is_exporters else "log in again"
            cure = f"sudo adduser {account.name} {node.group}, then {again}"
        yield HealthFinding(
            "device.permission",
            Severity.ERROR,
            f"{who} may not use {node.place}{boards} ({node})",
            cure,
            node.place,
        )
    if devices and not refused:
        number = f"all {len(devices)} devices" if len(devices) > 1 else devices[0].node.place
        yield HealthFinding("device.permission", Severity.OK, f"{who} may use {number}")


def judge_services(units: Sequence[ServiceUnit]) -> Iterator[HealthFinding]:
    """The units of the exporter, and of boards with a process of their own."""
    by_name = {unit.name: unit for unit in units}
    service = by_name.get(_SERVICE)
    if service is None or service.load == "not-found":
        yield HealthFinding(
            "service.installed",
            Severity.WARNING,
            f"{_SERVICE} is not installed: nothing starts the exporter with the host",
            "install the package, or the units (docs/systemd.md)",
        )
        return
    for unit in units:
        if unit.load not in ("loaded", "not-found"):
            yield HealthFinding(
                "service.load",
                Severity.ERROR,
                f"systemd cannot use {unit.name}: it is {unit.load}",
                f"`systemctl status {unit.name}` says why; `systemctl daemon-reload` after a change",
                unit.name,
            )
        elif unit.active == "failed":
            yield HealthFinding(
                "service.failed",
                Severity.ERROR,
                f"{unit.name} has failed ({unit.result or unit.sub})",
                f"`journalctl -u {unit.name} -n 50` says why, and `systemctl restart {unit.name}` tries again",
                unit.name,
            )
        if unit.restarts >= MANY_RESTARTS:
            yield HealthFinding(
                "service.restarts",
                Severity.WARNING,
                f"{unit.name} was started again {unit.restarts} times after it had ended",
                f"`journalctl -u {unit.name}` says why",
                unit.name,
            )
    if service.load == "loaded" and service.enabled not in ("enabled", "enabled-runtime", "static", "alias"):
        yield HealthFinding(
            "service.enabled",
            Severity.WARNING,
            f"{_SERVICE} is {service.enabled or 'not enabled'}: it does not start with the host",
            f"systemctl enable --now {_SERVICE}",
        )
    socket = by_name.get(_SOCKET)
    waits = socket is not None and socket.active == "active"
    if service.active in ("inactive", "deactivating"):
        then = ", and begins with the next command" if waits else ""
        yield HealthFinding(
            "service.active",
            Severity.WARNING,
            f"{_SERVICE} is {service.active}{then}",
            f"systemctl start {_SERVICE}",
        )
    elif service.active in ("active", "reloading"):
        yield HealthFinding("service.active", Severity.OK, f"{_SERVICE} runs")
    elif service.active == "activating":
        yield HealthFinding(
            "service.active",
            Severity.WARNING,
            f"{_SERVICE} is starting ({service.sub})",
            f"if it stays so, `journalctl -u {_SERVICE}` says why",
        )
    if socket is not None and socket.load == "loaded" and not waits and socket.active != "failed":
        yield HealthFinding(
            "service.socket",
            Severity.WARNING,
            f"{_SOCKET} is {socket.active}: commands fail while the exporter starts again",
            f"systemctl enable --now {_SOCKET}",
        )


def judge_udev(facts: UdevFacts) -> Iterator[HealthFinding]:
    """Whether udev gives boards' devices to the exporter, and keeps other programs away."""
    install = (
        "copy the files and run `systemd-hwdb update && udevadm control --reload && udevadm trigger` "
        "(docs/systemd.md)"
    )
    if not facts.is_running:
        yield HealthFinding(
            "udev.running",
            Severity.WARNING,
            "udev does not run here: what is plugged in is found by looking, and permissions are the kernel's",
            "in a container, share the host's /run/udev with it",
        )
    missing = [name for name, state in facts.files.items() if state == "missing"]
    other = [name for name, state in facts.files.items() if state == "other"]
    if missing:
        yield HealthFinding(
            "udev.installed",
            Severity.WARNING,
            f"not installed: {', '.join(missing)}, so relays, muxes and probes are root's, and other programs may "
            "open consoles",
            install,
        )
    if other:
        yield HealthFinding(
            "udev.version", Severity.WARNING, f"not those of this version: {', '.join(other)}", install
        )
    if facts.is_compiled is False and not missing:
        yield HealthFinding(
            "udev.hwdb",
            Severity.WARNING,
            "udev's compiled tables do not contain the rules of Jumpstarter",
            "systemd-hwdb update && udevadm trigger",
        )
    if not missing and not other and facts.is_compiled is not False and facts.is_running:
        yield HealthFinding("udev.installed", Severity.OK, "rules and tables are those of this version")


def judge_programs(facts: ProgramFacts, udev: UdevFacts | None) -> Iterator[HealthFinding]:
    """Programs that send bytes to boot loaders; our rules keep them from the adapters that we know."""
    kept_off = udev is not None and udev.is_running and all(one == "same" for one in udev.files.values())
    for name in facts.running:
        if kept_off:
            yield HealthFinding(
                "program.opens-ports",
                Severity.OK,
                f"{name} runs, and the udev rules keep it from the adapters that they know",
                subject=name,
            )
        else:
            yield HealthFinding(
                "program.opens-ports",
                Severity.WARNING,
                f"{name} runs, opens serial ports that are plugged in, and sends bytes into boot loaders",
                f"install the udev rules (docs/systemd.md), or `systemctl disable --now {name}`",
                name,
            )


def judge_configuration(facts: ConfigurationFacts, now: float) -> Iterator[HealthFinding]:
    """Files that the exporter cannot use, and tokens that expire."""
    for place, why in facts.problems.items():
        text = why.removeprefix(f"{place}: ").removeprefix(f"{place}:")
        yield HealthFinding(
            "config.broken", Severity.ERROR, f"{place}: {text}", "jumpstarter-exporter check", place
        )
    for place, why in facts.unseen.items():
        yield HealthFinding("config.unread", Severity.UNKNOWN, f"{place}: {why}", subject=place)
    if not facts.problems and not facts.unseen:
        number = "1 configuration" if facts.boards == 1 else f"{facts.boards or 'no'} configurations"
        yield HealthFinding("config.broken", Severity.OK, f"{number}, and nothing wrong in any")
    if facts.identities:
        named = ", ".join(f"{one.who} of {one.endpoint}" for one in facts.identities[:4])
        yield HealthFinding("config.identity", Severity.OK, f"known to a controller: {named}")
    elif not facts.problems and not facts.unseen:
        yield HealthFinding(
            "config.identity", Severity.OK, "known to no controller, so its boards are for users of this host"
        )
    for one in facts.identities:
        if one.expires is None:
            continue
        days = (one.expires - now) / 86400
        if days >= TOKEN_DAYS:
            continue
        ended = "has ended" if days < 0 else f"ends in {days:.0f} days"
        yield HealthFinding(
            "config.token",
            Severity.ERROR if days < 0 else Severity.WARNING,
            f"the token of {one.who} at {one.endpoint} {ended}",
            "have a code made there with `jumpstarter-controller admin pair … --renew`, and `jumpstarter-exporter "
            "enrol` with it",
            one.who,
        )


def judge_unreadable(account: Account | None, files: Sequence[FileAccess]) -> Iterator[HealthFinding]:
    """Files that the exporter must read, but cannot."""
    if account is None:
        return
    who = f"the exporter's user {account.name}" if account.is_exporters else f"user {account.name}"
    for one in files:
        yield HealthFinding(
            "config.permission",
            Severity.ERROR,
            f"{who} may not read {one.place} ({one})",
            f"chgrp {account.name} {one.place} && chmod 640 {one.place}",
            one.place,
        )


def judge_controllers(controllers: Sequence[ControllerFacts]) -> Iterator[HealthFinding]:
    """Whether each controller can be reached and is authentic."""
    for one in controllers:
        if one.problem:
            yield HealthFinding(
                "controller.reachable",
                Severity.ERROR,
                f"the controller {one.endpoint} cannot be used: {one.problem.removeprefix(f'{one.endpoint}: ')}",
                "look at its address in the configuration, its name server, the way there, and the clock of this host",
                one.endpoint,
            )
        else:
            yield HealthFinding(
                "controller.reachable",
                Severity.OK,
                f"the controller {one.endpoint} answers, and its certificate is good",
                subject=one.endpoint,
            )


def judge_exporter(facts: ExporterFacts) -> Iterator[HealthFinding]:
    """The running exporter."""
    if facts.why:
        yield HealthFinding("exporter.running", Severity.UNKNOWN, f"the exporter: {facts.why}")
        return
    if not facts.is_running:
        yield HealthFinding(
            "exporter.running",
            Severity.OK,
            "no exporter runs for this user: each command uses configured boards by itself",
        )
        return
    number = "1 board" if facts.boards == 1 else f"{facts.boards or 'no'} boards"
    yield HealthFinding("exporter.running", Severity.OK, f"an exporter runs, and has {number}")
    for board, why in facts.problems.items():
        yield HealthFinding(
            "exporter.board",
            Severity.ERROR,
            f"the board {board} is not served: {why}",
            f"put that right, then `jumpstarter-exporter reload` or `resume {board}`",
            board,
        )
