"""Files of profiles are read strictly, and a mistake is named with its place and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.config.types import resolve
from jumpstarter_exporter.devices import profiles
from jumpstarter_exporter.devices.profiles import combine, parse, read_folder, read_profiles, shipped

CONSOLE = "match: {subsystem: tty}, type: serial.PySerial"


def one(text: str, name: str = "mine") -> bytes:
    return f"profiles:\n  {name}: {{{text}}}\n".encode()


MISTAKES = {
    "match: {subsystem: tty, vendr: '0403'}, type: serial.PySerial":
        r"mine.match.vendr: unknown key 'vendr'; did you mean 'vendor'\?",
    "match: {subsystem: tty, vendor: 0403}, type: serial.PySerial":
        r"vendor: YAML reads it as the number 259; put the hex digits in quotes",
    "match: {subsystem: tty, ancestor: {product: 2640}}, type: a.B":
        r"ancestor.product: YAML reads it as the number 2640",
    "match: {subsystem: tty, vendor: 'FTDI'}, type: serial.PySerial": r"vendor: 'FTDI' is not a hex number",
    "match: {subsystem: tty, vendor: '403'}, type: serial.PySerial": r"vendor: '403' is not a hex number; .* four",
    "match: {subsystem: tty, port: 1-1,2}, type: serial.PySerial": r"mine.match\[2\]: unknown key 2; known are",
    "match: {subsystem: tty, port: '1-1,2'}, type: serial.PySerial": r"match.port: '1-1,2' is not a USB port",
    "match: {vendor: '0403'}, type: serial.PySerial": r"mine.match: 'subsystem' is missing; add it",
    "type: serial.PySerial": r"'match' is missing",
    "type: serial.PySerial, match: ": r"'match' is missing",
    "match: {subsystem: tty}": r"has either `type` or `no_driver`",
    f"{CONSOLE}, no_driver: none yet": r"has either `type` or `no_driver`",
    "match: {subsystem: tty}, type: lab.drivers.Relay":
        r"mine.type: the interface of lab.drivers.Relay is unknown; add `interface:",
    "match: {subsystem: tty}, no_driver: none yet": r"`interface` is missing",
    "match: {subsystem: tty}, interface: power, no_driver: none, config: {a: 1}": r"mine.config: .config. needs .type.",
    f"{CONSOLE}, config: {{url: '{{lnk}}'}}":
        r"config.url: {lnk} is not a word for a template; did you mean 'link'\?",
    f"{CONSOLE}, config: {{a: [x, '{{port!r}}']}}": r"config.a\[1\]: {port} is not a word",
    f"{CONSOLE}, name: 'a{{'": r"mine.name: .*; write {{ for a brace",
    f"{CONSOLE}, labels: {{a: '{{}}'}}": r"labels.a: {} is not a word",
    "match: {subsystem: tty, usb_interface: '01'}, type: serial.PySerial":
        r"usb_interface: this is '01'; it takes a whole number",
}  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.items())
def test_a_mistake_is_named_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        parse(Path("mine.yaml"), one(text))
    assert error.value.line == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("profiles: [a]", "this is a list; it takes names"), ("kind: ExporterConfig", "known are DeviceProfiles"),
     ("profiles: {a: }", "a: this is empty; it takes keys"), ("enable: usb-hub", "this is 'usb-hub'; it takes a list")],
)  # fmt: skip
def test_so_is_one_at_the_top(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(Path("mine.yaml"), text.encode())


def test_an_admins_profile_replaces_the_shipped_one_of_its_name() -> None:
    theirs = parse(Path("shipped.yaml"), one(CONSOLE), by_admin=False)
    ours = parse(Path("mine.yaml"), one("match: {subsystem: block}, type: storage.BlockStorage"))
    (found,) = combine([theirs], [ours]).profiles
    assert (found.by_admin, found.match.subsystem, found.interface) == (True, "block", "storage")


def test_profiles_can_be_disabled_and_names_that_nobody_has_are_errors() -> None:
    theirs = parse(Path("shipped.yaml"), one(CONSOLE), by_admin=False)
    ours = parse(Path("mine.yaml"), b"disable: [mine]\nenable: [mien]\n")
    found = combine([theirs], [ours])
    assert found.profiles == ()
    assert [str(error) for error in found.errors] == [
        "mine.yaml:2:10: enable[0]: there is no profile 'mien'; did you mean 'mine'?"
    ]


def test_a_file_with_a_mistake_takes_nothing_from_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(one(CONSOLE, "first"))
    (tmp_path / "b.yaml").write_bytes(one("match: {subsystem: tty}, typ: serial.PySerial"))
    (tmp_path / "c.yaml").write_bytes(one(CONSOLE, "first"))
    (tmp_path / ".d.yaml").write_bytes(b"an editor's")
    found = read_profiles(tmp_path)
    assert {"first", "serial-adapter"} <= {profile.name for profile in found.profiles}
    typo, twice = map(str, found.errors)
    assert "b.yaml:2:" in typo
    assert "did you mean 'type'?" in typo
    assert "c.yaml:2:3: profiles.first:" in twice
    assert "a.yaml has a profile first, too" in twice
    assert read_folder(tmp_path / "none") == ([], [])


def test_the_shipped_profiles_are_right_and_their_drivers_take_their_values() -> None:
    found = combine(shipped(), [])
    assert found.errors == ()
    assert not any(profile.by_admin for profile in found.profiles)
    for profile in found.profiles:
        if profile.type is not None:
            resolve(profile.type)(**profile.config)


def test_they_are_parts_of_the_package() -> None:
    assert {file.document.file.stem for file in shipped()} == {
        "cameras", "hubs", "loaders", "muxes", "probes", "relays", "serial", "storage"
    }  # fmt: skip
    assert Path("/etc/jumpstarter/profiles.d") == profiles.ADMIN_FOLDER
