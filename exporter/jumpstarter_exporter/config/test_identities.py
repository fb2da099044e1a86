"""Identities of boards: kept for their owner only, whole, and counted before what a configuration says itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from jumpstarter_proto.private_files import PrivateFileError

from jumpstarter_exporter.cli.check import check_files
from jumpstarter_exporter.config import ConfigError, Enrolment, Identities, load, with_identity
from jumpstarter_exporter.config.model import Tls

DEVICES = "export: {power: {type: power.MockPower}}\n"
OWN = "metadata: {namespace: default, name: rpi4}\nendpoint: old:8082\ntoken: old\n"


def enrolment(name: str = "one", token: str = "secret") -> Enrolment:
    return Enrolment("lab:8082", "default", name, token, Tls(ca="QUJD"), Path("anywhere"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rpi4.yaml"
    file.write_text(DEVICES)
    file.chmod(0o444)
    return file


@pytest.fixture
def identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identities:
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    return Identities()


def test_what_is_kept_is_found_again(identities: Identities, file: Path) -> None:
    path = identities.save("rpi4", enrolment(), file)
    found = with_identity(load(file)).enrolment
    assert found == Enrolment("lab:8082", "default", "one", "secret", Tls(ca="QUJD"), path)
    assert "secret" not in repr(found) + str(found)
    assert with_identity(load(file)).exporter_name == "one"
    assert load(file).enrolment is None


def test_nobody_else_can_read_it_at_any_moment(
    identities: Identities, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real = os.open

    def watched(path: str, flags: int, mode: int = 0o777, **how: int) -> int:
        if flags & os.O_CREAT:
            opened.append(mode)
        return real(path, flags, mode, **how)

    real_mkdir = os.mkdir
    made: dict[str, int] = {}

    def watched_mkdir(path: str, mode: int = 0o777) -> None:
        made[str(path)] = mode
        real_mkdir(path, mode)

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(os, "mkdir", watched_mkdir)
    before = os.umask(0)
    try:
        path = identities.save("rpi4", enrolment(), file)
    finally:
        os.umask(before)
    assert set(opened) == {0o600}
    assert made[str(path.parent)] == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_folder_is_closed_to_others(identities: Identities, file: Path) -> None:
    identities.folder.mkdir(parents=True)
    identities.folder.chmod(0o755)
    identities.save("rpi4", enrolment(), file)
    assert stat.S_IMODE(identities.folder.stat().st_mode) == 0o700


def test_one_that_others_could_read_is_closed_with_a_warning(
    identities: Identities, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = identities.save("rpi4", enrolment(), file)
    path.chmod(0o644)
    assert with_identity(load(file)).enrolment is not None
    assert f"{path} could be read by others (mode 644), and is closed to them now" in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    caplog.clear()
    assert with_identity(load(file)).enrolment is not None
    assert not caplog.text


def test_it_counts_before_that_of_the_file(
    identities: Identities, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(OWN + DEVICES)
    own = with_identity(load(file)).enrolment
    assert own == Enrolment("old:8082", "default", "rpi4", "old", Tls(), file)
    path = identities.save("rpi4", enrolment(), file)
    assert with_identity(load(file), say=True).enrolment == Enrolment(
        "lab:8082", "default", "one", "secret", Tls(ca="QUJD"), path
    )
    assert f"the token at {file}:3:1 is not used, because {path} takes precedence" in caplog.text


def test_it_is_for_no_other_board_of_the_same_name(
    identities: Identities, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identities.save("rpi4", enrolment(), file)
    other = tmp_path / "other" / "rpi4.yaml"
    other.parent.mkdir()
    other.write_text(DEVICES)
    assert with_identity(load(other), say=True).enrolment is None
    assert f"it is for the board of {file}" in caplog.text
    file.unlink()  # it has moved
    assert with_identity(load(other)).enrolment is not None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("endpoint: lab:8082\n", ""), ": 'endpoint' is missing; add it (or delete the file and enrol"),
        (("endpoint: lab:8082", "endpoint: 'lab:x'"), ":9:1: endpoint: "),
        (("token: secret", "token: ''"), ": token: there is nothing behind it"),
        (("  name: one\n", ""), "'name' is missing"),
        (("kind: ExporterIdentity", "kind: ExporterConfig"), "; did you mean 'ExporterIdentity'? (or delete"),
        (("board:", "bored:"), "unknown key 'bored'; did you mean 'board'? (or delete"),
        (("token:", "token: [:"), "this is not YAML"),
    ],
)
def test_one_that_is_broken_is_said_with_its_place_and_cure(
    identities: Identities, file: Path, change: tuple[str, str], sentence: str
) -> None:
    path = identities.save("rpi4", enrolment(), file)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(ConfigError) as caught:
        with_identity(load(file))
    said = str(caught.value)
    assert said.startswith(str(path))
    assert sentence in said
    assert said.endswith("(or delete the file and enrol the board again)")
    assert "secret" not in said
    assert list(identities.every()) == [path]
    assert isinstance(identities.every()[path], ConfigError)


def test_a_state_directory_that_cannot_be_is_a_sentence(tmp_path: Path, file: Path) -> None:
    (tmp_path / "state").touch()
    identities = Identities(tmp_path / "state" / "identities")
    with pytest.raises(PrivateFileError, match=r"cannot be kept in .*: Not a directory; see what is there"):
        identities.save("rpi4", enrolment(), file)
    assert identities.find("rpi4") is None
    assert identities.every() == {}


def test_every_identity_is_found_by_its_board(identities: Identities, file: Path) -> None:
    names = ["rpi4", "a/b", "..", "é ü"]
    paths = [identities.save(name, enrolment(), file) for name in names]
    assert all(path.parent == identities.folder for path in paths)
    (identities.folder / ".rpi4.yaml.1234").touch()
    (identities.folder / "rpi4.yaml~").touch()
    boards = [getattr(one, "board", None) for one in identities.every().values()]
    assert sorted(map(str, boards)) == sorted(names)


def check(file: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What it says of the identity."""
    assert check_files(str(file)) == 0
    return capsys.readouterr().out.splitlines()[2:]


def test_check_says_which_identity_counts(
    identities: Identities, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = check(file, capsys)
    assert line.startswith("Identity: none, so the board is for users of this host")
    path = identities.save("rpi4", enrolment(), file)
    assert check(file, capsys) == [f"Identity: exporter default/one of lab:8082 ({path})"]

    file.chmod(0o600)
    file.write_text(OWN + DEVICES)
    assert check(file, capsys)[1:] == [
        f"Note: the token at {file}:3:1 is not used, because {path} takes precedence; remove it."
    ]
    path.unlink()
    file.chmod(0o644)
    lines = check(file, capsys)
    assert lines[0] == f"Identity: exporter default/rpi4 of old:8082 ({file})"
    assert f"can be read by others; run: chmod 600 {file}, or enrol" in lines[1]

    other = tmp_path / "other.yaml"
    other.write_text("metadata: {name: rpi4}\n" + DEVICES)
    path = identities.save("rpi4", enrolment(), other)
    lines = check(file, capsys)
    assert lines[0].endswith(f"({file})")
    assert lines[1].startswith(f"Note: {path} is not used: it is for the board of {other}")


def test_what_root_keeps_belongs_to_the_service_that_reads_it(
    identities: Identities, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[Path, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.update({path: (user, group)}))
    path = identities.save("rpi4", enrolment(), file)
    owner = identities.folder.parent.stat()
    assert given == dict.fromkeys((identities.folder, path), (owner.st_uid, owner.st_gid))


def test_a_pipe_in_place_of_one_is_a_sentence(identities: Identities, file: Path) -> None:
    identities.prepare()
    os.mkfifo(identities.path("rpi4"), 0o600)
    with pytest.raises(
        ConfigError,
        match=r"this identity cannot be read: it is a pipe, .* not a file; see what is there and move it away",
    ):
        with_identity(load(file))


def test_a_board_whose_file_has_any_name_finds_its_own(identities: Identities, file: Path) -> None:
    odd = file.with_name(os.fsdecode(b"rpi4-\xff.yaml"))
    odd.write_text("metadata: {name: rpi4}\n" + DEVICES)
    identities.save("rpi4", enrolment(), odd)
    assert with_identity(load(odd)).enrolment is not None
    odd.rename(file)
    assert with_identity(load(file)).enrolment is not None


@pytest.mark.parametrize("where", [".", "identities", "identities/rpi4.yaml"])
def test_a_loop_of_links_is_named_with_what_to_remove(identities: Identities, file: Path, where: str) -> None:
    path = identities.folder.parent / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)
    with pytest.raises(ConfigError, match="a link on the way leads to itself: remove that") as caught:
        with_identity(load(file))
    assert "sudo" not in str(caught.value)
    if where != "identities/rpi4.yaml":
        for look in (identities.every, identities.prepare):
            with pytest.raises(PrivateFileError, match="a link on the way leads to itself: remove that"):
                look()
