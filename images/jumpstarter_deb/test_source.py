"""Versions sort as commits do, and what is exported is what is committed."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.version import Version

from jumpstarter_deb import control
from jumpstarter_deb.recipe import RELEASES
from jumpstarter_deb.source import SourceError, debian_version, export, python_version

CHECKOUT = Path(__file__).parents[2]


def versions() -> list[str]:
    """Of four commits, the second and the last of which were released."""
    return [
        debian_version("0.1.0", released=False, epoch=1_000_000_000, commit="ff" * 20),
        debian_version("0.1.0", released=False, epoch=1_000_000_001, commit="00" * 20),
        debian_version("0.1.0", released=True, epoch=1_000_000_002, commit="11" * 20),
        debian_version("0.2.0", released=False, epoch=1_000_000_003, commit="22" * 20),
        debian_version("0.2.0", released=True, epoch=1_000_000_004, commit="33" * 20),
    ]


def test_pythons_versions_sort_as_the_commits() -> None:
    numbers = [Version(python_version(version)) for version in versions()]
    assert all(before < after for before, after in pairwise(numbers))


def test_debians_versions_sort_as_the_commits_and_as_the_releases() -> None:
    told = [control.release_version(version, RELEASES[12]) for version in versions()]
    told.append(control.release_version(versions()[-1], RELEASES[13]))
    for before, after in pairwise(told):
        subprocess.run(["dpkg", "--compare-versions", before, "lt", after], check=True)


def test_what_is_exported_is_what_is_committed(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    git = ["git", "-C", str(tmp_path / "checkout"), "-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    (tmp_path / "checkout/pyproject.toml").write_text('[project]\nversion = "3.1"\n')
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v3.1"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "checkout/pyproject.toml").write_text('[project]\nversion = "3.2"\n')
    found = export(tmp_path / "checkout", tmp_path / "tree")
    assert (found.version, found.subject) == ("3.1", "one")
    assert found.project["project"]["version"] == "3.1"
    assert export(tmp_path / "checkout", tmp_path / "other", "3.0").version == "3.0"


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a checkout"):
        export(tmp_path, tmp_path / "tree")
