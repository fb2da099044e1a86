"""Several supplies as one, and power by commands, end to end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented
from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.driver import DeviceFailed, export

from jumpstarter_drivers.power.client import PowerClient, PowerReading
from jumpstarter_drivers.power.driver import CommandPower, MockPower, PowerInterface, SupplyGroup
from jumpstarter_drivers.testing import host, serve, serve_async


@dataclass(kw_only=True, eq=False)
class Supply(PowerInterface):
    """Writes down what is done with it, and fails where it is told to."""

    name: str
    log: list[str]
    broken: set[str] = field(default_factory=set)
    reading: PowerReading | None = None

    @export
    def on(self) -> None:
        self._do("on")

    @export
    def off(self) -> None:
        self._do("off")

    @export(reads=True)
    def read(self) -> Iterator[PowerReading]:
        if self.reading is None:
            raise NotImplementedError("no meter")
        yield self.reading

    def _do(self, what: str) -> None:
        self.log.append(f"{self.name} {what}")
        if what in self.broken:
            raise DeviceFailed(f"{self.name} is stuck; look at it")


def group(
    log: list[str],
    *,
    broken: dict[str, set[str]] | None = None,
    readings: dict[str, PowerReading] | None = None,
) -> SupplyGroup:
    broken, readings = broken or {}, readings or {}
    return SupplyGroup(
        children={
            name: Supply(name=name, log=log, broken=broken.get(name, set()), reading=readings.get(name))
            for name in ("main", "usb", "fan")
        }
    )


def test_supplies_are_switched_on_in_order_and_off_in_the_opposite_one() -> None:
    log: list[str] = []
    with serve(group(log)) as client:
        client.on()
        assert log == ["main on", "usb on", "fan on"]
        log.clear()
        client.cycle(wait=0)
    assert log == ["fan off", "usb off", "main off", "main on", "usb on", "fan on"]


def test_a_board_does_not_stay_half_on() -> None:
    log: list[str] = []
    with serve(group(log, broken={"usb": {"on"}})) as client:
        with pytest.raises(
            DriverError, match="the supply usb was not switched on, all are off again: usb is stuck"
        ):
            client.on()
        assert log == ["main on", "usb on", "usb off", "main off"]


def test_what_may_be_on_is_said() -> None:
    log: list[str] = []
    with (
        serve(group(log, broken={"usb": {"on"}, "main": {"off"}})) as client,
        pytest.raises(DriverError, match="the supply usb was not switched on, main may be on: usb is stuck"),
    ):
        client.on()


def test_a_supply_that_stays_on_does_not_keep_the_others_on() -> None:
    log: list[str] = []
    with (
        serve(group(log, broken={"usb": {"off"}})) as client,
        pytest.raises(DriverError, match=r"not all supplies were switched off, so .*: usb: usb is stuck"),
    ):
        client.off()
    assert log == ["fan off", "usb off", "main off"]


async def test_a_user_who_leaves_in_between_leaves_the_board_off() -> None:
    log: list[str] = []
    driver = group(log)
    driver.wait = 60.0
    async with serve_async(driver) as client, trio.open_nursery() as nursery:
        nursery.start_soon(cast("PowerClient", client).on.aio)
        with trio.fail_after(10):
            while log != ["main on"]:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert log == ["main on", "main off"]


class Slow(Supply):
    """Takes its time to switch, and is told when it may be done. Its nursery's cancel comes in a group."""

    async def ensure_open(self) -> None:
        """It is, outside of a session, too."""

    async def switch_to(self, *, on: bool) -> None:
        self.log.append(f"{self.name} {'on' if on else 'off'}")
        if on or "off" in self.broken:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 3600 if on else 0.2)


async def test_supplies_are_off_though_the_user_leaves_while_one_is_switched() -> None:
    log: list[str] = []
    driver = SupplyGroup(
        children={
            "main": Slow(name="main", log=log, broken={"off"}),
            "fan": Slow(name="fan", log=log, broken={"off"}),
        }
    )
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.on)
            while log != ["main on"]:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert log == ["main on", "main off"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.off)
            while log[-1] != "fan off":
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert log == ["main on", "main off", "fan off", "main off"]


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ({"usb": PowerReading(5.0, 0.4)}, PowerReading(5.0, 0.4)),
        (
            {"usb": PowerReading(5.0, 0.4), "main": PowerReading(power=10.0, measured=())},
            PowerReading(power=12.0, measured=()),
        ),
        (
            {"usb": PowerReading(5.0, 0.4, 1.5, 3.0), "main": PowerReading(12.0, 1.0, 10.0, 4.0)},
            PowerReading(power=11.5, energy=7.0, measured=()),
        ),
    ],
)
def test_what_supplies_measure_is_added_up(readings: dict[str, PowerReading], expected: PowerReading) -> None:
    with serve(group([], readings=readings)) as client:
        assert list(client.read()) == [expected]


def test_supplies_without_a_meter_say_so() -> None:
    with serve(group([])) as client, pytest.raises(DriverMethodNotImplemented, match="none of the supplies"):
        list(client.read())


def test_supplies_that_differ_are_partial(tmp_path: Path) -> None:
    def supply(name: str) -> CommandPower:
        state = tmp_path / name
        switch = {
            f"power_{word}": ["cp", str(tmp_path / f"{word}.txt"), str(state)] for word in ("on", "off")
        }
        return CommandPower(**switch, power_state=["cat", str(state)])  # type: ignore[arg-type]

    for word in ("on", "off", "between"):
        (tmp_path / f"{word}.txt").write_text(word)
    with serve(SupplyGroup(children={name: supply(name) for name in ("main", "usb")})) as client:
        client.on()
        assert client.status() == "on"
        for word, state in ("off", "partial"), ("between", "unknown"):
            (tmp_path / "usb").write_text(word)
            assert client.status() == state
    with (
        serve(group([])) as client,
        pytest.raises(DriverMethodNotImplemented, match="cannot report its state"),
    ):
        client.status()


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "it has no children"),
        ({"children": {"a": MockPower()}, "wait": -1}, "wait is -1"),
    ],
)
def test_a_group_that_is_invalid_is_rejected(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SupplyGroup(**config)


def test_a_configured_group_is_one_power_switch_of_the_board(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text(
        """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
export:
  usb: {type: power.MockPower}
  power:
    type: power.SupplyGroup
    children:
      main: {type: power.MockPower}
      usb: {ref: usb}
"""
    )
    with pytest.raises(
        configuration.ConfigError, match="its child usb is not a power switch; put the supply itself there"
    ):
        configuration.build(configuration.load(file))


# --- commands


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_commands_switch_and_say_and_measure(tmp_path: Path) -> None:
    state = tmp_path / "state"
    switch = script(tmp_path / "switch", f'echo "$1" > {state}')
    power = CommandPower(
        power_on=f"{switch} on",
        power_off=[switch, "off"],
        power_state=["cat", str(state)],
        power_read="echo 12.5",
    )
    with serve(power) as client:
        client.on()
        assert state.read_text() == "on\n"
        client.off()
        assert state.read_text() == "off\n"
        assert list(client.read()) == [PowerReading(power=12.5, measured=())]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ('{"voltage": 5, "current": 0.5}', PowerReading(5.0, 0.5)),
        ('{"power": 3.5, "current": 0.7, "other": 1}', PowerReading(0.0, 0.7, 3.5, measured=("current",))),
    ],
)
def test_a_command_measures_with_names(printed: str, expected: PowerReading, tmp_path: Path) -> None:
    read = script(tmp_path / "read", f"echo '{printed}'")
    with serve(CommandPower(power_on="true", power_off="true", power_read=read)) as client:
        assert list(client.read()) == [expected]


@pytest.mark.parametrize("printed", ["", "true", "lots", "[1]", '{"power": "3"}', '{"power": NaN}', "1e999"])
def test_what_is_not_a_measurement_is_said(printed: str, tmp_path: Path) -> None:
    read = script(tmp_path / "read", f"printf '%s' '{printed}'")
    with (
        serve(CommandPower(power_on="true", power_off="true", power_read=read)) as client,
        pytest.raises(DriverError, match=r"read prints .*; correct it"),
    ):
        list(client.read())


@pytest.mark.parametrize(
    ("on", "state", "complaint"),
    [
        ("{switch} s3cret", None, "switch ends with the exit code 3 .no such port.; run it by hand"),
        (
            "/nowhere/switch s3cret",
            None,
            "/nowhere/switch cannot be run: No such file or directory; check its path",
        ),
        ("true", "echo off", "says that it is off, 0.6 s after the command to switch on"),
        ("true", "echo perhaps", "does not say within 0.6 s that it has"),
        ("sleep 600", None, "sleep does not end within 0.3 s, or what it has started; see what it waits"),
    ],
)
def test_a_command_that_fails_is_one_sentence_without_its_arguments(
    on: str, state: str | None, complaint: str, tmp_path: Path
) -> None:
    switch = script(tmp_path / "switch", "echo starting >&2\necho no such port >&2\nexit 3")
    power = CommandPower(power_on=on.format(switch=switch), power_off="true", power_state=state, timeout=0.6)
    with serve(power) as client, pytest.raises(DriverError, match=complaint) as caught:
        client.on()
    assert "s3cret" not in f"{caught.value} {power!r} {power.describe_hardware()}"


async def test_a_session_ends_as_its_configuration_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    switch = script(tmp_path / "switch", f'echo "$1" > {state}')
    async with host(
        CommandPower, power_on=f"{switch} on", power_off=f"{switch} off", release="off"
    ) as devices:
        async with serve_async(devices) as client:
            await cast("PowerClient", client).on.aio()
            assert state.read_text() == "on\n"
        assert state.read_text() == "off\n"


async def test_a_command_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    slow = script(tmp_path / "slow", f"sleep 600 &\necho $! > {pid}.new\nmv {pid}.new {pid}\nwait")
    async with serve_async(CommandPower(power_on=slow, power_off="true", timeout=60.0)) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cast("PowerClient", client).on.aio)
            with trio.fail_after(20):
                while not pid.exists():
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        with trio.fail_after(20):
            while _runs(int(pid.read_text())):
                await trio.sleep(0.01)


async def test_what_a_command_leaves_behind_that_keeps_its_output_open_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    leaves = script(tmp_path / "leaves", f"sleep 600 &\necho $! > {pid}")
    async with serve_async(CommandPower(power_on=leaves, power_off="true", timeout=2.0)) as client:
        with pytest.raises(DriverError, match=r"does not end within .* s, or what it has started"):
            await cast("PowerClient", client).on.aio()
    with trio.fail_after(20):
        while _runs(int(pid.read_text())):
            await trio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_command_prints_is_bounded() -> None:
    program = "import sys; sys.stdout.write('x' * 10_000_000); sys.stderr.write('y' * 10_000_000)"
    with serve(
        CommandPower(power_on=[sys.executable, "-c", program], power_off="true", timeout=60.0)
    ) as client:
        client.on()


@pytest.mark.parametrize(
    ("command", "complaint"), [("", "is not a command"), ([], "is not a command"), ("a 'b", "not closed")]
)
def test_what_is_not_a_command_is_rejected(command: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"power_off .*{complaint}"):
        CommandPower(power_on="true", power_off=command)
