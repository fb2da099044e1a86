"""What facts about a system, its services and its configuration mean."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jumpstarter_exporter.host_health import AREAS, HostFacts, Severity, Unread, area_of, judge, measure
from jumpstarter_exporter.host_health.facts import (
    Account,
    ClockFacts,
    ConfigurationFacts,
    ControllerFacts,
    DeviceAccess,
    ExporterFacts,
    FileAccess,
    FilesystemSpace,
    IdentityFacts,
    MemoryFacts,
    PowerFacts,
    ProgramFacts,
    ServiceUnit,
    StorageFacts,
    TemperatureFacts,
    UdevFacts,
)
from jumpstarter_exporter.host_health.findings import HealthFinding
from jumpstarter_exporter.host_health.judge_system import (
    judge_clock,
    judge_configuration,
    judge_controllers,
    judge_devices,
    judge_exporter,
    judge_memory,
    judge_programs,
    judge_services,
    judge_udev,
    judge_unreadable,
)

NOW = 1_795_000_000.0  # November 2026
DAY = 86400.0
SERVICE = ServiceUnit("jumpstarter-exporter.service", "loaded", "enabled", "active", "running", "success")
SOCKET = ServiceUnit("jumpstarter-exporter.socket", "loaded", "enabled", "active", "running", "success")


def told(findings: list[HealthFinding]) -> list[tuple[str, str]]:
    return [(one.key, one.severity.value) for one in findings]


def test_memory() -> None:
    assert told(list(judge_memory(MemoryFacts(10**9, 5 * 10**8)))) == [("memory.available", "ok")]
    assert told(list(judge_memory(MemoryFacts(10**9, 7 * 10**7, kills=2)))) == [
        ("memory.available", "warning"),
        ("memory.killed", "warning"),
    ]
    assert told(list(judge_memory(MemoryFacts(4 * 10**8, 6 * 10**7)))) == [("memory.available", "warning")]


@pytest.mark.parametrize(
    ("total", "least"), [(10**9, 80_000_000), (4 * 10**8, 64 * 1024 * 1024)], ids=["a share", "at least"]
)
def test_how_much_memory_is_enough(total: int, least: int) -> None:
    (enough,), (short,) = (judge_memory(MemoryFacts(total, number)) for number in (least, least - 1))
    assert (enough.severity, short.severity) == (Severity.OK, Severity.WARNING)
    assert (enough.cure, bool(short.cure)) == ("", True)


def test_sentences_about_memory_have_their_numbers() -> None:
    available, killed = judge_memory(MemoryFacts(3_900_000_000, 612_000_000, kills=2))
    assert available.sentence == "612 MB of 3900 MB memory available"
    assert "has ended programs 2 times since the boot" in killed.sentence
    _, killed = judge_memory(MemoryFacts(3_900_000_000, 612_000_000, kills=1))
    assert "has ended programs once since the boot" in killed.sentence


@pytest.mark.parametrize(
    ("now", "synchronised", "found"),
    [
        (NOW, True, [("clock.synchronised", "ok")]),
        (NOW, False, [("clock.synchronised", "warning")]),
        (NOW, None, [("clock.synchronised", "unknown")]),
        (12.0, False, [("clock.year", "error"), ("clock.synchronised", "warning")]),
        (1767225599.0, True, [("clock.year", "error"), ("clock.synchronised", "ok")]),
        (1767225600.0, True, [("clock.synchronised", "ok")]),
    ],
)
def test_the_clock(now: float, synchronised: bool | None, found: list[tuple[str, str]]) -> None:
    assert told(list(judge_clock(ClockFacts(now, synchronised)))) == found


def test_a_host_without_a_clock_that_runs_on_is_told_so() -> None:
    (without,) = judge_clock(ClockFacts(NOW, is_synchronised=False, has_rtc=False))
    (with_one,) = judge_clock(ClockFacts(NOW, is_synchronised=False, has_rtc=True))
    assert (
        "no battery-backed clock" in without.sentence,
        "no battery-backed clock" in with_one.sentence,
    ) == (
        True,
        False,
    )


PI = Account("pi", 1000, frozenset({1000}))


def access(*, allowed: bool = False, group: str = "dialout", mode: int = 0o660) -> DeviceAccess:
    node = FileAccess("/dev/ttyUSB0", "root", group, mode)
    return DeviceAccess(node, allowed, ("rpi4.console",))


def test_a_device_that_is_not_ours_names_the_group_that_is_missing() -> None:
    (found,) = judge_devices(PI, [access(), access(allowed=True)])
    assert (found.key, found.severity, found.subject) == ("device.permission", Severity.ERROR, "/dev/ttyUSB0")
    assert found.sentence == (
        "user pi may not use /dev/ttyUSB0 of rpi4.console (it is root:dialout, mode 0660)"
    )
    assert found.cure == "sudo adduser pi dialout, then log in again"


def test_a_group_that_counts_from_the_next_login_on_is_told_apart() -> None:
    (found,) = judge_devices(replace(PI, groups=frozenset({"dialout"})), [access()])
    assert "log in again" in found.cure
    assert "adduser" not in found.cure


def test_the_services_user_is_named_and_is_given_the_group_by_a_restart() -> None:
    (found,) = judge_devices(replace(PI, name="jumpstarter", is_exporters=True), [access()])
    assert found.sentence.startswith("the exporter's user jumpstarter may not use")
    assert found.cure.endswith("`systemctl restart jumpstarter-exporter`")


@pytest.mark.parametrize("one", [access(group="root"), access(group="dialout", mode=0o600)])
def test_a_device_that_no_group_helps_with_wants_the_rules(one: DeviceAccess) -> None:
    (found,) = judge_devices(PI, [one])
    assert "udev rules" in found.cure


def test_devices_that_may_be_used() -> None:
    assert told(list(judge_devices(PI, [access(allowed=True)]))) == [("device.permission", "ok")]
    assert list(judge_devices(PI, [])) == list(judge_devices(None, [access()])) == []


def test_services_that_run() -> None:
    assert told(list(judge_services([SERVICE, SOCKET]))) == [("service.active", "ok")]


@pytest.mark.parametrize(
    ("units", "found"),
    [
        ([], [("service.installed", "warning")]),
        ([replace(SERVICE, load="not-found", active="inactive")], [("service.installed", "warning")]),
        (
            [replace(SERVICE, load="bad-setting", active="inactive")],
            [("service.load", "error"), ("service.active", "warning")],
        ),
        ([replace(SERVICE, active="failed", result="watchdog")], [("service.failed", "error")]),
        ([replace(SERVICE, restarts=2)], [("service.active", "ok")]),
        ([replace(SERVICE, restarts=3)], [("service.restarts", "warning"), ("service.active", "ok")]),
        ([replace(SERVICE, enabled="disabled")], [("service.enabled", "warning"), ("service.active", "ok")]),
        ([replace(SERVICE, active="inactive"), SOCKET], [("service.active", "warning")]),
        ([replace(SERVICE, active="activating", sub="auto-restart")], [("service.active", "warning")]),
        (
            [SERVICE, replace(SOCKET, active="inactive")],
            [("service.active", "ok"), ("service.socket", "warning")],
        ),
        (
            [SERVICE, replace(SERVICE, name="jumpstarter-exporter@rock.service", active="failed")],
            [("service.failed", "error"), ("service.active", "ok")],
        ),
    ],
)
def test_services_that_need_somebody(units: list[ServiceUnit], found: list[tuple[str, str]]) -> None:
    assert told(list(judge_services(units))) == found


FILES = ("70-jumpstarter.hwdb", "71-jumpstarter.rules", "86-jumpstarter-brltty.rules")
SAME = UdevFacts(dict.fromkeys(FILES, "same"), is_compiled=True)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (SAME, [("udev.installed", "ok")]),
        (replace(SAME, files={**SAME.files, FILES[2]: "masked"}), [("udev.installed", "ok")]),
        (replace(SAME, files={**SAME.files, FILES[1]: "missing"}), [("udev.installed", "warning")]),
        (replace(SAME, files={**SAME.files, FILES[1]: "other"}), [("udev.version", "warning")]),
        (replace(SAME, is_compiled=False), [("udev.hwdb", "warning")]),
        (replace(SAME, is_running=False), [("udev.running", "warning")]),
    ],
)
def test_udevs_files(facts: UdevFacts, found: list[tuple[str, str]]) -> None:
    assert told(list(judge_udev(facts))) == found


def test_programs_that_open_ports_are_a_fault_where_the_rules_do_not_keep_them_off() -> None:
    facts = ProgramFacts(("ModemManager",))
    assert told(list(judge_programs(facts, None))) == [("program.opens-ports", "warning")]
    assert told(list(judge_programs(facts, SAME))) == [("program.opens-ports", "ok")]
    masked = replace(SAME, files={**SAME.files, FILES[1]: "missing"})
    assert told(list(judge_programs(facts, masked))) == [("program.opens-ports", "warning")]
    assert list(judge_programs(ProgramFacts(), None)) == []


@pytest.mark.parametrize(
    ("left", "severity"),
    [(30 * DAY, None), (30 * DAY - 1, "warning"), (0.0, "warning"), (-1.0, "error"), (None, None)],
)
def test_the_end_of_a_token(left: float | None, severity: str | None) -> None:
    identity = IdentityFacts("the host lab-pi", "lab:8082", None if left is None else NOW + left)
    found = [
        one
        for one in judge_configuration(ConfigurationFacts(1, identities=(identity,)), NOW)
        if one.key == "config.token"
    ]
    assert [one.severity.value for one in found] == ([severity] if severity else [])


def test_whose_token_ends_where_and_when_is_said() -> None:
    def said(left: float) -> str:
        identity = IdentityFacts("the host lab-pi", "lab:8082", NOW + left)
        *_, found = judge_configuration(ConfigurationFacts(1, identities=(identity,)), NOW)
        assert found.subject == "the host lab-pi"
        return found.sentence

    assert said(12 * DAY) == "the token of the host lab-pi at lab:8082 ends in 12 days"
    assert said(-DAY) == "the token of the host lab-pi at lab:8082 has ended"


def test_how_many_configurations_and_boards_there_are_is_said() -> None:
    def said(number: int) -> tuple[str, str]:
        configured = next(judge_configuration(ConfigurationFacts(number), NOW))
        served = next(judge_exporter(ExporterFacts(is_running=True, boards=number)))
        return configured.sentence.partition(",")[0], served.sentence.partition("has ")[2]

    assert [said(number) for number in (0, 1, 2)] == [
        ("no configurations", "no boards"),
        ("1 configuration", "1 board"),
        ("2 configurations", "2 boards"),
    ]


def test_what_this_user_may_not_see_is_not_a_fault_of_it_and_an_identity_is_named() -> None:
    hidden = ConfigurationFacts(unseen={"/var/lib/jumpstarter": "its secret"})
    assert told(list(judge_configuration(hidden, NOW))) == [("config.unread", "unknown")]
    found = list(
        judge_configuration(ConfigurationFacts(1, identities=(IdentityFacts("rpi4", "lab:8082"),)), NOW)
    )
    assert told(found) == [("config.broken", "ok"), ("config.identity", "ok")]
    assert "rpi4 of lab:8082" in found[1].sentence


def test_a_file_that_the_services_user_may_not_read_is_told_with_the_cure() -> None:
    file = FileAccess("/etc/jumpstarter/exporters/rpi4.yaml", "root", "root", 0o600)
    (found,) = judge_unreadable(replace(PI, name="jumpstarter", is_exporters=True), [file])
    assert (found.key, found.severity) == ("config.permission", Severity.ERROR)
    assert found.cure.startswith("chgrp jumpstarter /etc/")
    assert list(judge_unreadable(None, [file])) == []


def test_a_file_that_is_broken_is_named_once() -> None:
    path = "/etc/jumpstarter/exporters/rpi4.yaml"
    (found,) = judge_configuration(ConfigurationFacts(1, {path: f"{path}:3: `typ` is unknown"}), NOW)
    assert (found.severity, found.subject, found.sentence.count(path)) == (Severity.ERROR, path, 1)


def test_controllers_and_the_exporter_that_runs() -> None:
    both = (
        ControllerFacts("lab:8082"),
        ControllerFacts("far:8082", "cannot connect to far:8082: no such name"),
    )
    found = list(judge_controllers(both))
    assert told(found) == [("controller.reachable", "ok"), ("controller.reachable", "error")]
    assert [one.subject for one in found] == ["lab:8082", "far:8082"]
    assert found[1].sentence == (
        "the controller far:8082 cannot be used: cannot connect to far:8082: no such name"
    )
    runs = ExporterFacts(is_running=True, boards=2, problems={"rock": "its driver is missing"})
    found = list(judge_exporter(runs))
    assert told(found) == [("exporter.running", "ok"), ("exporter.board", "error")]
    assert (found[1].subject, found[1].sentence) == (
        "rock",
        "the board rock is not served: its driver is missing",
    )
    assert found[1].cure.endswith("`resume rock`")
    assert told(list(judge_exporter(ExporterFacts(is_running=False)))) == [("exporter.running", "ok")]
    assert told(list(judge_exporter(ExporterFacts(is_running=False, why="not yours")))) == [
        ("exporter.running", "unknown")
    ]


def test_findings_are_by_area_the_worst_first_and_what_was_not_read_is_one() -> None:
    facts = HostFacts(
        power=PowerFacts("Raspberry Pi 4", 0x50005),
        memory=Unread("/proc/meminfo: Permission denied"),
        clock=ClockFacts(3.0, is_synchronised=None),
        services=(replace(SERVICE, restarts=9),),
    )
    found = judge(facts)
    assert [(one.key, one.severity.value) for one in found] == [
        ("power.undervoltage", "error"),
        ("power.throttled", "warning"),
        ("memory.unread", "unknown"),
        ("clock.year", "error"),
        ("clock.synchronised", "unknown"),
        ("service.restarts", "warning"),
        ("service.active", "ok"),
    ]
    assert {area_of(one.key) for one in found} <= AREAS.keys()
    assert found[2].sentence.endswith("/proc/meminfo: Permission denied")


def test_numbers_are_of_what_could_be_read() -> None:
    assert measure(HostFacts(memory=Unread("no"), power=PowerFacts())) == {}
    space = FilesystemSpace("/", ("the system", "the exporter's state"), 10, 4, 0, 0)
    facts = HostFacts(
        power=PowerFacts("", 0x50000, alarm=True),
        temperature=TemperatureFacts(51.5),
        storage=StorageFacts(spaces=(space,)),
        memory=MemoryFacts(100, 60),
        clock=ClockFacts(NOW, is_synchronised=False),
    )
    assert measure(facts) == {
        "undervoltage": 1.0,
        "temperature_celsius": 51.5,
        "memory_available_bytes": 60.0,
        "state_free_bytes": 4.0,
        "clock_synchronised": 0.0,
    }
