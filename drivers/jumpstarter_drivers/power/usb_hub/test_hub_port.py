"""Ports of USB hubs end to end: the client over gRPC on one side, sysfs and the hub on the other."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented, ExporterNotReady
from jumpstarter_exporter.cli.check import check_files
from jumpstarter_exporter.driver import DeviceFailed
from jumpstarter_proto.errors import ExitCode

from jumpstarter_drivers.power.driver import HubPort
from jumpstarter_drivers.power.usb_hub import switch, topology
from jumpstarter_drivers.testing import serve, serve_async
from tests.support.usb_hubs import GANGED, NO_SWITCHING, Bus, Hub

methods = pytest.mark.parametrize("attribute", [True, False], ids=["attribute", "transfers"])


def states(*hubs: Hub) -> list[list[bool]]:
    """Of all ports, as the hubs say it."""
    return [[hub.is_on(number) for number in range(1, hub.ports + 1)] for hub in hubs]


ALL_ON = [True] * 4
THIRD_OFF = [True, True, False, True]


@methods
def test_both_ports_of_a_socket_are_switched_and_no_other(bus: Bus, attribute: bool) -> None:
    slow, fast = bus.pair(attribute=attribute)
    slow.plug(2)
    fast.plug(4)
    with serve(HubPort(port="1-1.3")) as client:
        assert client.status() == "on"
        client.off()
        assert client.status() == "off"
        assert states(slow, fast) == [THIRD_OFF, THIRD_OFF]
        client.on()
        assert states(slow, fast) == [ALL_ON, ALL_ON]
        client.cycle(wait=0)
        assert states(slow, fast) == [ALL_ON, ALL_ON]
    told = {port for hub in (slow, fast) for _, port in hub.requests}
    assert told == (set() if attribute else {3})
    assert states(*(bus.hubs[name] for name in ("usb1", "usb2")))[0] == ALL_ON


@pytest.mark.parametrize("config", [{"port": "2-1.3"}, {"hub": "2-1", "port": 3}])
def test_either_port_of_a_socket_names_it(bus: Bus, config: dict[str, Any]) -> None:
    slow, fast = bus.pair()
    with serve(HubPort(**config)) as client:
        client.off()
    assert states(slow, fast) == [THIRD_OFF, THIRD_OFF]


def test_the_kernels_attribute_is_used_where_there_is_one(bus: Bus) -> None:
    slow, fast = bus.pair()
    with serve(HubPort(port="1-1.3")) as client:
        client.off()
        assert (slow.disabled(3), fast.disabled(3)) == ("1\n", "1\n")
    assert slow.requests + fast.requests == []


def test_the_fast_port_goes_last_and_comes_first(bus: Bus) -> None:
    slow, fast = bus.pair(attribute=False)
    order: list[tuple[str, int]] = []
    slow.requests = fast.requests = order
    for port in ("1-1.3", "2-1.3"):
        order.clear()
        with serve(HubPort(port=port)) as client:
            slow.powered, fast.powered = watched(order, "slow"), watched(order, "fast")
            client.off()
            client.on()
        assert [one for one in order if isinstance(one[1], bool)] == [
            ("slow", False),
            ("fast", False),
            ("fast", True),
            ("slow", True),
        ]


def watched(order: list[Any], name: str) -> dict[int, bool]:
    class Watched(dict[int, bool]):
        def __setitem__(self, port: int, on: bool) -> None:
            order.append((name, on))
            super().__setitem__(port, on)

    return Watched()


def test_a_socket_whose_ports_differ_is_partial_and_a_hub_that_is_gone_is_said(bus: Bus) -> None:
    slow, fast = bus.pair(attribute=False)
    with serve(HubPort(port="1-1.3")) as client:
        fast.powered[3] = False
        assert client.status() == "partial"
        slow.unplug()
        with pytest.raises(DriverError, match=r"there is no USB hub 1-1"):
            client.status()


@methods
def test_opening_and_closing_switch_nothing(bus: Bus, attribute: bool) -> None:
    slow, fast = bus.pair(attribute=attribute)
    for port in (slow.port(3), fast.port(3)) if attribute else ():
        os.utime(port / "disable", (0, 0))
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(DriverMethodNotImplemented, match=r"cannot measure"),
    ):
        list(client.read())
    assert slow.requests + fast.requests == []
    for port in (slow.port(3), fast.port(3)) if attribute else ():
        assert (port / "disable").stat().st_mtime == 0
    with serve(HubPort(port="1-1.3")) as client:
        client.off()
    assert states(slow, fast) == [THIRD_OFF, THIRD_OFF]


def test_release_switches_at_the_end_of_a_session(bus: Bus) -> None:
    slow, fast = bus.pair()
    with serve(HubPort(port="1-1.3", release="off")) as client:
        client.on()
    assert states(slow, fast) == [THIRD_OFF, THIRD_OFF]


def test_a_hub_of_usb_2_alone_has_one_port_a_socket(bus: Bus) -> None:
    bus.hub("usb1")
    hub = bus.hub("1-2")
    with serve(HubPort(port="1-2.1")) as client:
        client.off()
    assert states(hub) == [[False, True, True, True]]


@methods
def test_halves_that_the_kernel_does_not_link_are_found_by_their_container(bus: Bus, attribute: bool) -> None:
    slow, other = bus.pair(linked=False, attribute=attribute, container_id="ab" * 16)
    fast = bus.hub("2-2", superspeed=True, container_id="ab" * 16, attribute=attribute)
    other.container_id = "cd" * 16
    with serve(HubPort(port="1-1.3")) as client:
        client.off()
    assert states(slow, fast, other) == [THIRD_OFF, THIRD_OFF, ALL_ON]


def test_a_configured_peer_is_the_other_port(bus: Bus) -> None:
    slow, _ = bus.pair(linked=False, container_id="ab" * 16)
    other = bus.hub("2-2", superspeed=True, container_id="cd" * 16)
    with serve(HubPort(port="1-1.3", peer="2-2.1")) as client:
        client.off()
    assert states(slow, other) == [THIRD_OFF, [False, True, True, True]]
    with (
        serve(HubPort(port="1-1.3", peer="1-1.1")) as client,
        pytest.raises(
            DriverError, match=r"ports of the same speed, so they do not belong to one socket; correct `peer`"
        ),
    ):
        client.off()


LIES = {
    "stays on": "port 1-1.3 of the hub 1-1 .0451:8142 Hub. stays on: .*does not switch it; use another hub",
    "stays connected": "is off, says the hub, and what is plugged in is still connected",
    "ganged": "off took 1-1.1, 1-1.2, 1-1.4.* with it: .*claims to switch each port by itself, and does not",
}


@methods
@pytest.mark.parametrize("behaviour", LIES)
def test_a_hub_that_lies_is_named_and_its_ports_are_on_again(
    bus: Bus, behaviour: str, attribute: bool
) -> None:
    slow, fast = bus.pair(attribute=attribute, behaviour=behaviour)
    slow.plug(3)
    with serve(HubPort(port="1-1.3")) as client:
        with pytest.raises(DriverError, match=LIES[behaviour]):
            client.off()
        assert states(slow, fast) == [ALL_ON, ALL_ON]
        client.on()


def test_power_that_comes_back_by_itself_is_named(bus: Bus) -> None:
    slow, _ = bus.pair(attribute=False, behaviour="comes back")
    with serve(HubPort(port="1-1.3")) as client, pytest.raises(DriverError, match=r"was off and is on again"):
        client.off()
    assert slow.requests.count(("off", 3)) > 1


@methods
def test_half_a_lie_leaves_no_socket_half_off(bus: Bus, attribute: bool) -> None:
    slow, fast = bus.pair(attribute=attribute)
    fast.behaviour = "stays on"
    with serve(HubPort(port="1-1.3")) as client, pytest.raises(DriverError, match=r"port 2-1.3 .* stays on"):
        client.off()
    assert states(slow, fast) == [ALL_ON, ALL_ON]


def test_a_hub_that_refuses_is_named(bus: Bus) -> None:
    bus.pair(attribute=False, behaviour="stalls")
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(DriverError, match=r"1-1.3 off: the hub 1-1 .* refuses; use a hub with per-port power"),
    ):
        client.off()


@methods
@pytest.mark.parametrize(
    ("characteristics", "complaint"),
    [
        (GANGED, "1-1 .* is ganged: it switches the power of all its 4 ports"),
        (NO_SWITCHING, "it cannot switch power"),
    ],
)
def test_hub_that_does_not_switch_per_port_is_refused(
    bus: Bus, attribute: bool, characteristics: int, complaint: str
) -> None:
    slow, fast = bus.pair(attribute=attribute, characteristics=characteristics)
    with serve(HubPort(port="1-1.3")) as client, pytest.raises(DriverError, match=complaint):
        client.off()
    assert states(slow, fast) == [ALL_ON, ALL_ON]


def test_a_gang_of_one_port_is_switched(bus: Bus) -> None:
    slow, fast = bus.pair(ports=1, characteristics=GANGED)
    with serve(HubPort(port="1-1.1")) as client:
        client.off()
    assert states(slow, fast) == [[False], [False]]


def test_the_sockets_of_a_raspberry_pi_are_refused_and_hubs_in_them_are_not(bus: Bus) -> None:
    model = bus.root / "sys/firmware/devicetree/base/model"
    model.parent.mkdir(parents=True)
    model.write_text("Raspberry Pi 4 Model B Rev 1.4\0")
    bus.hub("usb1", ports=1)
    bus.hub("usb2", superspeed=True)
    bus.hub("1-1", ids="2109:3431")
    hub = bus.hub("1-1.2", ids="2109:3431")
    for port in ("1-1.3", "1-1", "2-2"):
        with (
            serve(HubPort(port=port)) as client,
            pytest.raises(DriverError, match=r"share one power switch .ganged."),
        ):
            client.off()
    with serve(HubPort(port="1-1.2.3")) as client:
        client.off()
    assert states(hub) == [THIRD_OFF]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"port": "1-2.3"}, "no USB hub 1-2; there are 1-1 .*with ports 1-1.1, 1-1.2, 1-1.3, 1-1.4, 2-1"),
        ({"port": "1-1.7"}, "the hub 1-1 .0451:8142 Hub. has no port 7; it has 1-1.1, 1-1.2, 1-1.3, 1-1.4"),
        ({"hub": "usb9", "port": 1}, "no USB hub usb9"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(bus: Bus, config: dict[str, Any], complaint: str) -> None:
    bus.pair()
    with serve(HubPort(**config)) as client, pytest.raises(DriverError, match=complaint):
        client.on()


def test_a_host_without_hubs_says_so(bus: Bus) -> None:
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(DriverError, match=r"this host has no USB hubs"),
    ):
        client.on()


@methods
async def test_a_hub_that_vanishes_while_it_is_switched_is_missing_until_it_is_back(
    bus: Bus, attribute: bool
) -> None:
    bus.pair(attribute=attribute, behaviour="vanishes")
    driver = HubPort(port="1-1.3")
    async with serve_async(driver) as client:
        with pytest.raises(
            DriverError, match=r"hub 1-1 .* vanished while switching 1-1.3 off; plug it in again"
        ):
            await client.off.aio()
        assert driver.lifecycle.state == "missing"
        with pytest.raises(DriverError, match=r"there is no USB hub 1-1"):
            await client.on.aio()
        bus.hubs["2-1"].unplug()
        slow = bus.hub("1-1", attribute=attribute)
        await client.off.aio()
        assert driver.lifecycle.state == "ready"
    assert states(slow) == [THIRD_OFF]


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        ({"claimed_ports": 2}, "says that it has 2 ports, and the kernel says 4"),
        ({"behaviour": "nonsense"}, "sends invalid descriptors: its hub descriptor has only 2 bytes"),
    ],
)
def test_a_hub_that_lies_about_itself_is_refused(bus: Bus, claim: dict[str, Any], complaint: str) -> None:
    bus.pair(attribute=False, **claim)
    with serve(HubPort(port="1-1.3")) as client, pytest.raises(DriverError, match=complaint):
        client.off()


def test_a_hub_whose_node_is_forbidden_is_switched_by_the_attribute(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    slow, fast = bus.pair()
    slow.permitted = fast.permitted = False
    slow.plug(3)
    with serve(HubPort(port="1-1.3")) as client:
        client.off()
    assert states(slow, fast) == [THIRD_OFF, THIRD_OFF]
    assert "not known to be per port (the exporter may not write" in caplog.text
    assert f"{slow.node}" in caplog.text


def test_without_the_attribute_a_node_that_is_forbidden_is_named(bus: Bus) -> None:
    slow, _ = bus.pair(attribute=False)
    slow.permitted = False
    slow.node.parent.mkdir(parents=True)
    slow.node.touch(0o644)
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(
            DriverError, match=f"may not write {slow.node} .it is .* 0644.; give it the mode 0664 and a g"
        ),
    ):
        client.off()


def test_an_attribute_that_is_forbidden_is_named_with_what_it_needs(bus: Bus, tmp_path: Path) -> None:
    slow, fast = bus.pair()
    (fast.port(3) / "disable").chmod(0o644)
    (slow.port(3) / "disable").chmod(0o666)
    os.utime(slow.port(3) / "disable", (0, 0))
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    raised: list[BaseException] = []

    def off() -> None:
        # Of this thread alone, in what files it may have.
        ctypes.CDLL(None).setfsuid(65534)
        ctypes.CDLL(None).setfsgid(65534)
        socket = switch.SocketSwitch(topology.parse_port("1-1.3"), log=logging.getLogger())
        try:
            socket.switch(on=False)
        except DeviceFailed as error:
            raised.append(error)

    if os.getuid() != 0:
        (fast.port(3) / "disable").chmod(0o444)
    thread = threading.Thread(target=off)
    thread.start()
    thread.join()
    assert len(raised) == 1
    attribute = fast.port(3) / "disable"
    assert f"the exporter may not write {attribute} (it is " in str(raised[0])
    assert "give it the mode 0664 and a group of the exporter's user" in str(raised[0])
    assert (slow.port(3) / "disable").stat().st_mtime == 0  # the board was not off for a moment
    assert states(slow, fast) == [ALL_ON, ALL_ON]


def test_a_hub_that_goes_while_it_is_asked_is_missing(bus: Bus) -> None:
    bus.pair(attribute=False, behaviour="silent")
    gone = r"UNAVAILABLE: the hub 1-1 .* is gone; plug it in again"
    with serve(HubPort(port="1-1.3")) as client, pytest.raises(DriverError, match=gone):
        client.on()


def test_no_libusb_is_said_with_what_to_install(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.pair(attribute=False)
    for backend in ("libusb1", "libusb0", "openusb"):
        monkeypatch.setattr(f"usb.backend.{backend}.get_backend", lambda *_, **__: None)
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(DriverError, match=r"apt install libusb-1.0-0"),
    ):
        client.on()


def test_a_hub_that_another_process_switches_is_busy(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, _ = bus.pair()
    monkeypatch.setattr(switch, "_LOCK_SECONDS", 0)
    other = os.open(slow.directory, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with serve(HubPort(port="1-1.3")) as client:
            with pytest.raises(ExporterNotReady, match=r"another process is switching a port of the hub 1-1"):
                client.off()
            assert states(slow) == [ALL_ON]
    finally:
        os.close(other)


async def test_interrupted_cycle_leaves_the_board_on(bus: Bus) -> None:
    slow, fast = bus.pair(attribute=False)
    async with serve_async(HubPort(port="1-1.3")) as client:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.cycle.aio, 3600)
                while states(slow, fast) != [THIRD_OFF, THIRD_OFF]:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            while states(slow, fast) != [ALL_ON, ALL_ON]:
                await trio.sleep(0.01)


def test_rescue_is_not_a_mode_of_a_hub(bus: Bus) -> None:
    bus.pair()
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(DriverMethodNotImplemented, match=r"no rescue mode"),
    ):
        client.rescue()


def test_a_disk_of_the_host_behind_the_port_refuses_it_unless_allowed(bus: Bus) -> None:
    slow, fast = bus.pair()
    bus.root_disk(slow.plug(3))
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(
            DriverError,
            match=r"needs port 1-1.3: /dev/sda hangs on it, and the host has / on it; use another port, or set",
        ),
    ):
        client.off()
    for port in ("1-1.2", "2-1.4"):
        with serve(HubPort(port=port)) as client:
            client.cycle(wait=0)
    with serve(HubPort(port="1-1")) as client, pytest.raises(DriverError, match=r"needs port 1-1: /dev/sda"):
        client.on()
    assert states(slow, fast) == [ALL_ON, ALL_ON]
    with serve(HubPort(port="1-1.3", allow_disconnecting_host=True)) as client:
        client.off()
    assert states(slow, fast) == [THIRD_OFF, THIRD_OFF]


def test_what_the_host_begins_to_stand_on_is_not_switched_off(bus: Bus) -> None:
    slow, fast = bus.pair()
    with serve(HubPort(port="1-1.3")) as client:
        client.on()
        keyboard = slow.plug(3, product="Keys") / "1-1.3:1.0"
        keyboard.mkdir()
        (keyboard / "uevent").write_text("DEVTYPE=usb_interface\nINTERFACE=3/1/1\n")
        (bus.devices / "1-1.3:1.0").symlink_to(keyboard)
        with pytest.raises(DriverError, match=r"needs port 1-1.3: .* the host has its keyboard there"):
            client.off()
    assert states(slow, fast) == [ALL_ON, ALL_ON]


def test_a_port_stays_on_where_nobody_knows_what_the_host_stands_on(bus: Bus) -> None:
    slow, fast = bus.pair()
    (bus.root / "proc/self/mountinfo").unlink()
    with (
        serve(HubPort(port="1-1.3")) as client,
        pytest.raises(DriverError, match=r"cannot find out what this host has mounted: .*; mount /proc"),
    ):
        client.off()
    assert states(slow, fast) == [ALL_ON, ALL_ON]


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str) -> list[str]:
    """The notes of `jumpstarter-exporter check`."""
    file = tmp_path / "lab.yaml"
    file.write_text(
        f"export: {{rpi4: {{children: {{power: {{type: power.HubPort, config: {{port: {port}}}}}}}}}}}\n"
    )
    assert check_files(str(file)) == ExitCode.OK
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: rpi4.power: ")]


@methods
def test_check_says_what_would_be_switched_and_by_what_and_switches_nothing(
    bus: Bus, tmp_path: Path, capsys: pytest.CaptureFixture[str], attribute: bool
) -> None:
    slow, fast = bus.pair(attribute=attribute)
    how = "the kernel's attribute disable" if attribute else "control transfers"
    ports = "port 1-1.3 of 1-1 (0451:8142 Hub) and port 2-1.3 of 2-1 (0451:8142 Hub)"
    assert check(tmp_path, capsys, "1-1.3") == [f"Note: rpi4.power: {ports}, by {how}, per port"]
    assert "has no port 9" in check(tmp_path, capsys, "1-1.9")[0]
    slow.characteristics = GANGED
    assert "1-1 (0451:8142 Hub) is ganged" in check(tmp_path, capsys, "1-1.3")[0]
    assert (states(slow, fast), slow.requests + fast.requests) == ([ALL_ON, ALL_ON], [])
