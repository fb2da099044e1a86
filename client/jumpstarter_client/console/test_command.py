"""What a command printed and how it ended, however the console cuts it up and whatever the kernel says meanwhile."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jumpstarter_client.console.command import (
    Command,
    CommandFailed,
    CommandStage,
    Result,
    Suspicion,
)
from jumpstarter_client.console.kernel import strip_printk
from jumpstarter_client.console.prompts import at_login

TOKEN = "0badcafe"
MESSAGE = b"[   12.345678] usb 1-1: new high-speed USB device\r\n"


def answer(output: bytes, code: int = 0, *, command: str = "make") -> bytes:
    """What a console prints for it, from the echo of the line to the next prompt."""
    typed = Command(command, TOKEN).typed.encode()
    return typed + b"\r\nJS%s+\r\n%sJS%s=%d;\r\n# " % (TOKEN.encode(), output, TOKEN.encode(), code)


def fed(data: bytes, cuts: list[int] | None = None, command: str = "make") -> Command:
    running = Command(command, TOKEN)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    for start, end in itertools.pairwise(places):
        running.feed(data[start:end])
    return running


def test_output_and_exit_code() -> None:
    running = fed(answer(b"one\r\ntwo\r\n", 3))
    assert running.stage is CommandStage.DONE
    assert running.result == Result("make", "one\ntwo\n", 3)
    assert running.rest == b"# "


def test_output_without_a_last_line_end_is_kept_as_it_is() -> None:
    assert fed(answer(b"one\xff\x1b[0m")).result == Result("make", "one\ufffd\x1b[0m", 0)


def test_echo_alone_is_not_an_answer() -> None:
    running = Command("make", TOKEN)
    running.feed(b"# " + running.typed.encode() + b"\r\n")
    assert running.stage is CommandStage.TYPED


@given(
    lines=st.lists(st.from_regex(r"[ -Z\\-~]{0,12}", fullmatch=True), max_size=6),
    code=st.integers(0, 255),
    places=st.lists(st.integers(0, 10), max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
def test_kernel_messages_between_lines_are_kept_apart(
    lines: list[str], code: int, places: list[int], cuts: list[int]
) -> None:
    output = "".join(f"{line}\r\n" for line in lines).encode()
    wire = answer(output, code).splitlines(keepends=True)
    prompt = wire.pop()
    for place in places:
        wire.insert(place % (len(wire) + 1), MESSAGE)
    running = fed(b"".join(wire) + prompt, cuts)
    assert running.result is not None
    assert running.result.exit_code == code
    assert running.result.output == "".join(f"{line}\n" for line in lines)
    assert set(running.result.kernel.splitlines()) <= {MESSAGE.decode().rstrip()}


@given(
    output=st.lists(
        st.sampled_from(
            [
                b"one",
                b"\r\n",
                MESSAGE,
                b"\r\n" + MESSAGE,
                b" 10%\r",
                b"\r",
                b"JS",
                b"JS0ba",
                b"a: ",
                b"\xc3\xa9",
            ]
        ),
        max_size=12,
    ),
    places=st.lists(st.integers(0, 300), max_size=3),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
@example(output=[b" 10%\r", MESSAGE, b"\r\n"], places=[], cuts=[101])
def test_pieces_that_are_taken_make_the_whole(
    output: list[bytes], places: list[int], cuts: list[int]
) -> None:
    data = answer(b"".join(output), 42)
    start = data.index(b"JS" + TOKEN.encode())
    # The kernel prints one message at a time, and a terminal both bytes of a line end at once.
    inside = {at + i for at in range(len(data)) if data.startswith(MESSAGE, at) for i in range(len(MESSAGE))}
    for at in sorted({start + place % (len(data) - start) for place in places} - inside, reverse=True):
        if data[at - 1 : at] != b"\r":
            data = data[:at] + MESSAGE + data[at:]
    running = Command("make", TOKEN)
    taken = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        running.feed(data[begin:end])
        taken.append(running.take())
        if running.result is not None:
            break
    assert running.result is not None
    assert running.result.exit_code == 42
    assert "".join(output for output, _ in taken) == running.result.output
    assert "".join(messages for _, messages in taken) == running.result.kernel


def test_a_message_inside_of_a_character_leaves_it_whole() -> None:
    data = answer(b"\xc3" + b"\r\n" + MESSAGE + b"\xa9", 0)
    running = Command("make", TOKEN)
    at = data.index(b"\xa9")
    running.feed(data[:at])
    taken = running.take()[0]
    running.feed(data[at:])
    assert running.result is not None
    assert taken + running.take()[0] == running.result.output


def test_lines_can_be_taken_as_they_come() -> None:
    running = Command("make", TOKEN)
    running.feed(b"JS" + TOKEN.encode() + b"+\r\none\r\ntw")
    assert running.take() == ("one\n", "")
    running.feed(b"o\r\n" + MESSAGE + b"JS0b" + MESSAGE)
    assert running.take() == ("", "")
    running.feed(b"adcafe=0;\r\n# ")
    assert running.take() == ("two\n", MESSAGE.decode().replace("\r", "") * 2)
    assert running.take() == ("", "")


def test_progress_that_is_drawn_over_is_taken_as_it_is_made() -> None:
    running = Command("make", TOKEN)
    running.feed(b"JS" + TOKEN.encode() + b"+\r\n 10%\r 20%\r")
    assert running.take() == (" 10%", "")
    running.feed(b"\n 30%")
    assert running.take() == ("\r 20%\n", "")


@given(place=st.integers(0, 200), cuts=st.lists(st.integers(0, 400), max_size=10), code=st.integers(0, 255))
def test_kernel_message_that_breaks_into_the_middle_of_a_line(place: int, cuts: list[int], code: int) -> None:
    """Wherever it breaks in, also into the words that mark the command's start and end."""
    data = answer(b"rpi4\r\n", code)
    start = data.index(b"JS" + TOKEN.encode())
    place = start + place % (data.index(b"# ", start) - start)
    if data[place - 1 : place] == b"\r":
        place -= 1  # a terminal sends both bytes of a line end at once
    running = fed(data[:place] + MESSAGE + data[place:], cuts)
    assert running.result is not None
    assert running.result.exit_code == code
    assert running.result.output == "rpi4\n"


@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([MESSAGE, b"JS" + TOKEN.encode(), b"login: "])),
        max_size=20,
    )
)
def test_nothing_that_a_console_prints_raises(chunks: list[bytes]) -> None:
    running = Command("make", TOKEN)
    for chunk in chunks:
        running.feed(chunk)
        assert running.suspicion in Suspicion


def test_logs_that_a_program_prints_stay_its_output() -> None:
    log = b"Jan 1 rpi4 kernel: [   12.345678] usb 1-1\r\n"
    assert strip_printk(log) == (log, b"")


def test_message_from_before_the_output_is_not_lost() -> None:
    data = answer(b"x\r\n").replace(b"cafe+\r\n", b"cafe+" + MESSAGE + b"\r\n")
    assert fed(data).result == Result("make", "x\n", 0, MESSAGE.decode().replace("\r", ""))


def test_long_output_is_bounded_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_client.console.command.MAX_OUTPUT_BYTES", 4096)
    start, end = answer(b"|").split(b"|")
    running = Command("make", TOKEN)
    running.feed(start)
    for _ in range(100):
        running.feed(b"0123456789" * 100)
    running.feed(end)
    assert running.result is not None
    assert running.result.dropped == 100_000 - 4096
    assert running.result.output == ("0123456789" * 410)[-4096:]


def test_result_that_is_checked() -> None:
    assert Result("ls", "a\n", 0).check() == "a\n"
    with pytest.raises(
        CommandFailed, match=r"'ls' ended with exit code 2; it printed:\n  \| ls: nope$"
    ) as caught:
        Result("ls", "ls: nope\n", 2).check()
    assert caught.value.result.exit_code == 2
    with pytest.raises(CommandFailed, match="printed nothing"):
        Result("false", "", 1).check()


@pytest.mark.parametrize(
    "command",
    [
        "echo one; echo two",
        "echo 'a  b' \"c\" # comment",
        "true &",
        "printf 'a\\tb\\n'",
        "printf '%s' 'tab\there'",
        "if true\nthen\n  echo 'multi \\n line'\nfi\n",
        "echo \\\\ '\\101' \x7f",
        "(exit 7)",
        "echo grüße",
    ],
)
@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_shells_run_the_line_as_they_run_the_command(shell: str, command: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"missing: {shell}; apt install {shell}")
    plain = subprocess.run([shell, "-c", command], capture_output=True, check=False)
    typed = Command(command, TOKEN).typed
    assert not re.search(r"[\x00-\x1f\x7f]", typed)
    wrapped = subprocess.run([shell, "-c", typed], capture_output=True, check=False)
    result = fed(wrapped.stdout, command=command).result
    assert result == Result(command, plain.stdout.decode(), plain.returncode)


def test_command_with_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Command("echo \0", TOKEN)


@pytest.mark.parametrize(
    ("printed", "suspicion"),
    [
        (b"building\r\n", Suspicion.NONE),
        (b"\r\nU-Boot SPL 2024.01 (Jan 01)\r\n", Suspicion.LOADER),
        (b"\r\nU-Boot 2024.01-virtual\r\n", Suspicion.LOADER),
        (b"\r\nU-Boot 1.1.4 (Mar 2 2010)\r\n", Suspicion.LOADER),
        (b"[    0.000000] Booting Linux on physical CPU 0x0\r\n", Suspicion.KERNEL),
        (b"\r\nrpi4 login: ", Suspicion.LOGIN),
        (b"\r\nrpi4 login: " + MESSAGE, Suspicion.LOGIN),
        (b"Last login: ", Suspicion.NONE),
        (b"built U-Boot 2024.01\r\n", Suspicion.NONE),
    ],
)
def test_signs_of_a_reboot(printed: bytes, suspicion: Suspicion) -> None:
    running = fed(answer(printed).partition(b"JS" + TOKEN.encode() + b"=")[0])
    assert running.stage is CommandStage.RUNNING
    assert running.suspicion is suspicion


def test_signs_from_before_the_command_do_not_count() -> None:
    running = Command("make", TOKEN)
    running.feed(b"\r\nU-Boot 2024.01\r\n[    0.000000] Booting Linux\r\n# ")
    running.feed(answer(b"").partition(b"JS" + TOKEN.encode() + b"=")[0])
    assert not running.restarted


@given(st.text(max_size=20))
def test_typed_line_is_one_line_without_the_word_it_prints(command: str) -> None:
    if "\0" not in command:
        typed = Command(command, TOKEN).typed
        assert "\n" not in typed
        assert f"JS{TOKEN}+" not in typed


def test_login_prompt_is_one_at_the_end_only() -> None:
    assert at_login(b"Debian\r\n\r\nrpi4 login: ")
    assert not at_login(b"rpi4 login: root\r\n")
