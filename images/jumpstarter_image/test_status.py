"""What is found out about a host, from what its programs say."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from jumpstarter_image import settings_store
from jumpstarter_image.kept import Kept, Wifi
from jumpstarter_image.sentences import Board, Interface, status_lines
from jumpstarter_image.status import gather
from tests.support.image_host import ImageHost

WIFI = Kept(hostname="pi", wifi=Wifi("Lab", "DE", "a passphrase"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageHost:
    machine = ImageHost(tmp_path)
    machine.program("jumpstarter-exporter", "exit 4")
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    settings_store.save(machine.host, WIFI)
    return machine


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("", ""),
        ("wlan0: Trying to associate with SSID 'Lab'", ""),
        (
            'wlan0: CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="Lab" auth_failures=1 duration=10 reason=WRONG_KEY\n',
            "key",
        ),
        ("wlan0: CTRL-EVENT-NETWORK-NOT-FOUND", "range"),
        ("reason=WRONG_KEY\nwlan0: CTRL-EVENT-CONNECTED - Connection to 00:11 completed", ""),
    ],
)
def test_why_there_is_no_wifi_is_what_its_program_said_last(
    machine: ImageHost, said: str, trouble: str
) -> None:
    machine.fact("journal-jumpstarter-image-wifi@*", said)
    assert gather(machine.host).wifi_trouble == trouble


def test_while_it_starts_no_program_is_asked_and_the_status_says_when_there_is_more(
    machine: ImageHost,
) -> None:
    machine.fact("called", "")
    facts = gather(machine.host, is_starting=True)
    assert machine.asked() == []
    text = " ".join(status_lines(facts))
    assert "It is starting. In two minutes there is more here" in text
    assert "Boards:" not in text
    assert "Network cable" not in text


def test_another_host_of_this_name_is_what_the_resolver_has_found(machine: ImageHost) -> None:
    assert gather(machine.host).other_host == ""
    machine.fact(
        "journal-systemd-resolved.service",
        "Detected conflict on pi IN A 192.168.1.20\n"
        "Hostname conflict, changing published hostname from 'pi' to 'pi2'.\n",
    )
    assert gather(machine.host).other_host == "pi2"


def test_addresses_are_those_that_others_may_use(machine: ImageHost) -> None:
    machine.fact(
        "addresses",
        json.dumps(
            [
                {"ifname": "lo", "link_type": "loopback", "flags": ["LOWER_UP"]},
                {
                    "ifname": "eth0",
                    "link_type": "ether",
                    "flags": ["UP", "LOWER_UP"],
                    "addr_info": [
                        {"local": "192.168.1.20", "scope": "global"},
                        {"local": "fd00::1", "scope": "global"},
                        {"local": "fd00::2", "scope": "global", "temporary": True},
                        {"local": "fe80::1", "scope": "link"},
                    ],
                },
                {"ifname": "wlan0", "link_type": "ether", "flags": ["UP"], "addr_info": []},
                {"ifname": "docker0", "link_type": "ether", "flags": ["UP"], "addr_info": []},
            ]
        ),
    )
    assert gather(machine.host).interfaces == (
        Interface("eth0", is_wireless=False, is_connected=True, addresses=("192.168.1.20", "fd00::1")),
        Interface("wlan0", is_wireless=True, is_connected=False),
    )


def test_boards_are_what_the_exporter_says(machine: ImageHost) -> None:
    assert "does not run yet" in gather(machine.host).boards_trouble
    device = {"path": "a.serial", "interface": "serial", "state": "missing", "reason": "unplugged at 10:00"}
    boards = {"boards": [{"name": "pi", "problem": None, "devices": [device]}]}
    machine.program("jumpstarter-exporter", f"echo '{json.dumps(boards)}'")
    facts = gather(machine.host)
    assert facts.boards == (Board("pi", "", "", ("a.serial (serial) is missing: unplugged at 10:00.",)),)
    assert facts.boards_trouble == ""


def test_the_time_is_known_when_somebody_has_set_the_clock(machine: ImageHost) -> None:
    assert gather(machine.host).is_time_known
    machine.fact("clock", "no")
    assert not gather(machine.host).is_time_known


def test_how_much_room_there_is_for_the_exporters_recordings_is_looked_at(machine: ImageHost) -> None:
    free = gather(machine.host).free_bytes
    assert free is not None
    assert abs(free - shutil.disk_usage(machine.host.state_folder).free) < 1024**3


def test_all_that_is_known_of_a_host_is_in_its_status(machine: ImageHost) -> None:
    kept = Kept(
        hostname="pi",
        ssh_keys=("ssh-ed25519 AAAA ann",),
        time_server="ntp",
        endpoint="lab:1",
        pairing_code="HOST-AAAA",
        controller=True,
    )
    settings_store.save(machine.host, kept)
    machine.host.data_report.parent.mkdir(parents=True, exist_ok=True)
    machine.host.data_report.write_text("mended\n")
    facts = gather(machine.host)
    assert (facts.has_keys, facts.time_server, facts.endpoint) == (True, "ntp", "lab:1")
    assert (facts.is_controller, facts.is_waiting, facts.refusal, facts.data) == (True, True, "", "mended")
    settings_store.save(machine.host, kept.with_attempt("x").with_refused_code("it is used"))
    facts = gather(machine.host)
    assert (facts.is_waiting, facts.refusal) == (False, "it is used")
    settings_store.save(machine.host, Kept(hostname="pi"))
    facts = gather(machine.host)
    assert (facts.has_keys, facts.is_controller, facts.wifi, facts.wifi_trouble) == (False, False, "", "")


def test_a_host_without_any_of_these_programs_has_a_status(
    machine: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine.host.site_file.parent))
    facts = gather(machine.host)
    assert (facts.hostname, facts.interfaces, facts.is_time_known) == ("pi", (), False)


def test_an_identity_that_is_invalid_is_none(machine: ImageHost) -> None:
    machine.host.exporter_state.mkdir()
    for text in ("", "[]", "metadata: 1", "metadata: {}\nendpoint: lab", "{", "\0"):
        (machine.host.exporter_state / "host.yaml").write_text(text)
        assert gather(machine.host).enrolled == ""
    (machine.host.exporter_state / "host.yaml").write_text("metadata: {name: pi}\nendpoint: lab:1\n")
    assert gather(machine.host).enrolled == "pi of lab:1"


def test_a_program_that_hangs_is_ended_with_what_it_started(machine: ImageHost) -> None:
    fifo = machine.root / "held"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    machine.program("ip", f"exec 9> {fifo}; sleep 1000 & wait")
    done = machine.host.run("ip", timeout=0.5)
    assert (done.code, done.errors) == (124, "ip did not end within 0.5 s")
    # Wait until nobody holds it any more; pytest's time limit ends a wait without end.
    os.set_blocking(held, True)
    assert os.read(held, 1) == b""
    os.close(held)
