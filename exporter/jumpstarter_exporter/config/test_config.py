"""Configuration files: what loads, and what is said about what does not."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.boards.occupancy import OccupancyLimits
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config import (
    ConfigError,
    ConfigNotFoundError,
    build,
    find_config,
    load,
    locate_config,
)
from jumpstarter_exporter.config.model import FailureDetection, Hook, Hooks, OccupancySeconds
from jumpstarter_exporter.config.types import known_types
from jumpstarter_exporter.driver import Driver, State
from jumpstarter_exporter.session.tree import Tree


@dataclass(kw_only=True, eq=False)
class Relay(Driver):
    client: ClassVar[str] = "example.client.RelayClient"

    pin: int
    active_high: bool = True
    at_open: Literal["leave", "on", "off"] = "leave"
    lines: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pin < 0:
            raise ValueError(f"pin is {self.pin}; it takes 0 or more")


class Unrelated:
    pass


@pytest.fixture(autouse=True)
def somebodys_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("somebodys_drivers")
    vars(module).update(Relay=Relay, Unrelated=Unrelated)
    monkeypatch.setitem(sys.modules, "somebodys_drivers", module)


def made(folder: Path, text: str) -> Driver:
    file = folder / "lab.yaml"
    file.write_text(text)
    return build(load(file)).make()


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        made(folder, text)
    assert caught.value.exit_code is ExitCode.USAGE
    said = str(caught.value).removeprefix(f"{folder / 'lab.yaml'}:")
    return re.sub(r"^(\d+):\d+: ", r"\1: ", said)  # columns are the document's to test


UPSTREAM = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: default
  name: demo
endpoint: grpc.jumpstarter.example:8082
token: secret
tls:
  ca: ""
  insecure: true
grpcOptions:
  grpc.keepalive_time_ms: 20000
description: a bench
motd: hello
hooks:
  beforeLease:
    script: echo before
    timeout: 60
    onFailure: endLease
  afterLease:
    script: echo after
    exec: /bin/bash
failureDetection:
  maxRapidFailures: 3
exitOnLeaseEnd: false
export:
  power:
    type: jumpstarter_driver_power.driver.MockPower
    description: the main switch
    methods_description:
      "on": switches it on
  serial:
    type: jumpstarter_driver_pyserial.driver.PySerial
    config:
      url: /dev/ttyUSB0
      baudrate: 115200
      labels: {bench: "7"}
      log_level: DEBUG
  tcp:
    type: "jumpstarter_driver_network.driver.TcpNetwork"
    config:
      host: 192.168.1.2
      port: 5201
      enable_address: true
  group:
    children:
      deep:
        type: jumpstarter_driver_composite.driver.Composite
        children:
          again:
            ref: power
  console:
    ref: serial
"""


def test_jumpstarters_file_loads_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(UPSTREAM)
    config = load(file)
    assert config.settings.metadata.name == "demo"
    assert config.settings.hooks.before_lease is not None
    assert config.settings.hooks.before_lease.on_failure == "endLease"
    assert config.settings.failure_detection == FailureDetection(3, 60)
    root = build(config).make()
    names = {name: type(child).__name__ for name, child in root.children.items()}
    assert names == {
        "power": "MockPower",
        "serial": "PySerial",
        "tcp": "TcpNetwork",
        "group": "Composite",
        "console": "Proxy",
    }
    power, serial = root.children["power"], root.children["serial"]
    assert (root.description, power.description) == ("a bench", "the main switch")
    assert power.methods_description == {"on": "switches it on"}
    assert (serial.labels, serial.log_level) == ({"bench": "7"}, "DEBUG")
    assert [entry.node.path for entry in Tree(root).entries] == [
        "",
        "power",
        "serial",
        "tcp",
        "group",
        "group.deep",
        "power",
        "serial",
    ]


def test_what_a_file_says_nothing_of_is_as_the_documentation_says(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("hooks: {afterLease: {script: 'true'}}\nfailureDetection: {}\nexport: {}\n")
    settings = load(file).settings
    assert settings.hooks == Hooks(None, Hook("true", exec=None, timeout=120, on_failure="warn"))
    assert settings.failure_detection == FailureDetection(max_rapid_failures=5, rapid_failure_window=60)
    assert settings.occupancy == OccupancySeconds(leave=10, idle=3600, idle_if_wanted=120, patience=240)
    assert settings.occupancy.limits == OccupancyLimits()
    assert (settings.exit_on_lease_end, settings.own_process, settings.tls.insecure) == (False, False, False)
    file.write_text("export: {}\n")
    assert load(file).settings.failure_detection is None, "it never gives up"
    assert load(file).enrolment is None


def test_how_long_a_board_is_kept_is_set_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("occupancy: {leave: 3, patience: 280}\nexport: {}\n")
    assert load(file).settings.occupancy.limits == OccupancyLimits(leave=3, patience=280)
    file.write_text("occupancy: {leave: 1, idle: 2, idleIfWanted: 3, patience: 4}\nexport: {}\n")
    assert load(file).settings.occupancy.limits == OccupancyLimits(
        leave=1, idle=2, idle_if_wanted=3, patience=4
    )
    file.write_text("occupancy: {patience: 281}\nexport: {}\n")
    with pytest.raises(
        ConfigError, match=r"occupancy\.patience: this is 281; it takes a whole number, at most 280"
    ):
        load(file)


@pytest.mark.parametrize("name", ["somebodys_drivers.Relay", "power.GpioRelay"])
def test_short_names_and_anybodys_classes(tmp_path: Path, name: str) -> None:
    root = made(tmp_path, f"export: {{relay: {{type: {name}, config: {{pin: 17, active_high: false}}}}}}")
    assert vars(root.children["relay"])["pin"] == 17


def test_anchors_merge_and_empty_sections(tmp_path: Path) -> None:
    root = made(
        tmp_path,
        """
        hooks:
        tls:
        export:
          one: &relay
            type: somebodys_drivers.Relay
            config: &config {pin: 1}
          two:
            <<: *relay
            config: {<<: *config, at_open: "on"}
          group:
            children:
        """,
    )
    assert isinstance(root.children["group"], Composite)
    assert vars(root.children["two"])["at_open"] == "on"


RELAY = "export: {rpi4: {children: {power: {type: somebodys_drivers.Relay, config: {%s}}}}}"
AT = "1: export.rpi4.children.power"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            RELAY % "pim: 17",
            f"{AT}.config.pim: somebodys_drivers.Relay has no key 'pim'; did you mean 'pin'?",
        ),
        (RELAY % "pin: x", f"{AT}.config.pin: this is 'x'; it takes a whole number"),
        (RELAY % "pin: -1", f"{AT}.config: pin is -1; it takes 0 or more"),
        (RELAY % "", f"{AT}: somebodys_drivers.Relay needs the key 'pin' in `config`; add it"),
        (
            RELAY % "active_high: true",
            f"{AT}.config: somebodys_drivers.Relay needs the key 'pin' in `config`; add it",
        ),
        (RELAY % "pin: 1, at_open: of", f"{AT}.config.at_open: this is 'of'; did you mean 'off'?"),
        (
            RELAY % "pin: 1, lines: {a: [1, b]}",
            f"{AT}.config.lines.a[1]: this is 'b'; it takes a whole number",
        ),
        (
            RELAY % "pin: 1, children: {}",
            f"{AT}.config.children: somebodys_drivers.Relay has no key 'children'",
        ),
        (RELAY % "pin: 1, log_level: LOUD", f"{AT}.config: log_level is 'LOUD'; it takes DEBUG,"),
        ("export: {a: {typ: x}}", "1: export.a.typ: unknown key 'typ'; did you mean 'type'?"),
        ("export: {a: {}}", "1: export.a: `type` is missing; a device needs `type:`, `children:` or `ref:`"),
        (
            "export: {a: {ref: b, config: {}}}",
            "1: export.a.config: unknown key 'config' beside `ref`; known are ref",
        ),
        (
            "export: {a: {children: {}, config: {}}}",
            "1: export.a.config: unknown key 'config' of a group; known are",
        ),
        ("export: {a: 5}", "1: export.a: this is a number; a device needs"),
        ("export: [a]", "1: export: this is a list; it takes names, with a device below each"),
        ("export: {1: {}}", "1: export[1]: 1 is not a valid name for a device; put it in quotes"),
        ("\nexprt: {}", "2: exprt: unknown key 'exprt'; did you mean 'export'?"),
        ("kind: ClientConfig", "1: kind: this is 'ClientConfig'; did you mean 'ExporterConfig'?"),
        (
            "hooks: {beforeLease: {scrip: x}}",
            "1: hooks.beforeLease.scrip: unknown key 'scrip'; did you mean 'script'?",
        ),
        ("hooks: {beforeLease: {}}", "1: hooks.beforeLease: 'script' is missing; add it"),
        (
            "hooks: {beforeLease: {script: x, timeout: 0}}",
            "1: hooks.beforeLease.timeout: this is 0; it takes a whole number, at least 1",
        ),
        ("hooks: later", "1: hooks: this is text; it takes keys with values"),
        (
            "export: {a: {type: pathlib.Path}}",
            "1: export.a.type: 'pathlib.Path' is not a driver for this exporter",
        ),
        (
            "export: {a: {type: somebodys_drivers.Unrelated}}",
            "1: export.a.type: 'somebodys_drivers.Unrelated' is no",
        ),
        (
            "export: {a: {type: somebodys_drivers.Rely}}",
            "1: export.a.type: unknown type 'somebodys_drivers.Rely'",
        ),
        (
            "export: {a: {type: nowhere.at.all.Relay}}",
            "'nowhere.at.all.Relay'; the Python package 'nowhere' is not installed: install what brings it",
        ),
        (
            "export: {a: {type: jumpstarter_driver_nowhere.driver.Relay}}",
            "the Python package 'jumpstarter_driver_nowhere' is not installed: install what brings it; a driver of ",
        ),
        ("export: {a: {type: 'power mock'}}", "1: export.a.type: unknown type 'power mock'"),
        ("export: {a: {type: power.GpioRely}}", "did you mean 'power.GpioRelay'?"),
        ("export: {a: {type: power.PowerInterface}}", "is only the base of other drivers; use"),
        (
            "export: {a: {type: jumpstarter_driver_power.driver.MokPower}}",
            "did you mean 'jumpstarter_driver_power",
        ),
        ("export: {a: {ref: b}}", "1: export.a: ref 'b' names nothing; there are a"),
        ("export: {a: {ref: a}}", "1: export.a: ref 'a' leads back to itself"),
        ("export: {a: {children: {b: {ref: c}}}}", "1: export.a.children.b: ref 'c' names nothing"),
        ("export: {a: {ref: a..b}}", "1: export.a.ref: ref is 'a..b'; it takes a path"),
        ("export:\n  a: {ref: b}\n  a: {ref: c}", "3: export.a: 'a' is there twice; keep one"),
        ("export: {a: {off: 1}}", "1: export.a: 'off' as a key is not text; put it in quotes"),
        ("a: [", "this is not YAML: "),
        (
            "a: !!python/object:os.system x",
            "1: the tag '!!python/object:os.system' is not known; leave it out",
        ),
        ("a: 1\n---\nb: 2", "this is not YAML: "),
        ("- a", "the file is not a mapping"),
        ("", "the file is empty"),
        ("# nothing", "the file is empty"),
    ],
)
def test_invalid_input_is_named(tmp_path: Path, text: str, words: str) -> None:
    said = complaint(tmp_path, text)
    assert words in said
    assert "\n" not in said


def test_a_driver_whose_library_is_missing_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_usb.py").write_text("import usb.nothing_of_that_kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = complaint(tmp_path, "export: {a: {type: needs_usb.Driver}}")
    assert "needs the Python package 'usb'; pip install 'jumpstarter-sbc[exporter]'" in said


@pytest.mark.parametrize(
    ("written", "package"),
    [("serial.PySerial", "serial"), ("virtual.VirtualBoard", "serial"), ("power.GpioRelay", "gpiozero")],
)
def test_a_driver_that_imports_its_library_late_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, package: str
) -> None:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if not (Path(place) / package).is_dir()])
    sys.path_importer_cache.clear()
    text = f"export: {{a: {{type: {written}}}, b: {{type: power.MockPower}}}}"
    said = complaint(tmp_path, text)
    assert f"needs the Python package '{package}'; pip install 'jumpstarter-sbc[exporter]'" in said


@pytest.mark.parametrize("written", ["storage.StorageMux", "power.PowerInterface"])
def test_the_base_of_other_drivers_names_them(tmp_path: Path, written: str) -> None:
    said = complaint(tmp_path, f"export: {{a: {{type: {written}}}}}")
    assert f"{written!r} is only the base of other drivers; use " in said
    assert written not in known_types()
    assert any(name in said for name in known_types())


def test_what_a_driver_module_offers_besides_is_not_a_type() -> None:
    assert "serial.PySerial" in known_types()
    assert "serial.SerialCore" not in known_types()


def test_keys_that_nobody_knows_are_warnings_where_a_file_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(
        "grpcConfig: {}\nmetadata: {uid: 5}\n"
        "export: {a: {type: power.MockPower, colour: red}, b: {ref: a, more: 1}}\n"
        "hooks: {beforeLease: {script: x, retries: 3}}\n"
    )
    with pytest.raises(
        ConfigError, match=r"1:1: grpcConfig: unknown key 'grpcConfig'; did you mean 'grpcOptions'"
    ):
        load(file)
    config = load(file, lenient=True)
    assert list(config.entries) == ["a", "b"]
    assert config.settings.hooks.before_lease is not None
    for line, key in [
        ("1", "grpcConfig"),
        ("2", "uid"),
        ("3", "colour"),
        ("3", "more"),
        ("4", "retries"),
    ]:
        assert f"lab.yaml:{line}:" in caplog.text
        assert f"unknown key {key!r}" in caplog.text


class Refusing(Driver):
    """A driver that raises what nobody should when it is made."""

    client: ClassVar[str] = "example.Client"

    def __post_init__(self) -> None:
        raise SystemExit("no")


BROKEN = [
    ("nothing.installed.Driver", "unknown type 'nothing.installed.Driver'"),
    ("storage.StorageMux", "is only the base of other drivers"),
    (f"{__name__}.Refusing", "raised SystemExit"),
    ("exits_at_import.Driver", "cannot be loaded"),
    ("power.MockPower, config: {nope: 1}", "has no key 'nope'"),
]


@pytest.mark.parametrize(("written", "reason"), BROKEN)
def test_a_device_that_cannot_be_made_is_failed_beside_those_that_can(
    tmp_path: Path,
    written: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "exits_at_import.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "lab.yaml"
    file.write_text(
        "export:\n  good: {type: power.MockPower}\n"
        f"  bad: {{type: {written}}}\n"
        "  parent:\n    type: nothing.Here\n    children: {child: {type: power.MockPower}}\n"
        "  name: {ref: bad}\n  below: {ref: bad.power}\n"
    )
    with pytest.raises(ConfigError, match=reason):
        build(load(file))
    root = build(load(file), lenient=True).make()
    assert root.children["good"].lifecycle.state is State.READY
    bad = root.children["bad"]
    assert bad.lifecycle.state is State.FAILED
    assert reason in bad.lifecycle.reason
    assert "lab.yaml:3" in bad.lifecycle.reason
    assert root.children["parent"].children["child"].lifecycle.state is State.READY
    assert reason in caplog.text


def test_a_file_of_which_no_device_can_be_made_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("export: {a: {type: nothing.Here}, b: {children: {c: {type: nothing.There}}}}")
    with pytest.raises(ConfigError, match=r"nothing\.Here"):
        build(load(file), lenient=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: \xff", "not UTF-8 text"),
        (b"a: 1\n" * 300_000, "larger than 1 MiB"),
        (b"a: \x00", "not YAML"),
        (b"[" * 5000, "not YAML"),
    ],
)
def test_files_that_are_not_configurations(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load(file)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_any_text_loads_or_is_a_config_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="replace")
    with suppress(ConfigError):
        build(load(file))


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["type", "config", "children", "ref", "description", "methods_description", "export", "hooks"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, ANYTHING | st.dictionaries(KEYS, ANYTHING)))
def test_any_structure_loads_or_is_a_config_error(tmp_path: Path, data: dict[str, object]) -> None:
    import json

    file = tmp_path / "any.yaml"
    file.write_text(json.dumps({"export": {"device": data}}))
    with suppress(ConfigError):
        build(load(file))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    own, system = tmp_path / "own" / "exporters", tmp_path / "system"
    own.mkdir(parents=True)
    system.mkdir()
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(own.parent))
    monkeypatch.setattr("jumpstarter_exporter.paths.SYSTEM_CONFIG_FOLDER", system)
    monkeypatch.chdir(tmp_path)
    return own, system


def test_the_only_configuration_is_found(folders: tuple[Path, Path]) -> None:
    own, system = folders
    with pytest.raises(
        ConfigNotFoundError, match="there is no exporter configuration; put one as NAME"
    ) as caught:
        find_config()
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    (system / "lab.yaml").touch()
    assert find_config() == locate_config(None) == system / "lab.yaml"
    (own / "lab.yaml").touch()
    assert find_config() == find_config("lab") == locate_config("lab") == own / "lab.yaml"
    (own / "bench.yaml").touch()
    with pytest.raises(
        ConfigNotFoundError, match="several exporter configurations: bench, lab; name one with --config"
    ):
        find_config()
    with pytest.raises(
        ConfigNotFoundError, match=r"no exporter configuration 'leb' in .*; did you mean 'lab'?"
    ):
        locate_config("leb")


def test_a_files_name_means_that_of_a_folder_unless_it_is_here(folders: tuple[Path, Path]) -> None:
    own, _ = folders
    (own / "lab.yaml").touch()
    assert locate_config("lab.yaml") == own / "lab.yaml"
    assert locate_config("./lab.yaml") == Path("lab.yaml")
    Path("lab.yaml").touch()
    assert locate_config("lab.yaml") == Path("lab.yaml")


def test_a_path_is_a_path(folders: tuple[Path, Path]) -> None:
    assert locate_config("lab.yaml") == Path("lab.yaml")
    assert locate_config("some/where") == Path("some/where")
    Path("here").touch()
    assert locate_config("here") == Path("here")


def test_xdg_is_asked_when_jumpstarters_own_variable_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path]
) -> None:
    monkeypatch.delenv("JMP_CLIENT_CONFIG_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "jumpstarter" / "exporters").mkdir(parents=True)
    (tmp_path / "jumpstarter" / "exporters" / "lab.yaml").touch()
    assert find_config("lab") == tmp_path / "jumpstarter" / "exporters" / "lab.yaml"


@pytest.mark.parametrize("address", ["http://lab:8082", "lab:notaport"])
def test_a_controllers_address_that_is_none_is_told_how_one_is_written(tmp_path: Path, address: str) -> None:
    said = complaint(tmp_path, UPSTREAM.replace("grpc.jumpstarter.example:8082", address))
    line = UPSTREAM[: UPSTREAM.index("endpoint:")].count("\n") + 1
    assert f"{line}: endpoint: '{address}' is not an address: " in said
    assert "; write HOST:PORT such as" in said


def test_an_address_that_no_url_may_lead_to_is_named_with_its_place(tmp_path: Path) -> None:
    said = complaint(tmp_path, "export: {}\nfetch:\n  allow:\n  - 10.0.0.1\n  - 10.0.0.0/99\n")
    assert "5: fetch.allow[1]: " in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{type: lab.Can, python: python3}", "'python3' is not the path of an interpreter; give one such as"),
        ("{type: lab.Can, python: 3}", "python"),
        ("{type: power.MockPower, python: /opt/x/bin/python}", "'python' is for drivers of Jumpstarter 0.9"),
        ("{type: power.MockPower, ownProcess: true}", "'ownProcess' is for drivers of Jumpstarter 0.9"),
        ("{type: power.MockPower, ownProcess: 1}", "ownProcess"),
        ("{children: {}, python: /opt/x/bin/python}", "python"),
    ],
)
def test_an_interpreter_where_it_means_nothing_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "board.yaml"
    file.write_text(f"export: {{can: {text}}}")
    with pytest.raises(ConfigError, match=re.escape(reason)):
        build(load(file))
    file.write_text("python: python3\nexport: {}")
    with pytest.raises(ConfigError, match="not the path of an interpreter"):
        load(file)
