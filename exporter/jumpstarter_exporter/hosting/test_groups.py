"""Which devices of a file are hosted, and together with which others."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_exporter.config import load
from jumpstarter_exporter.hosting.environments import Environment, find_environment
from jumpstarter_exporter.hosting.groups import STAND_IN, HostedGroups, device_path, group_devices

OWN = {"power.GpioRelay"}


def grouped(folder: Path, text: str, *, default: str | None = None) -> HostedGroups:
    file = folder / "board.yaml"
    file.write_text(text)
    return group_devices(
        load(file).entries,
        default,
        is_own=OWN.__contains__,
        is_found=lambda name: name in OWN or name.startswith("ours."),
        find=lambda name: Environment("/opt/found/bin/python") if name.startswith("lab.") else None,
    )


def members(groups: HostedGroups) -> list[tuple[str, list[str]]]:
    return [(group.python, group.paths) for group in groups.groups]


def test_devices_of_one_environment_share_a_child_unless_told_otherwise(tmp_path: Path) -> None:
    groups = grouped(
        tmp_path,
        """
        export:
          a: {type: lab.A}
          b: {children: {c: {type: lab.C}, d: {type: lab.D, ownProcess: true}}}
          e: {type: lab.E, python: /other/bin/python}
          f: {type: ours.F}
          g: {type: unknown.G}
        """,
    )
    assert members(groups) == [
        ("/opt/found/bin/python", ["a", "b.c"]),
        ("/opt/found/bin/python", ["b.d"]),
        ("/other/bin/python", ["e"]),
    ]


def test_with_an_interpreter_all_but_our_own_names_are_hosted(tmp_path: Path) -> None:
    text = "export: {a: {type: ours.A}, b: {type: power.GpioRelay}, c: {type: unknown.C}}"
    assert members(grouped(tmp_path, text, default="/lab/python")) == [("/lab/python", ["a", "c"])]


def test_refs_and_devices_of_ours_below_a_hosted_device(tmp_path: Path) -> None:
    groups = grouped(
        tmp_path,
        """
        export:
          relay: {type: power.GpioRelay}
          serial: {type: lab.Serial}
          flasher:
            type: lab.Flasher
            children:
              power: {type: power.GpioRelay}
              far: {ref: relay}
              near: {ref: serial}
              storage: {type: lab.Storage, config: {size: 1}}
        """,
    )
    [group] = groups.groups
    flasher = json.loads(group.devices)["flasher"]
    assert flasher["children"]["power"] == flasher["children"]["far"] == STAND_IN
    assert flasher["children"]["near"] == {"ref": "serial"}
    assert flasher["children"]["storage"]["config"] == {"size": 1}
    assert groups.native == {("export", "flasher", "children", "power")}


names = st.sampled_from(["a", "b", "children", "export"])
entries = st.recursive(
    st.builds(lambda kind: {"type": kind}, st.sampled_from(["lab.A", "ours.B", "power.GpioRelay"])),
    lambda below: st.builds(
        lambda children: {"children": children}, st.dictionaries(names, below, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(names, entries, max_size=4))
def test_each_device_of_a_lab_is_in_one_group_at_its_path(
    tmp_path_factory: object, tree: dict[str, object]
) -> None:
    assert hasattr(tmp_path_factory, "getbasetemp")
    groups = grouped(tmp_path_factory.getbasetemp(), json.dumps({"export": tree}))
    expected = set()

    def walk(data: dict[str, object], path: str) -> None:
        for name, each in data.items():
            assert isinstance(each, dict)
            at = f"{path}.{name}" if path else name
            if each.get("type") == "lab.A":
                expected.add(at)
            walk(each.get("children", {}), at)

    walk(tree, "")
    assert set(groups.by_path) == expected
    assert sorted(path for group in groups.groups for path in group.paths) == sorted(expected)


def test_a_path_has_the_names_also_of_devices_that_are_named_like_keys(tmp_path: Path) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("export: {children: {children: {export: {type: lab.A}}}}")
    assert device_path(load(file).entries["children"].children["export"]) == "children.export"


def environment(prefix: Path, *modules: str, jumpstarter: bool = True) -> Path:
    packages = prefix / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    for name in modules:
        (packages / name).mkdir()
    if jumpstarter:
        (packages / "jumpstarter-0.9.0.dist-info").mkdir()
    python = prefix / "bin" / "python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return python


def test_an_environment_is_found_by_its_distribution_and_the_drivers_module(tmp_path: Path) -> None:
    environment(tmp_path / "none", "jumpstarter_driver_can", jumpstarter=False)
    environment(tmp_path / "other", "jumpstarter_driver_http")
    python = environment(tmp_path / "right", "jumpstarter_driver_can")
    path = ":".join(str(tmp_path / name / "bin") for name in ("none", "other", "right"))
    found = find_environment("jumpstarter_driver_can.driver.Can", {"PATH": path})
    assert found == Environment(str(python))
    assert find_environment("jumpstarter_driver_snmp.driver.X", {"PATH": path}) is None
    assert find_environment("../x.Y", {"PATH": path}) is None


def test_the_fingerprint_changes_when_a_package_is_installed(tmp_path: Path) -> None:
    made = Environment(str(environment(tmp_path / "lab")))
    before = made.fingerprint()
    assert made.fingerprint() == before
    (made.site_packages[0] / "new").mkdir()
    assert made.fingerprint() != before
