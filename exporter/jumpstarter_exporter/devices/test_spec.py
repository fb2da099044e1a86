"""Specifications: driver objects are made of them, as often as one wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.composite import Composite, Proxy, Unavailable
from jumpstarter_exporter.config import build, load
from jumpstarter_exporter.devices.spec import Spec, SpecOrigin, adopt, walk
from jumpstarter_exporter.driver import Driver


@dataclass(kw_only=True, eq=False)
class Leaf(Driver):
    client: ClassVar[str] = "example.Client"

    names: list[str] = field(default_factory=list)


@dataclass(kw_only=True, eq=False)
class Whole(Driver):
    """Has parts, one of which has one, too."""

    client: ClassVar[str] = "example.Client"

    names: list[str] = field(default_factory=list)

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        return {"left": Spec(Leaf, {"names": values.get("names", [])}), "right": Spec(Half)}


@dataclass(kw_only=True, eq=False)
class Half(Driver):
    client: ClassVar[str] = "example.Client"

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        return {"quarter": Spec(Leaf)}


@dataclass(kw_only=True, eq=False)
class OldStyle(Driver):
    """Makes its children itself, as third parties' drivers do."""

    client: ClassVar[str] = "example.Client"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.children["inner"] = Leaf(names=["made by its parent"])


class Moody(Driver):
    """Can be made once."""

    client: ClassVar[str] = "example.Client"
    made: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        type(self).made += 1
        if self.made > 1:
            raise ValueError("not again")


def built(tmp_path: Path, text: str) -> Spec:
    file = tmp_path / "lab.yaml"
    file.write_text(text.replace("here.", f"{__name__}."))
    return build(load(file))


def paths(spec: Spec) -> list[str]:
    return [path for path, _ in walk(spec)]


def test_parts_are_known_without_a_driver_object_and_made_beside_their_parent(tmp_path: Path) -> None:
    spec = built(tmp_path, "export: {a: {type: here.Whole, config: {names: [x]}}}")
    assert paths(spec) == ["", "a", "a.left", "a.right", "a.right.quarter"]
    whole = spec.make().children["a"]
    left, right = whole.children["left"], whole.children["right"]
    assert isinstance(left, Leaf)
    assert left.names == ["x"]
    assert left.parent_driver is right.parent_driver is whole
    assert right.children["quarter"].parent_driver is right


def test_nothing_that_one_driver_object_changes_is_in_the_next(tmp_path: Path) -> None:
    spec = built(tmp_path, "export: {a: {type: here.Leaf, config: {names: [x]}}}")
    first, second = spec.make().children["a"], spec.make().children["a"]
    assert isinstance(first, Leaf)
    assert isinstance(second, Leaf)
    first.names.append("y")
    assert second.names == ["x"]
    assert first.uuid != second.uuid


def test_a_driver_that_makes_its_children_itself_works_and_is_known(tmp_path: Path) -> None:
    spec = built(tmp_path, "export: {a: {type: here.OldStyle}, b: {ref: a.inner}}")
    assert paths(spec) == ["", "a", "a.inner"]
    assert spec.children["a"].children["inner"].origin is SpecOrigin.FOUND
    first, second = spec.make(), spec.make()
    assert list(first.children["a"].children) == ["inner"]
    assert first.children["a"].children["inner"] is not second.children["a"].children["inner"]


def test_a_child_with_the_name_of_a_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"export\.a\.children\.left: .* has a child left by itself"):
        built(tmp_path, "export: {a: {type: here.Whole, children: {left: {type: here.Leaf}}}}")


def test_configured_children_stand_beside_parts(tmp_path: Path) -> None:
    spec = built(tmp_path, "export: {a: {type: here.Whole, children: {more: {type: here.Leaf}}}}")
    assert sorted(spec.make().children["a"].children) == ["left", "more", "right"]


def test_a_device_that_cannot_be_made_any_more_is_unavailable_and_its_neighbours_are_made(
    tmp_path: Path,
) -> None:
    Moody.made = 0
    spec = built(tmp_path, "export: {a: {type: here.Moody}, b: {type: here.Leaf}}")
    children = spec.make().children
    assert isinstance(children["b"], Leaf)
    broken = children["a"]
    assert isinstance(broken, Unavailable)
    assert "Moody cannot be made: not again" in broken.reason


def test_a_driver_made_by_hand_gets_its_parts() -> None:
    whole = Whole()
    spec = adopt(Composite(children={"a": whole, "b": Proxy(ref="a")}))
    assert sorted(whole.children) == ["left", "right"]
    assert paths(spec) == ["", "a", "a.left", "a.right", "a.right.quarter"]


def test_specs_are_the_same_when_they_make_the_same_device(tmp_path: Path) -> None:
    text = "export: {a: {type: here.Leaf, config: {names: [%s]}}}"
    one, again, other = (built(tmp_path, text % name).children["a"] for name in "xxy")
    assert one.same_as(again)
    assert not one.same_as(other)
