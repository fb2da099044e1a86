"""Logging in from whatever a console shows, without a board."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_client.console.login import CTRL_C, Login, LoginRefused, LoginState, Probe

PROBE = Probe("cafe").typed
ANSWER = b"JScafe?\r\n# "
MESSAGE = b"[   12.345678] random: crng init done\r\n"


def login(password: str | None = None) -> Login:
    return Login("root", password, "cafe")


def test_login_prompt_name_password_probe() -> None:
    machine = login("secret")
    assert machine.feed(b"Debian GNU/Linux\r\nrpi4 login: ") == b"root\r"
    assert machine.feed(b"root\r\nPassword: ") == b"secret\r"
    assert machine.feed(b"\r\nLast login: Mon\r\nroot@rpi4:~# ") == b""
    assert machine.patience < 1
    assert machine.silence() == PROBE
    assert machine.feed(PROBE) == b""
    assert machine.state.name == "PROBING"
    assert machine.feed(b"\n" + ANSWER) == b""
    assert machine.state.name == "LOGGED_IN"


def test_silent_console_gets_enter_and_a_shell_that_is_there_is_probed() -> None:
    machine = login()
    assert machine.silence() == b"\r"
    machine.feed(b"\r\n\x1b[1m# \x1b[0m")
    assert machine.patience < 1
    assert machine.silence() == PROBE
    machine.feed(ANSWER)
    assert machine.state is LoginState.LOGGED_IN


def test_silence_stays_silent_and_is_asked_less_and_less_often() -> None:
    machine = login()
    waited = []
    for _ in range(8):
        waited.append(machine.patience)
        assert machine.silence() == b"\r"
    assert waited == sorted(waited)
    assert waited[-1] == 5


def test_kernel_message_behind_a_prompt_hides_nothing_and_is_no_answer() -> None:
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
    assert machine.patience >= 5


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
    with pytest.raises(LoginRefused, match=r"asks for a password of 'root'; give one"):
        machine.feed(b"root\r\nPassword: ")


def test_name_that_is_asked_for_again_and_again() -> None:
    machine = login()
    for _ in range(3):
        assert machine.feed(b"\r\nrpi4 login: ") == b"root\r"
    with pytest.raises(LoginRefused, match="again and again"):
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
    assert machine.patience >= 10
    machine.feed(b"\r\nStarting kernel ...\r\n")
    assert machine.patience < 1


def test_boot_loader_that_a_key_stopped_is_told_to_boot() -> None:
    machine = login()
    assert machine.silence() == b"\r"
    assert machine.feed(b"\r\nU-Boot 2024.01\r\nHit any key to stop autoboot:  0 \r\n=> ") == b"boot\r"


def test_boot_loader_that_somebody_stopped_is_left_alone() -> None:
    machine = login()
    machine.silence()
    with pytest.raises(LoginRefused, match="boot loader's prompt"):
        machine.feed(b"\r\n=> ")


PIECES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"\r\nrpi4 login: ", b"Password: ", b"# ", b"\r\nU-Boot 2024.01\r\n", b"=> ", ANSWER, MESSAGE, None]
    ),
)


@given(st.lists(PIECES, max_size=40), st.sampled_from([None, "secret"]))
def test_no_order_of_prompts_leaves_the_table(pieces: list[bytes | None], password: str | None) -> None:
    machine = login(password)
    try:
        for piece in pieces:
            if machine.state is LoginState.LOGGED_IN:
                return
            assert machine.patience > 0
            keys = machine.silence() if piece is None else machine.feed(piece)
            assert keys in (b"", b"\r", b"root\r", b"secret\r", b"boot\r", PROBE, CTRL_C)
    except LoginRefused:
        return
