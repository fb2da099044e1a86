"""U-Boot end to end: a user's calls, the exporter, and the virtual board's boot loader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.console import BoardRebooted, CommandTooLong, ExpectTimeout
from jumpstarter_exporter.config import ConfigError, build, load
from jumpstarter_exporter.driver import Driver
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.composite.driver import Composite, Proxy
from jumpstarter_drivers.testing import serve, serve_async
from jumpstarter_drivers.uboot.client import (
    DhcpInfo,
    NotAtConsoleError,
    UbootCommandError,
    UbootConsoleClient,
)
from jumpstarter_drivers.uboot.driver import UbootConsole
from jumpstarter_drivers.virtual.driver import VirtualBoard


def lab(prompt: str = "\n=>", line_limit: int = 1024) -> Composite:
    children: dict[str, Driver] = {"power": Proxy(ref="rpi4.power"), "serial": Proxy(ref="rpi4.serial")}
    return Composite(
        children={
            "rpi4": VirtualBoard(hostname="rpi4", boot_seconds=0.5, boot_delay=9),
            "uboot": UbootConsole(children=children, prompt=prompt, line_limit=line_limit),
        }
    )


class Quick(UbootConsoleClient):
    """Without the seconds between off and on, which a virtual board does not need."""

    async def _cycle(self) -> None:
        await self.children["power"].cycle.aio(wait=0)


def quick(client: DriverClient) -> Quick:
    assert type(client.uboot) is UbootConsoleClient
    return Quick(client.uboot.node, client.uboot.connection)


@contextmanager
def stopped() -> Iterator[Quick]:
    with serve(lab()) as client:
        uboot = quick(client)
        with uboot.reboot_to_console():
            yield uboot


@asynccontextmanager
async def stopped_async() -> AsyncIterator[Quick]:
    async with serve_async(lab()) as client:
        uboot = quick(client)
        with trio.fail_after(60):
            async with uboot.reboot_to_console.aio():
                yield uboot


def test_stopped_board_runs_commands_and_boots_afterwards() -> None:
    with serve(lab(prompt="=> ")) as client:
        uboot = quick(client)
        assert uboot.prompt == "=> "
        with uboot.reboot_to_console() as same:
            assert same is uboot
            assert uboot.run_command_checked("version") == ["U-Boot 2024.01-virtual"]
            assert uboot.run_command("echo one") == b"echo one\r\none"
            assert uboot.run_command_checked("echo one; echo two") == ["one", "two"]
        with pytest.raises(NotAtConsoleError, match="reboot_to_console"):
            uboot.run_command("version")
        with client.rpi4.serial.console() as console:
            console.send_line("boot")
            console.expect("rpi4 login: ", timeout=60)
        with uboot.reboot_to_console():
            assert uboot.run_command_checked("true") == []


async def test_environment() -> None:
    async with stopped_async() as uboot:
        assert await uboot.get_env.aio("bootdelay") == "9"
        assert await uboot.get_env.aio("nothing") is None
        for value in ["plain", "two  words", 'a=b;c && $d "e"', "it's", "=> "]:
            await uboot.set_env.aio("greeting", value)
            assert await uboot.get_env.aio("greeting") == value
        await uboot.set_env_dict.aio({"greeting": None, "other": "x"})
        assert await uboot.get_env.aio("greeting") is None
        assert await uboot.get_env.aio("other") == "x"


async def test_line_that_is_longer_than_u_boots_is_not_typed() -> None:
    async with serve_async(lab(line_limit=256)) as client:
        uboot = quick(client)
        async with uboot.reboot_to_console.aio():
            await uboot.set_env.aio("a", "x" * 180)
            for call in (uboot.set_env.aio("a", "y" * 230), uboot.run_command.aio("echo " + "y" * 251)):
                with pytest.raises(
                    CommandTooLong, match="U-Boot takes 255; make it shorter, or set `line_limit`"
                ):
                    await call
            assert await uboot.get_env.aio("a") == "x" * 180
    with pytest.raises(ValueError, match="line_limit is 10"):
        lab(line_limit=10)


@pytest.mark.parametrize("key", ["", "a b", "a=b", "a;reset", "$a", "a\nb"])
async def test_names_that_are_not_variables_are_not_typed(key: str) -> None:
    async with stopped_async() as uboot:
        with pytest.raises(ValueError, match="not a valid variable name"):
            await uboot.set_env.aio(key, "x")


async def test_value_with_control_characters_is_not_typed() -> None:
    async with stopped_async() as uboot:
        with pytest.raises(ValueError, match="control characters"):
            await uboot.set_env.aio("a", "x\nreset")


async def test_command_that_fails_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_drivers.uboot.client._RETRY_SECONDS", 0)
    async with stopped_async() as uboot:
        with pytest.raises(
            UbootCommandError, match="'nonsense' ended with exit code 1; it printed:"
        ) as caught:
            await uboot.run_command_checked.aio("nonsense")
        assert isinstance(caught.value, RuntimeError)
        assert await uboot.run_command_checked.aio("false", check=False) == []
        await uboot.set_env.aio("n", "x")
        counting = "setenv n x${n}; printenv n; false"
        assert await uboot.run_command_checked.aio(counting, check=False, tries=3) == ["n=xxxx"]


async def test_dhcp_gives_the_network_and_leaves_autoload_as_it_was() -> None:
    async with stopped_async() as uboot:
        assert await uboot.setup_dhcp.aio() == DhcpInfo("10.0.2.15", "10.0.2.2", "255.255.255.0")
        assert await uboot.get_env.aio("autoload") is None
        await uboot.set_env.aio("autoload", "yes")
        await uboot.setup_dhcp.aio()
        assert await uboot.get_env.aio("autoload") == "yes"


@pytest.mark.parametrize(
    ("netmask", "cidr"), [("255.255.255.0", "24"), ("255.255.240.0", "20"), ("rubbish", "24")]
)
def test_length_of_the_prefix(netmask: str, cidr: str) -> None:
    assert DhcpInfo("10.0.2.15", "10.0.2.2", netmask).cidr == cidr


async def test_command_that_boots_has_no_end() -> None:
    async with stopped_async() as uboot:
        with pytest.raises(BoardRebooted, match=r"while 'boot' ran(.|\n)*rpi4 login: *$"):
            await uboot.run_command_checked.aio("boot")


async def test_keys_that_were_too_many_leave_the_console_in_step() -> None:
    async with stopped_async() as uboot, uboot.children["serial"].stream_async("connect") as other:
        await other.send_all(b"\x03" * 20)
        # Whatever they printed, lines and exit code are the command's own.
        assert await uboot.run_command_checked.aio("echo one") == ["one"]


async def test_prompt_that_does_not_come_names_it_and_quotes_the_console() -> None:
    async with serve_async(lab(prompt="never> ")) as client:
        with pytest.raises(ExpectTimeout, match=r"never>(.|\n)*check `prompt`(.|\n)*=>"):
            async with quick(client).reboot_to_console.aio(retries=12):
                pass


async def test_one_user_at_a_time() -> None:
    async with stopped_async() as uboot:
        with pytest.raises(NotAtConsoleError, match="in use"):
            async with uboot.reboot_to_console.aio():
                pass


def test_debug_shows_the_console(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with serve(lab()) as client, quick(client).reboot_to_console(debug=True):
        pass
    assert b"U-Boot 2024.01-virtual" in capfdbinary.readouterr().out


def test_children_are_needed() -> None:
    with pytest.raises(ValueError, match="no child power and no serial; add it"):
        UbootConsole()
    with pytest.raises(ValueError, match="prompt is empty"):
        lab(prompt=" \n")


def test_configuration_of_jumpstarter(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    lines = [
        "apiVersion: jumpstarter.dev/v1alpha1",
        "kind: ExporterConfig",
        "metadata: {namespace: default, name: x}",
        "export:",
        "  uboot:",
        "    type: jumpstarter_driver_uboot.driver.UbootConsole",
        "    children:",
        "      power: {type: jumpstarter_driver_power.driver.MockPower}",
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="no child serial"):
        build(load(file))
    lines.append(
        "      serial: {type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://'}}"
    )
    file.write_text("\n".join(lines))
    with serve(build(load(file)).make()) as client:
        assert client.uboot.prompt == "\n=>"


def test_errors_are_for_users() -> None:
    assert issubclass(NotAtConsoleError, JumpstarterError)
