"""Makes findings and numbers of the facts about a host. No I/O: `look` reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from jumpstarter_exporter.host_health import judge_hardware, judge_system
from jumpstarter_exporter.host_health.facts import HostFacts, Unread
from jumpstarter_exporter.host_health.findings import AREAS, HealthFinding, Severity, area_of

__all__ = ["judge", "measure"]

T = TypeVar("T")

_AREA_OF_FIELD = {
    "power": "power",
    "temperature": "temperature",
    "storage": "disk",
    "memory": "memory",
    "clock": "clock",
    "account": "device",
    "devices": "device",
    "usb": "usb",
    "gpio": "gpio",
    "services": "service",
    "udev": "udev",
    "programs": "program",
    "configuration": "config",
    "unreadable": "config",
    "controllers": "controller",
    "exporter": "exporter",
}


def judge(facts: HostFacts) -> list[HealthFinding]:
    """All findings by area, the worst of each area first. Facts that could not be read are findings, too."""
    rank = [Severity.ERROR, Severity.WARNING, Severity.UNKNOWN, Severity.OK]
    areas = list(AREAS)
    return sorted(_findings(facts), key=lambda one: (areas.index(area_of(one.key)), rank.index(one.severity)))


def _findings(facts: HostFacts) -> Iterator[HealthFinding]:
    for field, area in _AREA_OF_FIELD.items():
        value = getattr(facts, field)
        if isinstance(value, Unread):
            yield HealthFinding(
                f"{area}.unread", Severity.UNKNOWN, f"this could not be looked at: {value.why}", subject=field
            )
    if (power := _read(facts.power)) is not None:
        yield from judge_hardware.judge_power(power)
    if (temperature := _read(facts.temperature)) is not None:
        yield from judge_hardware.judge_temperature(temperature)
    if (storage := _read(facts.storage)) is not None:
        yield from judge_hardware.judge_storage(storage)
    if (memory := _read(facts.memory)) is not None:
        yield from judge_system.judge_memory(memory)
    if (clock := _read(facts.clock)) is not None:
        yield from judge_system.judge_clock(clock)
    if (devices := _read(facts.devices)) is not None:
        yield from judge_system.judge_devices(_read(facts.account), devices)
    if (usb := _read(facts.usb)) is not None:
        yield from judge_hardware.judge_usb(usb)
    if (gpio := _read(facts.gpio)) is not None:
        yield from judge_hardware.judge_gpio(gpio)
    if (services := _read(facts.services)) is not None:
        yield from judge_system.judge_services(services)
    if (udev := _read(facts.udev)) is not None:
        yield from judge_system.judge_udev(udev)
    if (programs := _read(facts.programs)) is not None:
        yield from judge_system.judge_programs(programs, _read(facts.udev))
    if (configuration := _read(facts.configuration)) is not None:
        yield from judge_system.judge_configuration(configuration, clock.now if clock is not None else 0.0)
    if (unreadable := _read(facts.unreadable)) is not None:
        yield from judge_system.judge_unreadable(_read(facts.account), unreadable)
    if (controllers := _read(facts.controllers)) is not None:
        yield from judge_system.judge_controllers(controllers)
    if (exporter := _read(facts.exporter)) is not None:
        yield from judge_system.judge_exporter(exporter)


def _read(value: T | Unread | None) -> T | None:
    return None if isinstance(value, Unread) else value


def measure(facts: HostFacts) -> dict[str, float]:
    """Numbers for graphs, with their units in their names; only of what could be read."""
    found: dict[str, float] = {}
    if (power := _read(facts.power)) is not None and (power.flags, power.alarm) != (None, None):
        found["undervoltage"] = float(bool((power.flags or 0) & judge_hardware.UNDERVOLTAGE or power.alarm))
    if (temperature := _read(facts.temperature)) is not None and temperature.celsius is not None:
        found["temperature_celsius"] = temperature.celsius
    if (memory := _read(facts.memory)) is not None:
        found["memory_available_bytes"] = float(memory.available)
    if (storage := _read(facts.storage)) is not None:
        for space in storage.spaces:
            if "the exporter's state" in space.uses:
                found["state_free_bytes"] = float(space.free)
    if (clock := _read(facts.clock)) is not None and clock.is_synchronised is not None:
        found["clock_synchronised"] = float(clock.is_synchronised)
    return found
