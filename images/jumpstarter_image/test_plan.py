from __future__ import annotations

import configparser
import ipaddress
import itertools
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_image.kept import Address, Kept, Wifi
from jumpstarter_image.plan import (
    CONTROLLER_OPTIONS,
    ENROL_MARKER,
    EXPORTER_OPTIONS,
    PATHS,
    SSH_KEYS,
    TIME,
    WIRED,
    WIRELESS,
    WPA,
    files_of,
    hostname_of,
    own_endpoint,
    steps_after,
)

FULL = Kept(
    hostname="pi",
    wifi=Wifi('My "network" #1 é', "DE", 'a "pass" #phrase'),
    address=Address("10.0.0.2/8", "10.0.0.1", ("10.0.0.1", "fd00::1"), "wifi"),
    ssh_keys=("ssh-ed25519 AAAA ann", "ssh-ed25519 BBBB ben"),
    time_server="ntp.lab",
    endpoint="lab:8082",
    pairing_code="HOST-AAAA",
)


def test_a_new_host_asks_the_network_for_all_it_needs() -> None:
    files = files_of(Kept(), "jumpstarter-1a2b")
    assert set(files) == {WIRED, TIME}
    assert "Name=en* eth*" in files[WIRED].content
    assert "DHCP=yes" in files[WIRED].content
    assert "MulticastDNS=yes" in files[WIRED].content


def test_two_cards_with_one_image_have_two_names() -> None:
    assert hostname_of(Kept(), "1a2b3c") == "jumpstarter-1a2b"
    assert hostname_of(Kept(), "") == "jumpstarter-host"
    assert hostname_of(FULL, "1a2b3c") == "pi"


def test_all_that_is_known_is_written_for_whom_it_is() -> None:
    files = files_of(FULL, "pi")
    assert set(files) == {WIRED, WIRELESS, WPA, SSH_KEYS, TIME, ENROL_MARKER}
    assert set(files) <= set(PATHS)
    assert "DHCP=yes" in files[WIRED].content
    wireless = files[WIRELESS].content
    assert "Address=10.0.0.2/8\nGateway=10.0.0.1\nDNS=10.0.0.1\nDNS=fd00::1\n" in wireless
    assert "DHCP" not in wireless
    assert files[SSH_KEYS].content == "ssh-ed25519 AAAA ann\nssh-ed25519 BBBB ben\n"
    assert time_sources(FULL) == ["server ntp.lab iburst minpoll 4 trust"]


def test_the_passphrase_and_the_code_are_where_only_root_reads_or_nowhere() -> None:
    for path, file in files_of(FULL, "pi").items():
        assert "HOST-AAAA" not in file.content
        assert ("phrase" in file.content) == (path == WPA)
        assert file.mode == (0o600 if path == WPA else 0o644)


def time_sources(kept: Kept) -> list[str]:
    """Whom chronyd asks, by its configuration."""
    lines = files_of(kept, "pi")[TIME].content.splitlines()
    return [line for line in lines if line.startswith(("server ", "pool "))]


def test_an_offline_lab_asks_the_controllers_host_for_the_time_and_believes_all_others_more() -> None:
    pool, host = time_sources(Kept(endpoint="[fd00::1]:8082"))
    assert pool.startswith("pool 2.debian.pool.ntp.org ")
    assert pool.endswith(" trust")
    assert host == "server fd00::1 iburst minpoll 4"
    assert time_sources(Kept(endpoint="lab")) == [pool, "server lab iburst minpoll 4"]
    # It does not ask itself.
    assert time_sources(Kept(endpoint="lab", controller=True)) == [pool]
    assert time_sources(Kept(endpoint="lab", time_server="ntp")) == ["server ntp iburst minpoll 4 trust"]


def test_a_labs_card_tells_local_networks_the_time_and_others_nobody() -> None:
    def allowed(kept: Kept) -> list[str]:
        lines = files_of(kept, "pi")[TIME].content.splitlines()
        return [line.removeprefix("allow ") for line in lines if line.startswith("allow")]

    assert allowed(FULL) == []
    networks = [ipaddress.ip_network(one) for one in allowed(Kept(controller=True, time_server="ntp"))]
    assert all(one.is_private for one in networks)
    for address in ("192.168.1.7", "10.0.2.2", "fe80::1"):
        assert any(ipaddress.ip_address(address) in one for one in networks)


def test_a_clock_that_is_years_behind_is_set_whenever_somebody_knows_the_time() -> None:
    assert "\nmakestep 1 -1\n" in files_of(Kept(), "pi")[TIME].content


@pytest.mark.parametrize(
    ("kept", "endpoint", "router"),
    [
        (Kept(), "pi.local:8082", "pi.local:8083"),
        (Kept(address=Address("10.0.0.2/8")), "10.0.0.2:8082", "10.0.0.2:8083"),
        (Kept(address=Address("fd00::2/64")), "[fd00::2]:8082", "[fd00::2]:8083"),
        (Kept(address=Address("10.0.0.2/8"), endpoint="lab:1"), "lab:1", "lab:8083"),
    ],
)
def test_a_controller_on_the_card_is_reached_where_others_find_it(
    kept: Kept, endpoint: str, router: str
) -> None:
    assert own_endpoint(kept, "pi") == endpoint
    files = files_of(msgspec.structs.replace(kept, controller=True), "pi")
    options = f"--with-router --endpoint {endpoint} --router-endpoint {router}"
    assert f'OPTIONS="{options}"\n' in files[CONTROLLER_OPTIONS].content


def test_labels_are_for_the_exporter() -> None:
    text = files_of(Kept(labels={"team": "radio", "rack": "3"}), "pi")[EXPORTER_OPTIONS].content
    assert text.endswith('JUMPSTARTER_BOARD_LABELS="rack=3,team=radio"\n')


def test_an_open_network_has_no_key() -> None:
    text = files_of(Kept(wifi=Wifi("Café", "FR")), "pi")[WPA].content
    assert "key_mgmt=NONE" in text
    assert f"ssid={'Café'.encode().hex()}" in text
    assert "psk" not in text


@given(
    st.text(min_size=1, max_size=32).filter(
        lambda text: len(text.encode("utf-8", "ignore")) <= 32 and text.isprintable()
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=63)
    | st.text("0123456789abcdef", min_size=64, max_size=64),
)
def test_a_name_and_a_passphrase_are_in_a_line_each(ssid: str, passphrase: str) -> None:
    lines = files_of(Kept(wifi=Wifi(ssid, "DE", passphrase)), "pi")[WPA].content.splitlines()
    assert bytes.fromhex(next(line for line in lines if "\tssid=" in line).partition("=")[2]).decode() == ssid
    key = next(line for line in lines if line.startswith("\tpsk=")).removeprefix("\tpsk=")
    # wpa_supplicant takes what is between the first quote and the last.
    assert (key if len(passphrase) == 64 else key[1 : key.rindex('"')]) == passphrase
    assert len(lines) == 10


def test_a_file_for_systemd_has_its_sections() -> None:
    for path in (WIRED, WIRELESS):
        parser = configparser.ConfigParser(strict=False)
        parser.read_string(files_of(FULL, "pi")[path].content)
        assert set(parser.sections()) >= {"Match", "Network"}


# A host that runs already


def test_while_the_host_boots_nothing_is_started_anew() -> None:
    assert steps_after(PATHS, FULL, is_renamed=True, is_booting=True, wireless=["wlan0"]) == []


def test_only_what_has_changed_is_done_again() -> None:
    def steps(*changed: str, kept: Kept = FULL, renamed: bool = False) -> list[str]:
        found = steps_after(changed, kept, is_renamed=renamed, is_booting=False, wireless=["wlan0"])
        return [" ".join(step).removeprefix("systemctl --no-block ") for step in found]

    assert steps() == []
    assert steps(SSH_KEYS) == []
    assert steps(WIRED, WIRELESS) == ["networkctl reload"]
    assert steps(WPA) == ["restart jumpstarter-image-wifi@wlan0.service"]
    assert steps(WPA, kept=Kept()) == ["stop jumpstarter-image-wifi@wlan0.service"]
    assert steps(TIME) == ["try-restart chrony.service"]
    assert steps(renamed=True) == ["try-restart jumpstarter-exporter.service"]
    assert steps(ENROL_MARKER) == ["restart jumpstarter-image-enrol.service"]
    assert steps(ENROL_MARKER, kept=Kept()) == []
    controller = Kept(controller=True)
    enrol = "restart jumpstarter-image-enrol.service"
    served = ("jumpstarter-controller.service", "jumpstarter-image-time-server.service")
    assert steps(CONTROLLER_OPTIONS, kept=controller) == [*(f"restart {unit}" for unit in served), enrol]
    exporter = "try-restart jumpstarter-exporter.service"
    assert steps(EXPORTER_OPTIONS) == [exporter]
    assert steps(EXPORTER_OPTIONS, kept=controller) == [exporter, enrol]
    assert steps(CONTROLLER_OPTIONS, kept=Kept()) == [f"stop {unit}" for unit in served]


# Codes


def test_a_code_that_was_refused_is_tried_again_with_another_controller_or_certificate() -> None:
    refused = FULL.with_attempt("who").with_refused_code("it is used")
    assert (refused.refusal, refused.is_to_enrol) == ("it is used", False)
    for change in ({"endpoint": "elsewhere:1"}, {"fingerprint": "AA"}, {"pairing_code": "HOST-BBBB"}):
        assert msgspec.structs.replace(refused, **change).is_to_enrol


def test_of_a_code_that_is_tried_twice_the_first_try_says_who_the_host_was() -> None:
    once = FULL.with_attempt("before")
    assert once.with_attempt("after") is once
    other = msgspec.structs.replace(once, pairing_code="HOST-BBBB").with_attempt("after")
    assert other.attempt is not None
    assert other.attempt.identity == "after"


@pytest.mark.parametrize("wifi", [FULL.wifi, Wifi("Café", "FR"), Wifi("x", "US", "ab" * 32)])
def test_wpa_supplicant_reads_what_is_written_for_it(wifi: Wifi, tmp_path: Path) -> None:
    program = shutil.which("wpa_supplicant", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("missing: wpa_supplicant; apt install wpasupplicant")
    file = tmp_path / "wpa.conf"
    text = files_of(Kept(wifi=wifi), "pi")[WPA].content
    file.write_text(text.replace("/run/wpa_supplicant", str(tmp_path / "run")))
    with subprocess.Popen(
        [program, "-D", "wired", "-i", "lo", "-c", str(file), "-dd"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = list(itertools.takewhile(lambda line: "Added interface" not in line, process.stdout))
        process.terminate()
    assert any("Setting scan request" in line for line in said), said
    assert not any("Failed" in line or "Invalid" in line for line in said), said
