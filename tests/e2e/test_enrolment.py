"""A new exporter and a new client enrol with pairing codes, and use a board."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from jumpstarter_proto.remote import Kind, Trust
from jumpstarter_proto.remote.enrolment import enrol
from jumpstarter_proto.rpc import RpcError

from tests.e2e.lab import EXPORT, LIMIT, Lab
from tests.interop import exporters
from tests.support import lab as support

WRITTEN = f"# Rack 3, behind the door.\n{EXPORT}"


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """One with a controller of its own."""
    with Lab.opened() as lab:
        yield lab


def pair(lab: Lab, *words: str) -> dict[str, Any]:
    offer: dict[str, Any] = json.loads(lab.admin("pair", *words, "-o", "json"))
    return offer


def identities(lab: Lab) -> Path:
    """Where a command, or an exporter whose home is the lab's, keeps them."""
    return lab.home / ".local" / "state" / "jumpstarter" / "identities"


def run(lab: Lab, *command: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """One of our commands that reads `given`."""
    return subprocess.run(
        [exporters.scripts() / command[0], *command[1:]],
        env=lab.environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_two_machines_join_a_lab_and_use_it(lab: Lab) -> None:
    file = lab.home / "one.yaml"
    file.write_text(WRITTEN)
    shown = lab.admin("pair", "exporter", "one", "--label", "board=rpi4").splitlines()
    command, code = shown[2].split(), shown[-1].strip()
    file.chmod(0o444)
    enrolled = run(lab, *command, "--config", file, given=f"{code}\n")
    assert enrolled.returncode == 0, enrolled.stderr
    kept = identities(lab) / "one.yaml"
    assert f"{kept}: exporter {lab.namespace}/one of " in enrolled.stdout
    assert file.read_text() == WRITTEN
    assert (stat.S_IMODE(kept.stat().st_mode), stat.S_IMODE(kept.parent.stat().st_mode)) == (0o600, 0o700)
    assert [one.name for one in kept.parent.iterdir()] == ["one.yaml"]
    lab.start_exporter("one", folder=lab.home)

    offer = pair(lab, "client", "ann")
    (lab.home / "code").write_text(offer["code"].lower())
    lab.ok(*offer["command"][1:], "--code-file", str(lab.home / "code"))
    home = lab.home / ".config" / "jumpstarter"
    assert yaml.safe_load((home / "config.yaml").read_text())["config"] == {"current-client": "ann"}
    assert stat.S_IMODE((home / "clients" / "ann.yaml").stat().st_mode) == 0o600
    lab.ok("power", "on", "rpi4", "-l", "board=rpi4")
    for secret in (code, offer["code"], "eyJ"):
        assert secret not in lab.controller.log.read_text()
        assert secret not in lab.exporters["one"].log.read_text()


def test_a_files_name_means_the_one_that_run_serves_and_no_code_is_lost_to_a_new_one(lab: Lab) -> None:
    served = lab.home / ".config" / "jumpstarter" / "exporters" / "bench.yaml"
    served.parent.mkdir(parents=True)
    served.write_text(EXPORT)
    offer = pair(lab, "exporter", "bench")
    done = run(lab, *offer["command"], "--config", served.name, given=offer["code"])
    assert done.returncode == 0, done.stderr
    assert f"for the board bench of {served}" in done.stdout
    assert "where that runs: jumpstarter-exporter reload" in done.stdout
    assert "--config" not in done.stdout


def test_an_exporter_that_runs_takes_its_new_token_by_itself(lab: Lab) -> None:
    """From its own file to the state directory, and the next time within that."""
    daemon = lab.exporter("one", folder=lab.home)
    ann = lab.client("ann")
    file = lab.home / "one.yaml"
    before = file.read_text()
    for times in (1, 2):
        offer = pair(lab, "exporter", "one", "--renew")
        done = run(lab, *offer["command"], "--config", file, given=offer["code"])
        assert done.returncode == 0, done.stderr
        assert f"{file}:" in done.stdout
        assert "is not used; without it" in done.stdout
        lab.until(lambda: daemon.log.read_text().count("has a new token; trying it") == times)  # noqa: B023
        lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert file.read_text() == before
    lab.ok("power", "on", "rpi4", "-l", "board=rpi4", "--client", ann)


def test_an_identity_in_a_file_is_renewed_there_for_jumpstarter_0_9(lab: Lab) -> None:
    daemon = lab.exporter("one")
    file = lab.home / "one.yaml"
    before = file.read_text()
    offer = pair(lab, "exporter", "one", "--renew")
    done = run(lab, *offer["command"], "--save", file, given=offer["code"])
    assert done.returncode == 0, done.stderr
    assert file.read_text() != before
    lab.until(lambda: "has a new token" in daemon.log.read_text())
    lab.until(lambda: lab.status("one") == "AVAILABLE")


def test_no_identity_is_lost_to_another(lab: Lab) -> None:
    one, other = lab.home / "one.yaml", lab.home / "elsewhere" / "one.yaml"
    other.parent.mkdir()
    for file in (one, other):
        file.write_text(EXPORT)

    def enrol_as(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        offer = pair(lab, "exporter", name)
        return run(lab, *offer["command"], *words, given=offer["code"])

    assert enrol_as("one", "--config", one).returncode == 0
    kept = identities(lab) / "one.yaml"
    first = kept.read_text()
    for name, words, sentence in (
        ("two", ["--config", one], "/two.yaml for a board with `metadata: {name: two}`"),
        ("red", ["--config", other], f"{other} another `metadata.name`"),
        ("green", ["--save", one], f"has its identity in {kept}, which takes precedence over"),
        ("blue", ["--config", one, "--save", one], "are for one file"),
    ):
        done = enrol_as(name, *words)
        assert sentence in done.stderr, done.stderr
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert kept.read_text() == first
    assert yaml.safe_load((identities(lab) / "two.yaml").read_text())["metadata"]["name"] == "two"
    done = run(lab, "jumpstarter-exporter", "enrol", "127.0.0.1:1", "--config", one, given="AAAA-BBBB-CCCC")
    assert "--replace makes it one of 127.0.0.1:1" in done.stderr
    assert enrol_as("three", "--config", one, "--replace").returncode == 0
    assert yaml.safe_load(kept.read_text())["metadata"]["name"] == "three"


def test_what_is_wrong_is_said_before_the_code_is_used(lab: Lab) -> None:
    offer = pair(lab, "exporter", "one")
    pin = ["--tls-fingerprint", offer["fingerprint"]]
    (lab.home / "broken.yaml").write_text("export: [1]\n")
    (lab.home / "file").touch()
    code = offer["code"]
    for words, given, sentence in (
        (["--save", "good.yaml"], code, "--tls-fingerprint with what it printed"),
        (["--save", "good.yaml", "--tls-fingerprint", "AB" * 32], code, "not the pinned one"),
        ([*pin, "--save", lab.home / "broken.yaml"], code, "takes names"),
        ([*pin, "--config", lab.home / "broken.yaml"], code, "takes names"),
        ([*pin, "--save", lab.home / "file" / "good.yaml"], code, "cannot be made"),
        ([*pin, "--save", "good.yaml", "--code-file", lab.home / "none"], code, "cannot be read"),
        ([*pin, "--save", "good.yaml"], "", "no pairing code in stdin"),
        ([*pin, "--save", "good.yaml"], "AAAA-BBBB-CCCC", "wrong, used, expired"),
        ([*pin, "--save", "good.yaml"], "H0ST-AAAA-BBBB-CCCC", "a code for a host, which registers"),
    ):
        done = run(lab, "jumpstarter-exporter", "enrol", offer["endpoint"], *words, given=given)
        assert sentence in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.returncode not in (0, 1)
    assert "Traceback" not in lab.controller.log.read_text()
    command = ["jumpstarter-exporter", "enroll", offer["endpoint"], *pin, "--config", lab.home / "new.yaml"]
    identities(lab).parent.parent.mkdir(parents=True)
    identities(lab).parent.touch()
    done = run(lab, *command, given=code)
    assert f"identities cannot be kept in {identities(lab)}: " in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    identities(lab).parent.unlink()
    done = run(lab, *command, given=code)
    assert done.returncode == 0, done.stderr
    assert "Put the boards below" in done.stdout
    assert yaml.safe_load((lab.home / "new.yaml").read_text())["export"] == {}


def test_without_a_place_it_is_where_run_finds_it(lab: Lab) -> None:
    done = subprocess.run(
        [exporters.scripts() / "jumpstarter-exporter", "enrol", *pair(lab, "exporter", "one")["command"][2:]],
        env=lab.environment
        | {
            "JMP_CLIENT_CONFIG_HOME": str(lab.home / "config"),
            "JMP_PAIRING_CODE": pair(lab, "exporter", "one")["code"],
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = lab.home / "config" / "exporters" / "default.yaml"
    assert "token" not in made.read_text()
    assert "token" in (identities(lab) / "default.yaml").read_text()


def test_at_a_terminal_it_asks(lab: Lab) -> None:
    offer = pair(lab, "client", "ann")
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(
            [exporters.scripts() / "jumpstarter", *offer["command"][1:]],
            env=lab.environment,
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.read(len("Pairing code: ")) == b"Pairing code: "
            os.write(master, offer["code"].encode() + b"\n")
            assert process.wait(LIMIT) == 0
    finally:
        os.close(master)
        os.close(slave)


def test_a_controller_that_is_killed_while_many_use_one_code_gives_one_token_at_most(own_lab: Lab) -> None:
    lab = own_lab
    offer = pair(lab, "client", "ann")
    trust = Trust(fingerprint=offer["fingerprint"])
    won: list[str] = []

    async def one() -> None:
        try:
            member = await enrol(offer["endpoint"], trust, Kind.CLIENT, offer["code"])
        except RpcError:
            return
        won.append(member.identity.token)
        lab.controller.process.kill()

    async def race() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(one)

    trio.run(race)
    lab.kill_controller()
    lab.start_controller()
    assert len(won) == 1
    with pytest.raises(RpcError, match="wrong, used, expired"):
        trio.run(enrol, offer["endpoint"], trust, Kind.CLIENT, offer["code"])
    again = pair(lab, "client", "ann", "--renew")
    renewed = run(lab, *again["command"], given=again["code"])
    assert renewed.returncode == 0, renewed.stderr
    old = run(lab, "jumpstarter", "login", *_pinned(again), "--name", "ann", given=won[0])
    assert "permission denied for client default/ann" in old.stderr
    assert old.returncode == 5


def _pinned(offer: dict[str, Any]) -> list[str]:
    return [offer["endpoint"], "--tls-fingerprint", offer["fingerprint"]]


def test_login_with_a_token_checks_it_first(own_lab: Lab) -> None:
    lab = own_lab  # --namespace has its default
    offer = pair(lab, "client", "ann")
    assert run(lab, *offer["command"], given=offer["code"]).returncode == 0
    home = lab.home / ".config" / "jumpstarter" / "clients"
    token = yaml.safe_load((home / "ann.yaml").read_text())["token"]
    login = ["jumpstarter", "login", *_pinned(offer), "--name", "ann"]
    done = run(lab, *login, "--alias", "again", given=token)
    assert done.returncode == 0, done.stderr
    assert "--client again" in done.stdout
    saved = yaml.safe_load((home / "again.yaml").read_text())
    assert saved == yaml.safe_load((home / "ann.yaml").read_text())
    for words, given, sentence in (
        ([*login, "--alias", "x"], token[:-4] + "AAAA", "failed to authenticate token"),
        (["jumpstarter", "login", *_pinned(offer), "--name", "bob"], token, "not found"),
        ([*login, "--namespace", "other"], token, "not found"),
        (["jumpstarter", "login", offer["endpoint"], "--name", "ann"], token, "add --tls-fingerprint"),
        ([*login, "--pairing-code"], token, "remove --name"),
        ([*login, "--alias", "a/b"], token, "not a valid configuration name"),
        (["jumpstarter", "login", *_pinned(offer)], token, "accepts no OpenID provider"),
    ):
        done = run(lab, *words, given=given)
        assert sentence in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
        assert done.returncode in (2, 4, 5)
    assert sorted(file.name for file in home.iterdir()) == ["again.yaml", "ann.yaml"]


def test_a_clients_code_is_not_used_where_its_configuration_cannot_be_written(lab: Lab) -> None:
    offer = pair(lab, "client", "ann")
    clients = lab.home / ".config" / "jumpstarter" / "clients"
    clients.parent.mkdir(parents=True)
    clients.write_text("a file in the folder's place")
    words = ("login", offer["endpoint"], "--tls-fingerprint", offer["fingerprint"], "--pairing-code")
    code, said = lab.refused(*words, JMP_PAIRING_CODE=offer["code"])
    assert (code, said) == (
        2,
        f"error: {clients} cannot be made: File exists; choose another place with JMP_CLIENT_CONFIG_HOME\n",
    )
    clients.unlink()
    lab.ok(*words, JMP_PAIRING_CODE=offer["code"])
