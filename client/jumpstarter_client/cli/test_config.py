"""`jumpstarter config client …` as a user types it."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from jumpstarter_client.cli.conftest import Command

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
CREATE = ("config", "client", "create", "lab", "--endpoint", "lab.example:8082")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes through a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"s3cret\n")))


@pytest.mark.usefixtures("token")
def test_a_configuration_from_its_creation_to_its_end(command: Command, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    done = command("jumpstarter", *CREATE, "--name", "ann", "--ca", str(tmp_path / "ca.pem"), "-a", "x.*")
    path = tmp_path / "config" / "jumpstarter" / "clients" / "lab.yaml"
    assert done.out == f"created {path}; `jumpstarter config client list` lists all\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "token: s3cret" in path.read_text()
    shown = command("jumpstarter", "config", "client", "show")
    assert shown.out.splitlines()[:4] == [
        f"file:                 {path}",
        "endpoint:             lab.example:8082",
        "namespace:            default",
        "name:                 ann",
    ]
    assert "drivers:              x.*" in shown.out
    listed = command("jumpstarter", "conf", "clients", "ls")
    assert listed.out.splitlines()[1].split() == ["*", "lab", "lab.example:8082", "default", "ann"]
    data = json.loads(command("jumpstarter", "config", "client", "list", "-o", "json").out)
    assert data["clients"][0]["current"] is True
    for words in (("show", "-o", "json"), ("list",), ("list", "-o", "yaml"), ("show",)):
        assert "s3cret" not in command("jumpstarter", "config", "client", *words).out
    assert command("jumpstarter", "config", "client", "delete", "lab", "-o", "path").out == f"{path}\n"
    assert not path.exists()


def test_a_token_file_a_second_one_and_which_counts(command: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    words = ("--endpoint", "h:1", "--token-file", str(tmp_path / "token"))
    for alias in ("a", "b"):
        assert command("jumpstarter", "config", "client", "create", alias, *words).code == 0
    assert (
        command("jumpstarter", "config", "client", "use", "b").out == "b is now the current configuration\n"
    )
    assert command("jumpstarter", "config", "client", "show", "-o", "name").out == "b\n"
    again = command("jumpstarter", "config", "client", "create", "b", *words)
    assert (again.code, "delete it first" in again.err) == (2, True)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("config",), ""),
        (("config", "exporter", "list"), "jumpstarter-exporter boards"),
        (("config", "client", "creat"), "did you mean 'create'"),
        (("config", "client", "create"), "no configuration named"),
        (("config", "client", "create", "lab"), "--endpoint HOST:PORT"),
        (("config", "client", "create", "lab", "--endpoint", "http://lab"), "write HOST:PORT such as"),
        (("config", "client", "create", "a/b", "--endpoint", "h:1"), "is not a valid configuration name"),
        (("config", "client", "create", "lab", "--token", "x"), "no option --token; did you mean"),
        (("config", "client", "use", "lab"), "log in first"),
        (("config", "client", "show"), "no client configuration"),
    ],
)
def test_what_is_wrong_is_one_sentence(command: Command, words: tuple[str, ...], sentence: str) -> None:
    done = command("jumpstarter", *words)
    assert done.code == 2
    assert sentence in done.err
    assert done.err.count("\n") == (1 if sentence else 0)


def test_no_token_is_not_a_configuration(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"two words\n")))
    done = command("jumpstarter", *CREATE)
    assert (done.code, "no valid token in" in done.err) == (1, True)
    assert command("jumpstarter", "config", "client", "list", "-o", "name").out == ""
