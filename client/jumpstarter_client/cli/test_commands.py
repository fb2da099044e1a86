"""Commands of driver clients: which device, which verb, what is printed, how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_client.cli.completion import SCRIPTS
from jumpstarter_client.cli.conftest import Command
from jumpstarter_client.conftest import POWER, FakeExporter, entry

READINGS = [{"voltage": 5.0, "current": 2.0}, {"voltage": 5.5, "current": 2.25}]


def add_board(exporter: FakeExporter, name: str) -> None:
    exporter.reports += [entry(name, name, "root"), entry(f"{name}-switch", "power", name, POWER)]


def calls(exporter: FakeExporter) -> list[tuple[str, str]]:
    return [(uuid, method) for uuid, method, _ in exporter.called]


# --- devices and verbs


@pytest.mark.parametrize("words", [[], ["rpi4"], ["rpi4.power"], ["power"]])
def test_the_only_device_goes_by_any_of_its_names(
    command: Command, lab: FakeExporter, words: list[str]
) -> None:
    done = command("jumpstarter", "power", "on", *words)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert calls(lab) == [("switch", "on")]


def test_the_exporters_own_name_means_its_only_device(command: Command, lab: FakeExporter) -> None:
    lab.labels["jumpstarter.dev/name"] = "lab-1"
    assert command("jumpstarter", "power", "on", "lab-1").code == 0


def test_one_of_several_devices_must_be_named(command: Command, lab: FakeExporter) -> None:
    add_board(lab, "rpi5")
    assert command("jumpstarter", "power", "on", "rpi5").code == 0
    assert calls(lab) == [("rpi5-switch", "on")]
    unnamed = command("jumpstarter", "power", "on")
    assert (unnamed.code, unnamed.err) == (2, "error: several devices; name one of rpi4.power, rpi5.power\n")
    either = command("jumpstarter", "power", "on", "power")
    assert either.code == 2
    assert "rpi4.power, rpi5.power" in either.err
    unknown = command("jumpstarter", "power", "on", "rpi44")
    assert unknown.code == ExitCode.NOT_FOUND
    assert "'rpi44'" in unknown.err
    assert "did you mean" in unknown.err
    assert len(lab.called) == 1


def test_words_behind_two_hyphens_are_not_devices(command: Command, lab: FakeExporter) -> None:
    done = command("jumpstarter", "power", "cycle", "--", "rpi4")
    assert done.code == ExitCode.USAGE
    assert calls(lab) == []
    assert command("jumpstarter", "power", "cycle", "rpi4", "--", "0").code == 0


WRONG = [
    (["powr", "on"], "did you mean 'power'"),
    (["power", "onn"], "did you mean 'on'; there is"),
    (["power", "cycle", "--wait", "soon"], "--wait"),
    (["power", "cycle", "--speed", "1"], "--speed"),
    (["power", "cycle", "rpi5"], "the only device is rpi4.power"),
    (["--colour", "power", "on"], "unknown option --colour"),
    (["power", "on", "--host"], "--host needs a value"),
    (["power", "on", "--log-level", "loud"], "invalid log level 'loud'"),
    (["devices", "-o", "xml"], "json, yaml, name"),
    (["devices", "rpi4"], "unexpected argument 'rpi4'"),
    (["completion", "tcsh"], "'tcsh'"),
    (["shell", "--lease", "x"], "no client configuration: log in"),
    (["shell", "--lase"], "no option --lase"),
    (["devices", "--host", "a", "--config", "b"], "use one of them"),
]


@pytest.mark.parametrize(
    ("words", "sentence"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_command_line_is_one_sentence(
    command: Command, lab: FakeExporter, words: list[str], sentence: str
) -> None:
    done = command("jumpstarter", *words)
    assert done.code == ExitCode.USAGE
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert sentence in done.err
    assert lab.called == []


def test_arguments_reach_the_method_with_their_types(command: Command, lab: FakeExporter) -> None:
    lab.methods["cycle"] = lambda wait: None
    assert command("jumpstarter", "power", "cycle", "rpi4", "--wait", "1.5").code == 0
    assert command("jumpstarter", "power", "cycle", "-w", "0", "rpi4").code == 0
    assert command("jumpstarter", "power", "cycle", "3").code == 0
    assert [arguments for _, _, arguments in lab.called] == [[1.5], [0.0], [3.0]]


# --- output


def test_results_are_for_people_or_for_scripts(command: Command, lab: FakeExporter) -> None:
    lab.methods["read"] = lambda: iter(READINGS)
    told = [one | {"power": None, "energy": None, "measured": ["voltage", "current"]} for one in READINGS]
    people = command("jumpstarter", "power", "read")
    assert people.out.splitlines()[0].startswith("voltage=5.0 V")
    assert len(people.out.splitlines()) == 2
    for words in (["power", "read", "-o", "yaml"], ["-o", "yaml", "power", "read"]):
        assert list(yaml.safe_load_all(command("jumpstarter", *words).out)) == told
    lines = command("jumpstarter", "power", "read", "rpi4", "--output=json").out
    decoder, found = json.JSONDecoder(), []
    while lines.strip():
        item, end = decoder.raw_decode(lines)
        found.append(item)
        lines = lines[end:].lstrip()
    assert found == told


def test_the_exporters_log_is_shown_when_asked_for(command: Command, lab: FakeExporter) -> None:
    from jumpstarter_proto.v1 import jumpstarter_pb2

    lab.log = [jumpstarter_pb2.LogStreamResponse(severity="INFO", message="relay 3 closed")]
    lab.methods["read"] = lambda: iter(READINGS)
    assert "relay 3 closed" not in command("jumpstarter", "power", "read").err
    assert (
        "relay 3 closed"
        in command("jumpstarter", "power", "read", "-i", "0", "-n", "20", "--exporter-logs").err
    )


# --- failures


FAILURES = [
    (StatusCode.UNKNOWN, ExitCode.FAILED),
    (StatusCode.FAILED_PRECONDITION, ExitCode.FAILED),
    (StatusCode.INVALID_ARGUMENT, ExitCode.USAGE),
    (StatusCode.UNAVAILABLE, ExitCode.UNAVAILABLE),
    (StatusCode.UNAUTHENTICATED, ExitCode.DENIED),
    (StatusCode.DEADLINE_EXCEEDED, ExitCode.TIMEOUT),
]


@pytest.mark.parametrize(("status", "code"), FAILURES)
def test_a_drivers_failure_is_its_own_sentence_and_a_documented_code(
    command: Command, lab: FakeExporter, status: StatusCode, code: ExitCode
) -> None:
    def on() -> None:
        raise RpcError(status, "the relay is welded; replace it")

    lab.methods["on"] = on
    done = command("jumpstarter", "power", "on")
    assert (done.code, done.out, done.err) == (code, "", "error: the relay is welded; replace it\n")


def test_the_traceback_is_for_who_asks(command: Command, lab: FakeExporter) -> None:
    lab.methods.clear()
    done = command("jumpstarter", "power", "on", "--log-level", "debug")
    assert done.code == ExitCode.FAILED
    assert "Traceback" in done.err
    assert "Traceback" not in command("jumpstarter", "power", "on").err


def test_no_exporter_anywhere_says_what_to_do(command: Command) -> None:
    done = command("jumpstarter", "power", "on")
    assert done.code == ExitCode.NOT_FOUND
    assert "NAME.yaml" in done.err
    assert done.err.count("\n") == 1


def test_an_exporter_that_is_not_there_is_one_sentence(command: Command) -> None:
    done = command("jumpstarter", "devices", "--host", "/nowhere/socket")
    assert done.code == ExitCode.UNAVAILABLE
    assert "/nowhere/socket" in done.err
    assert done.err.count("\n") == 1


def test_a_device_that_cannot_be_loaded_says_how_it_can_be(command: Command, lab: FakeExporter) -> None:
    lab.reports.append(entry("fan", "fan", "root", "some_lab.client.FanClient", interface="power"))
    done = command("jumpstarter", "power", "on", "fan")
    assert done.code == ExitCode.FAILED
    assert "JMP_DRIVERS_ALLOW=some_lab.client.FanClient" in done.err


def test_an_interface_that_no_device_has_lists_those_there_are(command: Command, lab: FakeExporter) -> None:
    done = command("jumpstarter", "serial", "start-console")
    assert done.code == ExitCode.NOT_FOUND
    assert "the board has power" in done.err


# --- devices


def test_devices_show_a_tree_with_states_and_reasons(command: Command, lab: FakeExporter) -> None:
    lab.labels["jumpstarter.dev/name"] = "lab-1"
    lab.reports[2] = entry("switch", "power", "board", POWER, state="failed", reason="pin 17 is in use")
    lab.reports.append(entry("other", "spare", "root", POWER, state="ready"))
    done = command("jumpstarter", "devices")
    assert done.out.splitlines() == [
        "lab-1",
        "├─ rpi4",
        "│  └─ power  power    failed: pin 17 is in use",
        "└─ spare     power    ready",
    ]


def test_devices_for_scripts(command: Command, lab: FakeExporter) -> None:
    assert command("jumpstarter", "devices", "-o", "name").out.split() == ["rpi4", "rpi4.power"]
    facts: list[dict[str, Any]] = json.loads(command("jumpstarter", "devices", "-o", "json").out)
    assert [(fact["path"], fact["interface"]) for fact in facts] == [
        ("rpi4", "composite"),
        ("rpi4.power", "power"),
    ]
    assert yaml.safe_load(command("jumpstarter", "devices", "-o", "yaml").out) == facts


def test_an_exporter_without_devices_says_so(command: Command, lab: FakeExporter) -> None:
    lab.reports = lab.reports[:1]
    assert "no devices" in command("jumpstarter", "devices").out


# --- j


def test_j_is_the_tree_as_commands(command: Command, lab: FakeExporter) -> None:
    lab.methods["cycle"] = lambda wait: None
    assert command("j", "rpi4", "power", "on").code == 0
    assert command("j", "rpi4", "power", "cycle", "-w", "0").code == 0
    assert calls(lab) == [("switch", "on"), ("switch", "cycle")]


def test_j_shows_what_there_is_at_each_place(command: Command, lab: FakeExporter) -> None:
    lab.reports[2].methods_description["on"] = "Close relay 3."
    assert "rpi4" in command("j").out
    done = command("j", "rpi4", "power")
    assert "Usage: j rpi4 power COMMAND" in done.out
    assert "Close relay 3." in done.out
    assert "Switch the board off." in done.out


@pytest.mark.parametrize("words", [["rpi5", "power", "on"], ["rpi4", "powr"], ["rpi4", "power", "onn"]])
def test_j_answers_a_wrong_word_with_the_right_ones(
    command: Command, lab: FakeExporter, words: list[str]
) -> None:
    done = command("j", *words)
    assert done.code == ExitCode.USAGE
    assert "did you mean" in done.err


def test_j_says_where_a_device_is_that_is_named_without_its_board(
    command: Command, lab: FakeExporter
) -> None:
    done = command("j", "power", "on")
    assert done.code == ExitCode.USAGE
    assert "j has no 'power'; did you mean `j rpi4 power`?" in done.err
    lab.reports += [entry(f"relay{n}", f"relay{n}", "board", POWER) for n in range(5)]
    meant = " or ".join(f"`j rpi4 {name}`" for name in ("power", "relay0", "relay1"))
    assert f"did you mean {meant}?" in command("j", "power", "on").err


def test_j_works_inside_of_a_shell_only(command: Command) -> None:
    done = command("j", "power", "on")
    assert done.code == ExitCode.USAGE
    assert "jumpstarter shell" in done.err


# --- completion


@pytest.mark.parametrize(
    ("words", "fitting"),
    [
        ([], {"devices", "shell", "power", "serial"}),
        (["completion"], {"bash", "zsh", "fish"}),
        (["lease"], {"create", "extend", "release"}),
        (["get"], {"exporters", "leases"}),
        (["delete"], {"leases"}),
        (["conf", "client"], {"use", "show"}),
        (["config", "client", "use"], set()),
        (["power", "on", "--log-level"], {"debug", "warning"}),
        (["power", "on", "-l"], set()),
        (["lease", "show"], set()),
        (["power"], {"on", "off", "cycle", "read"}),
        (["power", "on"], {"rpi4"}),
        (["devices"], set()),
    ],
)
def test_completion_knows_what_fits(
    command: Command, lab: FakeExporter, words: list[str], fitting: set[str]
) -> None:
    found = set(command("jumpstarter", "__complete", *words).out.split())
    assert fitting <= found
    assert fitting or not found


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["--config"], True),
        (["--client"], True),
        (["test"], True),
        (["test", "a.yaml", "--junit"], True),
        (["storage", "flash", "rpi4"], True),
        (["shell", "--"], True),
        ([], False),
        (["--board"], False),
        (["power", "on"], False),
        (["power", "on", "rpi4"], False),
        (["devices"], False),
        (["lease", "show"], False),
        (["login", "--alias"], False),
        (["exporters", "-o"], False),
    ],
)
def test_names_of_files_are_offered_only_where_they_fit(
    command: Command, lab: FakeExporter, words: list[str], files: bool
) -> None:
    assert command("jumpstarter", "__complete", *words).code == (99 if files else 0)


def test_a_verbs_own_option_is_not_completed_with_a_controllers_exporters(
    command: Command, lab: FakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_client.cli.completion_values.exporters", lambda _: ["rpi4-1"])
    assert command("jumpstarter", "__complete", "lease", "create", "-n").out == "rpi4-1\n"
    for words in (["serial", "log", "-n"], ["--host", "x", "serial", "log", "-n"]):
        assert "rpi4-1" not in command("jumpstarter", "__complete", *words).out


@pytest.mark.parametrize(
    ("words", "typed", "fitting"),
    [
        (["power", "on", "-l"], "board=r", "board=rpi4 usb=no"),
        (["power", "on", "-l"], "usb=no,bo", "usb=no,board=rpi4 usb=no,usb=no"),
        (["power", "on"], "--selector=bo", "--selector=board=rpi4 --selector=usb=no"),
        (["power", "on"], "--log-level=de", "--log-level=debug --log-level=info --log-level=warning"),
        (["power", "on"], "--exporter-logs=", ""),
        (["shell", "--"], "--selector=", ""),
    ],
)
def test_the_values_of_a_label_are_those_of_the_controllers_exporters(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], typed: str, fitting: str
) -> None:
    monkeypatch.setattr("jumpstarter_client.cli.completion_values.labels", lambda _: ["board=rpi4", "usb=no"])
    monkeypatch.setenv("_JMP_WORD", typed)
    found = command("jumpstarter", "__complete", *words).out.split()
    assert found[:3] == fitting.split()


@pytest.mark.parametrize(
    ("words", "fitting"),
    [
        ([], {"rpi4"}),
        (["rpi4"], {"power"}),
        (["rpi4", "power"], {"on", "off", "cycle"}),
        (["rpi4", "power", "on"], set()),
        (["none"], set()),
    ],
)
def test_the_device_tree_is_completed(
    command: Command, lab: FakeExporter, words: list[str], fitting: set[str]
) -> None:
    done = command("j", "__complete", *words)
    assert (done.code, done.err) == (0, "")
    assert fitting <= set(done.out.split())
    assert fitting or not done.out


@pytest.mark.parametrize(
    ("words", "fitting"),
    [
        ([], {"--host", "-l", "--log-level"}),
        (["lease", "create"], {"--begin-time", "--tag", "-l"}),
        (["test"], {"--junit", "--set"}),
        (["exporters", "-o"], {"json", "yaml"}),
        (["-l", "board=rpi4", "devices", "-o"], {"json", "yaml"}),
        (["serial", "log", "rpi4"], {"--follow", "--since", "--host"}),
        (["storage", "flash"], {"--compression", "--verify"}),
    ],
)
def test_options_are_completed_once_a_hyphen_is_typed(
    command: Command, lab: FakeExporter, words: list[str], fitting: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_JMP_WORD", "-")
    assert fitting <= set(command("jumpstarter", "__complete", *words).out.split())
    monkeypatch.setenv("_JMP_WORD", "")
    assert not any(word.startswith("-") for word in command("jumpstarter", "__complete", *words).out.split())


def test_a_device_is_completed_by_its_path_where_a_board_has_several(
    command: Command, lab: FakeExporter
) -> None:
    lab.reports.append(entry("second", "aux", "board", POWER))
    add_board(lab, "rpi5")
    done = command("jumpstarter", "__complete", "power", "on")
    assert done.out.split() == ["rpi4.aux", "rpi4.power", "rpi5"]


def test_completion_starts_no_exporter_and_is_silent_without_one(command: Command) -> None:
    done = command("jumpstarter", "__complete", "power", "on")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_program(command: Command, shell: str) -> None:
    script = command("jumpstarter", "completion", shell).out
    assert " __complete " in script
    assert script == SCRIPTS[shell]


# --- version


def test_version(command: Command) -> None:
    number = command("jumpstarter", "version", "-o", "name").out.strip()
    assert json.loads(command("jumpstarter", "version", "-o", "json").out)["version"] == number
    assert number in command("jumpstarter", "--version").out


def test_a_login_without_a_port_is_told_of_it(command: Command) -> None:
    done = command("jumpstarter", "login", "127.9.8.7", "--issuer", "https://127.9.8.7")
    assert (done.code, done.err.count("\n")) == (4, 1), done.err
    assert "127.9.8.7:443: Connection refused; without a port it is 443" in done.err
    assert done.err.endswith("jumpstarter login 127.9.8.7:8082\n")
    assert "8082" not in command("jumpstarter", "login", "127.9.8.7:444").err
