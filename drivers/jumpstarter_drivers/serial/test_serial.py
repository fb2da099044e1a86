"""Consoles end to end: a user's stream, the exporter, and a pty that is the board."""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pexpect
import pytest
import trio
from jumpstarter_client import base
from jumpstarter_client.adapters import spawn
from jumpstarter_client.console import LoginRefused
from jumpstarter_client.errors import DriverError, ExporterNotReady
from jumpstarter_client.yamltest.consoles import RunConsoles
from jumpstarter_client.yamltest.machine import RunOutcome
from jumpstarter_client.yamltest.reader import read
from jumpstarter_client.yamltest.run import Runner
from jumpstarter_exporter.driver import Driver
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_drivers.serial.client import PipeUsageError, PySerialClient
from jumpstarter_drivers.serial.conftest import Cable
from jumpstarter_drivers.serial.driver import PySerial
from jumpstarter_drivers.testing import serve, serve_async


def driver(cable: Cable, **config: Any) -> PySerial:
    return PySerial(url=str(cable.path), **config)


async def receive(stream: Any, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            chunk = await stream.receive_some()
            assert chunk, f"the console ended after {data!r}"
            data += chunk
    return data


async def test_console_both_ways(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client, client.stream_async("connect") as stream:
        cable.write(b"login: ")
        assert await receive(stream, 7) == b"login: "
        await stream.send_all(b"root\r")
        assert await cable.receive(5) == b"root\r"


async def test_all_readers_get_every_byte(cable: Cable) -> None:
    async with (
        serve_async(driver(cable)) as client,
        client.stream_async("connect") as one,
        client.stream_async("connect") as two,
    ):
        cable.write(b"for both")
        assert await receive(one, 8) == b"for both"
        assert await receive(two, 8) == b"for both"


async def test_who_watches_knows_when_all_that_was_said_has_come(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client, client.stream_async("connect") as user:
        async with aclosing(client.watch_async()) as pieces:
            assert await anext(pieces) == (0, b"")
            cable.write(b"login: ")
            assert await receive(user, 7) == b"login: "
            assert await client.position_async() == 7
            seen = b""
            async for position, data in pieces:
                seen += data
                if position == 7:
                    break
            assert seen == b"login: "
        async with aclosing(client.watch_async()) as pieces:
            assert await anext(pieces) == (7, b"")


async def test_an_exporter_that_tells_no_positions_is_known() -> None:
    class Old(Driver):
        client = PySerial.client

    async with serve_async(Old()) as client, aclosing(client.watch_async()) as pieces:
        with pytest.raises(NotImplementedError):
            await anext(pieces)


async def test_port_stays_open_between_users(cable: Cable) -> None:
    """What a board prints between two users is not kept, and does not come late."""
    async with serve_async(driver(cable)) as client, client.stream_async("connect") as watching:
        async with client.stream_async("connect") as stream:
            cable.write(b"a")
            assert await receive(stream, 1) == b"a"
        cable.write(b"unseen")
        assert await receive(watching, 7) == b"aunseen"
        async with client.stream_async("connect") as stream:
            cable.write(b"b")
            assert await receive(stream, 1) == b"b"


async def test_a_cable_that_is_pulled_out_and_put_back_is_a_pause(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client, client.stream_async("connect") as stream:
        cable.write(b"before ")
        assert await receive(stream, 7) == b"before "
        cable.pull_out()
        await stream.send_all(b"typed while it was out")
        cable.plug_in()
        assert await cable.receive(22) == b"typed while it was out"
        cable.write(b"after")
        assert await receive(stream, 5) == b"after"


async def test_a_user_may_come_while_the_cable_is_out(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client, client.stream_async("connect") as stream:
        cable.write(b"x")
        assert await receive(stream, 1) == b"x"
        cable.pull_out()
        async with client.stream_async("connect") as late:
            cable.plug_in()
            await late.send_all(b"ready")
            assert await cable.receive(5) == b"ready"
            cable.write(b"y")
            assert await receive(late, 1) == b"y"
            assert await receive(stream, 1) == b"y"


async def test_missing_port_is_one_sentence_and_works_later(cable: Cable) -> None:
    cable.pull_out()
    async with serve_async(driver(cable, port_wait=0)) as client:
        for call in (_use(client), client.set_dtr.aio(True)):
            with pytest.raises(JumpstarterError, match=r"there is no .*; check the cable") as caught:
                await call
            assert caught.value.exit_code == ExitCode.UNAVAILABLE
        cable.plug_in()
        async with client.stream_async("connect") as stream:
            cable.write(b"x")
            assert await receive(stream, 1) == b"x"


async def _use(client: Any) -> None:
    async with client.stream_async("connect"):
        pass


async def _waits(client: Any, *, for_port: bool) -> None:
    """Until the exporter waits for the port, or has it."""
    with trio.fail_after(20):
        while ("there is no" in await client.waits_for_async()) != for_port:
            await trio.sleep(0.01)


async def test_port_that_comes_with_the_boards_power_is_waited_for(
    cable: Cable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jumpstarter_drivers.serial.client._QUIET_OPEN_SECONDS", 0)
    cable.pull_out()
    async with serve_async(driver(cable)) as client, trio.open_nursery() as nursery:

        async def switch_on() -> None:
            await _waits(client, for_port=True)
            with trio.fail_after(20):
                while "Waiting for the port of" not in (said := capsys.readouterr().err):
                    await trio.sleep(0.01)
            assert f"there is no {cable.path}" in said
            cable.plug_in()
            await _waits(client, for_port=False)
            cable.write(b"login: ")

        nursery.start_soon(switch_on)
        async with client.console.aio() as console:
            assert (await console.expect.aio("login: ", timeout=20)).before == ""
        assert await client.waits_for_async() == ""


async def test_boot_loaders_prompt_of_the_configuration_reaches_a_login(cable: Cable) -> None:
    async with (
        serve_async(driver(cable, loader_prompt="[lab] $")) as client,
        client.console.aio() as console,
    ):
        cable.write(b"\r\n[lab] $ ")
        with pytest.raises(LoginRefused, match=r"prompt of its boot loader, '\[lab\] \$'"):
            await console.login.aio(timeout=20)


async def test_wait_for_a_port_ends_when_its_time_is_over(cable: Cable) -> None:
    cable.pull_out()
    async with serve_async(driver(cable, port_wait=0.2)) as client:
        before = trio.current_time()
        with pytest.raises(JumpstarterError, match="there is no"):
            await _use(client)
        assert trio.current_time() - before >= 0.2
    with pytest.raises(ValueError, match="port_wait is -1"):
        driver(cable, port_wait=-1)


async def test_console_of_a_test_is_read_from_the_first_byte_of_a_port_that_comes_later(
    cable: Cable, tmp_path: Path
) -> None:
    """What `expect:` sees when an earlier step switches the board on."""
    cable.pull_out()
    async with serve_async(driver(cable, port_wait=0)) as client, trio.open_nursery() as nursery:
        consoles = RunConsoles(nursery, tmp_path)
        await consoles.open(client)
        await _waits(client, for_port=True)
        cable.plug_in()
        await _waits(client, for_port=False)
        cable.write(b"U-Boot")
        assert (await consoles.of(client).expect("U-Boot", timeout=20)).before == ""
        nursery.cancel_scope.cancel()


async def test_port_that_need_not_be_present_is_waited_for(cable: Cable) -> None:
    cable.pull_out()
    async with (
        serve_async(driver(cable, check_present=False)) as client,
        client.stream_async("connect") as stream,
    ):
        cable.plug_in()
        await stream.send_all(b"hello")
        assert await cable.receive(5) == b"hello"
        cable.write(b"x")
        assert await receive(stream, 1) == b"x"


async def test_force_close_ends_streams_and_the_next_use_opens_again(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client:
        async with client.stream_async("connect") as stream:
            cable.write(b"x")
            assert await receive(stream, 1) == b"x"
            await client.force_close.aio()
            with trio.fail_after(10):
                assert await stream.receive_some() == b""
        async with client.stream_async("connect") as stream:
            cable.write(b"again")
            assert await receive(stream, 5) == b"again"


async def test_without_a_place_for_its_recording_a_console_works(
    cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_async(driver(cable)) as client:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
        async with client.stream_async("connect") as stream:
            cable.write(b"login: ")
            assert await receive(stream, 7) == b"login: "
    assert "cannot" in caplog.text


async def test_force_close_of_what_is_not_open_is_fine() -> None:
    async with serve_async(PySerial(url="loop://")) as client:
        await client.force_close.aio()
        await client.force_close.aio()


async def test_input_stream_ends_when_everything_has_left_the_port(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client, client.stream_async("input") as stream:
        await stream.send_all(b"reboot\r")
        await stream.send_eof()
        assert await cable.receive(7) == b"reboot\r"
        assert await stream.receive_some() == b""


async def test_lines_of_a_port_that_has_them() -> None:
    async with serve_async(PySerial(url="loop://")) as client:
        await client.set_dtr.aio(False)
        await client.set_rts.aio(True)


async def test_line_that_a_port_does_not_have_is_one_sentence(cable: Cable) -> None:
    async with serve_async(driver(cable)) as client:
        with pytest.raises(DriverError, match="has no RTS line"):
            await client.set_rts.aio(True)


async def test_port_that_another_program_has_is_busy(cable: Cable) -> None:
    async with (
        serve_async(driver(cable)) as first,
        serve_async(driver(cable)) as second,
        first.stream_async("connect") as stream,
    ):
        cable.write(b"x")
        assert await receive(stream, 1) == b"x"
        with pytest.raises(ExporterNotReady, match="is open in this exporter itself"):
            await second.set_dtr.aio(True)


async def test_reader_that_does_not_read_slows_nobody(cable: Cable) -> None:
    size = 8 << 20
    async with (
        serve_async(driver(cable)) as client,
        client.stream_async("connect") as idle,
        client.stream_async("connect") as busy,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, cable.write, bytes(size))
            got = 0
            with trio.fail_after(60):
                while got < size:
                    got += len(await busy.receive_some())
        await idle.send_all(b"still here")
        assert await cable.receive(10) == b"still here"


WRONG: list[dict[str, Any]] = [{"baudrate": 0}, {"cps": 0}, {"cps": -1}, {"port_wait": -1}]


@pytest.mark.parametrize("config", [{"url": ""}, *({"url": "/dev/x"} | more for more in WRONG)])
def test_invalid_configuration(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it takes"):
        PySerial(**config)


def test_pexpect(cable: Cable) -> None:
    with serve(driver(cable)) as client:
        assert isinstance(client, PySerialClient)
        with client.pexpect() as console:
            cable.write(b"U-Boot 2024.01\r\nHit any key")
            console.expect("any key", timeout=10)
            console.send("x")
            assert cable.read(1) == b"x"
        again = client.open()
        cable.write(b"=> ")
        again.expect_exact("=> ", timeout=10)


def leave_pexpect(client: PySerialClient, line: str) -> None:
    with client.pexpect() as console:
        console.sendline(line)


def leave_console(client: PySerialClient, line: str) -> None:
    with client.console() as console:
        console.send_line(line)


def leave_stream(client: PySerialClient, line: str) -> None:
    with client.stream() as stream:
        stream.send(line.encode())


@pytest.mark.parametrize("leave", [leave_pexpect, leave_console, leave_stream])
def test_leaving_a_console_waits_until_the_port_has_what_was_written(
    cable: Cable, leave: Callable[[PySerialClient, str], None]
) -> None:
    with serve(driver(cable, cps=400)) as client:
        assert isinstance(client, PySerialClient)
        for index in range(20):
            leave(client, f"poweroff {index}")
            # It has left the port; a pty hands over what was written a moment later.
            came = b""
            while f"{index}".encode() not in came and select.select([cable.board], [], [], 5)[0]:
                came += os.read(cable.board, 100)
            assert came.strip() == f"poweroff {index}".encode()


async def run_test(client: Any, file: Path, line: str) -> tuple[RunOutcome, str]:
    file.write_text(f"steps:\n  - serial.send: '{line}'\n")
    ended = await Runner(read(file, None), client.node, tell=lambda _: None).run()
    return ended.outcome, ended.reason


async def test_the_last_line_of_a_test_reaches_the_port(cable: Cable, tmp_path: Path) -> None:
    line = "poweroff" * 20
    async with serve_async(driver(cable, cps=400)) as client:
        assert await run_test(client, tmp_path / "a.yaml", line) == (RunOutcome.PASSED, "")
    assert (await cable.receive(len(line))).decode() == line


async def test_a_test_whose_last_line_the_port_does_not_take_is_not_a_success(
    cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LEAVE_SECONDS", 0.2)
    async with serve_async(driver(cable, cps=1)) as client:
        outcome, reason = await run_test(client, tmp_path / "a.yaml", "poweroff")
    assert outcome is RunOutcome.ERROR
    assert "may not have received all sent data" in reason


@pytest.mark.parametrize("leave", [leave_pexpect, leave_console, leave_stream])
def test_leaving_a_console_says_so_when_the_port_does_not_take_what_was_written(
    cable: Cable, leave: Callable[[PySerialClient, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (base, spawn):
        monkeypatch.setattr(module, "LEAVE_SECONDS", 0.2)
    with serve(driver(cable, cps=5)) as client:
        assert isinstance(client, PySerialClient)
        with pytest.raises(DriverError, match=r"may not have received all.*check the device"):
            leave(client, "poweroff")


PROGRAM = """
import pathlib, sys
from jumpstarter_drivers.serial.driver import PySerial
from jumpstarter_drivers.testing import serve
with serve(PySerial(url=sys.argv[1], **eval((sys.argv[3:] or ["{}"])[0]))) as client:
    exec(sys.argv[2])
sys.stderr.write("done")
"""


def console(cable: Cable, action: str = "client.start_console()", **config: object) -> pexpect.spawn[str]:
    arguments = ["-c", PROGRAM, str(cable.path), action, repr(config)]
    # A shell around it, so that the terminal can be looked at afterwards.
    child = pexpect.spawn("/bin/sh", encoding="utf-8", timeout=20, env={**os.environ, "PS1": "$ "})
    child.expect_exact("$ ")
    child.sendline(shlex.join([sys.executable, *arguments]))
    return child


def group(child: pexpect.spawn[str]) -> str:
    assert isinstance(child.match, re.Match)
    return str(child.match[1])


def flags(child: pexpect.spawn[str]) -> str:
    child.sendline(
        "stty -a | tr ' ' '\\n' | grep -x -e -echo -e echo -e -icanon -e icanon | tr '\\n' ,; echo END"
    )
    child.expect(r"\n([-a-z,]+)END")
    return group(child)


def test_start_console_is_a_terminal_and_gives_it_back(cable: Cable) -> None:
    child = console(cable)
    child.expect_exact("Ctrl-B three times leaves")
    cable.write(b"board says hi\r\n")
    child.expect_exact("board says hi")
    child.send("ls\r\x03\x02\x02x")
    assert cable.read(7) == b"ls\r\x03\x02\x02x"
    child.send("\x02\x02\x02")
    child.expect(r"[\r\n]\s*Left the console\.\r+\ndone")
    child.expect_exact("$ ")
    assert flags(child) == "icanon,echo,"
    child.close()


def test_leaving_start_console_right_after_a_line_loses_none_of_it(cable: Cable) -> None:
    child = console(cable, "for _ in range(20): client.start_console()", cps=1000)
    for index in range(20):
        child.expect_exact("Ctrl-B three times leaves")
        child.send(f"poweroff {index:02}\r\x1dq")
        child.expect_exact("Left the console")
        assert cable.read(12) == f"poweroff {index:02}\r".encode()
    child.expect_exact("done")
    child.close()


def test_keys_in_a_console_are_for_us(cable: Cable) -> None:
    cable.write(b"")
    child = console(
        cable,
        "client.history and list(client.history()); client.mark('start'); client.start_console(last=5)",
    )
    child.expect_exact("Ctrl-] h shows more keys")
    child.send("\x1dh")
    child.expect_exact("Ctrl-] p   power-cycle the board")
    child.send("\x1db")
    child.expect_exact("[bookmark set]")
    child.send("\x1dp")
    child.expect_exact("[no device beside this console switches the board's power]")
    child.send("a\x1d\x1db")
    assert cable.read(3) == b"a\x1db"
    child.send("\x1dq")
    child.expect_exact("Left the console")
    child.expect_exact("done")
    child.close()


def test_a_console_begins_with_lines_from_before(cable: Cable) -> None:
    action = (
        "s = client.open_stream(); print('open', flush=True)\n"
        "while b'three' not in s.receive(): pass\n"
        "client.start_console(last=2)"
    )
    child = console(cable, action)
    child.expect_exact("open\r\n")
    cable.write(b"one\r\ntwo\r\nthree\r\n")
    child.expect_exact("Ctrl-] h shows more keys.\r\ntwo\r\nthree")
    child.send("\x1dq")
    child.expect_exact("done")
    child.close()


def test_start_console_waits_for_a_port_as_long_as_the_user_does(cable: Cable) -> None:
    cable.pull_out()
    child = console(cable)
    child.expect_exact("Waiting for its port: there is no")
    cable.plug_in()
    child.send("x")  # waits for the port, too
    assert cable.read(1) == b"x"
    cable.write(b"board says hi\r\n")
    child.expect_exact("board says hi")
    child.send("\x1dq")
    child.expect_exact("Left the console")
    child.expect_exact("$ ")
    child.close()


def test_terminal_is_given_back_when_the_console_is_killed(cable: Cable) -> None:
    child = console(cable, "import os; os.system(f'echo {os.getpid()} PID'); client.start_console()")
    child.expect(r"(\d+) PID")
    pid = int(group(child))
    child.expect_exact("Ctrl-B three times leaves")
    os.kill(pid, 15)
    child.expect_exact("$ ")
    assert flags(child) == "icanon,echo,"
    child.close()


def closing_at(word: Path) -> str:
    """Python that has another thread end the console's streams when something is written into that pipe."""
    close = f"(open({str(word)!r}).read(), client.force_close())"
    return f"threading.Thread(target=lambda: {close}).start()"


def test_console_that_the_exporter_closes_says_so(cable: Cable, tmp_path: Path) -> None:
    word = tmp_path / "word"
    os.mkfifo(word)
    child = console(cable, f"import threading; {closing_at(word)}; client.start_console()")
    child.expect_exact("Ctrl-B three times leaves")
    word.write_text("now")
    child.expect_exact("the exporter closed the console: another user ended its streams")
    child.close()


def test_start_console_needs_a_terminal(cable: Cable) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(cable.path), "client.start_console()"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "a console needs a terminal as its input" in done.stderr


def pipe(cable: Cable, options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(cable.path), f"client.pipe({options})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_pipe_goes_both_ways_until_ctrl_c(cable: Cable) -> None:
    with pipe(cable, "") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"version\r")
        process.stdin.close()
        assert cable.read(8) == b"version\r"
        cable.write(b"U-Boot\n")
        assert process.stdout.readline() == b"U-Boot\n"
        process.send_signal(2)
        assert process.wait(20) == 0


def test_pipe_that_another_user_ends_has_failed(cable: Cable, tmp_path: Path) -> None:
    word = tmp_path / "word"
    os.mkfifo(word)
    action = f"import threading; {closing_at(word)}; client.pipe()"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(cable.path), action],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"Ctrl-C ends" in process.stderr.readline()
        cable.write(b"U-Boot\n")
        assert process.stdout.readline() == b"U-Boot\n"
        word.write_text("now")
        _, said = process.communicate(timeout=20)
        assert process.returncode != 0
        assert b"DriverError: the exporter closed the console: another user ended its streams" in said


@pytest.mark.parametrize(("options", "before"), [("", b""), (", append=True", b"old\n")])
def test_pipe_to_a_file(cable: Cable, tmp_path: Path, options: str, before: bytes) -> None:
    log = tmp_path / "boot.log"
    log.write_bytes(b"old\n")
    with pipe(cable, f"output=pathlib.Path('{log}'){options}") as process:
        assert process.stdin is not None
        process.stdin.write(b"go")  # its arrival says that the console is connected
        process.stdin.flush()
        assert cable.read(2) == b"go"
        with subprocess.Popen(["tail", "-n", "+1", "-f", log], stdout=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            cable.write(b"new\n")
            lines = iter(tail.stdout.readline, b"new\n")
            assert b"".join(lines) == before
            tail.terminate()
        process.send_signal(2)
        assert process.wait(20) == 0
    assert log.read_bytes() == before + b"new\n"


def test_pipe_to_a_full_disk_is_one_sentence(cable: Cable) -> None:
    with pipe(cable, "output=pathlib.Path('/dev/full'), input=False") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"Ctrl-C ends.\n"
        cable.write(b"boot log")
        assert b"cannot write /dev/full: No space left on device" in process.stderr.read()


def test_pipe_ends_quietly_when_nobody_reads_its_output(cable: Cable) -> None:
    with pipe(cable, "input=False") as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline() == b"Ctrl-C ends.\n"
        process.stdout.close()
        cable.write(b"boot log")
        assert b"Traceback" not in process.stderr.read()


def test_pipe_that_only_sends_ends_when_all_is_sent(cable: Cable) -> None:
    with pipe(cable, "no_output=True") as process:
        assert process.stdin is not None
        process.stdin.write(b"poweroff\r")
        process.stdin.close()
        assert cable.read(9) == b"poweroff\r"
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"no_output": True, "output": Path("x")}, "do not go together"),
        ({"append": True}, "add --output FILE"),
        ({"no_output": True, "input": False}, "only sends stdin"),
    ],
)
def test_pipe_refuses_options_that_do_not_go_together(options: dict[str, Any], complaint: str) -> None:
    with serve(PySerial(url="loop://")) as client, pytest.raises(PipeUsageError, match=complaint):
        client.pipe(**options)
