"""Tokens that are good for half a minute, and boards and commands that go on for longer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jumpstarter_proto.remote import read_claims

from tests.e2e.lab import Lab
from tests.e2e.test_host_registration import Host, available

SECONDS = 24
CONFIG = f"authentication: {{internal: {{tokenLifetime: {SECONDS}s}}}}\n"


def token_in(file: Path) -> str:
    found = re.search(r"^token: (\S+)", file.read_text(), re.MULTILINE)
    assert found is not None, file
    return found[1]


def end_of(token: str) -> float:
    expires = read_claims(token).expires
    assert expires is not None
    return expires


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "config.yaml").write_text(CONFIG)
    with Lab.opened("--config", str(tmp_path / "config.yaml")) as lab:
        yield lab


def test_a_lease_outlives_the_tokens_of_its_client_and_its_exporter(lab: Lab) -> None:
    board = lab.exporter("one")
    ann, copy = lab.client("ann"), lab.home / "copy.yaml"
    copy.write_bytes(ann.read_bytes())
    copy.chmod(0o400)
    before = {file: token_in(file) for file in (ann, lab.home / "one.yaml")}
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
    lab.until(lambda: lab.ok("lease", "list", "--client", ann) and token_in(ann) != before[ann])
    lab.until(lambda: token_in(lab.home / "one.yaml") != before[lab.home / "one.yaml"])
    lab.ok("lease", "list", "--client", copy)  # what others have of the token before goes on until its end
    lab.until(lambda: time.time() > max(map(end_of, before.values())) + 1)
    lab.ok("power", "on", "rpi4", "--lease", "mine", "--client", ann)
    assert lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    log = board.log.read_text()
    assert "the token was renewed" in log
    assert "token is expired" not in log
    assert "eyJ" not in log + lab.controller.log.read_text()


def test_a_host_and_its_boards_are_who_they_are_beyond_the_end_of_their_tokens(lab: Lab) -> None:
    host = Host(lab, one="metadata: {labels: {board: rpi4}}\n")
    host.enrol()
    first = token_in(host.state / "host.yaml")
    daemon = host.start()
    available(lab, "pi4-one")
    board = host.state / "identities" / "one.yaml"
    before = token_in(board)
    lab.until(lambda: token_in(host.state / "host.yaml") != first)
    lab.until(lambda: token_in(board) != before)
    lab.until(lambda: time.time() > max(end_of(first), end_of(before)) + 1)
    ann = lab.client("ann")
    lab.ok("power", "on", "-l", "board=rpi4", "--client", ann)
    assert "was renewed" in daemon.log.read_text()
    assert "token is expired" not in daemon.log.read_text()
