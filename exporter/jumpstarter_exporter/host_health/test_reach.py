"""Whoever does not answer is not waited for for ever."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.remote import Trust

from jumpstarter_exporter.host_health import reach
from jumpstarter_exporter.host_health.facts import ExporterFacts
from jumpstarter_exporter.host_health.reach import (
    MAX_CONTROLLERS,
    exporter_socket,
    reach_controllers,
    reach_exporter,
)
from jumpstarter_exporter.serve import sockets


async def test_controllers_that_do_not_answer_are_told_together_and_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "CONTROLLER_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoints = [f"127.0.0.1:{one.getsockname()[1]}" for one in (silent, closed)]
        with trio.fail_after(30):
            found = await reach_controllers(dict.fromkeys([*endpoints, "no.such.host.invalid:1"], Trust()))
    problems = {one.endpoint: one.problem for one in found}
    assert problems.keys() == {*endpoints, "no.such.host.invalid:1"}
    assert all(problems.values())


async def test_a_way_to_a_controller_that_hangs_has_a_limit_of_its_own(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    class Hangs:
        async def __aenter__(self) -> None:
            await trio.sleep_forever()

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(reach, "open_controller", lambda *_, **__: Hangs())
    many = {f"lab-{number}": Trust() for number in range(MAX_CONTROLLERS + 9)}
    with trio.fail_after(30):
        found = await reach_controllers(many)
    assert {one.problem for one in found} == {"it did not answer within 8 s"}
    assert len(found) == MAX_CONTROLLERS


async def test_an_exporter_that_hangs_and_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    assert await reach_exporter(None) == ExporterFacts(is_running=False)
    monkeypatch.setattr(reach, "EXPORTER_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with trio.fail_after(30):
            hung = await reach_exporter(path)
    assert hung.why == "it did not answer within 0.5 s"
    gone = await reach_exporter(path)
    assert (gone.is_running, bool(gone.why)) == (False, True)


def test_the_services_exporter_comes_before_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUMPSTARTER_RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "own"))
    monkeypatch.setattr(sockets, "SYSTEM", tmp_path / "none/jumpstarter/exporter.sock")
    assert exporter_socket() is None
    own, system, chosen = (tmp_path / one for one in ("own/jumpstarter", "system", "chosen"))
    own.mkdir(parents=True)
    assert exporter_socket() is None
    for folder in (own, system, chosen):
        folder.mkdir(exist_ok=True)
        (folder / "exporter.sock").touch()
    assert exporter_socket() == own / "exporter.sock"
    monkeypatch.setattr(sockets, "SYSTEM", system / "exporter.sock")
    assert exporter_socket() == system / "exporter.sock"
    monkeypatch.setenv("JUMPSTARTER_RUNTIME_DIRECTORY", str(chosen))
    assert exporter_socket() == chosen / "exporter.sock"
