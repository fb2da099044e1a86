"""Each connection of a lab is cut or goes silent at each step of a lease.

What runs on it ends with a sentence, what comes next works, the lease stays its client's, and the board is given back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.network import NetworkLab, User, is_error, works_again
from tests.faults.shell import Shell
from tests.support.programs import clock_rate

LINKS = ["client-controller", "exporter-controller", "client-router", "exporter-router"]
ROUTED = ("client-router", "exporter-router")
SILENCE = 6.0
"""Twice as long as it takes to notice, as 60 s of 40 in the field."""


@pytest.fixture(scope="module")
def shared() -> Iterator[NetworkLab]:
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        yield NetworkLab(Path(home), stack)


@pytest.fixture
def lab(shared: NetworkLab) -> Iterator[NetworkLab]:
    """With nobody in it; whatever a test has done, the board has to be free in the end."""
    yield shared
    for proxy in (shared.client_controller, shared.exporter_controller, shared.to_router):
        proxy.heal()
    for user in shared.users:
        assert user.process.poll() is not None or user.end() == 0, user.log
    shared.kill_users()
    shared.until(shared.free)


def ready(lab: NetworkLab) -> User:
    user = lab.user()
    assert user.answer() == "ready", user.log
    return user


@pytest.mark.parametrize("link", ["client-controller", "exporter-controller"])
def test_cut_while_a_client_waits_for_the_board(lab: NetworkLab, link: str) -> None:
    holder = ready(lab)
    waiting = lab.user("bob")
    lab.until(lambda: any("queue" in line for line in waiting.log))
    proxy, which = lab.link(link)
    for _ in range(3):
        lab.until(lambda: proxy.cut(which) > 0)
    assert waiting.is_waiting
    assert holder.end() == 0
    assert waiting.answer() == "ready"
    assert waiting.do("call on").startswith("done")


@pytest.mark.parametrize("link", LINKS)
def test_cut_between_two_calls(lab: NetworkLab, link: str) -> None:
    user = ready(lab)
    before = user.do("uuid")
    proxy, which = lab.link(link)
    for _ in range(2):
        proxy.cut(which)
        works_again(user, "call on")
    assert user.do("uuid").split()[0] == before.split()[0], "the exporter's session is the same"


@pytest.mark.parametrize(
    ("link", "how"),
    [*((link, "cut") for link in LINKS), ("client-router", "half-close"), ("exporter-router", "half-close")],
)
def test_cut_in_the_middle_of_a_call(lab: NetworkLab, link: str, how: str) -> None:
    user = ready(lab)
    lab.begin_cycle(user, 2)
    proxy, which = lab.link(link)
    count = proxy.cut(which) if how == "cut" else proxy.half_close(which)
    answer = user.answer(10)
    if link in ROUTED:
        assert count >= 1
        assert is_error(answer), answer
    else:
        assert answer.startswith("done"), answer
    assert user.do("call off").startswith("done")


@pytest.mark.parametrize("link", LINKS)
def test_cut_in_the_middle_of_a_stream(lab: NetworkLab, link: str) -> None:
    user = ready(lab)
    assert user.do("stream").startswith("open")
    assert user.do("echo hello").startswith("hello")
    user.begin("listen")
    assert user.silent(0.5)
    proxy, which = lab.link(link)
    count = proxy.cut(which)
    if link in ROUTED:
        assert count >= 1
        answer = user.answer(10)
        assert is_error(answer), answer
        assert user.do("stream").startswith("open")
        assert user.do("echo again").startswith("again")
    else:
        assert user.silent(1), "a stream does not need the controller"
        user.kill()
        lab.users.remove(user)
        lab.command("lease", "release", "--all", client="ann")  # as its owner would, by hand


@pytest.mark.parametrize("link", LINKS)
def test_cut_while_the_board_is_given_back(lab: NetworkLab, link: str) -> None:
    user = ready(lab)
    assert user.do("call on").startswith("done")
    proxy, which = lab.link(link)
    assert user.process.stdin is not None
    user.process.stdin.close()
    end = time.monotonic() + 60
    while user.process.poll() is None:
        proxy.cut(which)
        if link == "client-controller" and time.monotonic() > end - 57:
            break  # for three seconds nothing gets through; then it does
        assert time.monotonic() < end
        time.sleep(0.05)
    assert user.process.wait(60) == 0, user.log


def test_silence_of_the_clients_network_in_the_middle_of_a_call(lab: NetworkLab) -> None:
    user = ready(lab)
    before = user.do("uuid")
    lab.begin_cycle(user, 30)
    began = time.monotonic()
    lab.client_controller.stall()
    proxy, which = lab.link("client-router")
    proxy.stall(which)
    answer = user.answer(10)
    assert is_error(answer), answer
    assert time.monotonic() - began < 5
    # What comes next waits for the network.
    user.begin("call on")
    lab.until(lambda: any("reconnecting" in line for line in user.log))
    assert user.is_waiting
    lab.client_controller.heal()
    proxy.heal()
    assert user.answer().startswith("done"), user.log
    assert any("reconnecting" in line for line in user.log)
    assert user.do("uuid").split()[0] == before.split()[0], "the lease and its session have outlived it"


def test_silence_between_exporter_and_router_in_the_middle_of_a_call(lab: NetworkLab) -> None:
    user = ready(lab)
    before = user.do("uuid")
    lab.begin_cycle(user, 2)
    proxy, which = lab.link("exporter-router")
    proxy.stall(which)
    # The router, whose patience is longer than this test's, hears of it when the network is back.
    assert user.silent(SILENCE)
    proxy.heal()
    answer = user.answer(10)
    # The reply may have been on its way.
    assert is_error(answer) or answer.startswith("done"), answer
    works_again(user, "call off")
    assert user.do("uuid").split()[0] == before.split()[0]


def test_silence_of_the_controller_is_not_noticed_by_who_uses_a_board(lab: NetworkLab) -> None:
    user = ready(lab)
    before = user.do("uuid")
    lab.client_controller.stall()
    lab.exporter_controller.stall()
    assert user.do(f"cycle {SILENCE}").startswith("done")
    lab.client_controller.heal()
    lab.exporter_controller.heal()
    works_again(user, "call off")
    assert user.do("uuid").split()[0] == before.split()[0]


def test_silence_of_the_exporters_network_ends_with_the_same_session(lab: NetworkLab) -> None:
    user = ready(lab)
    before = user.do("uuid")
    lab.exporter_controller.stall()
    proxy, which = lab.link("exporter-router")
    proxy.stall(which)
    time.sleep(SILENCE)
    lab.exporter_controller.heal()
    proxy.heal()
    works_again(user, "call on")
    assert user.do("uuid").split()[0] == before.split()[0]


def test_a_command_of_a_shell_that_cannot_reach_the_board_says_why(lab: NetworkLab) -> None:
    with clock_rate(2):
        shell = Shell(lab, lab.home / "hurried.yaml")
    assert shell.do("j power on") == (0, "")
    lab.client_controller.stall()
    code, said = shell.do("j power on")
    lab.client_controller.heal()
    assert code != 0
    assert "could not be reached for 5 s" in said
    assert said.count("\n") == 1
    assert shell.do("j power off") == (0, "")
    shell.end()
