"""Identities at the controller, with 0.9.0's own commands: configurations, valid and revoked tokens."""

from __future__ import annotations

import re
import time
from pathlib import Path

import jwt
import pytest
import yaml
from jumpstarter_controller.identity import Subject, TokenIssuer, signing_key
from jumpstarter_proto.remote import Kind

from tests.interop.lab import Done, Lab, Person


def flat(done: Done) -> str:
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def board(lab: Lab) -> str:
    lab.exporter("one", ours=True)
    return "board=rpi4"


def saved(person: Person) -> dict[str, str]:
    read: dict[str, str] = yaml.safe_load(person.file.read_text())
    return read


def test_a_configuration_made_by_their_own_command(lab: Lab, board: str) -> None:
    """`jmp config client create` knows no CA of its own: it pins the certificate that it is shown."""
    ann = lab.person("ann")
    made = saved(ann)
    words = ["--namespace", lab.namespace, "--name", "ann", "--endpoint", made["endpoint"]]
    words += ["--token", made["token"], "--allow", "", "--unsafe", "--insecure-tls", "--nointeractive"]
    ann.plain("jmp", "config", "client", "create", "lab", *words)
    assert "lab" in ann.plain("jmp", "config", "client", "list").stdout.split()
    ann.plain("jmp", "get", "leases")
    ann.plain("jmp", "shell", "-l", board, "--", "j", "power", "on")


def test_the_file_that_admin_writes_is_an_alias_where_it_belongs(lab: Lab, board: str) -> None:
    bob = lab.person("bob")
    folder = bob.home / ".config" / "jumpstarter" / "clients"
    folder.mkdir(parents=True)
    (folder / "lab.yaml").write_bytes(bob.file.read_bytes())
    assert "one" in bob.plain("jmp", "get", "exporters", "--client", "lab").stdout.split()
    bob.plain("jmp", "config", "client", "use", "lab")
    assert "one" in bob.plain("jmp", "get", "exporters").stdout.split()


def test_their_login_with_a_token_ends_where_an_issuer_would_be(lab: Lab) -> None:
    """A token for `jmp login --token` is another issuer's; our own are no OIDC provider's, and it says so."""
    carl = lab.person("carl")
    made = saved(carl)
    words = ["--endpoint", made["endpoint"], "--namespace", lab.namespace, "--name", "carl"]
    words += [
        "--token",
        made["token"],
        "--issuer",
        "https://127.0.0.1:1/",
        "--insecure-tls",
        "--unsafe",
        "--nointeractive",
    ]
    done = carl.plain("jmp", "login", *words, check=False)
    assert done.returncode != 0
    assert "127.0.0.1:1" in flat(done)


def test_status_and_rotation(lab: Lab, board: str) -> None:
    """0.9.0 saves the new token under the file's name in its own folder, wherever the file was that it read."""
    dora = lab.person("dora")
    said = dora.jmp("auth", "status", "-v").stdout
    assert "Status: Valid (87" in said, "a year in hours"
    assert f"Subject: client:{lab.namespace}:dora:" in said
    before = saved(dora)["token"]
    (dora.home / ".config" / "jumpstarter" / "clients").mkdir(parents=True)
    assert "Token rotated. New expiry:" in flat(dora.jmp("auth", "rotate"))
    file = dora.home / ".config" / "jumpstarter" / "clients" / "dora.yaml"
    assert yaml.safe_load(file.read_text())["token"] != before
    dora.plain("jmp", "shell", "--client", "dora", "-l", board, "--", "j", "power", "on")


def test_an_expired_token(lab: Lab) -> None:
    """0.9.0 knows by its own clock; and by our words when its clock is behind."""
    eve = lab.person("eve")
    made = saved(eve)
    uid = jwt.decode(made["token"], options={"verify_signature": False})["sub"].rpartition(":")[2]
    issuer = TokenIssuer(
        signing_key(lab.data / "tokens.key"), made["endpoint"], clock=lambda: time.time() - 7200
    )
    token, _ = issuer.issue(Subject(Kind.CLIENT, lab.namespace, "eve", uid), lifetime=3600)
    eve.file.write_text(eve.file.read_text().replace(made["token"], token))
    done = eve.jmp("get", "leases", check=False)
    assert done.returncode != 0
    assert "token is expired" in flat(done)
    assert "EXPIRED" in eve.jmp("auth", "status").stdout
    assert "expired" in flat(eve.jmp("shell", "-l", "board=rpi4", inside=("true",), check=False)).lower()
    assert "token is expired" in eve.ours("lease", "list", check=False).stderr


def test_a_client_that_was_deleted_loses_its_lease_and_is_refused(lab: Lab, board: str) -> None:
    fred, gina = lab.person("fred"), lab.person("gina")
    fred.jmp("create", "lease", "-l", board, "--duration", "1h")
    lab.admin("client", "delete", "fred")
    done = fred.jmp("get", "leases", check=False)
    assert done.returncode != 0
    assert "not found" in flat(done)
    gina.jmp("shell", "-l", board, inside=("j", "power", "on"))
    lab.admin("client", "create", "fred", "--save", lab.home / "fred-again.yaml")
    done = fred.jmp("get", "leases", check=False)
    assert f"permission denied for client {lab.namespace}/fred" in flat(done), (
        "the old token is not the new one's"
    )


def test_a_disabled_client_and_a_disabled_exporter(lab: Lab) -> None:
    hugo = lab.person("hugo")
    lab.exporter("two", ours=False, label="board=two")
    lab.admin("exporter", "disable", "two")
    done = hugo.jmp("shell", "-l", "board=two", inside=("true",), check=False)
    assert done.returncode != 0
    assert "is disabled" in flat(done)
    lab.admin("exporter", "enable", "two")
    hugo.jmp("shell", "-l", "board=two", inside=("j", "power", "on"))
    lab.admin("client", "disable", "hugo")
    done = hugo.jmp("get", "leases", check=False)
    assert "client hugo is disabled" in flat(done)


def test_a_deleted_exporter_ends_its_lease_and_hears_why(lab: Lab) -> None:
    ines = lab.person("ines")
    daemon = lab.exporter("three", ours=True, label="board=three")
    name = ines.jmp("create", "lease", "-l", "board=three", "--duration", "1h", "-o", "name").stdout.strip()
    lab.admin("exporter", "delete", "three")
    assert lab.lease(name).conditions[-1].message == "exporter three was deleted"
    lab.until(lambda: "deleted" in Path(daemon.log).read_text())
