"""A host that serves several boards: its user says which one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.interop import exporters

LIMIT = 60.0


class Host:
    """Its boards rpi4, with a power switch, and rock, with two; and a user."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "run" / "exporter.sock"
        self.address = ""
        folder = home / ".config" / "jumpstarter" / "exporters"
        folder.mkdir(parents=True)
        (folder / "rpi4.yaml").write_text("export: {power: {type: power.MockPower}}")
        (folder / "rock.yaml").write_text(
            "export: {main: {type: power.MockPower}, spare: {type: power.MockPower}}"
        )

    def run(self, *words: str, host: str = "", **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [exporters.scripts() / words[0], *words[1:]],
            env=exporters.clean_environment(self.home)
            | {"JUMPSTARTER_HOST": host or str(self.socket), "JMP_GRPC_INSECURE": "1"}
            | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    command: exporters.Command = [
        exporters.scripts() / "jumpstarter-exporter",
        "run",
        "--socket",
        host.socket,
    ]
    with exporters.running([*command, "--listen", "127.0.0.1:0", "--insecure"], tmp_path) as daemon:
        host.address = daemon.first_line().rpartition(" and ")[2].split()[0]
        yield host


def test_who_has_leased_boards_is_told_how_these_are_meant(host: Host) -> None:
    token = host.home / "token"
    token.write_text("secret")
    command = ("jumpstarter", "config", "client", "create", "ann", "-e", "lab:1", "--token-file", str(token))
    code, _said, why = host.run(*command)
    assert code == 0, why
    words = "; a board that you have leased: --lease NAME, see jumpstarter lease list"
    assert words not in host.run("jumpstarter", "power", "on")[2]
    record = host.home / ".local" / "state" / "jumpstarter" / "leases"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("lab:1 default/ann mine\n")
    code, _said, why = host.run("jumpstarter", "power", "on")
    assert (code, words in why) == (2, True), why
    assert host.run("jumpstarter", "power", "on", "rpi4")[0] == 0


def test_without_a_choice_the_devices_of_all_boards_are_named(host: Host) -> None:
    for where in (str(host.socket), host.address):
        code, said, why = host.run("jumpstarter", "power", "on", host=where)
        assert (code, said) == (2, "")
        assert (
            "several devices; name one of rock.main, rock.spare, rpi4.power, or select a board: --board rock"
            in why
        )
    for command in (("jumpstarter", "shell"), ("jumpstarter", "shell", "--", "true")):
        code, said, why = host.run(*command)
        assert (code, said) == (2, "")
        assert "this host has the boards rock, rpi4; choose one: --board rock" in why
    code, said, why = host.run("j")
    assert (code, said) == (2, "")
    assert "this host has the boards rock, rpi4; name one first: j rock" in why


@pytest.mark.parametrize("is_remote", [False, True])
def test_the_name_of_a_device_or_a_board_chooses_here_and_over_the_network(
    host: Host, is_remote: bool
) -> None:
    where = host.address if is_remote else ""
    for word, used in (
        ("spare", {"rock.spare"}),
        ("rpi4", {"rock.spare", "rpi4.power"}),
        ("rock.main", {"rock.spare", "rpi4.power", "rock.main"}),
    ):
        assert host.run("jumpstarter", "power", "on", word, host=where) == (0, "", "")
        listed = json.loads(host.run("jumpstarter", "devices", "-o", "json", host=where)[1])
        assert {device["path"] for device in listed if not device["reason"]} == used


def test_a_name_that_means_several_or_none_is_an_error_that_names_what_there_is(host: Host) -> None:
    for word, code, why in (
        ("rock", 2, "'rock' is ambiguous; use one of rock.main, rock.spare"),
        ("rok", 3, "did you mean 'rock'"),
        ("rock.moon", 3, "no board of this host has a device 'rock.moon' with the interface 'power'"),
    ):
        assert (code, "") == host.run("jumpstarter", "power", "on", word)[:2]
        assert why in host.run("jumpstarter", "power", "on", word)[2]
    code, _, why = host.run("jumpstarter", "serial", "log", "rpi4")
    assert (
        code,
        "the board rpi4 has no device with the interface 'serial'; it has power" in why,
    ) == (3, True)


def test_devices_of_all_boards_are_listed_and_completed(host: Host) -> None:
    assert host.run("jumpstarter", "devices", "-o", "name") == (0, "rock.main\nrock.spare\nrpi4.power\n", "")
    _, said, _ = host.run("jumpstarter", "devices")
    assert [line.split()[:2] for line in said.splitlines()] == [
        ["rock"],
        ["├─", "main"],
        ["└─", "spare"],
        ["rpi4"],
        ["└─", "power"],
    ]
    assert host.run("jumpstarter", "__complete", "power", "on")[1] == "rock.main\nrock.spare\nrpi4\n"
    assert host.run("jumpstarter", "__complete", "--board")[1] == "rock\nrpi4\n"


def test_an_option_or_the_environment_chooses_here_and_over_the_network(host: Host) -> None:
    for where in (str(host.socket), host.address):
        code, said, why = host.run("jumpstarter", "devices", "-o", "json", "--board", "rock", host=where)
        assert (code, why) == (0, "")
        assert [device["path"] for device in json.loads(said)] == ["main", "spare"]
        assert host.run("jumpstarter", "power", "on", host=where, JUMPSTARTER_BOARD="rpi4") == (0, "", "")
    code, _, why = host.run("jumpstarter", "power", "on", "--board", "mars")
    assert code != 0
    assert "this host has no board mars; it has rock, rpi4" in why


def test_a_shell_is_of_one_board(host: Host) -> None:
    for where in (str(host.socket), host.address):
        command = [str(exporters.scripts() / "jumpstarter"), "devices", "-o", "name"]
        assert host.run("jumpstarter", "shell", "--board", "rock", "--", *command, host=where) == (
            0,
            "main\nspare\n",
            "",
        )
    script = 'echo "$JUMPSTARTER_HOST"'
    code, said, _ = host.run("jumpstarter", "shell", "--board", "rock", "--", "sh", "-c", script)
    assert (code, said) == (0, f"{host.socket.parent / 'boards' / 'rock.sock'}\n")


@pytest.mark.parametrize("is_remote", [False, True])
def test_the_first_word_of_a_path_chooses_the_board(host: Host, is_remote: bool) -> None:
    where = host.address if is_remote else ""
    for words, used in (
        (("spare", "on"), {"rock.spare"}),
        (("rpi4", "power", "on"), {"rock.spare", "rpi4.power"}),
        (("rock", "main", "on"), {"rock.spare", "rpi4.power", "rock.main"}),
    ):
        assert host.run("j", *words, host=where) == (0, "", "")
        listed = json.loads(host.run("jumpstarter", "devices", "-o", "json", host=where)[1])
        assert {device["path"] for device in listed if not device["reason"]} == used
    assert host.run("j", "rock", host=where)[1].startswith("Usage: j rock COMMAND")
    code, _, why = host.run("j", "rok", "main", host=where)
    assert (code, "no board of this host has a device 'rok'; did you mean 'rock'" in why) == (3, True)


def test_what_runs_in_a_boards_shell_uses_that_board(host: Host) -> None:
    for where in (str(host.socket), host.address):
        for chosen in (("--board", "rock"), ()):
            environment = {} if chosen else {"JUMPSTARTER_BOARD": "rock"}
            command = [str(exporters.scripts() / "j"), "spare", "on"]
            done = host.run("jumpstarter", "shell", *chosen, "--", *command, host=where, **environment)
            assert done == (0, "", "")


STEPS = "steps:\n  - power.on: {}\n"


def test_a_test_runs_on_the_board_that_it_names_or_the_only_one_that_has_its_devices(host: Host) -> None:
    for where in (str(host.socket), host.address):
        for name, text, words in (
            ("named", f"board: rpi4\n{STEPS}", ()),
            ("option", STEPS, ("--board", "rpi4")),
            ("environment", STEPS, ()),
            ("device", "steps:\n  - power.on: {}\n    device: main\n", ()),
            ("both", f"board: rock.spare\n{STEPS}", ()),
        ):
            file = host.home / f"{name}.yaml"
            file.write_text(text)
            environment = {"JUMPSTARTER_BOARD": "rpi4"} if name == "environment" else {}
            code, said, why = host.run(
                "jumpstarter", "test", str(file), "--no-results", *words, host=where, **environment
            )
            assert code == 0, (name, said, why)


def test_tests_for_several_boards_run_one_after_the_other_or_not_at_all(host: Host) -> None:
    files = []
    for name, text in (
        ("one", f"board: rpi4\n{STEPS}"),
        ("two", f"board: rock.main\n{STEPS}"),
        ("any", STEPS),
    ):
        files.append(str(host.home / f"{name}.yaml"))
        Path(files[-1]).write_text(text)
    # For the third, only rpi4 has a power switch that need not be named.
    code, said, why = host.run("jumpstarter", "test", *files, "--no-results", "-o", "json")
    assert (code, [one["outcome"] for one in json.loads(said)]) == (0, ["passed"] * 3), why

    Path(files[2]).write_text("steps:\n  - serial.send: {text: x}\n")
    code, said, why = host.run("jumpstarter", "test", *files, "--no-results")
    assert (code, said) == (3, "")
    assert "no board of this host has what the test uses (rock: no device has the interface 'serial'" in why
    (host.home / "sleep.yaml").write_text("steps:\n  - wait: 0s\n")
    code, said, why = host.run("jumpstarter", "test", str(host.home / "sleep.yaml"), "--no-results")
    assert (code, said) == (2, "")
    assert "each of the boards rock, rpi4 has what the test uses; choose one: --board NAME" in why


def test_pytest_has_an_option_for_the_board(host: Host) -> None:
    (host.home / "test_it.py").write_text(
        "def test_on(jumpstarter):\n    jumpstarter.spare.on()\n"
        "async def test_async(jumpstarter_async):\n    await jumpstarter_async.main.on.aio()\n"
    )
    ini = host.home / "pytest.ini"
    ini.write_text("[pytest]\ntrio_mode = true\n")
    command = ("pytest", "-p", "no:cacheprovider", "-c", str(ini), str(host.home))
    code, said, _ = host.run(*command, "--jumpstarter-board", "rock", host=host.address)
    assert code == 0, said
    code, said, _ = host.run(*command)
    assert code == 1
    assert (
        "this host has the boards rock, rpi4; choose one: --board rock; for pytest, --jumpstarter-board"
        in said
    )
    ini.write_text("[pytest]\ntrio_mode = true\njumpstarter_board = rock\n")
    code, said, _ = host.run(*command)
    assert code == 0, said


def test_one_of_several_is_of_no_other_exporter(host: Host) -> None:
    assert host.run("jumpstarter", "devices", "--config", "rock", "--board", "rock")[0] == 2


@pytest.mark.parametrize("is_daemon", [True, False], ids=["daemon", "built-in"])
def test_the_only_board_has_its_name_as_one_of_several_has(tmp_path: Path, is_daemon: bool) -> None:
    host = Host(tmp_path)
    folder = tmp_path / ".config" / "jumpstarter" / "exporters"
    (folder / "rock.yaml").unlink()
    test = tmp_path / "test.yaml"
    test.write_text("board: rpi4\nsteps: [power.on]\n")
    board = {"JUMPSTARTER_HOST": ""} if not is_daemon else {}
    command: exporters.Command = [
        exporters.scripts() / "jumpstarter-exporter",
        "run",
        "--socket",
        host.socket,
    ]
    with exporters.running(command, tmp_path) if is_daemon else nullcontext() as daemon:
        if daemon:
            daemon.first_line()
        assert host.run("jumpstarter", "devices", **board)[1].startswith("rpi4\n")
        for words in ("power on", "power on rpi4", "power on rpi4.power", "power cycle rpi4 --wait 0"):
            code, _, why = host.run("jumpstarter", *words.split(), **board)
            assert code == 0, (words, why)
        assert host.run("jumpstarter", "test", str(test), **board)[0] == 0
        code, _, why = host.run("jumpstarter", "power", "on", "rock", **board)
        assert (code, "no device 'rock'" in why) == (3, True), why
        if is_daemon:
            for words in ("j power on", "j rpi4 power on"):
                assert host.run(*words.split())[0] == 0, words
