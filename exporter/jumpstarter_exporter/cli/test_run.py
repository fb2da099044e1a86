"""How `jumpstarter-exporter run` begins, and what of its options and files keeps it from that."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_exporter import paths
from jumpstarter_exporter.boards.grouping import host_name
from jumpstarter_exporter.cli import run
from jumpstarter_exporter.config import ConfigError, Enrolment, Identities
from jumpstarter_exporter.config.folder import BoardFile
from jumpstarter_exporter.config.model import Tls
from jumpstarter_exporter.serve.discovery import Discovery
from jumpstarter_exporter.serve.network import Network

DEVICES = "export: {power: {type: power.MockPower}}\n"
OPTIONS: dict[str, Any] = {
    "config": None,
    "board": None,
    "socket": None,
    "listen": None,
    "tls_cert": None,
    "tls_key": None,
    "insecure": False,
    "passphrase_file": None,
    "log_level": "info",
}


@dataclass
class Begun:
    """What the daemon was to serve."""

    boards: Mapping[str, BoardFile]
    socket: Path | None
    network: Network | None
    leads: bool
    discovery: Discovery | None

    @property
    def discovers(self) -> bool:
        return self.discovery is not None


Begin = Callable[..., Begun]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configurations'."""
    monkeypatch.setattr(paths, "SYSTEM_CONFIG_FOLDER", tmp_path / "none")
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.delenv("JMP_GRPC_PASSPHRASE", raising=False)
    folder = tmp_path / "exporters"
    folder.mkdir()
    return folder


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Begin:
    """The command with these options, up to where its loop would begin."""

    def begun(**options: Any) -> Begun:
        found: list[partial[Any]] = []

        def note(main: partial[Any]) -> int:
            found.append(main)
            return 0

        with monkeypatch.context() as patched:
            patched.setattr(trio, "run", note)
            patched.setattr(run, "set_up_logging", lambda *_: None)
            patched.setattr(run, "keep_what_is_there", lambda: None)
            assert run.run_daemon(**OPTIONS | options) == 0
        [main] = found
        boards, path, network, _ = main.args
        return Begun(boards, path, network, main.keywords["leads"], main.keywords["discovery"])

    return begun


def test_what_there_is_at_the_start_is_never_looked_through_for_garbage_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "board.yaml"
    file.write_text(DEVICES)
    there = [object()]

    def begin(_: object) -> int:
        assert all(one is not there for one in gc.get_objects())  # which leaves out what is frozen
        return 7

    monkeypatch.setattr(trio, "run", begin)
    monkeypatch.setattr(run, "set_up_logging", lambda *_: None)
    assert run.run_daemon(**OPTIONS | {"config": str(file)}) == 7


# Which boards


def test_all_of_the_folder_are_served_and_what_is_plugged_in_is_beside_them(
    folder: Path, begin: Begin
) -> None:
    found = begin()
    assert (dict(found.boards), found.leads, found.discovers) == ({}, True, True)
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(DEVICES)
    (folder / "broken.yaml").write_text("export: [")
    found = begin(discovery=False, socket=Path("s.sock"))
    assert {name: one.error is None for name, one in found.boards.items()} == {
        "broken": False,
        "one": True,
        "two": True,
    }
    assert (found.leads, found.discovers, found.socket) == (True, False, Path("s.sock").absolute())


@pytest.mark.parametrize("option", ["config", "board"])
def test_one_that_is_named_is_served_alone(folder: Path, begin: Begin, option: str) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(DEVICES)
    found = begin(**{option: "two"}, socket=folder / "s.sock")
    assert set(found.boards) == {"two"}
    assert (found.leads, found.discovers) == (False, False)
    # At the host's own socket there is whoever serves all of its boards.
    assert found.socket == (folder / "s.sock" if option == "config" else folder / "boards" / "two.sock")


def test_a_board_has_who_it_is_to_its_controller_from_the_state_directory(folder: Path, begin: Begin) -> None:
    (folder / "one.yaml").write_text(DEVICES)
    enrolment = Enrolment("lab:8082", "lab", "pi-1", "token", Tls(), Path("anywhere"))
    Identities().save("one", enrolment, folder / "one.yaml")
    config = begin().boards["one"].config
    assert config is not None
    assert config.exporter_name == "pi-1"


def test_what_is_discovered_is_named_as_the_host_is_at_its_controller(folder: Path, begin: Begin) -> None:
    found = begin().discovery
    assert found is not None
    assert found.host == host_name(socket.gethostname())
    Identities().save_host(Enrolment("lab:8082", "lab", "pi4", "token", Tls(), Path("anywhere")))
    found = begin().discovery
    assert found is not None
    assert found.host == "pi4"


def refused(begin: Begin, **options: Any) -> str:
    with pytest.raises(JumpstarterError) as caught:
        begin(**options)
    return f"{caught.value.exit_code:d} {caught.value}"


def test_where_nothing_can_be_served_it_does_not_begin(folder: Path, begin: Begin) -> None:
    assert refused(begin, config="one", board="one").startswith(
        f"{ExitCode.USAGE:d} --board is one of the configuration folder"
    )
    assert refused(begin, discovery=False).startswith(
        f"{ExitCode.NOT_FOUND:d} there is no exporter configuration"
    )
    (folder / "one.yaml").write_text("export: [")
    said = refused(begin, board="on")
    assert said.startswith(f"{ExitCode.NOT_FOUND:d} there is no configuration of a board 'on' in")
    assert said.endswith("did you mean 'one'?")
    with pytest.raises(ConfigError, match=r"one\.yaml:.*not YAML"):
        begin()
    (folder / "two.yaml").write_text("export: {}")
    said = refused(begin)
    assert said.startswith(f"{ExitCode.USAGE:d} no board can be served: ")
    assert "one.yaml" in said
    assert "nothing is exported; add a device below `export:`" in refused(begin, config="two")
    (folder / "three.yaml").write_text(DEVICES)
    assert len(begin().boards) == 3


# The network


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"insecure": True}, "TLS and passphrase options are for --listen HOST:PORT"),
        ({"tls_cert": Path("c")}, "TLS and passphrase options are for --listen HOST:PORT"),
        ({"tls_key": Path("k")}, "TLS and passphrase options are for --listen HOST:PORT"),
        ({"passphrase_file": Path("p")}, "TLS and passphrase options are for --listen HOST:PORT"),
        ({"listen": ":1"}, "--listen takes either --tls-cert and --tls-key, or --insecure"),
        (
            {"listen": ":1", "insecure": True, "tls_cert": Path("c")},
            "--listen takes either --tls-cert and --tls-key, or --insecure",
        ),
        ({"listen": ":1", "tls_cert": Path("c")}, "--tls-cert and --tls-key belong together; give both"),
        ({"listen": ":1", "tls_key": Path("k")}, "--tls-cert and --tls-key belong together; give both"),
        ({"listen": "lab", "insecure": True}, "--listen: "),
        ({"listen": ":1", "insecure": True, "passphrase_file": Path("/none")}, "/none cannot be read"),
    ],
)
def test_options_for_the_network_that_do_not_fit_are_a_sentence(
    folder: Path, begin: Begin, options: dict[str, Any], sentence: str
) -> None:
    (folder / "one.yaml").write_text(DEVICES)
    said = refused(begin, **options)
    assert said.startswith(f"{ExitCode.USAGE:d} ")
    assert sentence in said


def test_where_and_how_the_network_is_listened_to_is_as_the_options_say(
    folder: Path, tmp_path: Path, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "one.yaml").write_text(DEVICES)
    assert begin().network is None
    certificate, key, word = (tmp_path / name for name in ("chain.pem", "key.pem", "word"))
    word.write_text("a word\nand more\n")
    assert begin(listen="lab:99", tls_cert=certificate, tls_key=key, passphrase_file=word).network == (
        Network("lab", 99, certificate, key, "a word")
    )
    assert caplog.text == ""
    assert begin(listen=":99", insecure=True, passphrase_file=word).network == Network(
        None, 99, None, None, "a word"
    )
    assert "without TLS everybody on the way can read the passphrase" in caplog.text
    caplog.clear()
    assert begin(listen="[::1]:99", insecure=True).network == Network("::1", 99)
    assert "everybody who can reach [::1]:99 can use the boards" in caplog.text
