"""The locks that are committed fit the recipe, and can be read back as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from jumpstarter_deb import lock, wheels
from jumpstarter_deb.lock import LockError, Pin, parse, render
from jumpstarter_deb.recipe import ARCHITECTURES, EXCLUDED, RELEASES

releases = pytest.mark.parametrize("release", RELEASES.values(), ids=lambda release: release.suite)
BOTH = frozenset({"x86_64", "aarch64"})
PINS = [
    Pin("one", "1.0", frozenset({"aa", "bb"}), BOTH),
    Pin("two", "2.0", frozenset({"cc"}), frozenset({"aarch64"})),
]


def test_a_lock_is_read_as_it_was_written() -> None:
    assert parse(render(PINS, RELEASES[13])) == PINS


@pytest.mark.parametrize("line", ["one", "one==1.0", "one>=1.0 --hash=sha256:aa", "one==1.0 --hash=md5:aa"])
def test_a_library_without_version_or_hash_is_refused(line: str) -> None:
    with pytest.raises(LockError, match="NAME==VERSION"):
        parse(line)


@releases
def test_the_locks_name_no_index_and_nothing_that_is_left_out(release: object) -> None:
    text = next(lock.lock_file(r) for r in RELEASES.values() if r is release).read_text()
    assert "://" not in text
    assert "--index" not in text
    assert {pin.name for pin in parse(text)} & EXCLUDED.keys() == set()


def library(name: str, version: str, *requires: str) -> wheels.Library:
    return wheels.Library(Path(name), name, version, "", "", tuple(Requirement(text) for text in requires))


LIBRARIES = {
    item.name: item
    for item in (
        library("one", "1.0", "two[fast]>=2", 'old; python_version < "3.12"', "setuptools"),
        library("two", "2.0", 'three; extra == "fast"', 'absent; extra == "slow"'),
        library("three", "3.0"),
        library("old", "1.0"),
        library("unused", "1.0"),
    )
}


@pytest.mark.parametrize(
    ("number", "names"), [(12, ["old", "one", "three", "two"]), (13, ["one", "three", "two"])]
)
def test_what_is_needed_depends_on_the_release(number: int, names: list[str]) -> None:
    markers = wheels.environment(RELEASES[number], ARCHITECTURES["arm64"])
    assert [item.name for item in wheels.needed(["one"], LIBRARIES, markers)] == names


@pytest.mark.parametrize("wanted", ["four", "one>=2", "two[slow]"])
def test_a_library_that_the_lock_lacks_is_said(wanted: str) -> None:
    markers = wheels.environment(RELEASES[13], ARCHITECTURES["amd64"])
    with pytest.raises(LockError, match=r"run `python -m jumpstarter_deb lock`"):
        wheels.needed([wanted], LIBRARIES, markers)


def test_requirements_of_another_machine_do_not_count() -> None:
    markers = wheels.environment(RELEASES[13], ARCHITECTURES["amd64"])
    wanted = ['one>=1; platform_machine == "aarch64"', 'two; python_version >= "3.13"', "three"]
    assert wheels.applying(wanted, markers) == ["two", "three"]
