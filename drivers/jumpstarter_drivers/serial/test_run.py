"""Commands on the virtual board's console, from Python and as `jumpstarter serial run` does it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.cli.options import ArgumentsError, take_output
from jumpstarter_client.cli.parser import parse
from jumpstarter_client.console import BoardRebooted, CommandFailed, ShellLost
from jumpstarter_client.verb import verbs

from jumpstarter_drivers.serial.client import PySerialClient
from jumpstarter_drivers.serial.command_line import (
    RunUsageError,
    line_of,
    new_password_of,
    password_of,
    show_output,
)
from jumpstarter_drivers.testing import serve, serve_async
from jumpstarter_drivers.virtual.driver import VirtualBoard


@pytest.fixture
def board() -> Iterator[DriverClient]:
    with serve(VirtualBoard(hostname="rpi4", boot_seconds=0.2)) as client:
        client.power.on()
        yield client


def test_run_logs_in_on_a_board_that_boots(board: DriverClient) -> None:
    result = board.serial.run("uname -n; false")
    assert (result.output, result.exit_code) == ("rpi4\n", 1)
    # Whoever comes next finds the shell.
    assert board.serial.run("cat /etc/hostname").check() == "rpi4\n"
    with pytest.raises(CommandFailed, match="exit code 127"):
        board.serial.run("nonsense").check()


def test_syntax_error_is_the_result_of_the_command(board: DriverClient) -> None:
    result = board.serial.run("echo 'unterminated")
    assert result.exit_code == 2
    assert "unterminated quoted string" in result.output
    assert board.serial.run("uname").check() == "Linux\n"


def test_console_session(board: DriverClient) -> None:
    transcript = bytearray()
    with board.serial.console(on_data=transcript.extend) as console:
        board.power.cycle(wait=0)  # what it says first is for who listens
        found = console.expect(re.compile(r"(\w+) login: "), timeout=60)
        assert found.groups == ("rpi4",)
        console.login("root")
        assert console.run("echo one\necho two").output == "one\ntwo\n"
        assert "Booting Linux" in console.run("dmesg").kernel
    assert b"U-Boot" in transcript


async def test_the_same_from_trio() -> None:
    async with serve_async(VirtualBoard(hostname="rpi4", boot_seconds=0)) as client:
        await client.power.on.aio()
        async with client.serial.console.aio() as console:
            with trio.fail_after(60):
                await console.login.aio()
                assert (await console.run.aio("hostname")).check() == "rpi4\n"
        assert (await client.serial.run.aio("whoami")).check() == "root\n"


def test_board_that_reboots_under_a_command(board: DriverClient) -> None:
    with board.serial.console() as console:
        console.login()
        with pytest.raises(BoardRebooted, match="rebooted while 'reboot' ran"):
            console.run("reboot")
        console.login()
        assert console.run("true").exit_code == 0


def test_no_login_wanted_and_no_shell_there(board: DriverClient) -> None:
    with board.serial.console() as console:
        board.power.cycle(wait=0)  # what it said before the port was open is lost
        console.expect("login: ")
    with pytest.raises(ShellLost, match="log in first"):
        board.serial.run("true", user=None)


def test_verb_prints_output_and_ends_with_the_commands_exit_code(
    board: DriverClient, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        board.serial.run_verb("uname -n; cat /none")
    assert ended.value.code == 1
    assert capfd.readouterr().out == "rpi4\ncat: can't open '/none': No such file or directory\n"
    board.serial.run_verb("echo", "two  words", "$?")
    assert capfd.readouterr().out == "two  words $?\n"


def test_command_line() -> None:
    verb = verbs(PySerialClient)["run"]
    words = ["--user", "pi", "--", "ls", "-o", "json", "rpi4"]
    assert take_output(words) == (None, words)
    positional, named = parse(verb, words, "jumpstarter serial run")
    assert positional == ("ls", "-o", "json", "rpi4")
    assert named == {"user": "pi"}


@pytest.mark.parametrize(
    ("words", "line"), [(("ls | wc",), "ls | wc"), (("echo", "a  b", "$x"), "echo 'a  b' '$x'")]
)
def test_one_word_is_a_line_and_several_are_a_program(words: tuple[str, ...], line: str) -> None:
    assert line_of(words) == line


def test_an_option_of_the_command_is_told_where_it_goes() -> None:
    verb = verbs(PySerialClient)["run"]
    with pytest.raises(
        ArgumentsError,
        match=r"^Unknown option: -a; a command with options goes after --: jumpstarter serial run -- uname -a$",
    ):
        parse(verb, ["uname", "-a"], "jumpstarter serial run")
    with pytest.raises(ArgumentsError, match="Did you mean --timeout") as error:
        parse(verb, ["--timeot", "1", "uname"], "jumpstarter serial run")
    assert str(error.value).count(" -- ") == 1


@pytest.mark.parametrize("words", [(), ("",), (" ", "")])
def test_run_needs_a_command(words: tuple[str, ...]) -> None:
    with pytest.raises(RunUsageError, match="needs a command"):
        line_of(words)


def test_password_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text(" with blanks \r\nsecond line\n")
    monkeypatch.setenv("JUMPSTARTER_CONSOLE_PASSWORD", "of the environment")
    assert password_of(file, ask=False) == " with blanks "
    assert password_of(None, ask=False) == "of the environment"
    monkeypatch.delenv("JUMPSTARTER_CONSOLE_PASSWORD")
    assert password_of(None, ask=False) is None
    assert new_password_of(file) == " with blanks "
    assert new_password_of(None) is None
    monkeypatch.setenv("JUMPSTARTER_CONSOLE_NEW_PASSWORD", "another")
    assert new_password_of(None) == "another"
    with pytest.raises(RunUsageError, match="cannot read"):
        password_of(tmp_path / "none", ask=False)
    with pytest.raises(RunUsageError, match="leave one out"):
        password_of(file, ask=True)
    with pytest.raises(RunUsageError, match="needs a terminal"):
        password_of(None, ask=True)


async def test_kernel_messages_go_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    await show_output("out\n", "[    1.000000] usb\n")
    assert capfd.readouterr() == ("out\n", "[    1.000000] usb\n")
