"""The virtual board's life, driven without I/O or clock."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_drivers.virtual.firmware import Event, Firmware, FirmwareState, LoadImage, Transmit
from jumpstarter_drivers.virtual.image import BadImage, BootImage, make_image, parse, read_image

IMAGE = BootImage("demo", "1.0", 1024, "ab" * 32)


def text(events: list[Event]) -> str:
    return b"".join(event.data for event in events if isinstance(event, Transmit)).decode()


def booted(boot_seconds: float = 0.0) -> Firmware:
    board = Firmware(hostname="rpi4", boot_seconds=boot_seconds)
    board.power_on(0)
    board.image_found(IMAGE, 0)
    return board


def logged_in() -> Firmware:
    board = booted()
    board.receive(b"root\r", 1)
    return board


def run(board: Firmware, line: str) -> str:
    output = text(board.receive(line.encode() + b"\r", 2))
    echo, _, rest = output.partition("\r\n")
    assert echo == line
    return rest.removesuffix("# ").replace("\r\n", "\n")


def test_boot_prints_loader_image_identity_kernel_and_login_prompt() -> None:
    board = Firmware(hostname="rpi4", boot_seconds=0)
    events = board.power_on(0)
    assert "U-Boot" in text(events)
    assert events[-1] == LoadImage()
    log = text(board.image_found(IMAGE, 0))
    assert "image demo 1.0 (1024 bytes, sha256 abababababab)" in log
    assert "Booting Linux" in log
    assert log.endswith("rpi4 login: ")
    assert board.state is FirmwareState.LOGIN


def test_boot_comes_line_by_line_in_the_time_given() -> None:
    board = Firmware(boot_seconds=10)
    events = board.power_on(100)
    seen = []
    now = 100.0
    while board.deadline is not None:
        assert board.deadline >= now
        now = board.deadline
        events = board.advance(now)
        if LoadImage() in events:
            assert now == pytest.approx(104)
            events += board.image_found(IMAGE, now)
        seen.append(text(events))
    assert now == pytest.approx(110)
    assert len(seen) > 15
    assert seen[-1].endswith("login: ")


def test_power_off_is_silent_at_once_and_forgets_the_answer_to_load_image() -> None:
    board = Firmware(boot_seconds=10)
    board.power_on(0)
    board.advance(4)
    assert board.power_off() == []
    assert board.deadline is None
    assert board.advance(100) == []
    assert board.image_found(IMAGE, 100) == []
    board.power_on(100)
    assert board.power_off() == []
    assert board.deadline is None
    assert board.advance(105) == []
    assert board.receive(b"root\r", 106) == []
    assert board.state is FirmwareState.OFF


def test_without_image_the_board_says_so_and_waits_for_a_power_cycle() -> None:
    board = Firmware(boot_seconds=0)
    board.power_on(0)
    log = text(board.image_missing("the card is empty", 0))
    assert "No bootable image on mmc 0: the card is empty" in log
    assert board.receive(b"root\r", 1) == []
    assert board.deadline is None
    board.power_off()
    assert LoadImage() in board.power_on(2)


def test_only_root_logs_in() -> None:
    board = booted()
    assert "incorrect" in text(board.receive(b"pi\r", 1))
    assert board.state is FirmwareState.LOGIN
    assert text(board.receive(b"root\r", 1)).endswith("# ")


def test_shell_runs_commands_and_keeps_their_status() -> None:
    board = logged_in()
    assert run(board, "echo 'hello  world' again") == "hello  world again\n"
    assert run(board, "uname -a") == "Linux rpi4 6.6.0-virtual #1 SMP PREEMPT virtual aarch64 GNU/Linux\n"
    assert run(board, "false; echo $?") == "1\n"
    assert run(board, "true && echo yes || echo no") == "yes\n"
    assert run(board, "false && echo yes || echo no") == "no\n"
    assert run(board, "nonsense; echo $?") == "sh: nonsense: not found\n127\n"
    assert run(board, "cat /etc/hostname /none; echo $?").endswith(
        "rpi4\ncat: can't open '/none': No such file or directory\n1\n"
    )
    assert "processor" in run(board, "cat /proc/cpuinfo")
    assert "Booting Linux" in run(board, "dmesg")
    assert IMAGE.digest in run(board, "cat /etc/os-release")
    assert "unterminated" in run(board, "echo 'oops")
    assert run(board, "eval 'false; echo $?'; echo 'A''B='$?';'") == "1\nAB=0;\n"
    assert run(board, 'eval "$(printf %b \'echo a\\0012echo "b c"\')"') == "a\nb c\n"
    gave_up = "sh: syntax error: unterminated quoted string\n"
    assert run(board, "echo a; eval 'echo b; echo \"'; echo c") == "a\n" + gave_up
    assert run(board, "${x-command} eval 'echo \"'; echo $?") == gave_up + "2\n"
    assert run(board, "x=eval") == ""
    assert run(board, "${x-command} 'echo \"'; echo c") == gave_up
    assert run(board, 'echo "$(uname -n) $(hostname)" # hosts') == "rpi4 rpi4\n"


def test_typing_is_echoed_and_editable() -> None:
    board = logged_in()
    assert text(board.receive(b"ehco\x7f\x7f\x7fcho hi\x1b[A", 2)) == "ehco" + "\b \b" * 3 + "cho hi"
    assert "hi\r\n" in text(board.receive(b"\r", 2))
    assert text(board.receive(b"rubbish\x03", 2)).endswith("^C\r\n# ")
    assert text(board.receive(b"\x04", 2)).endswith("login: ")


def test_long_line_is_cut_with_a_bell() -> None:
    board = logged_in()
    assert text(board.receive(b"a" * 5000, 2)).count("\a") == 5000 - 1024


def test_reboot_starts_over_and_poweroff_halts() -> None:
    board = logged_in()
    events = board.receive(b"reboot\r", 2)
    assert "Restarting system" in text(events)
    assert events[-1] == LoadImage()
    board.image_found(IMAGE, 3)
    board.receive(b"root\r", 3)
    assert "Power down" in text(board.receive(b"poweroff\r", 4))
    assert board.state is FirmwareState.HALTED
    assert board.receive(b"root\r", 5) == []


def stopped(boot_seconds: float = 1.0) -> Firmware:
    board = Firmware(hostname="rpi4", boot_seconds=boot_seconds)
    board.power_on(0)
    board.receive(b" ", 0.1)
    assert text(board.advance(10)).endswith("autoboot:  0 \r\n=> ")
    return board


def loader(board: Firmware, line: str) -> str:
    return text(board.receive(line.encode() + b"\r", 20)).removeprefix(line + "\r\n").replace("\r\n", "\n")


def test_key_stops_the_boot_loader_and_boot_goes_on() -> None:
    board = stopped()
    assert board.state is FirmwareState.PROMPT
    assert board.deadline is None
    assert board.receive(b"boot\r", 20)[-1] == LoadImage()
    board.image_found(IMAGE, 20)
    assert text(board.advance(30)).endswith("login: ")


def test_countdown_of_seconds_ends_at_once_with_a_key() -> None:
    board = stopped()
    loader(board, "setenv bootdelay 3; saveenv")
    board.power_off()
    board.power_on(100)
    assert text(board.advance(101)).endswith("autoboot:  3 ")
    assert text(board.advance(102)) == "\b\b\b 2 "
    assert text(board.receive(b"\x03", 102.1)) == "\r\n=> "
    board.receive(b"reset\r", 103)
    assert LoadImage() in board.advance(110)


def test_boot_loader_that_never_boots_by_itself() -> None:
    board = stopped()
    loader(board, "setenv bootdelay -1; saveenv; reset")
    assert text(board.advance(40)).endswith("=> ")


def test_boot_loaders_commands() -> None:
    board = stopped()
    assert loader(board, "version") == "U-Boot 2024.01-virtual\n=> "
    assert loader(board, "printenv bootdelay nothing; echo $?") == (
        'bootdelay=0\n## Error: "nothing" not defined\n1\n=> '
    )
    assert loader(board, "setenv greeting 'hello  world'; echo \"<${greeting}>\"") == "<hello  world>\n=> "
    assert "greeting=hello  world\n" in loader(board, "env print")
    assert loader(board, "setenv greeting && printenv greeting || echo none").endswith("none\n=> ")
    assert loader(board, "nonsense; echo $?") == "Unknown command 'nonsense' - try 'help'\n1\n=> "
    assert "bound to address 10.0.2.15" in loader(board, "dhcp")
    assert loader(board, "echo '") == "syntax error\n=> "
    assert loader(board, "setenv a=b 1; echo $?").endswith("1\n=> ")
    assert "overflow" in loader(board, f"setenv a {'x' * 900}; setenv b $a$a$a$a$a")
    assert text(board.receive(b"half\x03", 20)) == "half<INTERRUPT>\r\n=> "


def test_environment_is_lost_with_the_power_unless_it_was_saved() -> None:
    board = stopped()
    loader(board, "setenv kept yes; saveenv; setenv lost yes")
    board.power_off()
    board.power_on(50)
    board.receive(b" ", 50)
    board.advance(60)
    assert loader(board, "printenv kept") == "kept=yes\n=> "
    assert "not defined" in loader(board, "printenv lost")
    loader(board, "env default -a; env save")
    assert "not defined" in loader(board, "printenv kept")


def test_card_pulled_from_a_running_board_loses_the_programs_but_not_the_shell() -> None:
    board = logged_in()
    assert "card aaaa removed" in text(board.card_removed(2))
    assert run(board, "uname; echo $?") == "sh: uname: Input/output error\n126\n"
    assert run(board, "echo still here") == "still here\n"
    board.card_inserted(3)
    assert "Input/output error" in run(board, "uname")


FACTS = st.one_of(
    st.tuples(st.just("power_on"), st.none()),
    st.tuples(st.just("power_off"), st.none()),
    st.tuples(st.just("advance"), st.none()),
    st.tuples(st.just("card_removed"), st.none()),
    st.tuples(st.just("card_inserted"), st.none()),
    st.tuples(st.just("found"), st.none()),
    st.tuples(st.just("missing"), st.none()),
    st.tuples(st.just("receive"), st.binary(max_size=20)),
    st.tuples(
        st.just("receive"),
        st.sampled_from(
            [
                b"root\r",
                b"reboot\r",
                b"poweroff\r",
                b"exit\r",
                b"echo $?\n",
                b"\x04",
                b"\x1b[A",
                b"cat ''\r",
                b"boot\r",
                b"reset\r",
            ]
        ),
    ),
)


@given(
    facts=st.lists(st.tuples(FACTS, st.floats(0, 3)), max_size=60), boot_seconds=st.sampled_from([0.0, 2.0])
)
def test_no_order_of_facts_raises_or_makes_a_dead_board_talk(facts: list[Any], boot_seconds: float) -> None:
    board = Firmware(boot_seconds=boot_seconds)
    now = 0.0
    asked = 0
    for (kind, data), seconds in facts:
        now += seconds
        powered = board.state is not FirmwareState.OFF
        if kind == "receive":
            events = board.receive(data, now)
        elif kind == "found":
            asked, was = 0, asked
            events = board.image_found(IMAGE, now)
            assert was or not events or powered
        elif kind == "missing":
            asked = 0
            events = board.image_missing("none", now)
        elif kind == "power_off":
            asked = 0
            events = board.power_off()
        else:
            events = getattr(board, kind)(now)
        asked += events.count(LoadImage())
        assert asked <= 1
        if board.state is FirmwareState.OFF:
            assert events == []
            assert board.deadline is None
        assert all(event.data for event in events if isinstance(event, Transmit))
        assert board.deadline is None or board.deadline > now


@given(st.binary(max_size=600), st.integers(0, 1 << 40))
def test_any_first_sector_is_an_image_or_a_reason(first: bytes, size: int) -> None:
    with contextlib.suppress(BadImage):
        assert parse(first, size).size == size


def test_made_image_is_recognised_with_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "demo.img"
    made = make_image(path, "demo", "2.1", 3 * 1024 * 1024)
    assert read_image(path) == made
    assert made == BootImage("demo", "2.1", 3 * 1024 * 1024, made.digest)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadImage, match="cut short"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\x1f\x8b" + bytes(600), "gzip"), (bytes(1024), "no boot signature")],
)
def test_what_does_not_boot_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.img"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason):
        read_image(path)
