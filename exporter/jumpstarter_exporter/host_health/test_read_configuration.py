"""What is found in the files of a host: its boards' devices, and who they and the host are to controllers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from jumpstarter_exporter.config import Enrolment, Identities
from jumpstarter_exporter.config.model import Tls
from jumpstarter_exporter.host_health.facts import ConfigurationFacts, IdentityFacts
from jumpstarter_exporter.host_health.read_configuration import read_configuration

TOKEN = jwt.encode({"sub": "x", "exp": 2_000_000_000}, "x" * 32)
BOARD = """\
export:
  console: {type: serial.PySerial, config: {url: /dev/ttyUSB7}}
  relays:
    children:
      main: {type: power.GpioRelay, config: {pin: 17, chip: /dev/gpiochip1}}
      reset: {type: power.GpioRelay, config: {pin: 18, chip: /dev/gpiochip1}}
"""
SHARED = "export: {console: {type: serial.PySerial, config: {url: /dev/ttyUSB7}}}\n"
OWN = (
    f"metadata: {{namespace: lab, name: three}}\nendpoint: other:1\ntls: {{insecure: true}}\ntoken: {TOKEN}\n"
)


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user's boards."""
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    folder = tmp_path / "config" / "exporters"
    folder.mkdir(parents=True)
    return folder


def test_each_node_is_found_with_all_devices_that_use_it_and_each_pin_that_is_driven(boards: Path) -> None:
    (boards / "one.yaml").write_text(BOARD)
    (boards / "two.yaml").write_text(SHARED)
    found = read_configuration()
    assert found.nodes == {
        "/dev/ttyUSB7": ["one.console", "two.console"],
        "/dev/gpiochip1": ["one.relays.main", "one.relays.reset"],
    }
    assert found.gpio_outputs == ["one.relays.main", "one.relays.reset"]
    assert found.controllers == {}
    assert found.facts == ConfigurationFacts(
        2, files=(str(boards / "one.yaml"), str(boards / "two.yaml")), identities=()
    )


def test_everybody_who_is_somebody_to_a_controller_is_found_once_with_the_end_of_their_token(
    boards: Path,
) -> None:
    for name in ("one", "two"):
        (boards / f"{name}.yaml").write_text(SHARED)
    (boards / "three.yaml").write_text(OWN + SHARED)
    (boards / "three.yaml").chmod(0o600)
    identities = Identities()
    host = Enrolment("lab:8082", "lab", "pi4", TOKEN, Tls(ca="QUJD"), Path("host.yaml"))
    identities.save_host(host)
    identities.save("one", replace(host, name="pi4-one", host=host), boards / "one.yaml")
    identities.save("two", replace(host, name="two", endpoint="own:2", tls=Tls()), boards / "two.yaml")
    identities.save("gone", replace(host, name="gone", endpoint="left:3"), boards / "gone.yaml")
    damaged = identities.folder / "zero.yaml"
    damaged.write_text("kind: 1\n")
    damaged.chmod(0o600)
    found = read_configuration()
    assert set(found.facts.identities) == {
        IdentityFacts("the host pi4", "lab:8082", 2e9),
        IdentityFacts("the board two", "own:2", 2e9),
        IdentityFacts("the board three", "other:1", 2e9),
        IdentityFacts("the board gone", "left:3", 2e9),
    }, "of a board that its host registers, the host is"
    assert {endpoint: (trust.ca, trust.insecure) for endpoint, trust in found.controllers.items()} == {
        "lab:8082": ("QUJD", False),
        "own:2": ("", False),
        "other:1": ("", True),
        "left:3": ("QUJD", False),
    }
    assert list(found.facts.problems) == [str(damaged)]
    assert found.facts.unseen == {}


def test_a_file_with_a_mistake_is_named_and_the_others_are_read(boards: Path) -> None:
    (boards / "one.yaml").write_text("kind: [\n")
    (boards / "two.yaml").write_text(SHARED)
    found = read_configuration()
    assert list(found.facts.problems) == [str(boards / "one.yaml")]
    assert found.nodes == {"/dev/ttyUSB7": ["two.console"]}
    assert found.facts.boards == 2
