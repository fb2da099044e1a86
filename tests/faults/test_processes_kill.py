"""Each process of a lab is killed without a word at each step of a lease, and started again.

Controller and router are one process here, so that its end takes both; tests/e2e has routers of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.network import NetworkLab, User, is_error, works_again
from tests.support.programs import clock_rate

SHORT = 8.0
"""A lease whose client is killed ends with its time."""


@pytest.fixture(scope="module")
def shared() -> Iterator[NetworkLab]:
    with tempfile.TemporaryDirectory(prefix="lab-") as home, ExitStack() as stack:
        yield NetworkLab(Path(home), stack)


@pytest.fixture
def lab(shared: NetworkLab) -> Iterator[NetworkLab]:
    """With nobody in it; whatever a test has done, the board has to be free in the end."""
    yield shared
    for user in shared.users:
        assert user.process.poll() is not None or user.end() == 0, user.log
    shared.kill_users()
    shared.until(shared.free)


def restart_controller(lab: NetworkLab) -> None:
    lab.kill_controller()
    lab.start_controller()


def restart_exporter(lab: NetworkLab) -> None:
    lab.exporters["one"].process.kill()
    lab.exporters["one"].process.wait()
    lab.start_exporter("one", wait=False)


Restart = Callable[[NetworkLab], None]
RESTARTS: list[Restart] = [restart_controller, restart_exporter]
PROCESSES = pytest.mark.parametrize("restart", RESTARTS, ids=["controller", "exporter"])


def ready(lab: NetworkLab, duration: float = 600) -> User:
    user = lab.user(duration=duration)
    assert user.answer() == "ready", user.log
    return user


@PROCESSES
def test_killed_while_a_client_waits_for_the_board(lab: NetworkLab, restart: Restart) -> None:
    holder = ready(lab)
    waiting = lab.user("bob")
    lab.until(lambda: any("queue" in line for line in waiting.log))
    restart(lab)
    works_again(holder, "call on")
    assert waiting.is_waiting
    assert holder.end() == 0
    assert waiting.answer() == "ready", waiting.log
    assert waiting.do("call on").startswith("done"), waiting.log


@PROCESSES
def test_killed_between_two_calls(lab: NetworkLab, restart: Restart) -> None:
    user = ready(lab)
    before = user.do("uuid")
    for _ in range(2):
        restart(lab)
        works_again(user, "call on")
    same = user.do("uuid").split()[0] == before.split()[0]
    assert same is (restart is restart_controller), "an exporter's session ends with its process"
    assert same is not any("the exporter was restarted" in line for line in user.log)


@PROCESSES
def test_killed_in_the_middle_of_a_call_and_of_a_stream(lab: NetworkLab, restart: Restart) -> None:
    user = ready(lab)
    for line in ("cycle", "listen"):
        if line == "listen":
            assert user.do("stream").startswith("open")
            user.begin(line)
        else:
            lab.begin_cycle(user, 600)
        restart(lab)
        answer = user.answer(10)
        assert is_error(answer), answer
        works_again(user, "call off")


@PROCESSES
def test_killed_while_the_board_is_given_back(lab: NetworkLab, restart: Restart) -> None:
    user = ready(lab)
    assert user.do("call on").startswith("done")
    assert user.process.stdin is not None
    user.process.stdin.close()
    restart(lab)
    assert user.process.wait(60) == 0, user.log


def test_killed_as_soon_as_the_lease_is_there(lab: NetworkLab) -> None:
    """The exporter dies before it has a session, the client is on its way to it."""
    for _ in range(3):
        with clock_rate(5):  # a client waits for half a minute for an exporter that died on its way to them
            user = lab.user()
        lab.until(lambda log=lab.exporters["one"].log: "begins" in log.read_text())  # type: ignore[misc]
        restart_exporter(lab)
        assert user.answer() == "ready", user.log
        works_again(user, "call on")
        assert user.end() == 0
        lab.until(lab.free)


@pytest.mark.parametrize("step", ["waiting", "ready", "in a call"])
def test_the_board_of_a_killed_client_is_free_when_its_time_is_over(lab: NetworkLab, step: str) -> None:
    if step == "waiting":
        holder = ready(lab)
        killed = lab.user("bob", duration=SHORT)
        lab.until(lambda: any("queue" in line for line in killed.log))
        killed.kill()
        assert holder.do("call on").startswith("done")
        assert holder.end() == 0
    else:
        killed = ready(lab, SHORT)
        if step == "in a call":
            lab.begin_cycle(killed, 600)
        killed.kill()
    lab.until(lab.free)
    user = ready(lab)
    assert user.do("call on").startswith("done")


def test_a_lease_that_ends_under_its_client_says_so_at_the_next_call(lab: NetworkLab) -> None:
    user = ready(lab, SHORT)
    lab.until(lab.free)
    for _ in range(2):
        answer = user.do("call on")
        assert answer.startswith("error "), answer
        assert "ended" in answer or "time is over" in answer, answer
    assert user.end() == 0, user.log
