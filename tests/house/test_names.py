"""One word has one meaning: no two public classes of one name, and few modules of one name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.house.rooms import Module, all_modules

SHARED_CLASSES: dict[str, str] = {}
"""Names of classes that are rightly the same thing in several places, with the reason."""
SHARED_MODULES = {
    "driver": "the exporter's side of each driver",
    "client": "the client's side of each driver",
    "steps": "the YAML steps of each driver",
    "device_table": "the brands of each kind of network outlet",
    "errors": "the errors of each package",
    "enrolment": "one act: of the controller, of whoever is enrolled, and at the first start of an image",
}
"""Names of modules that are the same thing in each package."""
MAX_MODULES_OF_A_NAME = 2
"""Two sides of one thing, such as the device tree of exporter and client, may have one name."""


def test_a_public_class_has_a_name_of_its_own() -> None:
    found = class_names(module for module in all_modules() if not module.is_test and not module.is_generated)
    several = {name: places for name, places in found.items() if len(places) > 1}
    assert {name: places for name, places in several.items() if name not in SHARED_CLASSES} == {}
    assert SHARED_CLASSES.keys() - several.keys() == set(), "these are not shared any more: delete them"


def test_few_modules_have_one_name() -> None:
    """A module in a folder `cli` has the name of its command, so it does not count."""
    found = defaultdict(list)
    for module in all_modules():
        is_package = module.path.name.startswith("__")
        if not (
            is_package or module.is_test or module.is_generated or {"cli", "templates"} & {*module.path.parts}
        ):
            found[module.path.stem].append(module.name)
    many = {name: places for name, places in found.items() if len(places) > MAX_MODULES_OF_A_NAME}
    assert {name: places for name, places in many.items() if name not in SHARED_MODULES} == {}
    assert SHARED_MODULES.keys() - many.keys() == set(), "these are few: delete them"


def test_a_path_of_a_user_is_made_in_one_place() -> None:
    """By `user_path`: `Path.expanduser` raises RuntimeError for a user that does not exist."""
    found = [
        one.name
        for one in all_modules()
        if re.search(r"\.expanduser\((?!\"~)", one.path.read_text()) and not one.is_test
    ]
    # The second one makes no Path of it.
    assert found == ["jumpstarter_proto.file_names", "jumpstarter_client.connections.endpoint"]


def test_two_classes_of_one_name_are_found(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("class Same: ...\nclass _Private: ...\nif True:\n    class Inner: ...\n")
    assert class_names(Module(path, path.stem) for path in sorted(tmp_path.iterdir())) == {
        "Same": ["one", "two"]
    }


def class_names(found: Iterable[Module]) -> dict[str, list[str]]:
    """The modules of each public class at the top of a module."""
    names = defaultdict(list)
    for module in found:
        text = re.sub(r'""".*?"""', "", module.path.read_text(encoding="utf-8"), flags=re.DOTALL)
        if "templates" not in module.path.parts:
            for name in re.findall(r"^class ([A-Za-z]\w*)", text, re.MULTILINE):
                names[name].append(module.name)
    return dict(names)
