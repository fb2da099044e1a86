"""Commands on real shells behind a pty, and on boards that reboot, hang and fall silent."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from jumpstarter_client.console.command import CommandTooLong
from jumpstarter_client.console.expect import ConsoleClosed, Expect
from jumpstarter_client.console.shell import BoardRebooted, CommandTimeout, LoginTimeout, Shell, ShellLost

SHELLS = [
    pytest.param(
        command,
        id=command[0],
        # Not in the test: a skip in an async one loses its reason.
        marks=pytest.mark.skipif(
            shutil.which(command[0]) is None, reason=f"missing: {command[0]}; apt install {command[0]}"
        ),
    )
    for command in (
        ["dash", "-i"],
        ["bash", "--norc", "--noprofile", "-i"],
        ["busybox", "sh", "-i"],
        ["zsh", "-f", "-i"],
    )
]
Board = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


@asynccontextmanager
async def shell_on_a_pty(command: list[str]) -> AsyncIterator[Shell]:
    """As on a board: a terminal that echoes, with a shell that edits lines."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *command],  # or Ctrl-C would be a byte like any other
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={
            "PATH": os.environ["PATH"],
            "TERM": "vt100",
            "LANG": "C.UTF-8",
            "PS1": "board# ",
            "HISTFILE": "",
        },
    )
    os.close(slave)
    try:
        async with trio.lowlevel.FdStream(master) as stream:
            yield Shell(Expect(stream))
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", SHELLS)
async def test_real_shell(command: list[str]) -> None:
    async with shell_on_a_pty(command) as shell:
        await shell.login(timeout=20)
        assert (await shell.run("echo hello; false", timeout=20)).exit_code == 1
        assert (await shell.run("printf 'no newline'", timeout=20)).output == "no newline"
        await shell.run("cd /usr; colour='deep blue'", timeout=20)
        assert (await shell.run('pwd; echo "$colour"', timeout=20)).output == "/usr\ndeep blue\n"
        assert (await shell.run("for i in 1 2\ndo\n\techo $i\ndone", timeout=20)).output == "1\n2\n"
        assert (await shell.run("echo err >&2; (exit 42)", timeout=20)).exit_code == 42
        big = await shell.run("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done", timeout=60)
        assert big.output.splitlines() == [f"line {i}" for i in range(5000)]


@pytest.mark.parametrize("command", SHELLS)
async def test_error_of_the_shell_itself_is_an_exit_code(command: list[str]) -> None:
    """Without care dash and busybox give the line up, and nobody hears of its end."""
    async with shell_on_a_pty(command) as shell:
        await shell.login(timeout=20)
        for wrong in (
            "echo 'unterminated",
            'echo "unterminated',
            "echo )",
            "if true",
            ". /nonexistent",
            "readonly r=1; r=2",
            "set -o nonsense",
            "echo $((1/0))",
            *(["echo ${unset?error}"] if command[0] != "zsh" else []),
            f"printf %s {'x' * 600}; )",
        ):
            result = await shell.run(wrong, timeout=20)
            assert result.exit_code != 0, wrong
            assert result.output.strip(), wrong
        await shell.run("kept=1; cd /usr", timeout=20)
        assert (await shell.run('echo "$kept" "$PWD"', timeout=20)).output == "1 /usr\n"


@pytest.mark.parametrize("command", SHELLS)
async def test_command_that_hangs_is_interrupted_and_the_shell_is_of_use_again(command: list[str]) -> None:
    async with shell_on_a_pty(command) as shell:
        await shell.login(timeout=20)
        with pytest.raises(CommandTimeout, match=r"'cat' did not end within 0.2 s and was interrupted"):
            await shell.run("cat", timeout=0.2)
        assert (await shell.run("echo back", timeout=20)).output == "back\n"


@pytest.mark.parametrize("command", SHELLS)
async def test_command_of_any_length_runs_as_a_short_one_does(command: list[str]) -> None:
    """Longer than busybox's line (1024 bytes at most), and than a terminal's (4095)."""
    words = "it's \\n grüße "
    async with shell_on_a_pty(command) as shell:
        await shell.login(timeout=20)
        for size in (600, 5000):
            text = (words * size)[: size - 20]
            typed = await shell.run(f"printf %s {shlex.quote(text)}; (exit 7)", timeout=60)
            assert (typed.output, typed.exit_code) == (text, 7)
        lines = [f"line{number}={shlex.quote(words)}{number}" for number in range(20)]
        several = await shell.run("\n".join([*lines, 'printf %s "$line19"', "set"]) + "\n", timeout=60)
        assert several.output.startswith(f"{words}19")
        assert not re.search(r"^js[0-9a-f]{8}=", several.output, re.MULTILINE)  # nothing stays behind


@pytest.mark.parametrize("command", SHELLS)
async def test_shell_that_waits_for_more_of_a_line_is_brought_back(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_client.console.shell._ANSWER_SECONDS", 1.0)
    async with shell_on_a_pty(command) as shell:
        await shell.login(timeout=20)
        await shell._expect.send_line("echo 'what noise left of a line")
        await shell._expect.expect("> ", timeout=20)
        with pytest.raises(
            ShellLost, match=r"did not read 'echo \"one\"' and is back at its prompt; try again"
        ):
            await shell.run('echo "one"', timeout=20)
        assert (await shell.run("echo two", timeout=20)).output == "two\n"


async def test_command_that_is_too_long_is_refused_before_a_byte_is_sent() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    with pytest.raises(CommandTooLong, match="70000 bytes, more than 65536; put it into a file"):
        await Shell(Expect(ours)).run("x" * 70_000)
    await ours.aclose()
    assert await theirs.receive_some() == b""


async def test_boot_loader_that_takes_the_line_is_not_a_shell(autojump_clock: trio.testing.MockClock) -> None:
    async def play(stream: Board) -> None:
        token = await take_command(stream)
        await stream.send_all(b"Unknown command 'eval' - try 'help'\r\nJS" + token + b"=1;\r\n=> ")

    async with board(play) as shell:
        with pytest.raises(ShellLost, match="a boot loader read 'ls', not a shell; type `boot`"):
            await shell.run("ls", timeout=60)


async def test_secrets_that_the_board_echoes_are_not_quoted(autojump_clock: trio.testing.MockClock) -> None:
    async def play(stream: Board) -> None:
        await stream.send_all(b"rpi4 login: ")
        await stream.receive_some()
        await stream.send_all(b"root\r\nPassword: ")
        password = await stream.receive_some()
        await stream.send_all(password + b"\nwelcome to rootfs\r\n")
        while True:
            await stream.receive_some()

    async with board(play) as shell:
        with pytest.raises(LoginTimeout, match="welcome to rootfs") as caught:
            await shell.login("root", "s3cret.", timeout=30)
    assert "s3cret" not in str(caught.value)
    assert "Password: ***" in str(caught.value)


@asynccontextmanager
async def board(play: Callable[[Board], Awaitable[None]]) -> AsyncIterator[Shell]:
    """A console whose other end follows a script."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, theirs)
        yield Shell(Expect(ours))
        nursery.cancel_scope.cancel()


async def take_command(stream: Board) -> bytes:
    """Read and echo a command, and print its first word; the token comes back."""
    line = b""
    while not line.endswith(b"\r"):
        line += await stream.receive_some()
    token = line.split(b"'JS''")[1].split(b"+'")[0]
    await stream.send_all(line + b"\nJS" + token + b"+\r\n")
    return token


async def test_board_that_reboots_under_a_command(autojump_clock: trio.testing.MockClock) -> None:
    async def play(stream: Board) -> None:
        await take_command(stream)
        await stream.send_all(b"making\r\n\x00\xff\r\nU-Boot SPL 2024.01\r\nU-Boot 2024.01\r\n")
        await trio.sleep(1)
        await stream.send_all(b"Starting kernel ...\r\n\r\nrpi4 login: ")
        await trio.sleep_forever()

    async with board(play) as shell:
        with pytest.raises(BoardRebooted, match=r"rebooted while 'make' ran(.|\n)*rpi4 login"):
            await shell.run("make", timeout=3600)
        assert trio.current_time() < 10


async def test_reboot_that_does_not_come_to_an_end_is_told_at_the_time_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def play(stream: Board) -> None:
        await take_command(stream)
        await stream.send_all(b"[    0.000000] Booting Linux on physical CPU 0x0\r\n")
        while True:
            await trio.sleep(0.5)
            await stream.send_all(b"[    1.000000] waiting for root device\r\n")

    async with board(play) as shell:
        with pytest.raises(BoardRebooted):
            await shell.run("make", timeout=60)


async def test_command_that_prints_a_boot_log_is_not_a_reboot(autojump_clock: trio.testing.MockClock) -> None:
    log = b"\r\nU-Boot 2024.01\r\n[    0.000000] Booting Linux\r\n\r\nrpi4 login: "

    async def play(stream: Board) -> None:
        token = await take_command(stream)
        await stream.send_all(log)
        await trio.sleep(0.5)
        await stream.send_all(b"root\r\nJS" + token + b"=0;\r\n# ")

    async with board(play) as shell:
        result = await shell.run("cat boot.log", timeout=60)
        assert "U-Boot 2024.01" in result.output


async def test_shell_that_is_logged_out(autojump_clock: trio.testing.MockClock) -> None:
    async def play(stream: Board) -> None:
        await take_command(stream)
        await stream.send_all(b"logout\r\n\r\nrpi4 login: ")

    async with board(play) as shell:
        with pytest.raises(ShellLost, match="the shell ended while 'exit' ran; log in again"):
            await shell.run("exit", timeout=60)


@pytest.mark.parametrize("printed", [b"\r\nrpi4 login: ", b"", b"\x00\xff"])
async def test_console_without_a_shell_says_log_in(
    autojump_clock: trio.testing.MockClock, printed: bytes
) -> None:
    async def play(stream: Board) -> None:
        await stream.send_all(printed + b" ")
        while True:
            await stream.receive_some()

    async with board(play) as shell:
        with pytest.raises(ShellLost, match="no shell reads 'ls'; log in first"):
            await shell.run("ls", timeout=600)
        assert trio.current_time() < 10


async def test_board_that_hangs_says_that_ctrl_c_did_not_help(autojump_clock: trio.testing.MockClock) -> None:
    async def play(stream: Board) -> None:
        await take_command(stream)
        while True:
            await stream.receive_some()

    async with board(play) as shell:
        with pytest.raises(CommandTimeout, match="Ctrl-C had no effect"):
            await shell.run("make", timeout=30)
        assert trio.current_time() == pytest.approx(35)


async def test_cancelled_command_is_interrupted_on_the_board() -> None:
    running = trio.Event()
    typed = bytearray()
    interrupted = trio.Event()

    async def play(stream: Board) -> None:
        await take_command(stream)
        running.set()
        typed.extend(await stream.receive_some())
        interrupted.set()

    async with board(play) as shell, trio.open_nursery() as nursery:
        nursery.start_soon(shell.run, "make")
        await running.wait()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(5):
            await interrupted.wait()
    assert typed == b"\x03"


async def test_cancelled_command_on_a_console_that_takes_nothing_is_left_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()  # what is typed has to be taken
    async with trio.open_nursery() as nursery:

        async def play() -> None:
            line = b""
            while not line.endswith(b"\r"):
                line += await theirs.receive_some()

        nursery.start_soon(play)
        with trio.fail_after(600), trio.move_on_after(2) as scope:
            await Shell(Expect(ours)).run("make", timeout=60)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(2 + 5)


async def test_cancelled_command_is_interrupted_though_that_takes_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    typed = b""

    async def play() -> None:
        nonlocal typed
        while not typed.endswith(b"\r"):
            typed += await theirs.receive_some()
        await trio.sleep(4)
        typed = bytes(await theirs.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        with trio.move_on_after(2):
            await Shell(Expect(ours)).run("make", timeout=60)
    assert typed == b"\x03"


async def test_what_comes_after_a_command_is_left_for_who_waits_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def play(stream: Board) -> None:
        token = await take_command(stream)
        await stream.send_all(b"JS" + token + b"=0;\r\n# Kernel panic")

    ours, theirs = trio.testing.memory_stream_pair()
    expect = Expect(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, theirs)
        await Shell(expect).run("echo c > /proc/sysrq-trigger", timeout=60)
    assert (await expect.expect("Kernel panic", timeout=1)).before == "# "


async def test_login_that_finds_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async def play(stream: Board) -> None:
        while True:
            await stream.receive_some()

    async with board(play) as shell:
        with pytest.raises(
            LoginTimeout, match="no shell within 30 s, no prompt has come; the console printed nothing"
        ):
            await shell.login(timeout=30)


async def test_console_that_ends_while_logging_in() -> None:
    async def play(stream: Board) -> None:
        await stream.aclose()

    async with board(play) as shell:
        with pytest.raises(ConsoleClosed):
            await shell.login()


async def test_cancelled_command_on_a_console_that_broke_meanwhile_is_cancelled() -> None:
    ours, board = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Shell(Expect(ours)).run, "sleep 100")
        await board.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        ours.send_stream.close()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
