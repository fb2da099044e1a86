"""How long the way from power into the lab is, beside that of the same system without us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from enrolled import SETUP, Story
from machine import Image, start

pytestmark = pytest.mark.timeout(3000)

OURS = (
    "jumpstarter-image.service",
    "jumpstarter-image.path",
    "jumpstarter-image-enrol.service",
    "jumpstarter-image-status.timer",
    "jumpstarter-image-clock.service",
    "jumpstarter-image-clock-keep.timer",
    "jumpstarter-image-time-sources.path",
    "jumpstarter-image-time-sources.service",
    "jumpstarter-image-time-server.service",
    "jumpstarter-exporter.service",
    "jumpstarter-exporter.socket",
    "jumpstarter-controller.service",
)


async def test_power_to_registered_beside_the_same_system_without_our_units(
    twin: Image, story_told: Story, folder: Path, report: Callable[[str], None]
) -> None:
    masked = " ".join(f"systemd.mask={unit}" for unit in OURS)
    async with start(replace(SETUP, append=masked), twin, folder) as machine:
        await machine.wait_for_shell()
        await machine.until("systemctl is-active --quiet multi-user.target", seconds=900)
        seconds, processor = machine.seconds, machine.processor_seconds()
        assert await machine.sh("systemctl list-units --no-legend 'jumpstarter-exporter*'") == ""
    report(
        f"power to registered: {story_told.registered:.0f} s, {story_told.registered_processor:.0f} s of processor; "
        f"the same image without our units to multi-user: {seconds:.0f} s, {processor:.0f} s of processor; "
        f"{story_told.registered / seconds:.2f} of the time, "
        f"{story_told.registered_processor / processor:.2f} of the processor"
    )
