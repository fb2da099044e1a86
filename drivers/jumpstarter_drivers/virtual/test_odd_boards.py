"""Odd boards end to end: a user's calls, the exporter, and a board with all quirks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_client.console import LoginRefused

from jumpstarter_drivers.testing import serve
from jumpstarter_drivers.virtual.driver import VirtualBoard
from jumpstarter_drivers.virtual.firmware import Firmware, FirmwareState
from jumpstarter_drivers.virtual.image import BootImage
from jumpstarter_drivers.virtual.quirks import QUIRKS, Quirks

OLD, NEW = "raspberry", "n3w secret"


@contextmanager
def odd(**config: Any) -> Iterator[Any]:
    board = VirtualBoard(hostname="rpi4", boot_seconds=0.2, quirks=list(QUIRKS), **config)
    with serve(board) as client:
        client.power.on()
        yield client


def test_login_and_commands_on_a_board_with_all_quirks() -> None:
    with odd(root_password=OLD, change_password=True) as client:
        with pytest.raises(
            LoginRefused, match=r"requires a new password for 'root' \(You are required.*`new_password`"
        ):
            client.serial.run("uname -s", password=OLD)
        for _ in range(2):  # the second time it has the new password already
            result = client.serial.run("uname -s", password=OLD, new_password=NEW)
            assert (result.output, result.exit_code) == ("Linux\n", 0)
            client.power.cycle(wait=0)
        text = "it's " * 200
        result = client.serial.run(f'printf %s "{text}"; false', password=NEW)
        assert (result.output, result.exit_code) == (text, 1)
        client.power.cycle(wait=0)
        with pytest.raises(LoginRefused, match=r"Login incorrect.*check the name and the password"):
            client.serial.run("true", password=OLD)


def test_progress_is_recorded_line_by_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with odd() as client:
        client.serial.run("true")
        client.serial.log(grep="loading", lines=2)
    assert capsysbinary.readouterr().out == b"loading  90%\nloading 100%\n"


@pytest.mark.parametrize("prompt", ["Marvell>> ", "u-boot# ", "MX6Q SABRESD U-Boot > ", "ZynqMP> "])
def test_boot_loader_of_a_vendor_is_not_a_shell(prompt: str) -> None:
    with odd(loader_prompt=prompt, boot_delay=9) as client, client.serial.console() as console:
        # A key counts in the countdown only, each second of which begins with a backspace.
        while console.expect(prompt, "autoboot", "\b", timeout=20).index != 0:
            console.send(" ")
        with pytest.raises(
            LoginRefused, match=f"prompt of its boot loader, {prompt.strip()!r}; type `boot` first"
        ):
            console.login(timeout=20)
        console.send_line("boot")
        assert console.expect("login: ", timeout=20)
        console.login(timeout=20)
        assert console.run("uname -s").output == "Linux\n"


@given(
    st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"root\r", b"raspberry\r", b"new secret\r"])))
)
def test_nothing_that_is_typed_raises(typed: list[bytes]) -> None:
    board = Firmware(
        boot_seconds=0, root_password=OLD, change_password=True, quirks=Quirks(frozenset(QUIRKS))
    )
    board.power_on(0)
    board.image_found(BootImage("demo", "1.0", 1024, "ab" * 32), 0)
    for data in typed:
        board.receive(data, 1)
        assert board.state in FirmwareState


@pytest.mark.parametrize("line", ['x=\'eval "$x"\'; eval "$x"', 'x=\'$(eval "$x")\'; eval "$x"'])
def test_a_shell_that_runs_itself_comes_to_an_end(line: str) -> None:
    board = Firmware(boot_seconds=0)
    board.power_on(0)
    board.image_found(BootImage("demo", "1.0", 1024, "ab" * 32), 0)
    board.receive(b"root\r" + line.encode() + b"\r" + b'y="$y$y$y$y$y1"\r' * 20, 1)
    assert board.state is FirmwareState.SHELL


def test_invalid_input_is_rejected() -> None:
    with pytest.raises(ValueError, match=re.escape("no quirk 'nope'; there are escapes")):
        VirtualBoard(quirks=["nope"])
    with pytest.raises(ValueError, match="set `root_password`"):
        VirtualBoard(change_password=True)
