"""`jumpstarter-exporter check` over all configurations of a host, and its identities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter import paths
from jumpstarter_exporter.cli.check import check_files
from jumpstarter_exporter.config import ConfigNotFoundError, Enrolment, Identities
from jumpstarter_exporter.config.model import Tls

DEVICES = "export: {rpi4: {children: {power: {type: power.MockPower}, again: {ref: rpi4.power}}}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configurations'."""
    monkeypatch.setattr(paths, "SYSTEM_CONFIG_FOLDER", tmp_path / "none")
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    folder = tmp_path / "exporters"
    folder.mkdir()
    return folder


def enrol(board: str, config: Path | None) -> Path:
    enrolment = Enrolment("lab:8082", "default", f"{board}-1", "secret", Tls(), Path("anywhere"))
    return Identities().save(board, enrolment, config)


def test_every_file_is_checked_and_a_wrong_one_is_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(DEVICES)
    assert check_files(None) == ExitCode.OK
    assert capsys.readouterr().out.count("is right.") == 2
    (folder / "broken.yaml").write_text("export: {a: {type: power.MockPowr}}")
    (folder / "twin.yaml").write_text("metadata: {name: two}\n" + DEVICES)
    assert check_files(None) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out.count("is right.") == 2
    errors = said.err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"jumpstarter-exporter: {folder}/broken.yaml:1:")
    assert errors[1].startswith(
        f"jumpstarter-exporter: {folder}/twin.yaml: it is named two, as {folder}/two.yaml"
    )


MISTAKES = """export:
  power: {type: power.MockPower, confg: {}}
  serial: {type: serial.PySerial, config: {url: x}}
  group:
    children:
      a: {typ: y}
      b: {type: [1]}
hooks: {beforeLeas: {}}
"""


def test_all_mistakes_of_a_file_are_said_in_one_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "one.yaml"
    file.write_text(MISTAKES)
    assert check_files("one") == ExitCode.USAGE
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in said] == [
        "export.power.confg",
        "export.group.children.a.typ",
        "export.group.children.b.type",
        "hooks.beforeLeas",
    ]
    assert all(line.startswith(f"jumpstarter-exporter: {file}:") for line in said)
    assert check_files("one", output="json") == ExitCode.USAGE
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert len(board["errors"]) == 4
    assert (
        board["error"]
        == f"{board['errors'][0]} (the first of 4 mistakes; all: jumpstarter-exporter check {file})"
    )
    file.write_text("export: {a: {type: power.MockPowr}, b: {type: power.MockPower, config: {x: 1}}}")
    assert check_files("one") == ExitCode.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_cannot_be_read_hides_no_mistake_of_what_can(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one.yaml").write_text(
        """\
apiVersion: v2
motd: 5
metadata: {nam: x, labels: 5}
hooks: {beforeLease: {script: a, timeout: -1, onFailure: x}}
export:
  relay: {type: power.GpioRelay, config: {pinn: 1, active_high: maybe}}
  none: {typ: power.MockPower}
  unknown: {type: power.Nope}
  ref: {ref: none}
  several: {type: power.MockPower, description: [1], required: 7, bla: 1}
  group: {children: {x: {type: 5}, y: {type: serial.PySerial, config: {url: 5}}}}
  empty: {type: }
  uboot: {type: uboot.UbootConsole, children: {power: {type: power.MockPower}, serial: {typ: serial.PySerial}}}
  empty: {type: power.MockPower}
"""
    )
    assert check_files("one") == ExitCode.USAGE
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in said] == [
        "apiVersion",
        "motd",
        "metadata.nam",
        "metadata.labels",
        "hooks.beforeLease.timeout",
        "hooks.beforeLease.onFailure",
        "export.relay.config",
        "export.relay.config.pinn",
        "export.relay.config.active_high",
        "export.none.typ",
        "export.unknown.type",
        "export.several.description",
        "export.several.required",
        "export.several.bla",
        "export.group.children.x.type",
        "export.group.children.y.config.url",
        "export.empty.type",
        "export.uboot.children.serial.typ",
        "export.empty",
    ]


def test_a_mistake_hides_nothing_of_the_same_device_and_makes_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "one.yaml").write_text(
        """\
export:
  p: {type: power.MockPowr, required: maybe, config: {q: 1}}
  5: {type: power.MockPower}
  a: {type: power.MockPowr, confg: {}}
  relay: {type: power.GpioRelay, confg: {pin: 5}}
  b: {type: serial.PySerial, required: maybe, config: {url: 5, baudrate: fast, foo: 1}}
  u1: {type: uboot.UbootConsole, children: [a]}
  u2: {type: uboot.UbootConsole, children: {power: {ref: p}, 5: {type: power.MockPower}}}
  g: {typ: power.MockPower, foo: 1, bar: 2}
  h: {children: {x: {type: power.MockPowr, bla: 1, description: [1]}}}
"""
    )
    assert check_files("one") == ExitCode.USAGE
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2].removeprefix("export") for line in said] == [
        "[5]",
        ".p.type",
        ".p.required",
        ".a.type",
        ".a.confg",
        ".relay.confg",
        ".b.required",
        ".b.config.url",
        ".b.config.baudrate",
        ".b.config.foo",
        ".u1.children",
        ".u2.children[5]",
        ".g.typ",
        ".g.foo",
        ".g.bar",
        ".h.children.x.type",
        ".h.children.x.bla",
        ".h.children.x.description",
    ]


@pytest.mark.parametrize("more", ["", "  bad: {type: power.MockPowr}\n  into: {ref: bad.x}\n", "motd: 5\n"])
def test_every_wrong_ref_is_said_beside_whatever_else(
    folder: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    (folder / "one.yaml").write_text(
        """\
export:
  p: {type: power.MockPower}
  nothing: {ref: nosuch}
  itself: {ref: itself}
  below: {ref: p.x}
  one: {ref: two}
  two: {ref: one}
  right: {ref: p}
  group: {children: {above: {ref: group}, right: {ref: p}}}
"""
        + more
    )
    assert check_files("one") == ExitCode.USAGE
    said = [line.split(": ")[2] for line in capsys.readouterr().err.splitlines()]
    refs = ["nothing", "itself", "below", "one", "two", "group.children.above"]
    others = {"": [], "m": ["motd"], " ": ["export.bad.type"]}[more[:1]]
    assert said == [*(f"export.{name}" for name in refs), *others]


def test_a_wrong_key_does_not_hide_the_interpreter(folder: Path) -> None:
    driver = "jumpstarter_driver_can.driver.Can"
    (folder / "one.yaml").write_text(f"python: /none/python\nmotd: 5\nexport: {{can: {{type: {driver}}}}}\n")
    with pytest.raises(ConfigError, match="motd: "):  # the only mistake
        check_files("one")


def test_one_that_is_named_is_the_only_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.yaml").write_text(DEVICES)
    (folder / "broken.yaml").write_text("export: [")
    enrol("lost", None)
    assert check_files("one") == ExitCode.OK
    said = capsys.readouterr()
    assert (said.out.count("is right."), said.err) == (1, "")
    assert "lost" not in said.out
    with pytest.raises(ConfigError, match="this is not YAML"):
        check_files("broken")


def test_an_empty_folder_is_exit_code_3(folder: Path) -> None:
    with pytest.raises(ConfigNotFoundError, match="there is no exporter configuration; put one as"):
        check_files(None)


def test_identities_without_a_board_and_broken_ones_are_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere.yaml"
    for file in (folder / "one.yaml", elsewhere):
        file.write_text(DEVICES)
    enrol("one", folder / "one.yaml")
    enrol("elsewhere", elsewhere)
    lost = enrol("lost", folder / ("l" * 5000))
    assert check_files(None) == ExitCode.OK
    (note,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Note"))
    assert note.startswith(
        f"Note: {lost} is the identity of a board lost, for which there is no configuration;"
    )
    lost.write_text("token: [")
    assert check_files(None) == ExitCode.USAGE
    said = capsys.readouterr()
    assert f"{lost}:2:1:" in said.err
    assert "(or delete the file and enrol the board again)" in said.err
    assert said.out.count("is right.") == 1


def test_an_identity_that_is_broken_is_its_boards_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(DEVICES)
    enrol("one", folder / "one.yaml").write_text("token: [")
    assert check_files(None) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out.startswith(f"{folder}/two.yaml is right.")
    assert said.err.count("(or delete the file") == 1


def described(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    text = capsys.readouterr().out
    assert "secret" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_json_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.yaml").write_text(DEVICES)
    (folder / "broken.yaml").write_text("export: [")
    kept, lost = enrol("one", folder / "one.yaml"), enrol("lost", None)
    assert check_files(None, output="json") == ExitCode.USAGE
    found = described(capsys)
    broken, one = found["boards"]
    assert (broken["board"], broken["identity"], broken["devices"]) == ("broken", None, {})
    assert "this is not YAML" in broken["error"]
    assert one == {
        "board": "one",
        "file": f"{folder}/one.yaml",
        "error": None,
        "errors": [],
        "devices": {"rpi4.power": "power.MockPower", "rpi4.again": "= rpi4.power"},
        "identity": {
            "namespace": "default",
            "name": "one-1",
            "endpoint": "lab:8082",
            "file": str(kept),
        },
        "notes": [],
    }
    assert [(identity["file"], identity["board"]) for identity in found["identities"]] == [
        (str(lost), "lost")
    ]
    assert check_files("broken", output="json") == ExitCode.USAGE
    assert len(described(capsys)["boards"]) == 1


def test_a_process_of_its_own_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.yaml").write_text(DEVICES)
    (folder / "two.yaml").write_text("ownProcess: true\n" + DEVICES)
    notes = notes_of(capsys)
    assert notes["one"] == []
    [note] = notes["two"]
    assert "which must be started as well: jumpstarter-exporter run --board two" in note


def test_what_is_required_and_never_missing_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one.yaml").write_text(
        "export:\n"
        "  power: {type: power.MockPower, required: true}\n"
        "  empty: {required: true, children: {}}\n"
        "  group: {required: true, children: {power: {type: power.MockPower}}}\n"
    )
    nothing_below = "empty: `required` has no effect without a device below it; remove it, or add a device."
    assert notes_of(capsys)["one"] == [
        nothing_below,
        "power, empty, group: `required` changes nothing before the board has joined a controller: it is about leases.",
    ]
    enrol("one", folder / "one.yaml")
    assert notes_of(capsys)["one"] == [nothing_below]


def notes_of(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    check_files(None, output="json")
    return {one["board"]: one["notes"] for one in described(capsys)["boards"]}
