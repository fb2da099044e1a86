"""Logging in from whatever a console shows, without a board."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_client.console.login import CTRL_C, LoginMachine, LoginRefused, LoginState, ShellProbe

PROBE = ShellProbe("cafe").typed
ANSWER = b"JScafe?\r\n# "
MESSAGE = b"[   12.345678] random: crng init done\r\n"


VERSION = b"Unknown command 'eval' - try 'help'\r\nU-Boot 2013.01 (Mar 02 2015 - 18:12:12)\r\n"
CHANGE = b"\r\nYou are required to change your password immediately (administrator enforced).\r\n"
OLD, NEW = "raspberry", "n3w secret"


def login(
    password: str | None = None, *, new_password: str | None = None, loader_prompt: str | None = None
) -> LoginMachine:
    return LoginMachine("root", password, "cafe", new_password=new_password, loader_prompt=loader_prompt)


def played(machine: LoginMachine, *printed: bytes | None) -> list[bytes]:
    """What is typed after each piece; None is silence."""
    return [machine.silence() if piece is None else machine.feed(piece) for piece in printed]


def test_login_prompt_name_password_probe() -> None:
    machine = login("secret")
    assert machine.feed(b"Debian GNU/Linux\r\nrpi4 login: ") == b"root\r"
    assert machine.feed(b"root\r\nPassword: ") == b"secret\r"
    assert machine.feed(b"\r\nLast login: Mon\r\nroot@rpi4:~# ") == b""
    assert machine.quiet_seconds < 1
    assert machine.silence() == PROBE
    assert machine.feed(PROBE) == b""
    assert machine.state.name == "PROBING"
    assert machine.feed(b"\n" + ANSWER) == b""
    assert machine.state.name == "LOGGED_IN"


def test_silent_console_gets_enter_and_a_shell_that_is_there_is_probed() -> None:
    machine = login()
    assert machine.silence() == b"\r"
    machine.feed(b"\r\n\x1b[1m# \x1b[0m")
    assert machine.quiet_seconds < 1
    assert machine.silence() == PROBE
    machine.feed(ANSWER)
    assert machine.state is LoginState.LOGGED_IN


def test_silence_stays_silent_and_is_asked_less_and_less_often() -> None:
    machine = login()
    waited = []
    for _ in range(8):
        waited.append(machine.quiet_seconds)
        assert machine.silence() == b"\r"
    assert waited == sorted(waited)
    assert waited[-1] == 5


def test_kernel_message_behind_a_prompt_hides_nothing_and_is_not_an_answer() -> None:
    machine = login()
    assert machine.feed(b"rpi4 login: " + MESSAGE) == b"root\r"
    machine = login()
    machine.silence()
    machine.feed(MESSAGE)
    assert machine.silence() == b"\r"


def test_name_is_not_followed_by_a_probe_that_could_be_taken_for_the_password() -> None:
    machine = login("secret")
    machine.feed(b"rpi4 login: ")
    machine.feed(b"root\r\n")
    assert machine.quiet_seconds >= 5


@pytest.mark.parametrize("words", [b"\r\nLogin incorrect\r\nrpi4 login: ", b"\r\nPassword: "])
def test_wrong_password_is_told_at_once(words: bytes) -> None:
    machine = login("wrong")
    machine.feed(b"rpi4 login: ")
    machine.feed(b"Password: ")
    with pytest.raises(LoginRefused, match="check"):
        machine.feed(words)


def test_password_that_was_not_given_is_asked_for() -> None:
    machine = login()
    machine.feed(b"rpi4 login: ")
    with pytest.raises(LoginRefused, match=r"asks for the password of 'root'; pass one"):
        machine.feed(b"root\r\nPassword: ")


def test_name_that_is_asked_for_again_and_again() -> None:
    machine = login()
    for _ in range(3):
        assert machine.feed(b"\r\nrpi4 login: ") == b"root\r"
    with pytest.raises(LoginRefused, match="repeats its login prompt"):
        machine.feed(b"\r\nrpi4 login: ")


def test_half_done_login_of_somebody_else_is_ended_first() -> None:
    machine = login("secret")
    assert machine.feed(b"\r\nPassword: ") == b"\r"
    assert machine.feed(b"\r\nLogin incorrect\r\nrpi4 login: ") == b"root\r"


def test_probe_that_was_taken_for_a_name_is_corrected() -> None:
    machine = login("secret")
    machine.silence()
    machine.feed(b"\r\nwhat is this")
    assert machine.silence() == PROBE
    assert machine.feed(b"\r\nPassword: ") == b"\r"
    assert machine.feed(b"\r\nLogin incorrect\r\nrpi4 login: ") == b"root\r"
    assert machine.feed(b"root\r\nPassword: ") == b"secret\r"


def test_program_that_does_not_answer_the_probe_gets_ctrl_c() -> None:
    machine = login()
    machine.silence()
    machine.feed(b"> ")
    assert machine.silence() == PROBE
    assert machine.silence() == CTRL_C
    machine.feed(b"^C\r\n# ")
    assert machine.silence() == PROBE


def test_nothing_is_typed_while_a_boot_loader_runs() -> None:
    machine = login()
    assert machine.feed(b"\r\nU-Boot 2024.01\r\nHit any key to stop autoboot:  2 ") == b""
    assert machine.quiet_seconds >= 10
    machine.feed(b"\r\nStarting kernel ...\r\n")
    assert machine.quiet_seconds < 1


def test_boot_loader_that_a_key_stopped_is_told_to_boot() -> None:
    machine = login()
    assert machine.silence() == b"\r"
    assert machine.feed(b"\r\nU-Boot 2024.01\r\nHit any key to stop autoboot:  0 \r\n=> ") == b"boot\r"


def test_boot_loader_that_somebody_stopped_is_left_alone() -> None:
    machine = login()
    machine.silence()
    with pytest.raises(LoginRefused, match="prompt of its boot loader"):
        machine.feed(b"\r\n=> ")


DENIED = b"-bash: /etc/profile.d/lab.sh: Permission denied\r\n"


@pytest.mark.parametrize("prompt", [b"root@rpi4:~# ", b"lab says: "])
def test_a_shell_decides_and_not_what_was_said_on_the_way_to_it(prompt: bytes) -> None:
    machine = login("secret")
    assert played(machine, b"rpi4 login: ", b"Password: ") == [b"root\r", b"secret\r"]
    typed = played(machine, b"\r\n" + DENIED, prompt, None, PROBE + b"\n" + ANSWER)
    assert typed == [b"", b"", PROBE, b""]
    assert machine.state is LoginState.LOGGED_IN


def test_a_login_prompt_after_words_of_refusal_decides_too() -> None:
    machine = login("secret")
    played(machine, b"rpi4 login: ", b"Password: ", b"\r\nLogin incorrect\r\n")
    with pytest.raises(LoginRefused, match=r"rejected the login of 'root' \(Login incorrect\); check"):
        machine.feed(b"rpi4 login: ")


CHANGES = [
    # pam_unix, new and old; shadow; busybox.
    (b"Current password: ", b"\r\nNew password: ", b"\r\nRetype new password: "),
    (b"(current) UNIX password: ", b"\r\nEnter new UNIX password: ", b"\r\nRetype new UNIX password: "),
    (b"Old password: ", b"\r\nNew password: ", b"\r\nRe-enter new password: "),
    (b"Old password: ", b"\r\nNew password: ", b"\r\nRetype password: "),
]


@pytest.mark.parametrize(("current", "new", "again"), CHANGES)
def test_forced_change_of_the_password_is_done(current: bytes, new: bytes, again: bytes) -> None:
    machine = login(OLD, new_password=NEW)
    assert played(machine, b"rpi4 login: ", b"Password: ") == [b"root\r", b"raspberry\r"]
    typed = played(machine, CHANGE + b"Changing password for root.\r\n" + current, new, again)
    assert typed == [b"raspberry\r", b"n3w secret\r", b"n3w secret\r"]
    assert played(machine, b"\r\npasswd: password updated successfully\r\n# ", None) == [b"", PROBE]


def test_new_password_that_is_asked_for_at_once() -> None:
    machine = login(OLD, new_password=NEW)
    played(machine, b"rpi4 login: ", b"Password: ")
    typed = played(machine, b"\r\nCreate root password: ", b"\r\nRepeat root password: ")
    assert typed == [b"n3w secret\r", b"n3w secret\r"]


def test_a_weak_password_that_is_taken_all_the_same_is_not_a_question() -> None:
    machine = login(OLD, new_password=NEW)
    played(machine, b"rpi4 login: ", b"Password: ", CHANGE + b"New password: ")
    assert played(machine, b"\r\nBAD PASSWORD: ", b"it is too short\r\nRetype new password: ") == [
        b"",
        b"n3w secret\r",
    ]


@pytest.mark.parametrize(("current", "new", "again"), CHANGES)
def test_forced_change_without_a_new_password_is_named(current: bytes, new: bytes, again: bytes) -> None:
    for prompt in (current, new):
        machine = login(OLD)
        played(machine, b"rpi4 login: ", b"Password: ")
        with pytest.raises(
            LoginRefused,
            match=r"requires a new password for 'root' \(You are required .*\); pass `new_password`",
        ) as caught:
            machine.feed(CHANGE + prompt)
        assert OLD not in str(caught.value)


def test_new_password_that_the_board_does_not_take_is_named_with_the_reason() -> None:
    machine = login(OLD, new_password=NEW)
    played(machine, b"rpi4 login: ", b"Password: ", CHANGE + b"Current password: ")
    played(machine, b"\r\nNew password: ")
    with pytest.raises(LoginRefused, match=r"rejected the new password .*\(\*\*\* is too short\)") as caught:
        machine.feed(b"\r\nn3w secret is too short\r\nNew password: ")
    assert NEW not in str(caught.value)


def test_password_that_was_changed_before_is_tried_second() -> None:
    machine = login(OLD, new_password=NEW)
    played(machine, b"rpi4 login: ", b"Password: ")
    refused = b"\r\nLogin incorrect\r\nrpi4 login: "
    assert played(machine, refused, b"Password: ") == [b"root\r", b"n3w secret\r"]
    with pytest.raises(LoginRefused, match="check the name and the password"):
        machine.feed(refused)


def test_board_that_asks_for_the_name_again_after_the_change() -> None:
    machine = login(OLD, new_password=NEW)
    played(machine, b"rpi4 login: ", b"Password: ", CHANGE + b"New password: ", b"\r\nRetype new password: ")
    assert played(machine, b"\r\nrpi4 login: ", b"Password: ") == [b"root\r", b"n3w secret\r"]


VENDORS = [b"Marvell>> ", b"u-boot# ", b"MX6Q SABRESD U-Boot > ", b"ZynqMP> ", b"Hit-Boot# ", b"=> "]


@pytest.mark.parametrize("version", [VERSION, VERSION.replace(b"2013.01", b"1.3.4")])
@pytest.mark.parametrize("prompt", VENDORS[:-1])
def test_answer_to_version_tells_a_boot_loader_from_a_shell(prompt: bytes, version: bytes) -> None:
    machine = login()
    assert played(machine, None, b"\r\n" + prompt, None) == [b"\r", b"", PROBE]
    with pytest.raises(
        LoginRefused, match=f"prompt of its boot loader, '{prompt.decode().strip()}'; type `boot` first"
    ):
        machine.feed(PROBE + b"\n" + version + prompt)


@pytest.mark.parametrize("prompt", [b"=> ", b"U-Boot> ", b"barebox@Phytec phyCORE:/ "])
def test_prompts_that_only_boot_loaders_have(prompt: bytes) -> None:
    with pytest.raises(LoginRefused, match="prompt of its boot loader"):
        played(login(), None, b"\r\n" + prompt)


@pytest.mark.parametrize(
    "words",
    [
        b"You are required to change your password immediately (root enforced)",
        b"Your password has expired. Choose a new password.",
        b"WARNING: Your password is expired.",
        b"You must change your password now",
    ],
)
def test_demands_for_another_password_are_quoted(words: bytes) -> None:
    machine = login(OLD)
    played(machine, b"rpi4 login: ", b"Password: ")
    with pytest.raises(
        LoginRefused, match=rf"requires a new password for 'root' \({re.escape(words.decode())}\)"
    ):
        machine.feed(b"\r\n" + words + b"\r\nCurrent password: ")


@pytest.mark.parametrize("prompt", VENDORS)
@pytest.mark.parametrize("said", [b"U-Boot 2013.01 (Mar 02)", b"Hit any key to stop autoboot:  1"])
def test_what_the_board_said_before_tells_a_boot_loader_that_our_key_stopped(
    prompt: bytes, said: bytes
) -> None:
    machine = login()
    assert played(machine, None, b"\r\n" + said) == [b"\r", b""]
    typed = machine.feed(b"\r\n" + prompt)
    if not typed:
        assert machine.quiet_seconds <= 1
        typed = machine.silence()
    assert typed == b"boot\r"


@pytest.mark.parametrize(
    "line", [b"Loading: ####", b"Loading: #", b"## Starting at 0x40 >", b"30 % ", b"a: >"]
)
def test_progress_of_a_boot_loader_is_not_a_prompt(line: bytes) -> None:
    machine = login()
    played(machine, None, b"\r\nU-Boot 2013.01 (Mar 02)\r\n" + line)
    assert machine.quiet_seconds >= 10


@pytest.mark.parametrize("given", ["\n[lab] $ ", "[lab] $"])
def test_a_boot_loaders_prompt_can_be_given(given: str) -> None:
    machine = login(loader_prompt=given)
    machine.silence()
    with pytest.raises(LoginRefused, match="prompt of its boot loader"):
        machine.feed(b"\r\n[lab] $ ")
    assert login().feed(b"\r\n[lab] $ ") == b""


@pytest.mark.parametrize("prompt", VENDORS[:-1])
def test_linux_with_such_a_prompt_is_a_shell(prompt: bytes) -> None:
    machine = login()
    assert played(machine, None, b"\r\n" + prompt, None, PROBE + b"\n" + ANSWER) == [b"\r", b"", PROBE, b""]
    assert machine.state is LoginState.LOGGED_IN


PIECES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"\r\nrpi4 login: ",
            b"Password: ",
            b"# ",
            b"\r\nU-Boot 2024.01\r\n",
            b"=> ",
            ANSWER,
            MESSAGE,
            None,
            CHANGE,
            b"\r\nCurrent password: ",
            b"\r\nNew password: ",
            b"Retype new password: ",
            b"Login incorrect\r\n",
            b"Marvell>> ",
            VERSION,
            b"\x1b]0;x",
            b"\x1b[K",
        ]
    ),
)


@given(st.lists(PIECES, max_size=40), st.sampled_from([None, "secret"]), st.sampled_from([None, "another"]))
def test_no_order_of_prompts_leaves_the_table(
    pieces: list[bytes | None], password: str | None, new_password: str | None
) -> None:
    machine = login(password, new_password=new_password)
    known = (b"", b"\r", b"root\r", b"secret\r", b"another\r", b"boot\r", PROBE, CTRL_C)
    try:
        for piece in pieces:
            if machine.state is LoginState.LOGGED_IN:
                return
            assert machine.quiet_seconds > 0
            assert (machine.silence() if piece is None else machine.feed(piece)) in known
    except LoginRefused:
        return
