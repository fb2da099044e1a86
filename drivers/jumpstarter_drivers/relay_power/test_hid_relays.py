"""Relay boards on USB end to end: the client over gRPC on one side, the board behind pyusb on the other."""

from __future__ import annotations

import fcntl
import os
from typing import Any, cast

import pytest
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented, ExporterNotReady
from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing

from jumpstarter_drivers import usb_devices
from jumpstarter_drivers.power.client import PowerClient
from jumpstarter_drivers.relay_power.driver import HidRelay, NoyitoPowerHID, RelayBoard, Ykush
from jumpstarter_drivers.relay_power.hid_table import HID_BOARDS
from jumpstarter_drivers.testing import host, serve, serve_async
from tests.support.usb_boards import (
    BoardBackend,
    Dcttech,
    EnerGenieStrip,
    LcusHid,
    PluggedBoard,
    Ucreatefun,
    YkushBoard,
    YkushXs,
)


class YkushLegacy(YkushBoard):
    length = 6


BOARDS: dict[str, tuple[type[PluggedBoard], dict[str, Any], int]] = {
    # The board, its descriptor, and the number of a relay of it.
    "dcttech": (Dcttech, {"ids": "16c0:05df", "product": "USBRelay8"}, 8),
    "energenie": (EnerGenieStrip, {"ids": "04b4:fd11"}, 4),
    "lcus": (LcusHid, {"ids": "5131:2007"}, 8),
    "ucreatefun": (Ucreatefun, {"ids": "0519:2018", "product": "HIDRelay"}, 8),
    "ykush": (YkushBoard, {"ids": "04d8:f2f7", "serial": "YK25838"}, 3),
    "ykush-legacy": (YkushLegacy, {"ids": "04d8:0042"}, 3),
    "ykush3": (YkushBoard, {"ids": "04d8:f11b"}, 2),
    "ykush-xs": (YkushXs, {"ids": "04d8:f0cd"}, 1),
}


def dcttech(port: str = "1-1", count: int = 2, **more: Any) -> Dcttech:
    return Dcttech(port=port, ids="16c0:05df", product=f"USBRelay{count}", **more)


def ykush(port: str = "1-1", serial: str = "YK25838", **more: Any) -> YkushBoard:
    return YkushBoard(port=port, ids="04d8:f2f7", serial=serial, **more)


def test_every_kind_is_tested() -> None:
    assert set(HID_BOARDS) == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_one_relay_of_a_board_is_switched_and_no_other(usb_host: BoardBackend, name: str) -> None:
    make, descriptor, relay = BOARDS[name]
    board = usb_host.plug(make(**descriptor))
    with serve(HidRelay(board=name, channel=relay)) as client:
        assert board.on == set()
        client.on()
        assert board.on == {relay}
        if name != "ucreatefun":
            assert client.status() == "on"
        client.off()
        assert board.on == set()
        client.cycle(wait=0)
    assert board.on == {relay}
    assert board.kernel_driver == "usbhid"


def test_all_relays_are_switched_as_one_and_their_state_may_be_partial(usb_host: BoardBackend) -> None:
    board = usb_host.plug(dcttech(count=4))
    with serve(HidRelay(board="dcttech", channel="all")) as client:
        client.on()
        assert (board.on, client.status()) == ({1, 2, 3, 4}, "on")
        board.on = {2}
        assert client.status() == "partial"
        client.off()
        assert (board.on, client.status()) == (set(), "off")


def test_a_board_that_cannot_tell_says_so(usb_host: BoardBackend) -> None:
    usb_host.plug(Ucreatefun(ids="0519:2018", product="HIDRelay"))
    with (
        serve(HidRelay(board="ucreatefun")) as client,
        pytest.raises(DriverMethodNotImplemented, match="relay 1 of the HIDRelay cannot report its state"),
    ):
        client.status()


def test_what_has_the_ids_of_a_relay_board_and_is_none_is_left_alone(usb_host: BoardBackend) -> None:
    usb_host.plug(PluggedBoard(ids="16c0:05df", product="USBasp LED"))
    with (
        serve(HidRelay(board="dcttech")) as client,
        pytest.raises(DriverError, match="no USBRelay is plugged in; check its cable"),
    ):
        client.on()


def test_several_boards_are_told_apart_by_id_serial_number_or_port(usb_host: BoardBackend) -> None:
    first, second = usb_host.plug(dcttech("1-1.1")), usb_host.plug(dcttech("1-1.2"))
    second.board_id = b"H7XR2"  # type: ignore[attr-defined]
    with serve(HidRelay(board="dcttech", serial="H7XR2")) as client:
        client.on()
    with serve(HidRelay(board="dcttech", port="1-1.1", channel=2)) as client:
        client.on()
    assert (first.on, second.on) == ({2}, {1})
    with (
        serve(HidRelay(board="dcttech")) as client,
        pytest.raises(
            DriverError,
            match=r"2 USBRelays are plugged in: 1-1.1, 1-1.2; say which one it is with `serial` or `port`",
        ),
    ):
        client.on()
    assert (first.on, second.on) == ({2}, {1})


def test_boards_that_share_a_serial_number_are_named(usb_host: BoardBackend) -> None:
    boards = [usb_host.plug(ykush(port, "YK1")) for port in ("1-1.1", "1-1.2")]
    with (
        serve(Ykush(serial="YK1", port="1", default="keep")) as client,
        pytest.raises(
            DriverError,
            match=r"2 YKUSHs have the serial number YK1; tell them apart by `usb_port`, which is one of 1-1.1, 1-1.2",
        ),
    ):
        client.on()
    with serve(Ykush(serial="YK1", usb_port="1-1.2", port="1", default="keep")) as client:
        client.on()
    assert [one.on for one in boards] == [set(), {1}]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            {"serial": "YK9"},
            r"there is no YKUSH with the serial number YK9: plugged in: 1-1 \(serial number YK25838\); correct",
        ),
        ({"usb_port": "1-4"}, r"there is no YKUSH in the port 1-4: plugged in: 1-1"),
    ],
)
def test_another_board_than_the_configured_one_is_no_substitute(
    usb_host: BoardBackend, config: dict[str, Any], complaint: str
) -> None:
    board = usb_host.plug(ykush())
    with serve(Ykush(port="1", **config)) as client, pytest.raises(DriverError, match=complaint):
        client.off()
    assert board.received == []


def test_a_channel_that_the_board_has_not(usb_host: BoardBackend) -> None:
    usb_host.plug(dcttech(count=2))
    with (
        serve(HidRelay(board="dcttech", channel=3)) as client,
        pytest.raises(DriverError, match=r"the USBRelay at 1-1 has 2 relays and no 3; correct `channel`"),
    ):
        client.on()


def test_a_missing_permission_names_node_and_remedy(
    usb_host: BoardBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = usb_host.plug(dcttech(permitted=False))
    node = usb_host.bus.root / f"dev/bus/usb/001/{board.address:03}"
    node.parent.mkdir(parents=True)
    node.touch(mode=0o644)
    with (
        serve(HidRelay(board="dcttech")) as client,
        pytest.raises(
            DriverError,
            match=rf"the exporter may not use the USBRelay at 1-1: it may not open {node}; .*rules for udev",
        ),
    ):
        client.on()
    assert board.on == set()


def test_a_board_that_another_program_has_claimed_is_busy(usb_host: BoardBackend) -> None:
    board = usb_host.plug(ykush(has_interface=False))
    with (
        serve(Ykush(port="2", default="keep")) as client,
        pytest.raises(ExporterNotReady, match=r"the YKUSH at 1-1 .* is in use by another program; end that"),
    ):
        client.on()
    assert (board.on, board.kernel_driver) == (set(), "usbhid")


def test_a_board_that_another_exporter_is_switching_is_waited_for(
    usb_host: BoardBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = usb_host.plug(ykush())
    monkeypatch.setattr(usb_devices, "_LOCK_SECONDS", 0.05)
    descriptor = os.open(board.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with serve(Ykush(port="2", default="keep")) as client:
            with pytest.raises(ExporterNotReady, match=r"another process is using the YKUSH at 1-1"):
                client.on()
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            client.on()
    finally:
        os.close(descriptor)
    assert board.on == {2}


def test_a_board_that_vanishes_is_missing_until_it_is_back(usb_host: BoardBackend) -> None:
    board = usb_host.plug(dcttech(behaviour="vanishes"))
    with serve(HidRelay(board="dcttech")) as client:
        with pytest.raises(DriverError, match="no USBRelay is plugged in; check its cable"):
            client.on()
        usb_host.boards.remove(board)
        again = usb_host.plug(dcttech("1-2"))
        client.on()
        assert again.on == {1}


def test_a_board_that_is_unplugged_in_a_transfer(usb_host: BoardBackend) -> None:
    board = usb_host.plug(ykush())
    usb_host.before = lambda one: one.unplug()
    with (
        serve(Ykush(port="2", default="keep")) as client,
        pytest.raises(DriverError, match=r"the YKUSH at 1-1 .* was unplugged; plug it in again"),
    ):
        client.on()
    assert board.on == set()


def test_a_relay_that_is_stuck_is_found_out(usb_host: BoardBackend) -> None:
    usb_host.plug(dcttech(behaviour="stuck"))
    with (
        serve(HidRelay(board="dcttech", timeout=0.2)) as client,
        pytest.raises(DriverError, match=r"relay 1 of the USBRelay says that it is off, 0.2 s after"),
    ):
        client.on()


def test_a_board_that_is_silent_leaves_the_power_unknown(usb_host: BoardBackend) -> None:
    usb_host.plug(ykush(behaviour="silent"))
    with (
        serve(Ykush(port="1", default="keep", timeout=0.2)) as client,
        pytest.raises(
            DriverError,
            match=r"relay 1 of the YKUSH was not switched on within 0.2 s: .* does not answer within 1 s; "
            "whether the board has power is not known",
        ),
    ):
        client.on()


async def test_ykush_switches_to_its_default_with_the_first_use_and_in_no_later_session(
    usb_host: BoardBackend,
) -> None:
    board = usb_host.plug(ykush(on={1, 3}))
    async with host(Ykush, port="1") as devices:
        async with serve_async(devices) as client:
            assert await client.status.aio() == "off"
            assert board.on == {3}
            await client.on.aio()
        async with serve_async(devices) as client:
            await client.on.aio()
            assert board.on == {1, 3}


def test_a_whole_board_has_its_relays_as_devices(usb_host: BoardBackend) -> None:
    board = usb_host.plug(dcttech(count=4))
    with serve(RelayBoard(board="dcttech", channels=4, port="1-1")) as client:
        assert list(client.children) == ["relay1", "relay2", "relay3", "relay4"]
        cast("PowerClient", client.children["relay3"]).on()
        assert board.on == {3}
    with pytest.raises(ValueError, match="channels is 0; it takes 1 to 64"):
        RelayBoard(board="dcttech", channels=0)


def test_noyitos_ids_are_hex_digits_and_decimal_numbers(usb_host: BoardBackend) -> None:
    keys: dict[str, Any] = {"num_channels": 4, "all_channels": True}
    for ids in ("5131:2007", "140b:07d7"):
        board = LcusHid(ids=ids)
        board.count = 4
        usb_host.plug(board)
        with serve(NoyitoPowerHID(**keys)) as client:
            client.on()
            assert (board.on, client.status()) == ({1, 2, 3, 4}, "on")
            board.on = {1}
            assert client.status() == "partial"
        board.unplug()
        usb_host.boards.clear()


def test_a_late_answer_is_not_the_state_of_now(usb_host: BoardBackend) -> None:
    board = usb_host.plug(LcusHid(ids="5131:2007", answers=[b"CH8:OFF\r\n"] * 5))
    with serve(HidRelay(board="lcus", channel=8)) as client:
        client.on()
        assert client.status() == "on"
    assert [one for one in board.received if one[0] == 0xA0 and one[2] == 1] == [bytes.fromhex("A00801A9")]


@pytest.mark.parametrize(
    ("make", "config", "complaint"),
    [
        (HidRelay, {"board": "dctech"}, "board is 'dctech'; did you mean 'dcttech'"),
        (HidRelay, {"board": "ykush", "channel": 4}, "channel is 4; a YKUSH has 1 to 3, or write all"),
        (HidRelay, {"board": "ykush", "channel": 0}, "channel is 0; a YKUSH has 1 to 3"),
        (Ykush, {"port": "4"}, "port is '4'; it takes 1, 2, 3 or all"),
        (NoyitoPowerHID, {"channel": 5}, "channel is 5; a LCUS relay has 1 to 4"),
        (
            NoyitoPowerHID,
            {"vendor_id": "relay"},
            "vendor_id and product_id are 'relay' and 2007; they take hex",
        ),
    ],
)
def test_a_wrong_configuration_is_one_sentence(
    make: type[HidRelay], config: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        make(**config)


def test_a_look_finds_the_board_and_sends_nothing(usb_host: BoardBackend) -> None:
    with pytest.raises(DeviceMissing, match="no YKUSH is plugged in; check its cable"):
        Ykush(port=2).look_at_hardware()
    with pytest.raises(DeviceMissing, match="there is no USBRelay with the serial number BITFT"):
        HidRelay(board="dcttech", serial="BITFT").look_at_hardware()
    used: list[PluggedBoard] = []
    usb_host.before = used.append
    usb_host.plug(ykush())
    usb_host.plug(dcttech("1-2"))
    assert Ykush(port=2).look_at_hardware() == "there is a YKUSH at 1-1 (serial number YK25838)"
    with pytest.raises(DeviceMissing, match="there is no YKUSH with the serial number YK0"):
        Ykush(port=2, serial="YK0").look_at_hardware()
    assert not HidRelay(board="dcttech", serial="BITFT").look_at_hardware(), "it would have to be asked"
    assert HidRelay(board="dcttech").look_at_hardware() == "there is a USBRelay at 1-2"
    assert used == []


def test_check_says_which_board_it_is(usb_host: BoardBackend) -> None:
    usb_host.plug(ykush())
    assert Ykush(port=2).describe_hardware() == (
        "relay 2 of the YKUSH at 1-1 (serial number YK25838), which has 3"
    )


def test_without_libusb_there_is_one_sentence(
    usb_host: BoardBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    usb_host.plug(ykush())
    for module in ("libusb0", "libusb1", "openusb"):
        monkeypatch.setattr(f"usb.backend.{module}.get_backend", lambda *_, **__: None)
    with pytest.raises(DeviceFailed, match=r"apt install libusb-1\.0-0"):
        Ykush(port=2).switch_relays(True)
