"""A host is paired once; its boards register by themselves, and are leased by the labels that they get."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jumpstarter_image.kept import Kept
from jumpstarter_image.settings import read_site

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.interop import exporters
from tests.interop.exporters import Daemon
from tests.support import lab as support

POWER = "export: {power: {type: power.MockPower}}\n"


class Host:
    """A machine with a folder of configurations, which is enrolled or not."""

    def __init__(self, lab: Lab, name: str = "pi4", **boards: str) -> None:
        self.lab, self.name = lab, name
        self.home = lab.home / name
        self.folder = self.home / ".config" / "jumpstarter" / "exporters"
        self.state = self.home / ".local" / "state" / "jumpstarter"
        self.folder.mkdir(parents=True)
        for board, more in boards.items():
            self.write(board, more)

    def write(self, board: str, more: str = "") -> Path:
        file = self.folder / f"{board}.yaml"
        file.write_text(POWER + more)
        return file

    def run(self, *words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        """One of our commands as its user, that reads `given`."""
        return subprocess.run(
            [exporters.scripts() / "jumpstarter-exporter", *words],
            env=exporters.clean_environment(self.home),
            input=given,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def pair(self, *words: str) -> dict[str, Any]:
        offer: dict[str, Any] = json.loads(self.lab.admin("pair", "host", self.name, *words, "-o", "json"))
        return offer

    def enrol(self, *words: str) -> str:
        """Redeems a code that was made with these words; returns it."""
        offer = self.pair(*words)
        done = self.run(*offer["command"][1:], given=offer["code"])
        assert done.returncode == 0, done.stderr
        assert f"{self.state / 'host.yaml'}: host {self.lab.namespace}/{self.name} of " in done.stdout
        return str(offer["code"])

    def start(self, **environment: str) -> Daemon:
        program = exporters.scripts() / "jumpstarter-exporter"
        words = [f"{key}={value}" for key, value in environment.items()]
        command = ["/usr/bin/env", *words] if words else []
        return self.lab.daemon(*command, program, "run", "--log-level", "info", folder=self.home)


def found(lab: Lab) -> dict[str, dict[str, Any]]:
    """Exporters by name, as their administrator sees them."""
    return {one["name"]: one for one in json.loads(lab.admin("exporter", "list", "-o", "json"))["exporters"]}


def available(lab: Lab, *names: str) -> None:
    lab.until(lambda: all(found(lab).get(name, {}).get("status") == "AVAILABLE" for name in names))


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def test_a_host_is_paired_once_and_its_boards_are_leased_by_their_labels(lab: Lab) -> None:
    host = Host(lab, one="metadata: {labels: {board: rpi4}}\n", two="")
    files = {file: file.read_text() for file in host.folder.iterdir()}
    code = host.enrol("--label", "site=berlin")
    assert stat.S_IMODE((host.state / "host.yaml").stat().st_mode) == 0o600
    assert not (host.state / "pairing.json").exists()
    assert "when its host has registered it" in host.run("check").stdout
    daemon = host.start()
    available(lab, "pi4-one", "pi4-two")
    boards = found(lab)
    rule = {"jumpstarter.dev/host": "pi4", "host": "pi4", "site": "berlin"}
    assert boards["pi4-one"]["labels"] == rule | {"board": "rpi4", "jumpstarter.dev/board": "one"}
    assert boards["pi4-two"]["labels"] == rule | {"board": "two", "jumpstarter.dev/board": "two"}
    ann = lab.client("ann")
    lab.ok("power", "on", "-l", "host=pi4,board=rpi4", "--client", ann)
    (shown,) = yaml.safe_load(lab.admin("host", "list", "-o", "yaml"))["hosts"]
    assert (shown["name"], shown["boards"]) == ("pi4", ["pi4-one", "pi4-two"])
    assert {file: file.read_text() for file in host.folder.iterdir()} == files
    for log in (daemon.log.read_text(), lab.controller.log.read_text()):
        assert code not in log
        assert "eyJ" not in log
    kept = sorted((host.state / "identities").iterdir())
    assert [file.name for file in kept] == ["one.yaml", "two.yaml"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    # With its tokens there, and the host's gone, they are who they were.
    daemon.end()
    (host.state / "host.yaml").unlink()
    host.start()
    available(lab, "pi4-one", "pi4-two")


def test_pairing_a_host_also_says_what_to_write_onto_its_card(lab: Lab) -> None:
    shown = lab.admin("pair", "host", "pi5")
    card = shown.partition("on the card:\n\n")[2].partition("\n\n")[0]
    site = yaml.safe_load(card)
    assert list(site) == ["endpoint", "fingerprint", "pairingCode"]
    assert site["pairingCode"] == shown.splitlines()[-1].strip()
    # As it is copied from a terminal, below what is already there.
    assert read_site(f"hostname: pi5\n{card}", Kept()).faults == ()


def test_a_host_that_is_deleted_takes_its_boards_along_and_is_told_so(lab: Lab) -> None:
    host = Host(lab, one="", two="")
    host.enrol()
    daemon = host.start()
    available(lab, "pi4-one", "pi4-two")
    lab.admin("host", "revoke", "pi4")
    lab.until(
        lambda: "a code with `jumpstarter-controller admin pair host pi4 --renew`" in daemon.log.read_text()
    )
    lab.until(lambda: "admin pair host pi4 --renew" in host.run("resume", "one").stdout)
    host.enrol("--renew")
    assert host.run("reload").returncode == 0
    available(lab, "pi4-one", "pi4-two")
    ann = lab.client("ann")
    lease = lab.ok("lease", "create", "-l", "host=pi4", "-o", "name", "--client", ann).strip()
    lab.admin("host", "delete", "pi4")
    lab.until(lambda: 'hosts.jumpstarter.dev "pi4" not found' in daemon.log.read_text())
    assert found(lab) == {}
    assert lab.leases(ann, "-a")[lease]["effective_end_time"]


def test_what_is_not_the_hosts_to_say_is_its_boards_trouble_alone(lab: Lab) -> None:
    other = Host(lab, "pi4-lab", one="")
    other.enrol()
    other.start()
    available(lab, "pi4-lab-one")
    host = Host(lab, good="", team="metadata: {labels: {team: kernel}}\n")
    host.write("lab-one")
    host.enrol()
    daemon = host.start()
    available(lab, "pi4-good")

    def use(board: str) -> str:
        done = host.run("resume", board)
        return done.stdout + done.stderr

    lab.until(lambda: "not leased: host pi4 may not set the label team" in use("team"))
    assert "jumpstarter-controller admin host change pi4 --may-label team" in use("team")
    lab.until(lambda: "not leased: pi4-lab-one is a name of host pi4-lab's" in use("lab-one"))
    assert daemon.log.read_text().count("may not set the label team") >= 1
    assert "may not set the label team" in lab.controller.log.read_text()
    assert found(lab)["pi4-lab-one"]["host"] == "pi4-lab"
    lab.admin("host", "change", "pi4", "--may-label", "team")
    available(lab, "pi4-team", "pi4-good")
    assert found(lab)["pi4-team"]["labels"]["team"] == "kernel"
    # What it may not say any more goes at once, and the board goes on.
    lab.admin("host", "change", "pi4", "--may-not-label", "team")
    assert "team" not in found(lab)["pi4-team"]["labels"]
    daemon.end()
    host.start()
    available(lab, "pi4-team")
    assert "team" not in found(lab)["pi4-team"]["labels"]
    lab.until(lambda: "may not set the label team" in use("team"))


def test_a_board_that_is_gone_is_shown_so_until_it_is_forgotten(lab: Lab) -> None:
    host = Host(lab, one="", two="")
    host.enrol()
    daemon = host.start()
    available(lab, "pi4-one", "pi4-two")
    (host.folder / "two.yaml").unlink()
    assert host.run("reload").returncode == 0
    lab.until(lambda: "gone_since" in found(lab)["pi4-two"])
    lab.until(lambda: not (host.state / "identities" / "two.yaml").exists())
    ann = lab.client("ann")
    listed = {
        one["name"]: one
        for one in json.loads(lab.ok("exporters", "-o", "json", "--client", ann))["exporters"]
    }
    assert listed["pi4-two"]["reason"].startswith("gone since ")
    # Also of one that went while nobody looked.
    daemon.end()
    host.write("three")
    (host.folder / "one.yaml").unlink()
    host.start()
    available(lab, "pi4-three")
    lab.until(lambda: "gone_since" in found(lab)["pi4-one"])
    lab.admin("exporter", "delete", "pi4-one")
    assert "pi4-one" not in found(lab)
    host.write("two")
    assert host.run("reload").returncode == 0
    available(lab, "pi4-two")
    assert "gone_since" not in found(lab)["pi4-two"]


@pytest.mark.kills
def test_whatever_is_killed_between_the_code_and_the_boards_nothing_is_lost(lab: Lab) -> None:
    host = Host(lab, one="")
    offer = host.pair()
    command = [exporters.scripts() / "jumpstarter-exporter", *offer["command"][1:]]
    # Killed when the controller has redeemed the code, and the answer is not kept yet.
    process = subprocess.Popen(
        command,
        env=exporters.clean_environment(host.home) | {"JMP_PAIRING_CODE": offer["code"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        lab.until(lambda: "pi4" in lab.admin("host", "list", "-o", "name"))
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait()
    if not (host.state / "host.yaml").exists():  # it may have been quicker than its killer
        done = host.run(*offer["command"][1:], given=offer["code"])
        assert done.returncode == 0, done.stderr
    other = Host(lab, "pi5")
    done = other.run(*offer["command"][1:], given=offer["code"])
    assert "wrong, used, expired" in done.stderr
    # Killed when the controller has made the board, and its token is not kept yet.
    identities = host.state / "identities"
    daemon = host.start()
    lab.until(lambda: "pi4-one" in found(lab))
    daemon.process.kill()
    daemon.process.wait()
    (identities / "one.yaml").unlink(missing_ok=True)
    host.start()
    available(lab, "pi4-one")


def test_a_code_for_a_host_is_for_no_file_and_another_host_is_not_forgotten_unasked(lab: Lab) -> None:
    host = Host(lab, one="")
    offer = host.pair()
    done = host.run(*offer["command"][1:], "--config", "one", given=offer["code"])
    assert (done.returncode, "leave --config, --save and --board out" in done.stderr) == (2, True), (
        done.stderr
    )
    host.enrol()
    before = (host.state / "host.yaml").read_text()
    host.name = "pi5"
    offer = host.pair()
    done = host.run(*offer["command"][1:], given=offer["code"])
    assert "use the same code again with --replace" in done.stderr, done.stderr
    assert (host.state / "host.yaml").read_text() == before
    done = host.run(*offer["command"][1:], "--replace", given=offer["code"])
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((host.state / "host.yaml").read_text())["metadata"]["name"] == "pi5"
    done = host.run("enrol", "127.0.0.1:1", given=offer["code"])
    assert "--replace makes it one of 127.0.0.1:1" in done.stderr


def test_a_host_that_is_enrolled_while_its_boards_are_served_registers_them_by_itself(lab: Lab) -> None:
    host = Host(lab, one="", two="")
    host.start()
    lab.until(lambda: host.run("reload").returncode == 0)
    host.enrol()
    available(lab, "pi4-one", "pi4-two")
    # So does one that was revoked, long before the end of its patience.
    lab.admin("host", "revoke", "pi4")
    lab.until(lambda: found(lab)["pi4-one"]["status"] != "AVAILABLE")
    host.enrol("--renew")
    available(lab, "pi4-one", "pi4-two")
    (host.folder / "two.yaml").unlink()
    assert host.run("reload").returncode == 0
    lab.until(lambda: "gone_since" in found(lab)["pi4-two"])


def test_who_waits_for_a_board_gets_it_when_its_host_comes(lab: Lab) -> None:
    ann = lab.client("ann")
    words = ("-l", "host=pi4", "--client", ann)
    _, said = lab.refused("power", "on", *words)
    assert "no exporter matches host=pi4" in said
    waiting = lab.start("power", "on", *words, "--wait-for-board")
    lab.until(
        lambda: any(
            "no such board yet" in one["conditions"][-1]["message"] for one in lab.leases(ann).values()
        )
    )
    lab.admin("exporter", "create", "other", "--save", lab.home / "other.yaml")
    watch = Reader(lab.start("exporters", "--watch", "--client", ann))
    lab.until(lambda: "other" in watch.text["out"])  # what is there before it looks is not new
    host = Host(lab, one="")
    host.enrol()
    host.start()
    lab.until(lambda: "pi4-one is new, " in watch.text["out"])
    _, said = waiting.communicate(timeout=LIMIT)
    assert waiting.returncode == 0, said
    _, said = lab.refused("power", "on", "--wait-for-board")
    assert "add -l SELECTOR" in said


def test_who_waits_for_a_board_that_changes_gets_it_as_it_is_then(lab: Lab) -> None:
    host = Host(lab, one="")
    host.enrol()
    host.start()
    available(lab, "pi4-one")
    ann = lab.client("ann")
    lease = lab.ok("lease", "create", "-l", "host=pi4", "-o", "name", "--client", ann).strip()
    waiting = lab.start("network", "address", "-l", "host=pi4", "--new", "--client", ann)
    lab.until(lambda: len(lab.leases(ann)) == 2)
    (host.folder / "one.yaml").write_text(
        "export:\n  power: {type: power.MockPower}\n"
        "  tcp: {type: network.TcpNetwork, config: {host: 10.0.0.7, port: 9}}\n"
    )
    assert host.run("reload").returncode == 0
    lab.ok("lease", "release", lease, "--client", ann)
    out, err = waiting.communicate(timeout=LIMIT)
    assert (waiting.returncode, "10.0.0.7" in out) == (0, True), out + err


def test_labels_of_the_hosts_environment_are_those_of_its_boards_if_they_are_granted(lab: Lab) -> None:
    host = Host(lab, one="", two="metadata: {labels: {rack: '7'}}\n")
    host.enrol("--may-label", "rack")
    host.start(JUMPSTARTER_BOARD_LABELS="rack=3")
    available(lab, "pi4-one", "pi4-two")
    assert [found(lab)[name]["labels"]["rack"] for name in ("pi4-one", "pi4-two")] == ["3", "7"]
