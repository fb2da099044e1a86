"""A look at a host ends in time, whatever does not answer, and says what could not be seen."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import trio

from jumpstarter_exporter.host_health import HostFacts, HostLook, Unread, judge, read_system
from jumpstarter_exporter.host_health import look as look_module
from jumpstarter_exporter.host_health import read_services as services_module
from jumpstarter_exporter.host_health.facts import Account, MemoryFacts, ServiceUnit
from jumpstarter_exporter.host_health.host_files import HostFiles
from jumpstarter_exporter.host_health.read_services import MAX_UNITS, parse_units, read_services

SHOWN = """Id=jumpstarter-exporter.service
LoadState=loaded
UnitFileState=enabled
ActiveState=active
SubState=running
Result=success
NRestarts=4
User=jumpstarter
SupplementaryGroups=lp video

Id=jumpstarter-exporter.socket
LoadState=not-found
ActiveState=inactive
SubState=dead
"""


def test_units_as_systemctl_shows_them() -> None:
    assert parse_units(SHOWN) == (
        ServiceUnit(
            "jumpstarter-exporter.service",
            "loaded",
            "enabled",
            "active",
            "running",
            "success",
            4,
            "jumpstarter",
            ("lp", "video"),
        ),
        ServiceUnit("jumpstarter-exporter.socket", "not-found", "", "inactive", "dead"),
    )
    for odd in ("\u00b2", "9" * 5000, "-1", "many"):
        assert [unit.restarts for unit in parse_units(SHOWN.replace("=4", f"={odd}"))] == [0, 0]
    assert parse_units("") == parse_units("\n\nrubbish\n\n=\n") == ()
    assert len(parse_units("Id=a\n\n" * 1000)) == MAX_UNITS


def program(folder: Path, text: str) -> list[str]:
    """A systemctl."""
    (folder / "systemctl.py").write_text(text)
    return [sys.executable, str(folder / "systemctl.py")]


def booted(folder: Path) -> HostFiles:
    (folder / "run/systemd/system").mkdir(parents=True)
    return HostFiles(folder)


async def test_systemctl_is_asked_on_hosts_with_systemd_only(tmp_path: Path) -> None:
    assert await read_services(HostFiles(tmp_path), ["/nowhere"]) == Unread(
        "this host was not started by systemd"
    )
    said = program(tmp_path, f"print({SHOWN!r}, end='')")
    found = await read_services(booted(tmp_path), said)
    assert isinstance(found, tuple)
    assert [one.name for one in found] == ["jumpstarter-exporter.service", "jumpstarter-exporter.socket"]


async def test_a_systemctl_that_fails_hangs_or_is_not_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = booted(tmp_path)
    failed = await read_services(files, program(tmp_path, "raise SystemExit('no\\nbus')"))
    assert failed == Unread("systemctl ended with 1: no bus")
    missing = await read_services(files, ["/nowhere/systemctl"])
    assert missing == Unread("systemctl cannot be run: No such file or directory")
    monkeypatch.setattr(services_module, "SYSTEMCTL_SECONDS", 0.1)
    hung = await read_services(files, program(tmp_path, "import signal\nwhile True: signal.pause()"))
    assert hung == Unread("systemctl did not answer within 0.1 s")


async def test_a_disk_that_does_not_answer_keeps_nothing_else_from_being_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 600 kB\n")
    answers = threading.Event()

    def hang(*_: object) -> None:
        answers.wait(60)

    monkeypatch.setattr(read_system, "read_storage", hang)
    try:
        with trio.fail_after(30):
            facts = await HostLook(tmp_path, state=tmp_path, seconds=0.5).hardware()
    finally:
        answers.set()
    assert isinstance(facts.storage, Unread)
    assert "longer than 0.5 s" in facts.storage.why
    assert facts.memory == MemoryFacts(1000 * 1024, 600 * 1024)


async def test_threads_that_are_stuck_do_not_become_more_with_each_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, stuck = threading.Event(), []

    def hang(*_: object) -> None:
        stuck.append(1)
        answers.wait(60)

    monkeypatch.setattr(look_module, "MAX_THREADS", 2)
    look = HostLook(tmp_path, state=tmp_path, seconds=0.2)
    monkeypatch.setattr(read_system, "read_storage", hang)
    try:
        with trio.fail_after(30):
            for _ in range(4):
                facts = await look.hardware()
                assert isinstance(facts.storage, Unread)
    finally:
        answers.set()
    assert len(stuck) == 2


async def test_a_fault_of_ours_in_one_area_keeps_nothing_else_from_being_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("typ")

    monkeypatch.setattr(read_system, "read_memory", fail)
    facts = await HostLook(tmp_path, state=tmp_path).hardware()
    assert facts.memory == Unread("it failed here: KeyError: 'typ'")
    assert facts.usb is not None
    assert "Traceback" in caplog.text


async def test_an_empty_host_is_seen_to_the_end(tmp_path: Path) -> None:
    look = HostLook(tmp_path, state=tmp_path)
    facts = await look.system(await look.hardware(), {})
    keys = {one.key for one in judge(facts)}
    assert {"disk.unread", "memory.unread", "service.unread", "udev.installed"} <= keys
    assert isinstance(facts.account, Account)


async def test_devices_are_judged_for_the_services_user_and_by_what_links_lead_to(tmp_path: Path) -> None:
    booted(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("jumpstarter:x:990:991::/:/bin/false\n")
    (tmp_path / "etc/group").write_text("")
    (tmp_path / "dev/serial").mkdir(parents=True)
    node = tmp_path / "dev/ttyUSB0"
    node.touch(mode=0o600)
    (tmp_path / "dev/serial/console").symlink_to("../ttyUSB0")
    look = HostLook(tmp_path, state=tmp_path, systemctl=program(tmp_path, f"print({SHOWN!r}, end='')"))
    facts = await look.system(HostFacts(), {"/dev/serial/console": ["rpi4.console"]})
    assert isinstance(facts.account, Account)
    assert (facts.account.name, facts.account.is_exporters) == ("jumpstarter", True)
    assert isinstance(facts.devices, tuple)
    (one,) = facts.devices
    assert (one.node.place, one.boards, one.is_allowed) == ("/dev/ttyUSB0", ("rpi4.console",), False)
    own = await look.system(HostFacts(), {}, is_service=True)
    assert isinstance(own.account, Account)
    assert not own.account.is_exporters
