"""Relay boards on serial ports end to end: the client over gRPC on one side, the board at the other end of a pty."""

from __future__ import annotations

import fcntl
import os
from typing import Any

import pytest
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented, ExporterNotReady
from jumpstarter_exporter.driver import DeviceMissing

from jumpstarter_drivers.relay_power import serial_line
from jumpstarter_drivers.relay_power.driver import NoyitoPowerSerial, SerialRelay
from jumpstarter_drivers.relay_power.serial_table import SERIAL_BOARDS
from jumpstarter_drivers.testing import host, serve, serve_async
from tests.support.relay_lines import Devantech, Lcus, LineBoard, Noyito, Numato

BOARDS: dict[str, tuple[type[LineBoard], int, int]] = {
    # The board, how many relays it has, and the number of one of them.
    "lcus": (Lcus, 2, 2),
    "noyito": (Noyito, 2, 1),
    "numato": (Numato, 32, 31),
    "devantech": (Devantech, 8, 8),
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_line, "LOCK_SECONDS", 0.05)


def test_every_kind_is_tested() -> None:
    assert set(SERIAL_BOARDS) == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_one_relay_of_a_board_is_switched_and_no_other(name: str) -> None:
    make, channels, relay = BOARDS[name]
    board = make()
    with (
        board.plugged_in() as port,
        serve(SerialRelay(board=name, port=port, channels=channels, channel=relay)) as client,
    ):
        client.on()
        if name != "lcus":
            assert client.status() == "on"
        client.cycle(wait=0)
        if name != "lcus":  # which says nothing, so that nobody knows when it has heard
            assert board.on == {relay}
            client.off()
            assert (board.on, client.status()) == (set(), "off")
    assert board.on == ({relay} if name == "lcus" else set())


def test_a_command_is_the_makers_bytes() -> None:
    board = Lcus()
    with board.plugged_in() as port, serve(SerialRelay(board="lcus", port=port)) as client:
        client.on()
        client.off()
    assert board.received == bytes.fromhex("A00101A2 A00100A1")


def test_a_board_that_cannot_tell_says_so() -> None:
    with (
        Lcus().plugged_in() as port,
        serve(SerialRelay(board="lcus", port=port)) as client,
        pytest.raises(DriverMethodNotImplemented, match=r"relay 1 of the LCUS relay at .* cannot report its"),
    ):
        client.status()


def test_noyito_of_0_9_has_its_own_keys() -> None:
    board = Noyito()
    with board.plugged_in() as port:
        with serve(NoyitoPowerSerial(port=port, all_channels=True)) as client:
            client.on()
            assert (board.on, client.status()) == ({1, 2}, "on")
            board.on = {2}
            assert client.status() == "partial"
        with serve(NoyitoPowerSerial(port=port, channel=2)) as client:
            client.off()
            assert (board.on, client.status()) == (set(), "off")


async def test_two_devices_have_a_relay_each_of_one_board() -> None:
    board = Noyito()
    with board.plugged_in() as port:
        async with (
            host(SerialRelay, board="noyito", port=port, at_open="on") as first,
            host(SerialRelay, board="noyito", port=port, channel=2) as second,
            serve_async(first) as one,
            serve_async(second) as two,
        ):
            assert await one.status.aio() == "on"
            await two.on.aio()
            await one.off.aio()
        assert board.on == {2}


def test_a_port_that_another_program_has_is_busy() -> None:
    board = Noyito()
    with board.plugged_in() as port, serve(SerialRelay(board="noyito", port=port)) as client:
        other = os.open(port, os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(
                ExporterNotReady, match=rf"{port} is open in .* \(process|{port} is open in this"
            ):
                client.on()
            assert board.on == set()
            fcntl.flock(other, fcntl.LOCK_UN)
            client.on()
        finally:
            os.close(other)
    assert board.on == {1}


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        (
            "silent",
            r"was not switched on within 0.2 s: the board at .* does not answer within 0.1 s; whether the ",
        ),
        (
            "talks",
            r"was not switched on within 0.2 s: the board at .* says only b'.*\?.*' within 0.1 s; whether the ",
        ),
        ("stuck", r"says that it is off, 0.2 s after the command to switch on"),
    ],
)
def test_a_board_that_does_not_do_it(behaviour: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_line, "ANSWER_SECONDS", 0.1)
    with (
        Noyito(behaviour).plugged_in() as port,
        serve(SerialRelay(board="noyito", port=port, timeout=0.2)) as client,
        pytest.raises(DriverError, match=complaint),
    ):
        client.on()


def test_a_port_that_is_unplugged_is_missing_until_it_is_back(tmp_path: Any) -> None:
    link = tmp_path / "relay"
    with serve(SerialRelay(board="noyito", port=str(link))) as client:
        with pytest.raises(DriverError, match=rf"there is no {link}; check the cable"):
            client.on()
        board = Noyito()
        with board.plugged_in() as port:
            link.symlink_to(port)
            client.on()
            assert board.on == {1}
            link.unlink()
            with pytest.raises(DriverError, match=rf"there is no {link}; check the cable"):
                client.off()
            assert board.on == {1}


def test_a_port_that_is_unplugged_between_opening_and_the_command_is_missing() -> None:
    board, slave = os.openpty()
    port = os.ttyname(slave)
    os.close(slave)

    def send() -> None:
        with serial_line.open_line(port, 9600, "LCUS relay") as line:
            os.close(board)
            line.send(b"x")

    with pytest.raises(DeviceMissing, match=rf"{port} was unplugged; plug it in again"):
        send()


def test_what_is_no_serial_port_is_left_alone(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with (
        serve(SerialRelay(board="noyito", port=str(file))) as client,
        pytest.raises(DriverError, match=rf"{file} cannot be used as the port of a Noyito relay"),
    ):
        client.on()
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"board": "noyto"}, "board is 'noyto'; did you mean 'noyito'"),
        ({"port": ""}, "port is empty; it takes a serial port"),
        ({"channel": 3}, "channel is 3; with channels: 2 it takes 1 to 2, or all"),
        ({"channels": 9}, "channels is 9; a Noyito relay has 1 to 8"),
        ({"board": "numato", "channels": 5}, "channels is 5; a Numato relay has 1, 2, 4, 8, 16, 32, 64"),
        ({"board": "numato", "channel": 4}, "channel is 4; with channels: 4 it takes 0 to 3, or all"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SerialRelay(**{"board": "noyito", "port": "/dev/ttyUSB0", **config})


def test_numbers_of_numatos_boards() -> None:
    row = SERIAL_BOARDS["numato"]
    assert [row.switch(n, True, count) for n, count in ((9, 16), (10, 16), (31, 32), (7, 64))] == [
        b"relay on 9\r",
        b"relay on A\r",
        b"relay on V\r",
        b"relay on 07\r",
    ]
