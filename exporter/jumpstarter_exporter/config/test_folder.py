"""The boards of a folder of configurations: every file is one or an error, and none disturbs another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.private_files import PrivateFileError
from jumpstarter_proto.yaml_files import ConfigError, Document

from jumpstarter_exporter import paths
from jumpstarter_exporter.config import ExporterConfig
from jumpstarter_exporter.config.folder import BoardFile, SourceFile, boards_of, read_files
from jumpstarter_exporter.config.model import Enrolment, Metadata, Tls, TopLevel

DEVICES = "export: {power: {type: power.MockPower}}\n"
FOLDER = Path("/lab")


def parse(path: Path, content: bytes) -> ExporterConfig:
    """A configuration of one word: the board's name, if there is one; `!` is broken."""
    if content.startswith(b"!"):
        raise ConfigError(f"broken {content!r}", file=path)
    settings = TopLevel(metadata=Metadata(name=content.strip().decode() or None))
    return ExporterConfig(path, settings, {}, cast("Document", None))


contents = st.sampled_from([b"", b" ", b"a", b"b", b"c", b"!", b"!!"])
readings = st.dictionaries(st.sampled_from("abcd"), contents | st.none(), max_size=4)
"""Files by stem; None cannot be read."""


def sources(reading: dict[str, bytes | None]) -> list[SourceFile]:
    return [
        SourceFile(FOLDER / f"{stem}.yaml", content or b"", "" if content is not None else "no")
        for stem, content in reading.items()
    ]


@given(st.lists(readings, min_size=1, max_size=4))
def test_any_files_are_boards_or_errors_and_disturb_nobody(
    history: list[dict[str, bytes | None]],
) -> None:
    before = boards_of([], None, parse)
    for reading in history:
        files = sources(reading)
        after = boards_of(files, before, parse)
        assert after == boards_of(files[::-1], before, parse), "whatever their order"
        assert sorted(one.path for one in after.values()) == sorted(file.path for file in files)
        for name, one in after.items():
            assert one.name == name
            assert (one.config is None) != (one.error is None)
            assert one.config is None or one.config.board_name == name
        for name, one in before.items():
            if one.config is None:
                continue
            content = reading.get(one.path.stem)
            if content is not None and content in (name.encode(), b"") and one.config.board_name == name:
                mine = content == name.encode() or one.path.stem == name
                assert not mine or after[name].path == one.path, "what has a name keeps it"
            elif one.path.stem in reading and (content is None or content.startswith(b"!")):
                assert after[name].path == one.path, "a board whose file breaks is still that board"

        again = boards_of(files, after, parse)
        assert list(again) == list(after)
        assert all(one.says_the_same(after[name]) for name, one in again.items()), "it is left alone"
        before = after


def lines(folder: Path) -> list[str]:
    """What there is, in short."""
    found = boards_of(read_files([folder])).values()
    return [f"{one.name}: {one.error.message if one.error else 'right'}" for one in found]


def test_a_folder(tmp_path: Path) -> None:
    assert lines(tmp_path) == []
    assert lines(tmp_path / "none") == []
    (tmp_path / "good.yaml").write_text(DEVICES)
    (tmp_path / "broken.yaml").write_text("export: [")
    (tmp_path / "client.yaml").write_text("kind: ClientConfig\nendpoint: lab:8082\n")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "lost.yaml").symlink_to("nowhere")
    (tmp_path / "twin.yaml").write_text("metadata: {name: good}\n" + DEVICES)
    for name in ("good.yaml~", ".good.yaml.swp", "#good.yaml#", ".#good.yaml", "good.yaml.bak", "notes.md"):
        (tmp_path / name).write_text("export: [")
    found = lines(tmp_path)
    assert [line.partition(":")[0] for line in found] == [
        "broken",
        "client",
        "empty",
        "folder",
        "good",
        "lost",
        "twin",
    ]
    assert "this is not YAML" in found[0]
    assert "did you mean 'ExporterConfig'?" in found[1]
    assert "the file is empty" in found[2]
    assert "the file cannot be read: Is a directory" in found[3]
    assert found[4] == "good: right"
    assert "there is no such file" in found[5]
    assert f"named good, as {tmp_path / 'good.yaml'}; give one of them another" in found[6]


def test_a_file_whose_name_ends_otherwise_is_not_a_board_and_not_passed_over(tmp_path: Path) -> None:
    for name in ("good.yaml", "good.yml", "other.yml", "loud.YAML", "notes.md", "good.yml~", ".hidden.yml"):
        (tmp_path / name).write_text(DEVICES)
    assert lines(tmp_path) == [
        "good: right",
        f"{tmp_path / 'good.yml'}: only files whose names end with .yaml are read; rename it to good.yaml",
        "loud: only files whose names end with .yaml are read; rename it to loud.yaml",
        "other: only files whose names end with .yaml are read; rename it to other.yaml",
    ]


def test_a_reload_finds_what_has_changed_by_content(tmp_path: Path) -> None:
    for name in ("stays", "changes", "breaks", "goes"):
        (tmp_path / f"{name}.yaml").write_text(f"metadata: {{name: {name}-1}}\n" + DEVICES)
    before = boards_of(read_files([tmp_path]))
    (tmp_path / "stays.yaml").touch()
    (tmp_path / "changes.yaml").write_text("metadata: {name: changes-1}\nmotd: hello\n" + DEVICES)
    (tmp_path / "breaks.yaml").write_text("export: [")
    (tmp_path / "goes.yaml").unlink()
    (tmp_path / "comes.yaml").write_text("metadata: {name: stays-1}\n" + DEVICES)
    after = boards_of(read_files([tmp_path]), before)
    assert set(after) == {"stays-1", "changes-1", "breaks-1", "comes"}
    assert after["stays-1"].says_the_same(before["stays-1"])
    assert not after["changes-1"].says_the_same(before["changes-1"])
    assert not after["breaks-1"].says_the_same(before["breaks-1"])
    assert after["breaks-1"].error is not None
    assert "named stays-1, as" in str(after["comes"].error)


def test_a_broken_file_takes_no_name_from_a_whole_one() -> None:
    found = boards_of(sources({"a": b"!", "b": b"a"}), None, parse)
    assert found["a"].path == FOLDER / "b.yaml"
    assert [one.error is None for one in found.values()] == [False, True]


def test_what_is_whole_again_has_changed_though_its_file_has_not() -> None:
    """As when the identity that is kept for it was broken."""

    def refuse(path: Path, content: bytes) -> ExporterConfig:
        raise ConfigError("no", file=path)

    broken = boards_of(sources({"a": b"a"}), None, refuse)
    assert not boards_of(sources({"a": b"a"}), broken, parse)["a"].says_the_same(broken["a"])


def test_an_exporter_that_is_another_now_has_changed_and_one_with_a_new_token_has_not() -> None:
    """As when `enrol` has written to the state directory."""

    def enrolled(name: str, token: str, endpoint: str = "lab:8082", namespace: str = "lab") -> BoardFile:
        def with_identity(path: Path, content: bytes) -> ExporterConfig:
            enrolment = Enrolment(endpoint, namespace, name, token, Tls(), path)
            return replace(parse(path, content), enrolment=enrolment)

        return boards_of(sources({"a": b"a"}), None, with_identity)["a"]

    nobody = boards_of(sources({"a": b"a"}), None, parse)["a"]
    assert not nobody.says_the_same(enrolled("one", "x"))
    assert not enrolled("two", "x").says_the_same(enrolled("one", "x"))
    assert not enrolled("one", "x", endpoint="elsewhere:1").says_the_same(enrolled("one", "x"))
    assert not enrolled("one", "x", namespace="other").says_the_same(enrolled("one", "x"))
    assert enrolled("one", "y").says_the_same(enrolled("one", "x"))


def test_the_device_nodes_that_a_file_names_are_known_though_it_is_broken() -> None:
    text = b"""\
export:  # not /dev/ttyS0
  a: {type: serial.PySerial, config: {url: /dev/ttyUSB0}}
  b: {url: "/dev/serial/by-id/usb-A#1", 'chip': '/dev/gpiochip1', list: [/dev/ttyUSB1,/dev/ttyUSB2]}
  # /dev/ttyS1
  ! /dev/sda #/dev/sdb
"""
    found = boards_of([SourceFile(FOLDER / "a.yaml", text)])["a"]
    assert found.config is None
    assert found.nodes == {
        "/dev/ttyUSB0",
        "/dev/serial/by-id/usb-A#1",
        "/dev/gpiochip1",
        "/dev/ttyUSB1",
        "/dev/ttyUSB2",
        "/dev/sda",
    }


def test_the_users_own_files_count_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "exporters", tmp_path / "system"
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(paths, "SYSTEM_CONFIG_FOLDER", system)
    for folder, name in ((own, "a"), (system, "a"), (system, "b")):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(DEVICES)
    assert [one.path for one in boards_of(read_files()).values()] == [own / "a.yaml", system / "b.yaml"]


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(PrivateFileError, match=r"loop cannot be read: Too many levels"):
        read_files([loop])
