"""Options that every command has: where they may stand, what goes with what, and which board they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_client.cli import options as module
from jumpstarter_client.cli.options import GlobalOptions, split, take_name, take_output
from jumpstarter_client.command_errors import UsageError
from jumpstarter_client.lease.request import LeaseRequest

CLIENT = """
kind: ClientConfig
metadata: {namespace: lab, name: ann}
endpoint: lab.example:8082
token: t
"""


@pytest.fixture(autouse=True)
def home(empty_home: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the configuration of an exporter `desk`, and of a client `ann`."""
    monkeypatch.setattr(module, "SYSTEM_EXPORTERS", str(tmp_path / "system"))
    home = tmp_path / "config" / "jumpstarter"
    for folder in (home / "exporters", home / "clients", tmp_path / "system"):
        folder.mkdir(parents=True)
    (home / "exporters" / "desk.yaml").touch()
    (tmp_path / "system" / "rack.yaml").touch()
    (home / "clients" / "ann.yaml").write_text(CLIENT)
    return home


def test_options_stand_anywhere_in_front_of_two_hyphens() -> None:
    words = "--log-level=DEBUG power on -l a=b rpi4 --selector c=d --exporter-logs -o json -- --board x"
    options, rest = split(words.split())
    assert rest == ["power", "on", "rpi4", "-o", "json", "--", "--board", "x"]
    assert options == GlobalOptions(selector="a=b,c=d", log_level="debug", exporter_logs=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--socket a.sock", GlobalOptions(host="a.sock")),
        ("--exporter-config a.yaml", GlobalOptions(config="a.yaml")),
        ("--client-config ann", GlobalOptions(client="ann")),
        ("--override", GlobalOptions(override="1")),
        ("--override=force", GlobalOptions(override="force")),
        ("--board rpi4 --host h:1", GlobalOptions(board="rpi4", host="h:1")),
        ("-l a=b --new", GlobalOptions(selector="a=b", new_lease=True)),
        ("-l a=b --wait-for-board", GlobalOptions(selector="a=b", wait_for_board=True)),
        ("--exporter desk", GlobalOptions(exporter="desk", config="desk")),
        ("--exporter rack", GlobalOptions(exporter="rack", config="rack")),
        ("--exporter ./x", GlobalOptions(exporter="./x", config="./x")),
        ("--exporter x.yml", GlobalOptions(exporter="x.yml", config="x.yml")),
        ("--exporter pi-1", GlobalOptions(exporter="pi-1", exporter_name="pi-1")),
        (
            "--exporter-name pi-1 --duration 1h --acquisition-timeout 1m --dial-timeout 2s --retry-timeout 3s",
            GlobalOptions(
                exporter_name="pi-1",
                duration="1h",
                acquisition_timeout="1m",
                dial_timeout="2s",
                retry_timeout="3s",
            ),
        ),
    ],
)
def test_what_options_say(words: str, expected: GlobalOptions) -> None:
    assert split(["devices", *words.split()]) == (expected, ["devices"])


def test_a_test_has_a_board_of_its_own() -> None:
    options, rest = split(["test", "a.yaml", "--board", "rpi4"])
    assert (options.board, rest) == (None, ["test", "a.yaml", "--board", "rpi4"])
    assert split(["--board", "rpi4", "test"])[0].board == "rpi4"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--host", "--host needs a value; for example --host /run/jumpstarter/exporter.sock"),
        ("--lease=", "--lease needs a value; for example --lease NAME"),
        ("--override=yes", "takes no value except `force`"),
        ("--host h:1 --config a.yaml", "--host and --config both select an exporter"),
        ("--host h:1 -l a=b", "-l and --lease use a controller"),
        ("--config a.yaml --lease x", "-l and --lease use a controller"),
        ("--exporter desk --exporter-name pi-1", "-l and --lease use a controller"),
        ("--board rpi4 --config a.yaml", "remove --config, -l or --lease"),
        ("--board rpi4 --exporter-name pi-1", "remove --config, -l or --lease"),
        ("--override -l a=b", "--override works for boards of this machine only"),
        ("--log-level loud", "invalid log level 'loud'; use one of debug, info"),
    ],
)
def test_what_does_not_go_together(words: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        split(["power", "on", *words.split()])


def test_a_board_of_a_controller_is_wanted_if_options_or_the_environment_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert GlobalOptions().lease_request() is None
    assert GlobalOptions(host="h:1", client="ann").lease_request() is None
    assert GlobalOptions(client="ann").lease_request() == LeaseRequest(client="ann")
    asked = GlobalOptions(
        selector="a=b",
        exporter_name="pi-1",
        duration="1h",
        client="ann",
        acquisition_timeout="10s",
        dial_timeout="20s",
        retry_timeout="30s",
        exporter_logs=True,
        wait_for_board=True,
    ).lease_request()
    assert asked == LeaseRequest(
        selector="a=b",
        exporter="pi-1",
        duration=3600.0,
        client="ann",
        acquisition_timeout=10.0,
        dial_timeout=20.0,
        retry_timeout=30.0,
        all_logs=True,
        wait_for_board=True,
        may_reuse=True,
    )
    monkeypatch.setenv("JMP_LEASE", "mine")
    assert GlobalOptions().lease_request() == LeaseRequest(lease="mine")
    assert GlobalOptions(selector="a=b").lease_request() == LeaseRequest(selector="a=b", may_reuse=True)
    assert GlobalOptions(selector="a=b", new_lease=True).lease_request() == LeaseRequest(selector="a=b")
    assert GlobalOptions(config="desk").lease_request() is None
    with pytest.raises(UsageError, match="unset JMP_LEASE"):
        GlobalOptions(override="1").lease_request()
    monkeypatch.setenv("JUMPSTARTER_HOST", "/run/lease.sock")
    assert GlobalOptions().lease_request() is None, "it is the shell's"
    assert GlobalOptions(client="ann").lease_request() is None
    assert GlobalOptions(lease="other").lease_request() == LeaseRequest(lease="other")


@pytest.mark.parametrize(
    "options", [GlobalOptions(), GlobalOptions(lease="x"), GlobalOptions(lease="x", selector="a=b")]
)
def test_only_for_a_board_that_is_asked_for_one_can_wait(options: GlobalOptions) -> None:
    options.wait_for_board = True
    with pytest.raises(UsageError, match="add -l SELECTOR"):
        options.lease_request()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (GlobalOptions(), "--new leases another board; add -l SELECTOR"),
        (GlobalOptions(lease="x", selector="a=b"), "and --lease uses an existing lease; remove one of them"),
    ],
)
def test_another_lease_is_one_of_a_board_that_is_named(options: GlobalOptions, complaint: str) -> None:
    options.new_lease = True
    with pytest.raises(UsageError, match=complaint):
        options.lease_request()


def test_an_exporter_that_is_not_on_this_machine_may_be_a_controllers(home: Path) -> None:
    options, _ = split(["devices", "--exporter", "pi-1", "--client", "ann"])
    request = options.lease_request()
    assert request is not None
    assert request.exporter == "pi-1"
    assert request.not_found_hint.startswith("this machine has no exporter configuration 'pi-1' in")
    assert str(home / "exporters") in request.not_found_hint
    options, _ = split(["devices", "--exporter-name", "pi-1", "--client", "ann"])
    assert options.lease_request() == LeaseRequest(exporter="pi-1", client="ann", may_reuse=True)
    (home / "clients" / "ann.yaml").unlink()
    options, _ = split(["devices", "--exporter", "pi-1"])
    with pytest.raises(
        UsageError, match=r"no exporter configuration 'pi-1' in .*; to lease an exporter of that name"
    ):
        options.lease_request()


def test_a_commands_own_words_may_name_a_controllers_exporter() -> None:
    options = GlobalOptions()
    assert take_name(["a", "-n", "pi-1", "b"], options) == ["a", "b"]
    assert options.exporter_name == "pi-1"
    assert take_name(["--name=pi-2"], options) == []
    assert options.exporter_name == "pi-2"
    assert take_name(["a", "b"], options) == ["a", "b"]
    for words in (["-n"], ["-n", "-o"], ["--name="]):
        with pytest.raises(UsageError, match="needs the name of a controller's exporter"):
            take_name(words, GlobalOptions())
    for other in (GlobalOptions(host="h:1"), GlobalOptions(config="a.yaml")):
        with pytest.raises(UsageError, match="use one"):
            take_name(["-n", "pi-1"], other)


def test_formats_of_output() -> None:
    assert take_output(["a", "-o", "json", "b"]) == ("json", ["a", "b"])
    assert take_output(["--output=yaml"]) == ("yaml", [])
    assert take_output(["a", "--", "-o", "json"]) == (None, ["a", "--", "-o", "json"])
    with pytest.raises(UsageError, match="-o takes one of json, yaml, not 'name'"):
        take_output(["-o", "name"], ("json", "yaml"))
    with pytest.raises(UsageError, match="not ''"):
        take_output(["-o"])


def test_in_the_tree_an_option_of_ssh_belongs_to_the_verb() -> None:
    options, rest = split(["-l", "a=b", "ssh", "-l", "root", "ls"], is_tree=True)
    assert rest == ["ssh", "-l", "root", "ls"]
    assert options == GlobalOptions(selector="a=b")
