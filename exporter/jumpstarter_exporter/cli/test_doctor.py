"""`jumpstarter-exporter doctor` in its own process, on trees and on this host."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.cli.main import main
from jumpstarter_exporter.cli.program import OUR_LOGGERS

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without an exporter, and a host that is a Raspberry Pi with a weak supply."""
    root = tmp_path / "root"
    tree = {
        "sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "proc/meminfo": "MemTotal: 3884372 kB\nMemAvailable: 3012340 kB\n",
        "run/systemd/timesync/synchronized": "",
    }
    for place, text in tree.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    monkeypatch.setenv("JUMPSTARTER_HOST_ROOT", str(root))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("JUMPSTARTER_RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture(autouse=True)
def log_settings() -> Iterator[None]:
    """As they were before, which a process that ends does not need."""
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in ("root", *OUR_LOGGERS)]
    handlers, levels = list(root.handlers), [one.level for one in loggers]
    yield
    root.handlers[:] = handlers
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_findings_stand_in_groups_with_their_cure_and_an_error_is_the_exit_code(capsys: Capture) -> None:
    assert run() == ExitCode.FAILED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Power supply"
    assert lines[1].startswith("  error    the supply's voltage is too low now; use the supply")
    assert "  ok       the clock is synchronised" in lines
    assert lines[-1].startswith("1 error, ")
    assert lines[-1].endswith("could not be found out")


def test_findings_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run()
    wide = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "60")
    run()
    narrow = capsys.readouterr().out
    without_paths = [line for line in narrow.splitlines() if "/" not in line]
    assert max(map(len, wide.splitlines())) > 60 >= max(map(len, without_paths))
    assert narrow.split() == wide.split()


def test_quiet_has_problems_only(capsys: Capture) -> None:
    run("-q")
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ")} == {"error", "warning"}


def test_scripts_get_keys_and_numbers(capsys: Capture) -> None:
    assert run("-o", "json") == ExitCode.FAILED
    found = json.loads(capsys.readouterr().out)
    (power,) = [one for one in found["findings"] if one["key"] == "power.undervoltage"]
    assert power.keys() == {"key", "severity", "subject", "sentence", "cure"}
    assert power["severity"] == "error"
    assert power["sentence"].startswith("the supply's voltage is too low now")
    assert power["cure"].startswith("use the supply")
    assert found["measures"]["undervoltage"] == 1
    assert run("-o", "yaml") == ExitCode.FAILED
    assert yaml.safe_load(capsys.readouterr().out)["measures"].keys() == found["measures"].keys()


def test_a_host_without_an_error_ends_with_0(home: Path, capsys: Capture) -> None:
    (home / "root/sys/devices/platform/soc/soc:firmware/get_throttled").write_text("50000\n")
    assert run("-q") == ExitCode.OK
    *findings, summary = capsys.readouterr().out.splitlines()
    warnings = [line for line in findings if line.startswith("  warning ")]
    assert "  warning  the supply's voltage has been too low since the boot" in "\n".join(warnings)
    assert summary.startswith(f"no errors, {len(warnings)} warning{'s' if len(warnings) > 1 else ''}")


def test_a_broken_configuration_and_a_controller_that_is_away_are_errors(home: Path, capsys: Capture) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        folder = home / "config/exporters"
        folder.mkdir(parents=True)
        (folder / "rock.yaml").write_text("kind: [\n")
        (folder / "rpi4.yaml").write_text(
            "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: rpi4}\n"
            f"endpoint: 127.0.0.1:{port}\ntoken: secret-token\ntls: {{insecure: true}}\n"
            "export: {power: {type: power.MockPower}}\n"
        )
        assert run("-o", "json") == ExitCode.FAILED
    out = capsys.readouterr().out
    assert "secret-token" not in out
    found = {one["key"]: one for one in json.loads(out)["findings"]}
    assert found["config.broken"]["subject"] == str(folder / "rock.yaml")
    assert found["controller.reachable"]["severity"] == "error"
    assert found["controller.reachable"]["subject"] == f"127.0.0.1:{port}"


def test_this_host_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv("JUMPSTARTER_HOST_ROOT")
    assert run("-o", "json") in (ExitCode.OK, ExitCode.FAILED)
    found = json.loads(capsys.readouterr().out)
    assert {"disk.space", "memory.available"} <= {one["key"] for one in found["findings"]}
    assert "memory_available_bytes" in found["measures"]


def test_help_has_examples(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "jumpstarter-exporter doctor -o json" in capsys.readouterr().out
