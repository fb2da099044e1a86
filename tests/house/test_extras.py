"""Each extra of pyproject.toml names what its modules import, and nothing else. Found in the source alone.

`tests/packaging` loads the same modules in an environment with only that extra.
"""

from __future__ import annotations

import sys
import tomllib

import pytest
from jumpstarter_exporter.config.types import EXTRAS

from tests.house.rooms import PACKAGES
from tests.support import extras
from tests.support.peers import ROOT

OPTIONAL = [extra for extra in extras.extras() if extra != extras.BASE]


def importers(names: set[str]) -> set[str]:
    return {module for module in extras.modules() if extras.imported(module) & names}


def test_every_library_that_is_imported_is_named() -> None:
    named = {name for extra in extras.extras() for name in extras.libraries(extra)}
    known = named | set(sys.stdlib_module_names) | set(PACKAGES) | {"compression"}
    unknown = {
        module: sorted(found) for module in extras.modules() if (found := extras.imported(module) - known)
    }
    expected: dict[str, list[str]] = {}
    for library, users in extras.BROUGHT_BY_USERS.items():
        for user in users:
            expected[user] = sorted([*expected.get(user, []), library])
    assert unknown == expected


def test_the_base_names_only_what_is_imported() -> None:
    unused = {name for name in extras.libraries(extras.BASE) if not importers({name})}
    assert unused == set()


@pytest.mark.parametrize("extra", OPTIONAL)
def test_an_extra_names_what_its_modules_import_and_nothing_else(extra: str) -> None:
    libraries = set(extras.libraries(extra))
    unused = {name for name in libraries if not importers({name}) & extras.IMPORTERS[extra]}
    assert unused == set()
    others = {
        name for other in OPTIONAL if other not in extras.closed(extra) for name in extras.libraries(other)
    }
    assert (
        importers(libraries - others) | (importers(libraries) & extras.IMPORTERS[extra])
        == extras.IMPORTERS[extra]
    )


def test_every_module_can_be_loaded_with_one_extra() -> None:
    members = extras.members()
    assert set(extras.IMPORTERS) == set(OPTIONAL)
    assert "jumpstarter_drivers.serial.kept_serial" in members["exporter"]
    assert {name.partition(".")[0] for name in members["controller"] + members["kubernetes"]} == {
        "jumpstarter_controller"
    }


def test_all_is_the_sum_of_the_extras_that_every_machine_can_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [everything] = project["optional-dependencies"]["all"]
    named = everything.removeprefix("jumpstarter-sbc[").removesuffix("]").split(",")
    assert sorted(named) == sorted(set(OPTIONAL) - {"pi"})


def test_commands_start_without_an_extra() -> None:
    """So that one that lacks a library can say so in a sentence."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = {target.partition(":")[0] for target in project["scripts"].values()}
    manifests = project["entry-points"]["jumpstarter_sbc.drivers"].values()
    targets |= {target.partition(":")[0] for target in manifests}
    assert targets <= set(extras.members()[extras.BASE])


def test_the_message_about_a_missing_library_names_the_extra_that_installs_it() -> None:
    assert {name: extra for name, extra in EXTRAS.items() if name in extras.libraries(extra)} == EXTRAS
