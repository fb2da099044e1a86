"""GPIO lines end to end, on gpiozero's mock pins: the calls travel by gRPC."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_client.errors import DriverError
from jumpstarter_exporter.driver import export
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.gpio import steps
from jumpstarter_drivers.gpio.client import DigitalInputClient, DigitalOutputClient, PinState
from jumpstarter_drivers.gpio.driver import DigitalInput, DigitalOutput
from jumpstarter_drivers.gpio.level import InputLevel
from jumpstarter_drivers.power import pins
from jumpstarter_drivers.testing import host, serve, serve_async

LINE = 22


@pytest.fixture
def pin() -> Iterator[Any]:
    """The mock pin that is wired to the devices; it is reset as a process would."""
    found = pins.factory("mock").pin(f"GPIO{LINE}")
    found.close()
    found.pull = "floating"
    found.drive_low()
    yield found
    found.close()


@asynccontextmanager
async def button(**config: Any) -> AsyncIterator[DigitalInputClient]:
    async with (
        host(DigitalInput, line=LINE, pin_factory="mock", **config) as devices,
        serve_async(devices) as client,
    ):
        assert isinstance(client, DigitalInputClient)
        yield client


async def until_waiting(wait: Callable[..., Any], *arguments: Any, then: Callable[[], None]) -> None:
    """Call `then` once the exporter waits: all tasks, of both ends, are blocked."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, *arguments)
        await trio.testing.wait_all_tasks_blocked(0.02)
        then()


@pytest.mark.parametrize(("active_low", "bias"), [(False, "pull_down"), (True, "pull_up")])
async def test_a_line_is_read_and_its_changes_are_awaited(pin: Any, active_low: bool, bias: str) -> None:
    activate, deactivate = (pin.drive_low, pin.drive_high) if active_low else (pin.drive_high, pin.drive_low)
    async with button(active_low=active_low, bias=bias) as client:
        assert await client.read.aio() is PinState.INACTIVE
        assert pin.pull == bias.removeprefix("pull_")
        await client.wait_for_inactive.aio()
        with trio.fail_after(10):
            await until_waiting(client.wait_for_active.aio, then=activate)
            assert str(await client.read.aio()) == "active"
            await client.wait_for_active.aio(0)
            await until_waiting(client.wait_for_inactive.aio, 10, then=deactivate)
            await until_waiting(client.wait_for_edge.aio, "rising", 10, then=activate)


class _OddLine(DigitalInput):
    """A line as another exporter may have it."""

    @export
    async def read_pin(self) -> int:
        return 7


def test_a_line_that_is_neither_is_a_sentence(pin: Any) -> None:
    odd = _OddLine(line=LINE, pin_factory="mock")
    with serve(odd) as client, pytest.raises(DriverError, match="for a line, which is 0 or 1"):
        client.read()


async def test_a_pulse_is_not_missed_and_an_old_edge_does_not_count(pin: Any) -> None:
    def pulse() -> None:
        pin.drive_high()
        pin.drive_low()

    async with button() as client:
        await client.read.aio()
        pulse()
        with pytest.raises(
            DriverError, match=r"line 22 had no rising edge within 0.01 s, and is inactive; check"
        ):
            await client.wait_for_edge.aio("rising", 0.01)
        with trio.fail_after(10):
            await until_waiting(client.wait_for_active.aio, 10, then=pulse)
            await until_waiting(client.wait_for_edge.aio, "falling", 10, then=pulse)


async def test_a_change_while_the_watch_begins_is_not_missed(
    pin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = pins.InputLine.watch

    def watch_and_change(self: pins.InputLine, *arguments: Any) -> bool:
        was_high = watch(self, *arguments)
        pin.drive_high()
        return was_high

    monkeypatch.setattr(pins.InputLine, "watch", watch_and_change)
    async with button() as client:
        assert await client.read.aio() is PinState.ACTIVE


async def test_a_wait_has_a_bound(pin: Any) -> None:
    async with button() as client:
        with pytest.raises(DriverError, match=r"did not become active within 0 s, and is inactive") as error:
            await client.wait_for_active.aio(0)
        assert error.value.code.name == "DEADLINE_EXCEEDED"
        with pytest.raises(DriverError, match="timeout is -1; it takes seconds"):
            await client.wait_for_inactive.aio(-1.0)
        with pytest.raises(DriverError, match="edge_type"):
            await client.call_async("wait_for_edge", "both")


async def test_a_user_who_leaves_ends_the_wait(pin: Any) -> None:
    async with button() as client:
        with trio.move_on_after(0.05) as scope:
            await client.wait_for_edge.aio("rising")
        assert scope.cancelled_caught
        assert await client.read.aio() is PinState.INACTIVE  # the device is not busy


async def test_a_line_is_watched_between_sessions_and_free_afterwards(pin: Any) -> None:
    async with host(DigitalInput, line=LINE, pin_factory="mock") as devices:
        for level in (PinState.INACTIVE, PinState.ACTIVE):
            async with serve_async(devices) as client:
                assert await client.read.aio() is level
            assert pin.when_changed is not None
            pin.drive_high()
        async with serve_async(DigitalInput(line=LINE, pin_factory="mock")) as other:
            with pytest.raises(DriverError, match="GPIO22 is in use by another device"):
                await other.read.aio()
    assert pin.when_changed is None
    async with button() as client:
        await client.read.aio()


@pytest.mark.parametrize(
    ("config", "first"),
    [
        ({}, False),
        ({"active_low": True}, True),
        ({"initial_value": "active"}, True),
        ({"initial_value": True}, True),
    ],
)
def test_an_output_is_driven_and_read(pin: Any, config: dict[str, Any], first: bool) -> None:
    with serve(DigitalOutput(line=LINE, pin_factory="mock", **config)) as client:
        assert isinstance(client, DigitalOutputClient)
        state = client.read()
        assert (pin.function, pin.state) == ("output", first)
        assert state is PinState(first != config.get("active_low", False))
        client.on()
        assert client.read() is PinState.ACTIVE
        assert pin.state is not config.get("active_low", False)
        client.off()
        assert client.read() is PinState.INACTIVE
        pin.clear_states()
        client.cycle(wait=0)
        assert len(pin.states) == 2
        with pytest.raises(ValueError, match="wait is -1"):
            client.cycle(wait=-1)
    assert pin.function == "output"


async def test_an_output_is_not_touched_before_it_is_wanted_and_released_as_configured(pin: Any) -> None:
    async with host(
        DigitalOutput, line=LINE, pin_factory="mock", initial_value="leave", release=False
    ) as devices:
        async with serve_async(devices) as client:
            with pytest.raises(DriverError, match="GPIO22 is not driven yet; switch it on or off first"):
                await client.read.aio()
            assert pin.function == "input"
            await client.on.aio()
        assert pin.state is False


async def test_steps_of_tests(pin: Any) -> None:
    said: list[str] = []

    class Context:
        seconds = 0.02

        def say(self, text: str) -> None:
            said.append(text)

    read: Callable[..., Any] = steps.read.function
    wait_for: Callable[..., Any] = steps.wait_for.function
    async with button() as client:
        assert await read(client, Context(), "inactive") == "inactive"
        assert said == ["inactive"]
        with pytest.raises(JumpstarterError, match="is inactive, not active"):
            await read(client, Context(), "active")
        await wait_for(client, Context(), "inactive")
        for state in ("active", "rising", "falling"):
            with pytest.raises(DriverError, match=r"within 0\.02 s"):
                await wait_for(client, Context(), state)
    async with serve_async(DigitalOutput(line=LINE, pin_factory="mock")) as output:
        await steps.on.function(output, Context())
        assert pin.state
        await steps.off.function(output, Context())
        assert not pin.state
        with pytest.raises(JumpstarterError, match="is a line of the other direction"):
            await wait_for(output, Context(), "rising")


def test_verbs_of_either_direction(tmp_path: Path, pin: Any) -> None:
    config = tmp_path / "lab.yaml"
    line = f"config: {{line: {LINE}, pin_factory: mock}}"
    config.write_text(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: lab}\n"
        f"export:\n  button:\n    type: jumpstarter_driver_gpiod.driver.DigitalInput\n    {line}\n"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        program = str(Path(sysconfig.get_path("scripts")) / "jumpstarter")
        command = [program, "--config", str(config), "gpio", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("read").stdout == "inactive\n"
    late = run("wait-for-edge", "button", "rising", "-t", "0.01")
    assert (late.returncode, late.stdout) == (6, "")
    assert "line 22 had no rising edge within 0.01 s" in late.stderr
    refused = run("on", "button")
    assert refused.returncode == 2
    assert "button has no verb 'on'" in refused.stderr


@given(st.lists(st.booleans()), st.booleans())
def test_each_pulse_is_counted(reports: list[bool], first: bool) -> None:
    level = InputLevel(is_active=first)
    counted = []
    for report in reports:
        before = level.edges("rising"), level.edges("falling")
        level.change(is_active=report)
        counted.append((level.edges("rising") - before[0], level.edges("falling") - before[1]))
        assert counted[-1][0 if report else 1] == 1
        assert level.is_active is report
    # The line goes up as often as it comes down, or once more.
    assert level.edges("rising") - level.edges("falling") == level.is_active - first


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (DigitalInput, {"drive": "open_drain"}),
        (DigitalInput, {"device": "gpiochip0"}),
        (DigitalOutput, {"drive": "open_source"}),
        (DigitalOutput, {"bias": "pull_up"}),
    ],
)
def test_what_gpiozero_cannot_do_is_refused(kind: Any, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"gpiozero does not support|it takes a chip"):
        kind(line=LINE, **config)


def test_keys_of_jumpstarter_name_the_chip() -> None:
    assert DigitalInput.host_nodes({"line": 1}) == ["/dev/gpiochip0"]
    assert DigitalOutput.host_nodes({"line": 1, "device": "/dev/gpiochip4"}) == ["/dev/gpiochip4"]
    assert DigitalInput.host_nodes({"line": 1, "pin_factory": "mock"}) == []
    with (
        serve(DigitalInput(line=1, device="/dev/gpiochip-none")) as client,
        pytest.raises(DriverError, match="there is no GPIO chip /dev/gpiochip-none; plug it in"),
    ):
        client.read()
    assert "lgpio" not in sys.modules
