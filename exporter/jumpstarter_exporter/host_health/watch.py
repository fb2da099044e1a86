"""Examines the host at intervals and keeps the newest report: once per process, for all boards."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio
from msgspec.structs import replace

from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.host_health.device_nodes import holds_gpio_output, host_nodes_of
from jumpstarter_exporter.host_health.facts import HostFacts, PowerFacts, Unread
from jumpstarter_exporter.host_health.findings import HealthFinding, Severity
from jumpstarter_exporter.host_health.judge import judge, measure
from jumpstarter_exporter.host_health.judge_hardware import SINCE_BOOT, UNDERVOLTAGE
from jumpstarter_exporter.host_health.look import HostLook

__all__ = ["LOOK_SECONDS", "HealthWatch", "HostReport", "Looks"]

LOOK_SECONDS = 60.0
"""Interval of reading small files, which wakes no disk and starts no program."""
LOOKS_PER_SYSTEM_READ = 10
"""After so many of them everything else is read: units, permissions, udev's files, other programs."""
_log = logging.getLogger(__name__)
_RANK = (Severity.ERROR, Severity.WARNING, Severity.UNKNOWN, Severity.OK)


@dataclass(frozen=True)
class HostReport:
    """The host's health."""

    findings: tuple[HealthFinding, ...] = ()
    """The worst finding first."""
    measures: dict[str, float] = field(default_factory=dict)

    def is_news(self, before: HostReport | None) -> bool:
        """Whether the findings themselves differ, and not only their numbers."""
        return before is None or self.meaning != before.meaning

    @property
    def meaning(self) -> frozenset[tuple[str, str, str]]:
        """The findings without the numbers in their sentences."""
        return frozenset((one.key, one.subject, one.severity.value) for one in self.findings)


class Looks(Protocol):
    """The part of `HostLook` that a watch needs."""

    async def hardware(self, facts: HostFacts | None = None) -> HostFacts:
        """See `HostLook`."""

    async def system(
        self,
        facts: HostFacts,
        nodes: Mapping[str, Sequence[str]],
        gpio_outputs: Sequence[str] = (),
        *,
        is_service: bool = False,
    ) -> HostFacts:
        """See `HostLook`."""

    async def undervoltage(self) -> None:
        """See `HostLook`."""


class HealthWatch:
    """The host of a process and its boards."""

    def __init__(
        self,
        inventory: Inventory,
        look: Callable[[], Looks] = HostLook,
        *,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        """`look` is created when it is first needed."""
        self.seconds = seconds
        self._inventory = inventory
        self._make = look
        self._look: Looks | None = None
        self._lock = trio.Lock()
        self._facts = HostFacts()
        self._report: HostReport | None = None
        self._looked = -math.inf
        self._count = 0
        self._had_undervoltage = False

    async def newest(self) -> HostReport:
        """The report, at most `seconds` old. A cancellation keeps the previous report."""
        async with self._lock:
            now = trio.current_time()
            if self._report is None or now - self._looked >= self.seconds:
                await self._update()
                self._looked = now
            assert self._report is not None
            return self._report

    async def wait(self) -> None:
        """Wait until the next look: after `seconds`, or at once for the first under-voltage."""
        with trio.move_on_after(self.seconds):
            if not self._had_undervoltage:
                try:
                    await self._looks().undervoltage()
                except OSError as error:
                    _log.info("under-voltage is looked for every %.0f s: %s", self.seconds, error)
                except Exception:  # a fault of ours must not end the board
                    _log.exception("under-voltage is looked for every %.0f s", self.seconds)
                else:
                    self._had_undervoltage = True
                    self._looked = -math.inf
                    return
            await trio.sleep_forever()

    def _looks(self) -> Looks:
        if self._look is None:
            self._look = self._make()
        return self._look

    async def _update(self) -> None:
        look = self._looks()
        facts = await look.hardware(self._facts)
        facts = replace(facts, power=self._remembered(facts.power))
        if self._count % LOOKS_PER_SYSTEM_READ == 0:
            nodes, outputs = self._devices()
            facts = await look.system(facts, nodes, outputs, is_service=True)
        self._count += 1
        self._facts = facts
        found = sorted(judge(facts), key=lambda one: _RANK.index(one.severity))
        self._report = HostReport(tuple(found), measure(facts))

    def _remembered(self, power: PowerFacts | Unread | None) -> PowerFacts | Unread | None:
        """An under-voltage that the kernel reports only for two seconds is kept for the process's life."""
        if not isinstance(power, PowerFacts):
            return power
        self._had_undervoltage |= bool(power.alarm)
        if not self._had_undervoltage:
            return power
        return replace(power, flags=(power.flags or 0) | UNDERVOLTAGE << SINCE_BOOT)

    def _devices(self) -> tuple[dict[str, list[str]], list[str]]:
        nodes: dict[str, list[str]] = {}
        outputs = []
        for board in self._inventory.boards.values():
            for slot in board.slots.values():
                device = f"{board.name}.{slot.path}" if slot.path else board.name
                for node in host_nodes_of(slot.spec):
                    nodes.setdefault(node, []).append(device)
                if holds_gpio_output(slot.spec):
                    outputs.append(device)
        return nodes, outputs
