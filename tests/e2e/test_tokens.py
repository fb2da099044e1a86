"""Tokens of a running lab: shown, renewed, revoked, and never in a log."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from jumpstarter_controller.identity import Subject, TokenIssuer, signing_key
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.yaml_files import set_values

from tests.e2e.lab import EXPORT, LIMIT, Lab
from tests.interop import exporters
from tests.support import lab as support


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def test_who_i_am_until_when_and_a_new_token(lab: Lab) -> None:
    ann = lab.client("ann")
    shown = lab.ok("auth", "status", "--client", ann)
    assert f"client:      {lab.namespace}/ann\n" in shown
    assert "token:       issued by the controller, until 20" in shown
    assert "accepted:    yes\n" in shown
    old = Path(ann).read_text()
    assert yaml.safe_load(old)["token"] not in shown
    Path(ann).write_text("# mine\n" + old)
    assert "the old one stays valid for one day" in lab.ok("auth", "rotate", "--client", ann)
    assert Path(ann).read_text().startswith("# mine\n")
    status = json.loads(lab.ok("auth", "status", "-o", "json", "--client", ann))
    assert status["accepted"]
    assert 364 * 86400 < status["seconds_left"] <= 365 * 86400
    # Its answer might have got lost, so the one before may ask again; the administrator ends it at once.
    (lab.home / "old.yaml").write_text(old)
    assert "accepted:    yes\n" in lab.ok("auth", "status", "--client", str(lab.home / "old.yaml"))
    lab.admin("client", "rotate", "ann", "--save", ann)
    code, said = lab.refused("auth", "rotate", "--client", str(lab.home / "old.yaml"))
    assert code == 5
    assert said.startswith(
        f"error: permission denied for client {lab.namespace}/ann: this token was replaced"
    )
    done = lab.run("auth", "status", "--client", str(lab.home / "old.yaml"))
    assert (done.returncode, "accepted:    no: permission denied" in done.stdout) == (5, True)
    lab.admin("client", "disable", "ann")
    assert "is disabled" in lab.run("auth", "status", "--client", ann).stdout
    lab.admin("client", "delete", "ann")
    assert "it was deleted" in lab.run("auth", "status", "--client", ann).stdout


def test_a_configuration_that_is_there_keeps_its_devices(lab: Lab) -> None:
    file = lab.home / "one.yaml"
    file.write_text(f"# Rack 3.\n{EXPORT}")
    lab.admin("exporter", "create", "one", "--save", file)
    first = file.read_text()
    lab.admin("exporter", "rotate", "one", "--save", file)
    second = file.read_text()
    assert first != second
    for text in (first, second):
        assert text.startswith(f"# Rack 3.\n{EXPORT}")
    for command in ("rotate", "create"):
        with pytest.raises(AssertionError, match="name another file"):
            lab.admin("client", command, "one", "--save", lab.data / "tokens.key")
    file.write_text("kind: ClientConfig\n")
    with pytest.raises(AssertionError, match="name another file"):
        lab.admin("exporter", "rotate", "one", "--save", file)


def test_a_token_that_cannot_be_written_is_not_renewed(lab: Lab) -> None:
    ann = Path(lab.client("ann"))
    config = yaml.safe_load(ann.read_text())
    variables = {"JMP_ENDPOINT": config["endpoint"], "JMP_TOKEN": config["token"]}
    variables |= {"JMP_NAMESPACE": lab.namespace, "JMP_NAME": "ann", "JMP_TLS": json.dumps(config["tls"])}
    assert "(the environment)" in lab.ok("auth", "status", **variables)
    assert "cannot be replaced" in lab.refused("auth", "rotate", **variables)[1]
    lab.ok("auth", "status", "--client", str(ann))


def test_an_expired_token_says_so_and_what_to_do(lab: Lab) -> None:
    ann = Path(lab.client("ann"))
    config = yaml.safe_load(ann.read_text())
    folder = DataFolder(lab.data)
    long_ago = TokenIssuer(
        signing_key(folder.signing_key), config["endpoint"], clock=lambda: time.time() - 400 * 86400
    )
    token, _ = long_ago.issue(Subject(Kind.CLIENT, lab.namespace, "ann", "1"))
    ann.write_text(set_values(ann.read_text(), {("token",): token}))
    done = lab.run("auth", "status", "--client", str(ann))
    assert done.returncode == 5
    assert "expired 35d" in done.stdout
    assert "token is expired" in done.stdout
    code, said = lab.refused("lease", "list", "--client", str(ann))
    assert (code, "admin pair client ann" in said) == (5, True)


def test_no_secret_is_in_any_log_at_the_most_talkative_level() -> None:
    with Lab.opened("--log-level", "debug") as lab, ExitStack() as stack:
        secrets: list[str] = []
        said: list[str] = []

        def run(*command: str | Path, given: str = "") -> None:
            done = subprocess.run(
                [exporters.scripts() / command[0], *command[1:], "--log-level", "debug"],
                env=lab.environment,
                cwd=lab.home,
                input=given,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            said.extend((done.stdout, done.stderr))

        def pair(kind: str, name: str, *words: str) -> tuple[list[str], str]:
            offer = json.loads(lab.admin("pair", kind, name, "-o", "json", *words))
            secrets.extend((offer["code"], offer["code"].replace("-", "")))
            return offer["command"], offer["code"]

        command, code = pair("exporter", "one", "--label", "board=rpi4")
        file = lab.home / "one.yaml"
        file.write_text(EXPORT)
        run(*command, "--save", file, given=code)
        daemon = stack.enter_context(
            exporters.running(
                [
                    exporters.scripts() / "jumpstarter-exporter",
                    "run",
                    "--config",
                    file,
                    "--log-level",
                    "debug",
                ],
                lab.home,
            )
        )
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        command, code = pair("client", "ann")
        run(*command, given=code)
        ann = lab.home / ".config" / "jumpstarter" / "clients" / "ann.yaml"
        secrets.extend(yaml.safe_load(path.read_text())["token"] for path in (file, ann))
        run("jumpstarter", "power", "on", "rpi4", "-l", "board=rpi4")
        run("jumpstarter", "shell", "-l", "board=rpi4", "--", "j", "rpi4", "power", "off")
        run("jumpstarter", "auth", "rotate")
        secrets.append(yaml.safe_load(ann.read_text())["token"])
        run("jumpstarter", "auth", "status")
        lab.admin("exporter", "delete", "one")
        lab.until(lambda: "was deleted" in daemon.log.read_text())

        said.extend((lab.controller.log.read_text(), daemon.log.read_text()))
        assert "DEBUG" in said[-2], "nothing was logged, so this shows nothing"
        assert "registered with" in said[-1]
        everything = "\n".join(said)
        for secret in secrets:
            assert secret not in everything
        # No JWT at all, so none of those that the router takes.
        assert "eyJ" not in everything
        assert "Bearer" not in everything
        for path in (lab.home / "data").iterdir():
            if path.is_file():
                assert not any(secret.encode() in path.read_bytes() for secret in secrets), path
