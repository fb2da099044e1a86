"""A person's story with a card: settings on the FAT, a controller on the loopback, and the status that they read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.lab import Lab
from tests.support import lab as support
from tests.support.image_host import ImageHost


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


@pytest.fixture
def machine(tmp_path: Path) -> ImageHost:
    machine = ImageHost(tmp_path)
    machine.host.exporter_socket.unlink()  # the exporter is not what this is about
    return machine


def offer(lab: Lab, *words: str) -> dict[str, str]:
    """A code for the host pi4, and where it is good."""
    made: dict[str, str] = json.loads(lab.admin("pair", "host", "pi4", *words, "-o", "json"))
    return made


def site(made: dict[str, str]) -> str:
    return f"""\
# The host at the window.
hostname: lab-pi
endpoint: {made["endpoint"]}
fingerprint: {made["fingerprint"]}
pairingCode: {made["code"]}     # from Ann
"""


def test_a_code_on_the_card_makes_it_a_host_of_the_controller_once(lab: Lab, machine: ImageHost) -> None:
    made = offer(lab)
    machine.write(site(made))
    assert machine.boot().returncode == 0
    assert "about to be enrolled" in machine.status()
    assert made["code"] in machine.site()
    done = machine.run("enrol")
    assert (done.returncode, done.stderr) == (0, "")
    # The code is gone from the card, its comment is not, and all else is where it was.
    assert machine.site() == site(made).replace(
        f"pairingCode: {made['code']}", " " * (13 + len(made["code"]))
    ).replace("\n", "\r\n")
    assert f"Controller: this host is pi4 of {made['endpoint']}." in machine.status()
    identity = machine.host.exporter_state / "host.yaml"
    assert yaml.safe_load(identity.read_text())["metadata"]["name"] == "pi4"
    assert [one["name"] for one in json.loads(lab.admin("host", "list", "-o", "json"))["hosts"]] == ["pi4"]
    assert "systemctl --no-block reload-or-restart jumpstarter-exporter.service" in machine.called()
    # The next boot has nothing to do.
    before = identity.read_bytes(), machine.site(), machine.status()
    assert machine.boot().returncode == 0
    assert machine.run("enrol").returncode == 0
    assert machine.run("status", "--write").returncode == 0
    assert (identity.read_bytes(), machine.site(), machine.status()) == before
    for text in (machine.status(), done.stdout):
        assert made["code"] not in text


def test_the_same_file_again_on_the_card_is_the_same_host_and_loses_the_code_again(
    lab: Lab, machine: ImageHost
) -> None:
    made = offer(lab)
    machine.write(site(made))
    machine.boot()
    machine.run("enrol")
    machine.write(site(made))
    machine.boot()
    assert "pairingCode" not in str(machine.settings())
    assert f"this host is pi4 of {made['endpoint']}" in machine.status()


def test_a_code_that_another_host_has_used_is_said_and_a_new_one_is_tried(
    lab: Lab, machine: ImageHost, tmp_path: Path
) -> None:
    made = offer(lab)
    (tmp_path / "first").mkdir()
    first = ImageHost(tmp_path / "first")
    first.host.exporter_socket.unlink()
    for host in (first, machine):
        host.write(site(made))
        host.boot()
    assert first.run("enrol").returncode == 0
    done = machine.run("enrol")
    assert done.returncode == 5
    status = machine.status()
    assert (
        f"the controller at {made['endpoint']} refused: this pairing code is wrong, used, expired" in status
    )
    assert made["code"] not in status
    # It is not tried again...
    assert machine.run("enrol").returncode == 0
    assert machine.boot().returncode == 0
    assert not (machine.root / "run/jumpstarter-image/enrol").exists()
    assert "refused" in machine.status()
    # ...before there is another in the file.
    machine.write(site(offer(lab, "--renew")))
    machine.run("apply")
    assert "systemctl --no-block restart jumpstarter-image-enrol.service" in machine.called()
    assert machine.run("enrol").returncode == 0
    assert "this host is pi4 of" in machine.status()


def test_a_cut_after_the_code_was_used_is_not_a_refusal(lab: Lab, machine: ImageHost, tmp_path: Path) -> None:
    """The host has its identity, and nobody has written that it has: the code is the one that it was used with."""
    made = offer(lab)
    machine.write(site(made))
    machine.boot()
    before = tmp_path / "state"
    machine.run("enrol")
    identity = (machine.host.exporter_state / "host.yaml").read_bytes()
    # As it was a moment before that: the state knows of the attempt, by a host that was nobody.
    shutil.copytree(machine.host.state_folder, before)
    kept = json.loads((before / "state.json").read_text())
    kept |= {"pairing_code": made["code"], "used_codes": []}
    (machine.host.state_folder / "state.json").write_text(json.dumps(kept))
    machine.write(site(made))
    machine.program("jumpstarter-exporter", f"cat {machine.root}/none; exit 4")
    assert machine.boot().returncode == 0
    assert machine.run("enrol").returncode == 75  # the controller is away, and the attempt is written down
    state = json.loads((machine.host.state_folder / "state.json").read_text())
    state["attempt"]["identity"] = "of nobody"
    (machine.host.state_folder / "state.json").write_text(json.dumps(state))
    (machine.programs / "jumpstarter-exporter").unlink()
    assert machine.run("enrol").returncode == 0
    assert (machine.host.exporter_state / "host.yaml").read_bytes() == identity
    assert "pairingCode" not in str(machine.settings())
    assert "refused" not in machine.status()


def test_without_the_time_no_certificate_is_checked_and_it_is_tried_again(
    lab: Lab, machine: ImageHost
) -> None:
    machine.write(site(offer(lab)))
    machine.fact("clock", "no")
    machine.boot()
    assert machine.run("enrol").returncode == 75
    status = machine.status()
    assert "Time: not known yet" in status
    assert "not enrolled yet: the time is not known yet" in status
    machine.fact("clock", "yes")
    assert machine.run("enrol").returncode == 0
    assert "Time: known." in machine.status()
    assert "not enrolled" not in machine.status()


def test_an_endpoint_that_does_not_resolve_is_said_and_tried_again(lab: Lab, machine: ImageHost) -> None:
    made = offer(lab) | {"endpoint": "no-such-host.invalid:8082"}
    machine.write(site(made))
    machine.boot()
    assert machine.run("enrol").returncode == 75
    assert "not enrolled yet: " in machine.status()
    assert "no-such-host.invalid" in machine.status()
    assert made["code"] in machine.site()


def test_another_certificate_than_the_file_says_is_said(lab: Lab, machine: ImageHost) -> None:
    made = offer(lab)
    machine.write(site(made | {"fingerprint": "AB" * 32}))
    machine.boot()
    assert machine.run("enrol").returncode in (5, 75)
    assert "certificate" in machine.status()
    machine.write(site(made))
    machine.run("apply")
    assert machine.run("enrol").returncode == 0
    assert "this host is pi4 of" in machine.status()


def test_a_lab_on_one_card_needs_no_code(machine: ImageHost) -> None:
    with Lab.opened() as lab:
        data = machine.root / "var/lib/jumpstarter-controller"
        data.symlink_to(lab.data)
        machine.write(f"hostname: pi4\ncontroller: true\nendpoint: 127.0.0.1:{lab.port}\n")
        assert machine.boot().returncode == 0
        assert (
            f"--endpoint 127.0.0.1:{lab.port}"
            in (machine.root / "run/jumpstarter-image/controller.env").read_text()
        )
        done = machine.run("enrol")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"this host is pi4 of 127.0.0.1:{lab.port}" in machine.status()
        identity = (machine.host.exporter_state / "host.yaml").read_bytes()
        # Again, with a label: the same host, which may set it.
        machine.write("labels: {rack: '3'}\n")
        machine.run("apply")
        assert "systemctl --no-block restart jumpstarter-image-enrol.service" in machine.called()
        assert machine.run("enrol").returncode == 0
        assert (machine.host.exporter_state / "host.yaml").read_bytes() == identity
        assert "may set: board,host,rack" in lab.admin("host", "list")
