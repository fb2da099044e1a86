"""Environments are built once, thrown away when a build was cut short, and a failed build is an error."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import peers


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A requirements file for a package that needs no index."""
    monkeypatch.setenv("JUMPSTARTER_TEST_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "ANSWER = 42\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    path = tmp_path / "requirements.txt"
    path.write_text(f"--no-index\n{wheel}\n")
    return path


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    path = tmp_path / "constraints.txt"
    path.write_text("tiny==1.0\n")
    return path


def test_environment_has_what_is_required(requirements: Path, constraints: Path) -> None:
    built = peers.environment("tiny", requirements, constraints)
    subprocess.run([built.python, "-c", "import tiny; assert tiny.ANSWER == 42"], check=True)
    assert (built.site_packages / "tiny.py").exists()
    assert not list(built.site_packages.glob("pip*"))


def test_second_use_builds_nothing(requirements: Path, constraints: Path) -> None:
    built = peers.environment("tiny", requirements, constraints)
    kept = built.path / "kept"
    kept.touch()
    assert peers.environment("tiny", requirements, constraints) == built
    assert kept.exists()


def test_two_at_once_build_one(
    requirements: Path, constraints: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(peers.environment, "tiny", requirements, constraints) for _ in range(2)]
        assert len({future.result() for future in both}) == 1
    assert capfd.readouterr().err.count("Installing tiny") == 1


def test_a_build_cut_short_is_done_again(requirements: Path, constraints: Path) -> None:
    built = peers.environment("tiny", requirements, constraints)
    (built.path / peers.MARKER).unlink()
    (built.site_packages / "tiny.py").unlink()
    assert peers.environment("tiny", requirements, constraints) == built
    assert (built.site_packages / "tiny.py").exists()


def test_another_pin_is_another_environment(requirements: Path, constraints: Path) -> None:
    first = peers.environment("tiny", requirements, constraints)
    constraints.write_text("tiny==1.0\n# one more pin\n")
    assert peers.environment("tiny", requirements, constraints) != first


def test_what_cannot_be_installed_is_an_error(requirements: Path, constraints: Path) -> None:
    requirements.write_text("--no-index\nno-such-thing\n")
    with pytest.raises(peers.PeerUnavailableError, match="no-such-thing") as caught:
        peers.environment("nothing", requirements, constraints)
    assert caught.value.summary == "ERROR: No matching distribution found for no-such-thing"


def test_what_npm_cannot_install_is_summed_up_without_where_its_log_is() -> None:
    said = "npm ci exited with 1:\nnpm error request to X failed, reason: EAI_AGAIN\nnpm error A complete log is in Y"
    assert peers.PeerUnavailableError(said).summary == "npm error request to X failed, reason: EAI_AGAIN"
    assert peers.PeerUnavailableError("nothing known").summary == "nothing known"


def test_an_environment_in_use_is_not_removed(tmp_path: Path) -> None:
    used, unused = tmp_path / "used", tmp_path / "unused"
    used.mkdir()
    unused.mkdir()
    holder = os.open(used, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_SH)
    for path in (used, unused):
        peers._remove_unused(path)
    os.close(holder)
    assert used.exists()
    assert not unused.exists()


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two commits, and a cache of its own."""
    monkeypatch.setenv("JUMPSTARTER_TEST_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for text in ("before", "now"):
        (folder / "file").write_text(text)
        git(folder, "add", "file")
        git(folder, "commit", "--quiet", "--message", text)
    return folder


def names(file: Path, commit: str) -> Path:
    file.write_text(f"# What is before.\nv1 {commit}\n")
    return file


def test_the_version_before_is_installed_from_the_commit_that_is_named(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def install(name: str, path: Path, arguments: list[str], below: object) -> None:
        [source] = arguments
        archive = source.removesuffix(peers.PREVIOUS_EXTRAS)
        with tarfile.open(archive) as files:
            member = files.extractfile("source/file")
            assert member is not None
            seen.append(member.read().decode())
        path.mkdir(parents=True)
        (path / peers.MARKER).touch()

    monkeypatch.setattr(peers, "_install", install)
    file = names(tmp_path / "version.txt", git(history, "rev-parse", "HEAD~"))
    assert peers.previous(history, file) == peers.previous(history, file)
    assert seen == ["before"]
    other = peers.previous(history, names(file, git(history, "rev-parse", "HEAD")))
    assert seen == ["before", "now"]
    assert other != peers.previous(history, names(file, git(history, "rev-parse", "HEAD~")))


def test_a_history_without_the_version_before_is_said(history: Path, tmp_path: Path) -> None:
    file = names(tmp_path / "version.txt", git(history, "rev-parse", "HEAD~"))
    shallow = tmp_path / "shallow"
    git(history, "clone", "--quiet", "--depth", "1", f"file://{history}", str(shallow))
    bare = tmp_path / "unpacked"
    bare.mkdir()
    for folder in (shallow, bare):
        with pytest.raises(peers.PeerUnavailableError, match="this checkout lacks v1") as caught:
            peers.previous(folder, file)
        assert "\n" not in str(caught.value)


def test_the_version_before_is_missing_where_it_cannot_be_had(pytester: pytest.Pytester) -> None:
    """By this project's own conftest, in a run in which it cannot be had."""
    pytester.makeconftest(
        "import sys\n"
        f"sys.path.insert(0, {str(peers.ROOT)!r})\n"
        "from tests.support import peers\n"
        "def lacks():\n"
        "    raise peers.PeerUnavailableError('the network is away')\n"
        "from tests import conftest\n"
        "conftest.PEERS['previous'] = lacks\n"
        "from tests.conftest import previous, pytest_collection_finish\n"
    )
    pytester.makepyfile("def test_with(previous):\n    assert previous\n")
    done = pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines("*SKIPPED*missing: *the network is away*")
