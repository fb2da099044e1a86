"""Power switches end to end: the client over gRPC on one side, the pin on the other."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gpiozero.devices
import pytest
import trio
import trio.testing
from jumpstarter_client.errors import (
    DriverError,
    DriverInvalidArgument,
    DriverMethodNotImplemented,
    ExporterNotReady,
)
from jumpstarter_exporter.driver import export
from jumpstarter_exporter.errors import DeviceBusy, DeviceMissing

from jumpstarter_drivers.power import pins
from jumpstarter_drivers.power.client import PowerClient, PowerReading, VirtualPowerClient
from jumpstarter_drivers.power.driver import (
    GpioRelay,
    MockPower,
    PowerInterface,
    PowerSwitch,
    SyncMockPower,
)
from jumpstarter_drivers.power.gpio_chip import number_of, selected_board
from jumpstarter_drivers.power.relay import RelayCore
from jumpstarter_drivers.testing import host, serve, serve_async


@pytest.fixture
def mock() -> Iterator[Any]:
    """The mock pin factory, with all pins as they are after power-up."""
    factory = pins.factory("mock")
    yield factory
    factory.reset()


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where drivers of the kernel say how they are set; none says anything."""
    monkeypatch.setattr(pins, "_MODULES", tmp_path)
    return tmp_path


def relay(**config: Any) -> GpioRelay:
    return GpioRelay(pin=17, pin_factory="mock", **config)


@pytest.mark.parametrize("driver", [MockPower, SyncMockPower])
def test_mock_measures_off_and_on(driver: type[PowerInterface]) -> None:
    with serve(driver()) as client:
        client.on()
        client.off()
        client.cycle(wait=0)
        readings = list(client.read())
    assert readings == [PowerReading(0.0, 0.0), PowerReading(5.0, 2.0)]
    assert readings[1].apparent_power == 10.0
    assert str(readings[1]) == "voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA"


def test_read_asks_as_often_as_told() -> None:
    with serve(MockPower()) as client:
        assert len(list(client.read(count=3, interval=0))) == 6


def test_read_waits_before_it_asks_again() -> None:
    with serve(MockPower()) as client:
        begun = time.monotonic()
        assert len(list(client.read(count=2, interval=0.1))) == 4
        assert time.monotonic() - begun >= 0.1


class Machine(MockPower):
    """A virtual machine, as Jumpstarter's exporters have them."""

    client = "jumpstarter_driver_power.client.VirtualPowerClient"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.thrown_away: list[bool] = []

    @export
    async def off(self, destroy: bool = False) -> None:
        self.thrown_away.append(destroy)


def test_a_virtual_machine_is_thrown_away_for_who_says_so_only() -> None:
    driver = Machine()
    with serve(driver) as client:
        machine = cast("VirtualPowerClient", client)
        machine.off()
        machine.off(destroy=True)
        machine.cycle(wait=0)
    assert driver.thrown_away == [False, True, False]


def test_endless_read_ends_when_its_reader_does() -> None:
    with serve(MockPower()) as client:
        readings = client.read(count=0, interval=0)
        assert [next(readings).voltage for _ in range(5)] == [0.0, 5.0, 0.0, 5.0, 0.0]
        readings.close()
        client.on()


@pytest.mark.parametrize("active_high", [True, False])
def test_relay_drives_the_pin(mock: Any, active_high: bool) -> None:
    with serve(relay(active_high=active_high)) as client:
        client.on()
        assert (mock.pin(17).function, mock.pin(17).state) == ("output", active_high)
        client.off()
        assert (mock.pin(17).function, mock.pin(17).state) == ("output", not active_high)


@pytest.mark.parametrize("name", ["GPIO27", "BOARD13", "J8:13", 27])
def test_pins_have_many_names(mock: Any, name: str | int) -> None:
    with serve(GpioRelay(pin=name, pin_factory="mock")) as client:
        client.on()
    assert mock.pin(27).state


def test_a_relay_says_how_it_is_driven(mock: Any) -> None:
    with serve(relay(active_high=False)) as client:
        with pytest.raises(DriverError, match="is not driven yet; switch it on or off first"):
            client.status()
        client.on()
        assert client.status() == "on"
        client.off()
        assert client.status() == "off"


@pytest.mark.parametrize("switch", ["on", "off"])
def test_a_session_leaves_the_board_as_it_is(mock: Any, switch: str) -> None:
    with serve(relay()) as client:
        getattr(client, switch)()
    mock.pin(17).clear_states()
    with serve(relay()) as client, pytest.raises(DriverMethodNotImplemented):
        list(client.read())  # opens the driver, switches nothing
    assert mock.pin(17).function == "output"
    assert [state for _, state in mock.pin(17).states] == [switch == "on"]


def test_a_session_does_not_touch_a_pin_that_nobody_switched(mock: Any) -> None:
    with serve(relay()) as client, pytest.raises(DriverMethodNotImplemented):
        list(client.read())
    assert not mock.pins


@pytest.mark.parametrize("configured", ["on", True])
def test_at_open_switches_when_the_device_is_opened(mock: Any, configured: Any) -> None:
    with serve(relay(at_open=configured)) as client, pytest.raises(DriverMethodNotImplemented):
        list(client.read())
    assert mock.pin(17).state


async def test_relay_stays_as_a_session_left_it_and_an_exporter_drives_nothing_by_itself(mock: Any) -> None:
    for before in ("input", "output"):
        async with host(GpioRelay, pin=17, pin_factory="mock") as devices:
            assert mock.pin(17).function == before
            async with serve_async(devices) as client:
                await cast("PowerClient", client).on.aio()
            mock.pin(17).clear_states()
            async with serve_async(devices) as client:
                await cast("PowerClient", client).on.aio()
        assert {state for _, state in mock.pin(17).states} == {True}


async def test_at_open_switches_with_the_exporters_first_use_and_not_in_each_session(mock: Any) -> None:
    async with host(GpioRelay, pin=17, pin_factory="mock", at_open="off") as devices:
        async with serve_async(devices) as client:
            await cast("PowerClient", client).on.aio()
        mock.pin(17).clear_states()
        async with serve_async(devices) as client:
            with pytest.raises(DriverError):
                _ = [reading async for reading in cast("PowerClient", client).read.aio()]
        assert {state for _, state in mock.pin(17).states} == {True}


@pytest.mark.parametrize("configured", ["off", False])
async def test_release_switches_at_the_end_of_a_session_that_used_the_relay(
    mock: Any, configured: Any
) -> None:
    async with host(GpioRelay, pin=17, pin_factory="mock", release=configured) as devices:
        async with serve_async(devices):
            pass
        assert mock.pin(17).function == "input"
        async with serve_async(devices) as client:
            await cast("PowerClient", client).on.aio()
            assert mock.pin(17).state
        assert (mock.pin(17).function, mock.pin(17).state) == ("output", False)


async def test_nobody_else_gets_a_pin_while_it_is_driven(mock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with host(GpioRelay, pin=17, pin_factory="mock") as devices:
        async with serve_async(devices) as client:
            await cast("PowerClient", client).on.aio()
        core = devices.slots[""].core
        assert core is not None
        relay = cast("RelayCore", core.core)
        driving, go_on = trio.Event(), threading.Event()

        def slow(value: int) -> None:
            trio.from_thread.run_sync(driving.set)
            assert go_on.wait(30)

        monkeypatch.setattr(mock.pin(17), "_set_state", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, relay.switch, "off")
            await driving.wait()
            nursery.start_soon(relay.close)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with pytest.raises(DeviceBusy):
                pins.acquire(17, factory="mock")
            go_on.set()
        pins.acquire(17, factory="mock").release()


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("lgpio", None, True),
        ("lgpio", "N", True),
        ("lgpio", "Y", False),
        ("LGPIO", "N", True),
        ("native", "N", False),
        ("pigpio", None, False),
    ],
)
def test_lines_of_the_kernel_are_lost_unless_it_keeps_them(
    kind: str, said: str | None, expected: bool, modules: Path
) -> None:
    if said is not None:
        folder = modules / "pinctrl_bcm2835" / "parameters"
        folder.mkdir(parents=True)
        (folder / "persist_gpio_outputs").write_text(f"{said}\n")
    assert pins.loses_outputs(kind) is expected


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("is_lost", "is_driven"), [(True, True), (True, False), (False, True)])
async def test_the_end_of_an_exporter_says_which_relay_falls(
    mock: Any,
    is_lost: bool,
    is_driven: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pins, "_REVERTING", {"mock"} if is_lost else set())
    async with host(GpioRelay, pin=17, pin_factory="mock") as devices:
        core = devices.slots[""].core
        assert core is not None
        await core.open()
        if is_driven:
            cast("RelayCore", core.core).switch("on")
    said = [record.getMessage() for record in caplog.records if "becomes an input" in record.getMessage()]
    assert len(said) == (1 if is_lost and is_driven else 0)
    assert all(one.startswith("GPIO17 becomes an input when the exporter has ended") for one in said)


def test_release_and_its_former_name_must_not_differ() -> None:
    assert relay(at_close="off").release == relay(at_close="off", release=False).release
    with pytest.raises(ValueError, match="at_close is off and release is on; leave at_close out"):
        relay(at_close="off", release="on")


@pytest.mark.parametrize("configured", ["off", False])
def test_at_close_switches_when_the_session_ends(mock: Any, configured: Any) -> None:
    with serve(relay(at_close=configured)) as client:
        client.on()
        assert mock.pin(17).state
    assert (mock.pin(17).function, mock.pin(17).state) == ("output", False)


def test_cycle_switches_off_and_on(mock: Any) -> None:
    with serve(relay()) as client:
        client.on()
        mock.pin(17).clear_states()
        client.cycle(wait=0)
        assert [state for _, state in mock.pin(17).states] == [True, False, True]


async def until(pin: Any, state: bool) -> None:
    changed = trio.Event()
    token = trio.lowlevel.current_trio_token()
    before = pin._change_state

    def watch(value: bool) -> bool:
        result: bool = before(value)
        if value == state:
            token.run_sync_soon(changed.set)
        return result

    pin._change_state = watch
    if pin.state != state:
        await changed.wait()


async def test_interrupted_cycle_leaves_the_board_on(mock: Any) -> None:
    async with serve_async(relay()) as client:
        await client.on.aio()
        pin = mock.pin(17)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.cycle.aio, 3600)
            await until(pin, False)
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await until(pin, True)


class Grouped(MockPower):
    """Its cancel comes in the group of a nursery, as that of any driver that has one may."""

    is_on = True

    @export
    async def on(self) -> None:
        self.is_on = True

    @export
    async def off(self) -> None:
        self.is_on = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)


async def test_a_cycle_that_is_interrupted_while_it_switches_leaves_the_board_on() -> None:
    driver = Grouped()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.cycle, 0)
            while driver.is_on:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert driver.is_on


async def test_cycle_of_a_client_that_dies_leaves_the_board_on(mock: Any) -> None:
    with trio.fail_after(10):
        async with serve_async(relay()) as client:
            await client.on.aio()
            pin = mock.pin(17)
            client_task = trio.CancelScope()

            async def lost() -> None:
                with client_task:
                    await client.cycle.aio(3600)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(lost)
                await until(pin, False)
                client_task.cancel()
        await until(pin, True)


class Old(MockPower):
    """A power switch of Jumpstarter 0.9, which knows no cycle."""

    cycle = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: list[str] = []
        self.is_off = trio.Event()

    @export
    async def on(self) -> None:
        self.seen.append("on")

    @export
    async def off(self) -> None:
        self.seen.append("off")
        self.is_off.set()


async def test_client_cycles_where_the_exporter_cannot() -> None:
    driver = Old()
    async with serve_async(driver) as client:
        await client.cycle.aio(0)
        assert driver.seen == ["off", "on"]
        async with trio.open_nursery() as nursery:
            driver.is_off = trio.Event()
            nursery.start_soon(client.cycle.aio, 3600)
            await driver.is_off.wait()
            nursery.cancel_scope.cancel()
        assert driver.seen == ["off", "on", "off", "on"]


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf")])
def test_cycle_refuses_an_impossible_wait(wait: float) -> None:
    with serve(MockPower()) as client:
        with pytest.raises(ValueError, match="0 or more"):
            client.cycle(wait=wait)
        with pytest.raises(DriverInvalidArgument):
            client.call("cycle", -1)


async def test_second_cycle_is_refused_while_one_runs(mock: Any) -> None:
    async with serve_async(relay()) as client, trio.open_nursery() as nursery:
        await client.on.aio()
        nursery.start_soon(client.cycle.aio, 3600)
        await until(mock.pin(17), False)
        with pytest.raises(ExporterNotReady, match="being power-cycled"):
            await client.cycle.aio()
        nursery.cancel_scope.cancel()


def test_what_a_relay_cannot_do_is_said() -> None:
    with serve(relay()) as client:
        with pytest.raises(DriverMethodNotImplemented, match="cannot measure"):
            list(client.read())
        with pytest.raises(DriverMethodNotImplemented, match="no rescue mode"):
            client.rescue()


@pytest.mark.parametrize(
    ("driver", "complaint"),
    [
        (GpioRelay(pin=99, pin_factory="mock"), "no GPIO pin 99"),
        (GpioRelay(pin="GND", pin_factory="mock"), "no GPIO pin 'GND'"),
        (GpioRelay(pin=17, pin_factory="magic"), "no pin factory 'magic'; installed: .*mock"),
        (GpioRelay(pin=17, pin_factory="pigpio"), "needs the Python package pigpio"),
        (GpioRelay(pin=17, pin_factory="native"), "pin factory native: unable to locate Pi revision"),
    ],
    ids=["number", "supply", "factory", "package", "host"],
)
def test_missing_hardware_is_one_sentence(driver: GpioRelay, complaint: str) -> None:
    with serve(driver) as client, pytest.raises(DriverError, match=complaint):
        client.on()


async def test_a_pin_has_one_user_at_a_time(mock: Any) -> None:
    async with serve_async(relay()) as first, serve_async(relay()) as second:
        await first.on.aio()
        with pytest.raises(DriverError, match="GPIO17 is in use by another device"):
            await second.off.aio()
        assert mock.pin(17).state
    async with serve_async(relay()) as third:
        await third.off.aio()
    assert not mock.pin(17).state


def test_power_switch_of_0_9_reads_its_own_keys() -> None:
    driver = PowerSwitch(line=18, active_low=True, initial_value="active", device="/dev/gpiochip4")
    wiring = driver.wiring()
    assert (wiring.pin, wiring.active_high, wiring.at_open, driver.release) == (18, False, "on", "leave")
    assert wiring.chip == "/dev/gpiochip4"
    assert PowerSwitch.host_nodes({"device": "/dev/gpiochip4"}) == ["/dev/gpiochip4"]
    assert PowerSwitch(line=18).wiring().at_open == "off"


@pytest.mark.parametrize("config", [{"drive": "open_drain"}, {"bias": "pull_up"}, {"device": "gpio"}])
def test_power_switch_refuses_what_gpiozero_cannot_do(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PowerSwitch(line=18, **config)


def test_a_line_of_a_chip_is_known_by_its_number_and_its_name() -> None:
    board = selected_board("cp210x", ["", "RELAY", "GPIO0", "RELAY"])

    def found(pin: int | str) -> list[str]:
        return [info.name for _, info in board.find_pin(pin)]

    assert [found(pin) for pin in (1, "1", "GPIO1", "RELAY")] == [["GPIO1"]] * 4
    assert (found("GPIO0"), found(4), found("BOARD11"), found("")) == (["GPIO0"], [], [], [])
    assert all("gpio" in info.interfaces for info in board.headers["LINES"].pins.values())


def test_a_chip_is_a_node_or_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "gpiochip12").touch()
    (tmp_path / "relay").symlink_to("gpiochip12")
    (tmp_path / "null").symlink_to("/dev/null")
    assert [number_of(str(tmp_path / name)) for name in ("gpiochip12", "relay")] == [12, 12]
    for name, complaint in (("null", "is not a GPIO chip"), ("none", "there is no GPIO chip")):
        with pytest.raises(DeviceMissing, match=complaint):
            number_of(str(tmp_path / name))


def test_a_relay_of_a_chip_that_is_not_plugged_in_is_missing() -> None:
    complaint = "there is no GPIO chip /dev/no-such-chip; plug it in"
    with (
        serve(GpioRelay(pin=0, chip="/dev/no-such-chip")) as client,
        pytest.raises(DriverError, match=complaint),
    ):
        client.on()
    assert GpioRelay.host_nodes({"pin": 0, "chip": "/dev/no-such-chip"}) == ["/dev/no-such-chip"]
    assert GpioRelay.host_nodes({"pin": 0}) == []


def test_a_chip_that_was_plugged_in_again_is_had_as_soon_as_it_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """udev gives a node to the exporter a moment after it is there."""
    closed: list[int] = []
    library = SimpleNamespace(error=OSError, gpiochip_close=lambda handle: closed.append(handle & 0xFFFF))
    monkeypatch.setitem(sys.modules, "lgpio", library)
    monkeypatch.setattr(pins, "_chips", {})
    node = tmp_path / "gpiochip12"
    handles = iter([1, None, None, 2])

    def open_chip(_: str) -> Any:
        if (handle := next(handles)) is None:
            raise PermissionError(13, "Permission denied")
        board = selected_board("cp210x", ["RELAY"])
        return SimpleNamespace(_handle=handle, board_info=board)

    monkeypatch.setattr(pins, "open_chip", open_chip)
    node.touch()
    pins.acquire("RELAY", chip=str(node)).release()
    (tmp_path / "new").touch()
    (tmp_path / "new").replace(node)
    for _ in range(2):
        with pytest.raises(DeviceMissing, match="Permission denied"):
            pins.acquire("RELAY", chip=str(node))
    pins.acquire("RELAY", chip=str(node)).release()
    assert closed == [1]


@pytest.mark.parametrize(
    "config", [{"chip": "gpiochip0"}, {"chip": "/dev/gpiochip0", "pin_factory": "native"}]
)
def test_a_chip_is_a_path_that_lgpio_opens(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="chip"):
        GpioRelay(pin=1, **config)


def test_client_is_a_power_client() -> None:
    with serve(MockPower()) as client:
        assert isinstance(client, PowerClient)


def test_pins_stay_driven_when_gpiozero_cleans_up_at_exit(mock: Any) -> None:
    with serve(relay()) as client:
        client.on()
    gpiozero.devices._shutdown()
    assert (mock.pin(17).function, mock.pin(17).state) == ("output", True)
